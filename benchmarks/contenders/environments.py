"""Virtual environments for contenders whose packages do not live with ours.

Made when first needed, under `LINQ_BENCHMARKS_CACHE` or the user's cache folder; an environment
whose packages changed is made anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

# The same DuckDB for all: what is compared is how rows get there.
_DUCKDB = f"duckdb=={version('duckdb')}"
PACKAGES = {
    "meltano-tap": ("singer-sdk==0.54.9",),
    "meltano-target": ("target-duckdb==0.8.0", _DUCKDB),
    "pyairbyte": ("airbyte==0.71.3",),
}
# Those shown with the results.
SHOWN = {"meltano-tap": "singer-sdk", "meltano-target": "target-duckdb", "pyairbyte": "airbyte"}


class NotInstalledError(Exception):
    """An environment could not be made; the text is one line that says why."""


def python_of(name: str, *, timeout_s: float = 600.0) -> Path:
    """The interpreter of an environment, which is made if it is not there.

    Raises `NotInstalledError`.
    """
    folder = _cache() / name
    python = folder / "bin" / "python"
    wanted = "\n".join(PACKAGES[name])
    stamp = folder / "installed.txt"
    if stamp.exists() and stamp.read_text() == wanted and python.exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    print(f"  installing {', '.join(PACKAGES[name])}", file=sys.stderr, flush=True)
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", *PACKAGES[name]],
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise NotInstalledError(f"{name}: not installed in {timeout_s:.0f} s") from error
        if done.returncode != 0:
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise NotInstalledError(f"{name}: {lines[-1] if lines else 'cannot be installed'}")
    stamp.write_text(wanted)
    return python


def versions_of(name: str) -> dict[str, str]:
    """The version of an environment's main package."""
    package = SHOWN[name]
    script = f"from importlib.metadata import version; print(version('{package}'))"
    done = subprocess.run([python_of(name), "-c", script], capture_output=True, text=True)
    return {package: done.stdout.strip()}


def _cache() -> Path:
    given = os.environ.get("LINQ_BENCHMARKS_CACHE")
    if given:
        return Path(given)
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "linq-source-benchmarks"
