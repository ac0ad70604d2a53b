"""Forecast what an organisation takes, from costs measured here: `make scale`.

    python benchmarks/scale.py                    # measure costs, check the model, forecast
    python benchmarks/scale.py --write            # and write docs/scale.md and docs/scale.json
    python benchmarks/scale.py --stored           # no measuring: the costs of docs/scale.json
    python benchmarks/scale.py --stored --chats 20000 --messages 30000000 --rates 25,none
    python benchmarks/scale.py --size 0.05 --rounds 1    # does it work? its figures mean nothing

Measuring takes some ten minutes. Ends with 1 where the model missed a measured run: by more than
1% of its requests or a third of its seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import scale_prices as prices  # noqa: E402
from benchmarks.scale_model import (  # noqa: E402
    Costs,
    Environment,
    Organisation,
    first_work,
    forecast,
    hourly_work,
)

DOCS = ROOT / "docs"
BEGIN = "<!-- forecast: written by benchmarks/scale.py -->"
END = "<!-- /forecast -->"
HELP = {
    "chats": "of the organisation",
    "phone_numbers": "of the organisation: each has a list of chats of its own",
    "messages": "of all chats together",
    "years": "in which they were sent",
    "spread": "how unequal chats are: standard deviation of the logarithm of their sizes",
    "active_in_lookback": "share of chats with a message in the last 7 days",
    "changed_in_an_hour": "share of chats that change in an hour",
}
COSTS = {
    "start_s": "starting and ending a run",
    "chat_s": "a chat read, with its first page",
    "page_s": "every other page",
    "wait_s": "a round trip, beyond latency and computing",
    "package_s": "a package of rows",
    "state_s_per_chat": "a chat in the state, for each package",
    "state_bytes_per_chat": "a chat in the local state",
    "stored_state_bytes_per_chat": "a chat in the state that the destination keeps",
}
CHECK_HEAD = ("run", "requests", "measured", "seconds", "measured", "off by")
HEAD = ("requests/s", "shards", "requests", "time", "limited by", "machines $", "queries $")
Table = Sequence[Sequence[str]]


def measured(rounds: int, size: float) -> dict[str, Any]:
    """Measure costs and checks; gives what `scale.json` holds."""
    # Not above: it starts servers and knows the package, which the forecasts do not need.
    from benchmarks import scale_measure as runs
    from benchmarks.bench import machine
    from benchmarks.cases import scaled
    from benchmarks.measure import CpuClock

    clock = CpuClock()
    calibration = [scaled(run, size) for run in runs.CALIBRATION]
    checks = [scaled(run, size) for run in runs.CHECKS]
    states = runs.measure_states()
    found, newest = runs.measure([*calibration, *checks], rounds)
    costs = runs.costs_from({run.name: run for run in calibration}, found, states)
    compared = runs.compare(checks, found, newest, costs)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine([]),
        "rounds": rounds,
        "cpu_steal_percent": round(clock.steal_percent() or 0.0, 1),
        "costs": asdict(costs),
        "checks": compared,
        "misses": runs.misses(compared),
    }


def check_rows(checks: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[str]]:
    """Predictions beside measurements."""
    for check in checks:
        (asked, real), (seconds, took) = check["requests"], check["seconds"]
        off = f"{100 * (seconds / took - 1):+.0f}%"
        yield check["name"], f"{asked:,}", f"{real:,}", f"{seconds:.1f}", f"{took:.1f}", off


def cost_rows(costs: Costs) -> Iterator[Sequence[str]]:
    """What was measured, in words."""
    for name, value in asdict(costs).items():
        if "bytes" in name:
            yield COSTS[name], f"{value:.0f} bytes"
        else:
            yield (
                COSTS[name],
                f"{value:.1f} s" if value > 1 else f"{float(f'{1_000 * value:.2g}'):g} ms",
            )


def forecast_rows(
    organisation: Organisation,
    place: Environment,
    costs: Costs,
    options: tuple[Sequence[float | None], Sequence[int]],
    first: bool,
) -> Iterator[Sequence[str]]:
    """A row for each rate and number of shards."""
    work = first_work(organisation) if first else hourly_work(organisation)
    for rate in options[0]:
        for shards in options[1]:
            found = forecast(work, replace(place, rate_per_s=rate, shards=shards), costs)
            queries = prices.query_dollars(organisation, found, shards, first)
            yield (
                "no limit" if rate is None else f"{rate:g}",
                f"{shards}",
                f"{round(found.requests, -3):,.0f}",
                duration(found.seconds),
                found.limited_by,
                f"{prices.machine_dollars(found, shards):,.2f}",
                f"{queries:,.2f}",
            )


def duration(seconds: float) -> str:
    """Two digits of the largest fitting unit."""
    for unit, size in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def markdown(head: Sequence[str], body: Iterator[Sequence[str]]) -> str:
    """A table."""
    rows = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def block(
    result: Mapping[str, Any],
    organisation: Organisation,
    place: Environment,
    options: tuple[Sequence[float | None], Sequence[int]],
) -> str:
    """What is measured and forecast, as the page shows it."""
    costs, host = Costs(**result["costs"]), result["machine"]
    kept = prices.stored_bytes(organisation) / 1e9
    state = [costs.state_bytes_per_chat, costs.stored_state_bytes_per_chat]
    local_mb, stored_mb = (organisation.chats * each / 1e6 for each in state)
    return "\n\n".join(
        [
            f"Measured on {result['date']}, linq-source {host['versions']['linq-source']}, "
            f"{host['cores']} cores of {host['cpu']}, {result['rounds']} rounds, medians; other "
            f"machines took {result['cpu_steal_percent']}% of its processors. Costs are CPU time:",
            markdown(("what", "cost"), cost_rows(costs)),
            markdown(CHECK_HEAD, check_rows(result["checks"])),
            *(f"**Missed**: {miss}." for miss in result["misses"]),
            f"## {organisation.chats:,} chats, {organisation.messages:,} messages",
            f"{organisation.phone_numbers:,} phone numbers, {organisation.years:g} years; every "
            f"answer {place.latency_s * 1_000:g} ms late, {place.workers} workers a shard, "
            f"packages of {place.package_messages:,} messages that take {place.package_s:g} s each "
            "in the warehouse. Rates are of all shards together. The first reading:",
            markdown(HEAD, forecast_rows(organisation, place, costs, options, True)),
            "An hourly run:",
            markdown(HEAD, forecast_rows(organisation, place, costs, options, False)),
            f"Kept: {kept:,.0f} GB in BigQuery, ${prices.storage_dollars(organisation):.2f} a "
            f"month; state {local_mb:,.0f} MB on disk, and {stored_mb:,.0f} MB in the destination "
            "for every run that changes anything.",
        ]
    )


def with_block(page: str, content: str) -> str:
    """The page with its generated part replaced."""
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for each in fields(Organisation):
        flag = "--" + each.name.replace("_", "-")
        found.add_argument(
            flag, type=type(each.default), default=each.default, help=HELP[each.name]
        )
    found.add_argument("--latency-ms", type=float, default=100.0, help="of every answer")
    found.add_argument("--workers", type=int, default=8, help="of each shard")
    found.add_argument("--max-messages", type=int, default=5_000_000, help="of a package")
    found.add_argument("--package-seconds", type=float, default=60.0, help="in the warehouse")
    found.add_argument("--rates", default="10,none", help="requests/s, or none")
    found.add_argument("--shards", default="1,32", help="how many, with commas between them")
    found.add_argument("--stored", action="store_true", help="take the costs of docs/scale.json")
    found.add_argument("--rounds", type=int, default=3, help="of measuring")
    found.add_argument("--size", type=float, default=1.0, help="measure with this share of chats")
    found.add_argument("--write", action="store_true", help="write the page")
    return found


def page_block(result: Mapping[str, Any], arguments: argparse.Namespace) -> str:
    """The block for what the command line asks."""
    names = [each.name for each in fields(Organisation)]
    rates = [None if each == "none" else float(each) for each in arguments.rates.split(",")]
    place = Environment(
        latency_s=arguments.latency_ms / 1_000,
        workers=arguments.workers,
        package_messages=arguments.max_messages,
        package_s=arguments.package_seconds,
    )
    organisation = Organisation(**{name: getattr(arguments, name) for name in names})
    return block(result, organisation, place, (rates, [*map(int, arguments.shards.split(","))]))


def main() -> int:
    """Measure, check, forecast, print."""
    arguments = parser().parse_args()
    if arguments.write and arguments.size != 1:
        parser().error("--size is for trying out: leave --write out")
    stored = DOCS / "scale.json"
    if arguments.stored:
        result = json.loads(stored.read_text())
    else:
        result = measured(arguments.rounds, arguments.size)
    content = page_block(result, arguments)
    print(content)
    if arguments.write:
        stored.write_text(json.dumps(result, indent=2) + "\n")
        page = DOCS / "scale.md"
        page.write_text(with_block(page.read_text(), content))
    misses = result["misses"] if arguments.size == 1 else []
    for miss in misses:
        print(f"MISSED {miss}", file=sys.stderr)
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
