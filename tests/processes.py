"""Processes that start warm: forked from a server that has imported what takes long.

Importing dlt costs as much as a small load. So each process of the suite has one server, which
imports dlt, knows nothing of the package and forks for every command. What is forked is a whole
process with a folder, an environment and a life of its own: it can be killed at any line, and its
exit code is the kernel's.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import runpy
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 240.0
NUMBER = struct.Struct("!i")
# What dlt, the command and DuckDB import (pandas, where it is installed). Not DuckDB itself: it
# starts a thread, and a fork without that thread aborts.
WARM = (
    "dlt._workspace.cli._plugins", "dlt.common.libs.pyarrow", "dlt.common.libs.sql_alchemy_compat",
    "dlt.sources.helpers.requests", "fsspec.implementations.local", "pandas", "pyarrow.compute",
    "pyarrow.dataset", "pyarrow.json", "pyarrow.parquet", "pydantic", "rich.table", "sqlglot",
    "typer.main",
)  # fmt: skip


class Process:
    """A process that was started, with the parts of `subprocess.Popen` that tests need."""

    def __init__(self, socket_: socket.socket, stdout: IO[bytes], stderr: IO[bytes]) -> None:
        self.returncode: int | None = None
        self._socket = socket_
        self._outputs = (stdout, stderr)
        self._said = ("", "")
        (self.pid,) = NUMBER.unpack(socket_.recv(NUMBER.size))

    def send_signal(self, number: int) -> None:
        """Send a signal; to a process that has ended, none."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0.0)
        return None

    def wait(self, timeout: float = PATIENCE_S) -> int:
        """Its exit code, as soon as it has ended."""
        if self.returncode is None:
            self._socket.settimeout(timeout)
            try:
                (self.returncode,) = NUMBER.unpack(self._socket.recv(NUMBER.size))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout) from None
            self._socket.close()
            self._said = (_content(self._outputs[0]), _content(self._outputs[1]))
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float = PATIENCE_S) -> tuple[str, str]:
        """What it wrote to its standard output and error until its end."""
        self.wait(timeout)
        return self._said


def _content(output: IO[bytes]) -> str:
    with output:
        output.seek(0)
        return output.read().decode()


def start(
    arguments: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    program: str = "",
) -> Process:
    """Start `linq-source` with arguments, or a program that finds them in `sys.argv[1:]`."""
    task = {"arguments": list(arguments), "cwd": str(cwd), "env": dict(env), "program": program}
    stdout, stderr = tempfile.TemporaryFile(), tempfile.TemporaryFile()
    ours, theirs = socket.socketpair()
    with theirs, tempfile.TemporaryFile() as content:
        content.write(json.dumps(task).encode())
        content.seek(0)
        files = [file.fileno() for file in (content, stdout, stderr, theirs)]
        socket.send_fds(_server(), [b"!"], files)
        return Process(ours, stdout, stderr)


def run(
    arguments: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    program: str = "",
) -> subprocess.CompletedProcess[str]:
    """The same, to its end."""
    process = start(arguments, cwd, env, program)
    stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(arguments, process.wait(), stdout, stderr)


@cache
def _server() -> socket.socket:
    """The server's socket. When this process ends, however it does, the server sees it closed."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        server = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()])
    atexit.register(server.wait)
    atexit.register(ours.close)
    return ours


def _fork_for_each(requests: socket.socket) -> tuple[int, int, int]:
    """Return in each forked process, with its task, standard output and standard error."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        _, files, _, _ = socket.recv_fds(requests, 1, 4)
        if not files:
            os._exit(0)
        content, stdout, stderr, ended = files
        # Between the two stands one that waits for the process and says how it ended.
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            requests.close()
            pid = os.fork()
            if pid == 0:
                os.close(ended)
                return content, stdout, stderr
            os.write(ended, NUMBER.pack(pid))
            _, status = os.waitpid(pid, 0)
            os.write(ended, NUMBER.pack(os.waitstatus_to_exitcode(status)))
            os._exit(0)
        for file in files:
            os.close(file)


def _run(task: Mapping[str, Any]) -> None:
    os.chdir(task["cwd"])
    os.environ.clear()
    os.environ.update(task["env"])
    sys.argv = ["linq-source", *task["arguments"]]
    if task["program"]:
        exec(task["program"], {"__name__": "__main__"})
    else:
        runpy.run_module("linq_source", run_name="__main__", alter_sys=True)


def main() -> None:
    """Serve, and in each forked process do what was asked for."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in WARM:
        importlib.import_module(name)
    content, *outputs = _fork_for_each(socket.socket(fileno=int(sys.argv[1])))
    for number, output in enumerate(outputs, start=1):
        os.dup2(output, number)
        os.close(output)
    with open(content) as file:
        _run(json.load(file))


if __name__ == "__main__":
    main()
