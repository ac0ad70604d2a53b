"""Whole processes, measured: wall seconds, CPU seconds and peak memory."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
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
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    limit_s: float = 3_600.0,
) -> Measurement:
    """Run a command to its end in a folder; past the limit it is killed with its children.

    The kernel starts a child's peak with its parent's memory, so the parent should be small.
    """
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        started_s = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        watch = threading.Timer(limit_s, _kill_group, [process.pid])
        watch.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            _kill_group(process.pid)
            raise
        finally:
            watch.cancel()
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


def _kill_group(process_id: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process_id, signal.SIGKILL)


def alternate(
    runs: Mapping[str, int], run: Callable[[str], Measurement]
) -> dict[str, list[Measurement]]:
    """Run each name in turn, again and again (A B C A B A), so that a slow moment hits all.

    `runs` says how often each takes part. One whose run failed is not run again.
    """
    found: dict[str, list[Measurement]] = {name: [] for name in runs}
    for number in range(max(runs.values(), default=0)):
        for name, times in runs.items():
            failed = any(each.exit_code for each in found[name])
            if number < times and not failed:
                found[name].append(run(name))
    return found


class CpuClock:
    """Shares of the machine's processor time since it was made, from /proc/stat."""

    def __init__(self) -> None:
        self._before = _cpu_ticks()

    def steal_percent(self) -> float | None:
        """What other machines on the same host took; none where it is not told."""
        spent: list[int] = [
            after - before for before, after in zip(self._before, _cpu_ticks(), strict=True)
        ]
        total: int = sum(spent, start=0)
        return 100.0 * spent[7] / total if len(spent) > 7 and total else None


def _cpu_ticks() -> list[int]:
    """Ticks of user, nice, system, idle, iowait, irq, softirq and steal."""
    stat = Path("/proc/stat")
    return [int(text) for text in stat.read_text().split()[1:9]] if stat.exists() else []
