"""Run contenders against the same server, in turn, and print medians and ratios to ours.

    python benchmarks/run.py --case first-load --messages 200000 --chats 100 --runs 3

Cases: `first-load` fills an empty database. `changed` runs again after one chat in a hundred has
changed, on what an unmeasured first run left.
"""

from __future__ import annotations

import argparse
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
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.measure import Measurement, alternate, medians, run_measured  # noqa: E402

CONTENDERS: Mapping[str, Sequence[str]] = {
    "ours": ("benchmarks.contenders.ours",),
    "requests_read_json": ("benchmarks.contenders.requests_read_json",),
    "rest_api": ("benchmarks.contenders.rest_api",),
    "rest_api_parallelized": ("benchmarks.contenders.rest_api", "--parallelized"),
    "floor": ("benchmarks.contenders.floor",),
}
CASES = ("first-load", "changed")
CHANGED_SHARE = 0.01
_PACKAGES = ("linq-source", "dlt", "duckdb", "pyarrow", "requests")


class Bench:
    """One case against one running server."""

    def __init__(self, case: str, base_url: str, folder: Path) -> None:
        self.case = case
        self.base_url = base_url
        self.folder = folder
        self.wrong: dict[str, list[str]] = {}
        self._changed_rounds = 0
        self._environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "PYTHONHASHSEED": "0",
            "RUNTIME__DLTHUB_TELEMETRY": "false",
        }

    def run(self, name: str, number: int) -> Measurement:
        """Measure one run, and compare the rows with the world's."""
        folder = self.folder / name
        if self.case == "first-load":
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        elif number == self._changed_rounds:
            # Once a round: all contenders of it are to find the same world.
            self._control(f"change?share={CHANGED_SHARE}")
            self._changed_rounds += 1
        found = self._measure(name, folder)
        print(f"  {name}: {found.seconds:.2f} s", file=sys.stderr, flush=True)
        self._check(name, found)
        return found

    def prepare(self, names: Sequence[str]) -> None:
        """Fill the databases that a later run is to find."""
        for name in names if self.case == "changed" else ():
            (self.folder / name).mkdir()
            self._measure(name, self.folder / name)

    def warm(self, names: Sequence[str]) -> None:
        """Run each once on what the server has, so that all code is compiled and in memory."""
        for name in names:
            with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                self._measure(name, Path(folder))

    def _measure(self, name: str, folder: Path) -> Measurement:
        module, *options = CONTENDERS[name]
        command = [
            sys.executable, "-m", module, "--base-url", self.base_url,
            "--database", str(folder / "out.duckdb"), *options,
        ]  # fmt: skip
        return run_measured(command, folder=folder, environment=self._environment)

    def _check(self, name: str, found: Measurement) -> None:
        expected = self._control("counts")
        counts = _last_json(found.stdout)
        if found.exit_code != 0:
            problem = f"exit code {found.exit_code}: {found.stderr.strip()[-2_000:]}"
        elif counts != expected:
            problem = f"has {counts}, the world {expected}"
        else:
            return
        self.wrong.setdefault(name, []).append(problem)

    def _control(self, command: str) -> Any:
        with urllib.request.urlopen(f"{self.base_url}/control/{command}", timeout=60) as answer:
            return json.load(answer)


def _last_json(text: str) -> Any:
    lines = text.strip().splitlines()
    try:
        return json.loads(lines[-1]) if lines else None
    except ValueError:
        return None


@contextmanager
def serving(chats: int, messages_per_chat: int, latency_ms: float) -> Iterator[str]:
    """A server of its own for a while; gives its address."""
    command = [
        sys.executable, str(ROOT / "benchmarks" / "server.py"), "--chats", str(chats),
        "--messages-per-chat", str(messages_per_chat), "--latency-ms", str(latency_ms),
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


def machine() -> dict[str, Any]:
    """The machine and the versions measured."""
    cpu = memory_gb = "unknown"
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemTotal"):
            memory_gb = f"{int(line.split()[1]) * 1_024 / 1e9:.0f} GB"
    return {
        "cores": os.cpu_count(),
        "cpu": cpu,
        "memory": memory_gb,
        "system": platform.platform(),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
    }


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def table(found: Mapping[str, Sequence[Measurement]], wrong: Mapping[str, Sequence[str]]) -> str:
    """Medians as aligned text; ratios are to `ours` where it took part."""
    middle = {name: medians(measurements) for name, measurements in found.items()}
    ours = middle.get("ours")
    rows = [("contender", "seconds", "x ours", "CPU s", "x ours", "peak MB", "counts")]
    for name, each in middle.items():
        rows.append(
            (
                name,
                f"{each.seconds:.2f}",
                f"{each.seconds / ours.seconds:.2f}" if ours else "-",
                f"{each.cpu_seconds:.2f}",
                f"{each.cpu_seconds / ours.cpu_seconds:.2f}" if ours else "-",
                f"{each.peak_mb:.0f}",
                "WRONG" if name in wrong else "right",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column in (0, 6) else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def main() -> int:
    """Measure and print; 1 when ours is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", choices=CASES, default="first-load")
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--chats", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one run of each")
    parser.add_argument("--contenders", default="ours,requests_read_json,rest_api,floor")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="of every answer")
    parser.add_argument("--json", type=Path, help="write all measurements to this file")
    arguments = parser.parse_args()
    names = arguments.contenders.split(",")
    unknown = [name for name in names if name not in CONTENDERS]
    if unknown:
        parser.error(f"no such contender: {', '.join(unknown)}")
    runs = 1 if arguments.quick else arguments.runs
    per_chat = max(1, arguments.messages // arguments.chats)
    with tempfile.TemporaryDirectory(prefix="linq-benchmark-") as folder, serving(1, 100, 0) as url:
        Bench(arguments.case, url, Path(folder)).warm(names)
    with (
        tempfile.TemporaryDirectory(prefix="linq-benchmark-") as folder,
        serving(arguments.chats, per_chat, arguments.latency_ms) as base_url,
    ):
        bench = Bench(arguments.case, base_url, Path(folder))
        bench.prepare(names)
        found = alternate(names, runs, bench.run)
    host = machine()
    print(
        f"{arguments.case}: {arguments.chats} chats of {per_chat} messages, medians of {runs},"
        f" latency {arguments.latency_ms:g} ms\n"
    )
    print(table(found, bench.wrong))
    print(f"\n{host['cores']} cores, {host['cpu']}, {host['memory']}; {host['system']}")
    print(", ".join(f"{name} {number}" for name, number in host["versions"].items()))
    for name, problems in bench.wrong.items():
        for problem in problems:
            print(f"{name}: {problem}", file=sys.stderr)
    if arguments.json is not None:
        result = {
            "case": arguments.case,
            "chats": arguments.chats,
            "messages_per_chat": per_chat,
            "latency_ms": arguments.latency_ms,
            "machine": host,
            "measurements": {name: [asdict(each) for each in all_] for name, all_ in found.items()},
            "wrong": bench.wrong,
        }
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 1 if "ours" in bench.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
