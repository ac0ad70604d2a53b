"""Measure one case of the suite, with contenders and sizes of your own, and print a table.

    python benchmarks/run.py --case first-load --contenders ours,floor --runs 5
    python benchmarks/run.py --case first-load --messages 40000 --latency-ms 20 --quick

The cases stand in `cases.py`; `suite.py` measures all of them and writes docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.bench import machine, missing, run_cases, to_json, warm  # noqa: E402
from benchmarks.cases import CASES, CONTENDERS, Case  # noqa: E402
from benchmarks.measure import Measurement, medians  # noqa: E402


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


def chosen(arguments: argparse.Namespace) -> Case:
    """The case, with the sizes and contenders that were asked for."""
    case = next(each for each in CASES if each.name == arguments.case)
    world = case.world
    chats = arguments.chats or world.chats
    per_chat = world.messages_per_chat
    if arguments.messages:
        per_chat = max(1, arguments.messages // chats)
    latency_ms = world.latency_ms if arguments.latency_ms is None else arguments.latency_ms
    world = replace(world, chats=chats, messages_per_chat=per_chat, latency_ms=latency_ms)
    names = arguments.contenders.split(",") if arguments.contenders else list(case.runs)
    runs = dict.fromkeys(names, 1 if arguments.quick else arguments.runs)
    return replace(case, world=world, runs=runs, limit_s=arguments.limit_s)


def main() -> int:
    """Measure and print; 1 when ours is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", choices=[case.name for case in CASES], default="first-load")
    parser.add_argument("--messages", type=int, help="of all chats together")
    parser.add_argument("--chats", type=int)
    parser.add_argument("--latency-ms", type=float, help="of every answer")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one run of each")
    parser.add_argument("--contenders", help="names, with commas between them")
    parser.add_argument("--limit-s", type=float, default=900.0, help="after which one is given up")
    parser.add_argument("--json", type=Path, help="write all measurements to this file")
    arguments = parser.parse_args()
    case = chosen(arguments)
    unknown = [name for name in case.runs if name not in CONTENDERS]
    if unknown:
        parser.error(f"no such contender: {', '.join(unknown)}")
    left_out = missing(list(case.runs))
    names = [name for name in case.runs if name not in left_out]
    warm(names)
    ((_, found),) = run_cases([case], left_out)
    host = machine(names)
    world = case.world
    print(
        f"{case.name}: {world.chats:,} chats of {world.messages_per_chat:,} messages,"
        f" latency {world.latency_ms:g} ms, medians of {max(case.runs.values())}\n"
    )
    print(table(found.measurements, found.wrong))
    print(f"\n{host['cores']} cores, {host['cpu']}, {host['memory']}; {host['system']}")
    print(", ".join(f"{name} {number}" for name, number in host["versions"].items()))
    for name, requests in found.requests.items():
        print(f"{name} asked: {', '.join(f'{n:,} {kind}' for kind, n in requests.items())}")
    for name, problems in found.wrong.items():
        print(f"{name}: {'; '.join(problems)}", file=sys.stderr)
    for name, reason in left_out.items():
        print(f"{name}: {reason}", file=sys.stderr)
    if arguments.json is not None:
        result = {"machine": host, "cases": {case.name: to_json(case, found)}}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 1 if "ours" in found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
