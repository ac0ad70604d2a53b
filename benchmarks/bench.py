"""One running server, and the cases that are measured against it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.cases import CONTENDERS, ENVIRONMENTS, Case, WorldSize
from benchmarks.contenders.environments import NotInstalledError, python_of, versions_of
from benchmarks.measure import Measurement, alternate, run_measured

ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = ("linq-source", "dlt", "duckdb", "pyarrow", "requests")


def environment() -> dict[str, str]:
    """What every measured process sees. Code is compiled once, as on a user's machine."""
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return inherited | {
        "PYTHONPATH": str(ROOT),
        "PYTHONHASHSEED": "0",
        "RUNTIME__DLTHUB_TELEMETRY": "false",
    }


@dataclass
class Found:
    """What one case brought. `requests` are those of each contender's last run, by kind."""

    measurements: dict[str, list[Measurement]] = field(default_factory=dict)
    requests: dict[str, dict[str, int]] = field(default_factory=dict)
    wrong: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    chats_changed: int = 0


class Bench:
    """Cases against one server whose world is at `base_url`."""

    def __init__(self, base_url: str, folder: Path) -> None:
        self.base_url = base_url
        self._folder = folder
        self._environment = environment()

    def run(self, case: Case, left_out: Mapping[str, str]) -> Found:
        """Measure a case; `left_out` says why somebody does not take part."""
        runs = {name: times for name, times in case.runs.items() if name not in left_out}
        found = Found(left_out={n: why for n, why in left_out.items() if n in case.runs})
        if case.is_rerun:
            self._prepare()
        if case.changed_share:
            found.chats_changed = control(self.base_url, f"change?share={case.changed_share}")[
                "chats"
            ]
        found.measurements = alternate(runs, lambda name: self._run(case, name, found))
        return found

    def warm(self, names: Sequence[str]) -> None:
        """Run each once on what the server has, so that all code is compiled and in memory."""
        for name in names:
            with tempfile.TemporaryDirectory(dir=self._folder) as folder:
                self._measure(name, Path(folder), 300.0)

    def _prepare(self) -> None:
        """Our first load of this world, made once and kept aside."""
        prepared = self._folder / "prepared"
        if prepared.exists():
            return
        prepared.mkdir()
        done = self._measure("ours", prepared, 900.0)
        if done.exit_code:
            raise RuntimeError(f"the first load failed: {done.stderr.strip()[-2_000:]}")

    def _run(self, case: Case, name: str, found: Found) -> Measurement:
        """Measure one run, and compare the rows with the world's."""
        folder = self._folder / name
        if case.is_rerun and name == "ours":
            shutil.copytree(self._folder / "prepared", folder)
        else:
            folder.mkdir()
        before = control(self.base_url, "requests")
        try:
            measured = self._measure(name, folder, case.limit_s)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        after = control(self.base_url, "requests")
        found.requests[name] = {kind: after[kind] - before.get(kind, 0) for kind in after}
        print(f"  {case.name} {name}: {measured.seconds:.2f} s", file=sys.stderr, flush=True)
        problem = self._problem(measured, case)
        if problem is not None and problem not in found.wrong.get(name, []):
            found.wrong.setdefault(name, []).append(problem)
        return measured

    def _measure(self, name: str, folder: Path, limit_s: float) -> Measurement:
        module, *options = CONTENDERS[name]
        command = [
            sys.executable, "-m", module, "--base-url", self.base_url,
            "--database", str(folder / "out.duckdb"), *options,
        ]  # fmt: skip
        measured = run_measured(
            command, folder=folder, environment=self._environment, limit_s=limit_s
        )
        peak_kb = (_last_json(measured.stdout) or {}).get("peak_kb")
        return measured if peak_kb is None else replace(measured, peak_mb=peak_kb * 1_024 / 1e6)

    def _problem(self, measured: Measurement, case: Case) -> str | None:
        if measured.exit_code != 0:
            if measured.seconds >= case.limit_s:
                return f"given up after {case.limit_s:.0f} s"
            lines = measured.stderr.strip().splitlines() or ["no word of why"]
            return f"exit code {measured.exit_code}: {lines[-1][-300:]}"
        counts = _last_json(measured.stdout) or {}
        expected = control(self.base_url, "counts")
        short = [
            f"{counts.get(name, 0):,} {name} of {rows:,}"
            for name, rows in expected.items()
            if counts.get(name) != rows
        ]
        return f"loaded {', '.join(short)}" if short else None


