"""Killing the command with SIGKILL at an exact operation on the files of its working folder.

A process that has imported everything forks once per run, so that a run costs what it does and not
what starting Python does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

# What changes a folder. CPython raises these events before it does what they say, so that to be
# killed at one is to be killed between it and the one before.
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"}


@dataclass(frozen=True)
class Ended:
    """How a run ended, and what it said; `changes` is how many changes it made to files."""

    exit_code: int
    changes: int
    output: str


class Runner:
    """Runs the command in a folder, to its end or to one of its changes to files."""

    def __init__(self, folder: Path, arguments: Sequence[str], environment: dict[str, str]) -> None:
        self.folder = folder
        self._arguments = list(arguments)
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.killing"],
            cwd=Path(__file__).parents[1], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.communicate()

    def run(self, *options: str, kill_at: int = 0) -> Ended:
        """Run once; with `kill_at`, up to just before that change, counted from 1."""
        order = {
            "folder": str(self.folder),
            "arguments": [*self._arguments, *options],
            "kill_at": kill_at,
        }
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps(order), file=self._server.stdin, flush=True)
        return Ended(**json.loads(self._server.stdout.readline()))


def _serve() -> None:
    import linq_source.cli.main
    import linq_source.operations.sync  # noqa: F401

    for line in sys.stdin:
        order = json.loads(line)
        output = Path(order["folder"]).with_suffix(".output")
        reading, writing = os.pipe()
        process = os.fork()
        if not process:
            _run(order, output, writing)
        os.close(writing)
        with os.fdopen(reading) as counts:
            # A killed one says how far it came, too: it says so at every change.
            changes = len(counts.read())
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        ended = {"exit_code": status, "changes": changes, "output": output.read_text()}
        print(json.dumps(ended), flush=True)  # noqa: T201 - this is the answer


def _run(order: dict[str, Any], output: Path, writing: int) -> None:
    from linq_source.cli import main

    said = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.chdir(order["folder"])
    sys.argv = ["linq-source", *order["arguments"]]
    seen = 0

    def count(event: str, values: tuple[Any, ...]) -> None:
        nonlocal seen
        if event not in CHANGES and not (event == "open" and _writes(values)):
            return
        seen += 1
        if seen == order["kill_at"]:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(writing, b".")

    sys.addaudithook(count)
    exit_code = 1
    try:
        main()
        exit_code = 0
    except SystemExit as ended:
        exit_code = int(ended.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(exit_code)


def _writes(values: tuple[Any, ...]) -> bool:
    path, _, flags = values
    return isinstance(path, str) and bool(flags & os.O_CREAT)


if __name__ == "__main__":
    _serve()
