"""Whole processes, measured: wall seconds, CPU seconds and peak memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measurement:
    """One run of one command. `peak_mb` is resident memory in 10^6 bytes."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    exit_code: int
    stdout: str
    stderr: str


def run_measured(
    command: Sequence[str], *, folder: Path, environment: Mapping[str, str]
) -> Measurement:
    """Run a command to its end in a folder.

    The kernel starts a child's peak with its parent's memory, so the parent should be small.
    """
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        started_s = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=dict(environment), stdout=stdout, stderr=stderr
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started_s
        process.returncode = os.waitstatus_to_exitcode(status)
        stdout.seek(0)
        stderr.seek(0)
        return Measurement(
            seconds=seconds,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            peak_mb=usage.ru_maxrss * 1_024 / 1e6,
            exit_code=process.returncode,
            stdout=stdout.read().decode(errors="replace"),
            stderr=stderr.read().decode(errors="replace"),
        )


def alternate(
    names: Sequence[str], runs: int, run: Callable[[str, int], Measurement]
) -> dict[str, list[Measurement]]:
    """Run each name in turn, again and again (A B C A B C), so that a slow moment hits all.

    `run` takes a name and the number of the round, from 0.
    """
    found: dict[str, list[Measurement]] = {name: [] for name in names}
    for number in range(runs):
        for name in names:
            found[name].append(run(name, number))
    return found


@dataclass(frozen=True)
class Medians:
    """Medians of several runs, each quantity by itself."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def medians(measurements: Sequence[Measurement]) -> Medians:
    """The medians of at least one measurement."""
    return Medians(
        seconds=statistics.median(each.seconds for each in measurements),
        cpu_seconds=statistics.median(each.cpu_seconds for each in measurements),
        peak_mb=statistics.median(each.peak_mb for each in measurements),
    )
