"""Measure everything once more, and write docs/benchmarks.md with its charts: `make bench`.

    python benchmarks/suite.py
    python benchmarks/suite.py --quick --scale 0.02 --docs try
    python benchmarks/suite.py --cases first-load --contenders ours,floor --latency-ms 5

All measurements go to `benchmarks.json` beside the page, from which `report.py` writes the page.
Where not everything is measured as the page has it, and no folder is given, tables are printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.bench import (  # noqa: E402
    Found,
    environment,
    machine,
    missing,
    run_cases,
    serving,
    to_json,
    warm,
)
from benchmarks.cases import CASES, CONTENDERS, WORKERS, Case, WorldSize, limited, scaled  # noqa: E402
from benchmarks.measure import CpuClock, run_measured  # noqa: E402
from benchmarks.page_rate import pages_per_second  # noqa: E402

DOCS = ROOT / "docs"
_PAGE_WORLD = WorldSize(chats=20, messages_per_chat=2_000)


def measure(cases: Sequence[Case], names: Sequence[str]) -> dict[str, Any]:
    """Measure all cases; gives what `benchmarks.json` holds."""
    started_s = time.monotonic()
    left_out = missing(names)
    present = [name for name in names if name not in left_out]
    host = machine(present)
    warm(present)
    clock = CpuClock()
    result: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": host,
        "workers": WORKERS,
        "pages_per_second": round(_page_rate()),
        "help_seconds": _help_seconds(),
        "cases": {},
    }
    for case, found in run_cases(cases, left_out):
        found.left_out |= _estimates(case, result["cases"])
        result["cases"][case.name] = to_json(case, found)
        _tell(case, found)
    result["seconds"] = round(time.monotonic() - started_s)
    steal = clock.steal_percent()
    result["cpu_steal_percent"] = None if steal is None else round(steal, 1)
    return result


def _page_rate() -> float:
    with serving(_PAGE_WORLD) as base_url:
        pages_per_second(base_url, _PAGE_WORLD, 2_000)
        return pages_per_second(base_url, _PAGE_WORLD)


def _help_seconds() -> float:
    """Median of five times `linq-source --help`."""
    program = Path(sys.executable).with_name("linq-source")
    command = [str(program)] if program.exists() else [sys.executable, "-m", "linq_source"]
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            run_measured([*command, "--help"], folder=Path(folder), environment=environment())
            for _ in range(5)
        ]
    failed = [each for each in runs if each.exit_code]
    if failed:
        raise RuntimeError(f"linq-source --help failed: {failed[0].stderr.strip()[-500:]}")
    return round(statistics.median(each.seconds for each in runs), 3)


def _estimates(case: Case, done: dict[str, Any]) -> dict[str, str]:
    """Who is not measured in a case, with what it would take at the speed of the first load."""
    result: dict[str, str] = {}
    first = done.get("first-load")
    if first is None:
        return result
    for name in case.estimated:
        times = [each["seconds"] for each in first["measurements"].get(name, [])]
        if not times:
            continue
        world = first["world"]
        share = case.world.messages / (world["chats"] * world["messages_per_chat"])
        minutes = statistics.median(times) * share / 60
        result[name] = f"not run: about {minutes:.0f} min at its speed of the first load"
    return result


def _served(case: Case, messages: int | None, latency_ms: float | None) -> Case:
    """The same with other messages, or answers so late."""
    world = case.world
    if messages is not None:
        world = replace(world, messages_per_chat=max(1, messages // world.chats))
    if latency_ms is not None:
        world = replace(world, latency_ms=latency_ms)
    return replace(case, title=case.name, world=world)


def _tell(case: Case, found: Found) -> None:
    for name, problems in found.wrong.items():
        print(f"  {case.name} {name}: WRONG: {'; '.join(problems)}", file=sys.stderr)


def main() -> int:
    """Measure and write; 1 when ours is wrong anywhere."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one run of each")
    parser.add_argument("--runs", type=int, help="of each contender, however slow it is")
    parser.add_argument("--contenders", help="only these, with commas between the names")
    parser.add_argument("--cases", help="only these, with commas between the names")
    parser.add_argument("--scale", type=float, default=1.0, help="this share of the chats")
    parser.add_argument("--messages", type=int, help="of all chats of a world together")
    parser.add_argument("--latency-ms", type=float, help="of every answer")
    parser.add_argument("--docs", type=Path, help="folder of the page and the charts")
    arguments = parser.parse_args()
    docs = DOCS if arguments == parser.parse_args([]) else arguments.docs
    names = arguments.contenders.split(",") if arguments.contenders else list(CONTENDERS)
    wanted = arguments.cases.split(",") if arguments.cases else [case.name for case in CASES]
    unknown = {*names, *wanted} - {*CONTENDERS, *(case.name for case in CASES)}
    if unknown:
        parser.error(f"no such contender or case: {', '.join(sorted(unknown))}")
    runs = 1 if arguments.quick else arguments.runs
    cases = [limited(case, names, runs) for case in CASES if case.name in wanted]
    if arguments.scale != 1:
        cases = [scaled(case, arguments.scale) for case in cases]
    if arguments.messages is not None or arguments.latency_ms is not None:
        cases = [_served(case, arguments.messages, arguments.latency_ms) for case in cases]
    result = measure(cases, names)
    # Not before: what draws charts is large, and a child's peak begins with its parent's memory.
    from benchmarks import report

    if docs is None:
        print(report.tables(result))
    else:
        docs.mkdir(parents=True, exist_ok=True)
        (docs / "benchmarks.json").write_text(json.dumps(result, indent=2) + "\n")
        print(report.write(docs))
    return 1 if any("ours" in case["wrong"] for case in result["cases"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
