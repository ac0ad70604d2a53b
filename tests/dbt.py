"""dbt and the command that runs it, from an environment of their own (`make setup-dbt`)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.conftest import Loader

ROOT = Path(__file__).parent.parent
BIN = ROOT / ".venv-dbt" / "bin"
PACKAGE = ROOT / "linq_source" / "transform"
ZONE = "America/New_York"
VARS = f"{{linq_timezone: {ZONE}, linq_session_silence_minutes: 720}}"


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`linq-source transform`, in a folder and environment that tell it nothing else."""
    return start(folder, "linq-source", "transform", *arguments, **variables)


def start(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    assert (BIN / command[0]).exists(), "make setup-dbt"
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("SOURCES__", "GOOGLE_", "DBT"))
    }
    environment = kept | {"NO_COLOR": "1", "HOME": str(folder), "DLT_DATA_DIR": str(folder / "dlt")}
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]], cwd=folder, env=environment | variables,
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip


def transform(loader: Loader, *arguments: str, **variables: str) -> dict[str, Any]:
    """A transformation of what a loader loaded that goes well; gives its report."""
    done = run(loader.folder, "--vars", VARS, "--json", *arguments, **variables)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report