def control(base_url: str, command: str) -> Any:
    """What the server answers to one of its own commands."""
    with urllib.request.urlopen(f"{base_url}/control/{command}", timeout=60) as answer:
        return json.load(answer)


def _last_json(text: str) -> Any:
    lines = text.strip().splitlines()
    try:
        return json.loads(lines[-1]) if lines else None
    except ValueError:
        return None


def missing(names: Sequence[str]) -> dict[str, str]:
    """Why contenders cannot take part: environments that cannot be made."""
    result = {}
    for name in names:
        try:
            for each in ENVIRONMENTS.get(name, ()):
                python_of(each)
        except NotInstalledError as error:
            result[name] = f"not installed: {error}"
    return result


def run_cases(cases: Sequence[Case], left_out: Mapping[str, str]) -> Iterator[tuple[Case, Found]]:
    """Measure cases, those of one world one after the other against one server."""
    groups: dict[WorldSize, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.world, []).append(case)
    for world, group in groups.items():
        with (
            tempfile.TemporaryDirectory(prefix="linq-benchmark-") as folder,
            serving(world) as base_url,
        ):
            bench = Bench(base_url, Path(folder))
            for case in group:
                yield case, bench.run(case, left_out)


def warm(names: Sequence[str]) -> None:
    """Run each contender once, unmeasured, on a tiny world."""
    with (
        tempfile.TemporaryDirectory(prefix="linq-benchmark-") as folder,
        serving(WorldSize(chats=1, messages_per_chat=100)) as base_url,
    ):
        Bench(base_url, Path(folder)).warm(names)


@contextmanager
def serving(world: WorldSize) -> Iterator[str]:
    """A server of its own for a while; gives its address."""
    command = [
        sys.executable, str(ROOT / "benchmarks" / "server.py"), "--chats", str(world.chats),
        "--messages-per-chat", str(world.messages_per_chat),
        "--latency-ms", str(world.latency_ms), "--quiet-days", str(world.quiet_days),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            word, _, port = process.stdout.readline().partition(" ")
            if word != "ready":
                raise RuntimeError("the server did not start")
            yield f"http://127.0.0.1:{int(port)}"
        finally:
            process.terminate()


def machine(names: Sequence[str]) -> dict[str, Any]:
    """The machine, and the versions of ours and of the contenders that took part."""
    cpu = memory = "unknown"
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemTotal"):
            memory = f"{int(line.split()[1]) * 1_024 / 1e9:.0f} GB"
    versions = {"python": platform.python_version()} | {p: version(p) for p in _PACKAGES}
    for name in names:
        for each in ENVIRONMENTS.get(name, ()):
            versions |= versions_of(each)
    return {
        "cores": os.cpu_count(),
        "cpu": cpu,
        "memory": memory,
        "system": platform.platform(),
        "versions": versions,
    }


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def to_json(case: Case, found: Found) -> dict[str, Any]:
    """A case and what it brought, as plain values; without what the processes printed."""
    kept = ("seconds", "cpu_seconds", "peak_mb", "exit_code")
    return {
        "title": case.title,
        "world": asdict(case.world),
        "chats_changed": found.chats_changed,
        "requests": found.requests,
        "measurements": {
            name: [{key: round(getattr(each, key), 3) for key in kept} for each in all_]
            for name, all_ in found.measurements.items()
        },
        "wrong": found.wrong,
        "left_out": found.left_out,
    }
