"""Forecast what an organisation takes, from costs measured here: `make scale`.

    python benchmarks/scale.py                      # measure costs, check the model, forecast
    python benchmarks/scale.py --write              # and write docs/scale.md, scale.json, the chart
    python benchmarks/scale.py --stored             # no measuring: the costs of docs/scale.json
    python benchmarks/scale.py --stored --chats 20000 --messages 30000000 --rates 25,100

Measuring takes some ten minutes. Ends with 1 where the model missed a measured run: by more than
1% of its requests, 5% of its bytes or 20% of its seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import scale_page as page  # noqa: E402
from benchmarks.scale_model import Costs, Environment, Organisation  # noqa: E402

DOCS = ROOT / "docs"
_HELP = {
    "chats": "of the organisation",
    "phone_numbers": "of the organisation: each has a list of chats of its own",
    "messages": "of all chats together",
    "years": "in which they were sent",
    "spread": "how unequal chats are: standard deviation of the logarithm of their sizes",
    "active_in_lookback": "share of chats with a message in the last 7 days",
    "changed_in_a_day": "share of chats that change in a day",
    "changed_in_an_hour": "share of chats that change in an hour",
}


def question_of(arguments: argparse.Namespace) -> page.Question:
    """What the command line asks."""
    names = [each.name for each in fields(Organisation)]
    return page.Question(
        organisation=Organisation(**{name: getattr(arguments, name) for name in names}),
        environment=Environment(
            latency_s=arguments.latency_ms / 1_000,
            workers=arguments.workers,
            package_messages=arguments.max_messages,
            package_s=arguments.package_seconds,
        ),
        rates=tuple(None if each == "none" else float(each) for each in arguments.rates.split(",")),
        shards=tuple(int(each) for each in arguments.shards.split(",")),
    )


def measured(rounds: int) -> dict[str, Any]:
    """Measure costs and checks; gives what `scale.json` holds, without the question."""
    # Not above: it starts servers and knows the package, which the forecasts do not need.
    from benchmarks.bench import machine
    from benchmarks.measure import CpuClock
    from benchmarks.scale_measure import (
        compare,
        costs_from,
        day_seconds,
        measure,
        misses,
        state_costs,
    )

    clock = CpuClock()
    states, day_s = state_costs(), day_seconds()
    found, newest = measure(rounds)
    costs = costs_from(found, states, day_s)
    checks = compare(found, newest, costs)
    steal = clock.steal_percent()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine([]),
        "rounds": rounds,
        "cpu_steal_percent": None if steal is None else round(steal, 1),
        "states": states,
        "costs": asdict(costs),
        "checks": checks,
        "misses": misses(checks),
        "runs": {
            name: [{key: round(value, 3) for key, value in each.items()} for each in runs]
            for name, runs in found.items()
        },
    }


def write(docs: Path, result: Mapping[str, Any]) -> None:
    """Write the figures, the page's block and the chart."""
    (docs / "scale.json").write_text(json.dumps(result, indent=2) + "\n")
    target = docs / "scale.md"
    old = target.read_text() if target.exists() else f"# Scale\n\n{page.BEGIN}\n{page.END}\n"
    target.write_text(page.with_block(old, result))
    page.draw(result, docs / "charts")


def main() -> int:
    """Measure, check, forecast, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for each in fields(Organisation):
        flag = "--" + each.name.replace("_", "-")
        kind = type(each.default)
        parser.add_argument(flag, type=kind, default=each.default, help=_HELP[each.name])
    parser.add_argument("--latency-ms", type=float, default=100.0, help="of every answer")
    parser.add_argument("--workers", type=int, default=8, help="of each shard")
    parser.add_argument("--max-messages", type=int, default=5_000_000, help="of a package")
    parser.add_argument(
        "--package-seconds", type=float, default=60.0, help="the warehouse takes for a package"
    )
    parser.add_argument("--message-bytes", type=float, help="of JSON; as measured if not given")
    parser.add_argument("--rates", default="10,50,200,none", help="requests/s, or none")
    parser.add_argument("--shards", default="1,32", help="how many, with commas between them")
    parser.add_argument("--stored", action="store_true", help="take the costs of docs/scale.json")
    parser.add_argument("--rounds", type=int, default=3, help="of measuring")
    parser.add_argument("--write", action="store_true", help="write the page")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the page")
    arguments = parser.parse_args()
    question = question_of(arguments)
    if arguments.stored:
        result = json.loads((arguments.docs / "scale.json").read_text())
    else:
        result = measured(arguments.rounds)
    result["question"] = question.to_json()
    if arguments.message_bytes is not None:
        result["costs"]["bytes_per_row"] = arguments.message_bytes
    costs = Costs(**result["costs"])
    print(page.aligned(page.CHECK_HEAD, page.check_rows(result["checks"])))
    print(f"\nsteal {result['cpu_steal_percent']}%, medians of {result['rounds']}\n")
    print(page.aligned(("cost", ""), page.cost_rows(costs)), end="\n\n")
    print(page.text(question, page.quiet(costs)))
    for miss in result["misses"]:
        print(f"MISSED {miss}", file=sys.stderr)
    if arguments.write:
        write(arguments.docs, result)
    return 1 if result["misses"] else 0


if __name__ == "__main__":
    sys.exit(main())
