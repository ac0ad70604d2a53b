"""The figures of docs/scale.md and their chart, from docs/scale.json, without measuring."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.scale_model import (
    Costs,
    Environment,
    Forecast,
    Organisation,
    Work,
    first_work,
    forecast,
    later_work,
)
from benchmarks.scale_prices import money, storage_dollars, stored_bytes

BEGIN = "<!-- forecast: written by benchmarks/scale.py -->"
END = "<!-- /forecast -->"
CHART = "scale.svg"


@dataclass(frozen=True)
class Question:
    """What is asked: an organisation, an environment, and which rates and shards to compare."""

    organisation: Organisation
    environment: Environment
    rates: tuple[float | None, ...]
    shards: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @staticmethod
    def from_json(plain: Mapping[str, Any]) -> Question:
        """The question that `to_json` wrote."""
        return Question(
            Organisation(**plain["organisation"]),
            Environment(**plain["environment"]),
            tuple(plain["rates"]),
            tuple(plain["shards"]),
        )


def quiet(costs: Costs) -> Costs:
    """The same on a machine of which nobody else wants anything."""
    return replace(costs, reading_slowdown=1.0, loading_slowdown=1.0)


def works(organisation: Organisation) -> dict[str, Work]:
    """The runs that are forecast, by name."""
    return {
        "first reading": first_work(organisation),
        "daily run": later_work(organisation, organisation.changed_in_a_day),
        "hourly run": later_work(organisation, organisation.changed_in_an_hour),
    }


HEAD = (
    "requests/s", "shards", "requests", "GB read", "time", "limited by", "CPU hours",
    "machines $", "queries $",
)  # fmt: skip


def rows(question: Question, costs: Costs, work: Work) -> Iterator[tuple[str, ...]]:
    """One for each rate and number of shards."""
    for rate in question.rates:
        for shards in question.shards:
            environment = replace(question.environment, rate_per_s=rate, shards=shards)
            found = forecast(work, environment, costs)
            dollars = money(question.organisation, work, found, shards)
            yield (
                "no limit" if rate is None else f"{rate:g}",
                str(shards),
                f"{round_to(found.requests):,}",
                f"{found.wire_bytes / 1e9:,.1f}",
                duration(found.seconds),
                found.limited_by,
                f"{found.cpu_seconds / 3_600:.2f}",
                f"{dollars.machines:,.2f}",
                f"{dollars.queries:,.2f}",
            )


CHOICE_HEAD = ("workers", "messages a package", "time", "limited by", "CPU hours", "queries $")


def choices(question: Question, costs: Costs) -> Iterator[tuple[str, ...]]:
    """The first reading by one machine without a rate limit, with other settings."""
    organisation = question.organisation
    work = first_work(organisation)
    for workers in (8, 32, 64):
        for messages in (500_000, 5_000_000):
            environment = replace(
                question.environment,
                rate_per_s=None,
                shards=1,
                workers=workers,
                package_messages=messages,
            )
            found = forecast(work, environment, costs)
            yield (
                str(workers),
                f"{messages:,}",
                duration(found.seconds),
                found.limited_by,
                f"{found.cpu_seconds / 3_600:.1f}",
                f"{money(organisation, work, found, 1).queries:,.0f}",
            )


def round_to(number: float, digits: int = 3) -> int:
    """A count of which no more than the first digits are believed."""
    if number < 10**digits:
        return round(number)
    unit: int = 10 ** (math.floor(math.log10(number)) + 1 - digits)
    return round(number / unit) * unit


def duration(seconds: float) -> str:
    """Two digits of the largest fitting unit."""
    for unit, size in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def aligned(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table for the terminal."""
    table = [head, *body]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    )


def markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table for the page."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in body])


CHECK_HEAD = ("run", "requests", "measured", "MB", "measured", "seconds", "measured", "error")


def check_rows(checks: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Predictions beside measurements."""
    result = []
    for check in checks:
        seconds, measured_s = check["seconds"]
        result.append(
            (
                check["name"],
                *(f"{number:,}" for number in check["requests"]),
                *(f"{number / 1e6:.1f}" for number in check["bytes"]),
                f"{seconds:.1f}",
                f"{measured_s:.1f}",
                f"{100 * (seconds / measured_s - 1):+.0f}%",
            )
        )
    return result


COST_TEXTS = {
    "start_s": "starting and ending a run",
    "package_s": "a package of rows",
    "state_s_per_chat": "a chat in the state, for each package that changes it",
    "list_s_per_chat": "a chat listed",
    "group_s": "a group of listed chats compared, at most 1,024 a run",
    "chat_s": "a chat read, with its first page",
    "day_s": "each further day in a chat's lookback",
    "page_s": "each further page",
    "row_s": "a message read",
    "load_s_per_row": "a message loaded into DuckDB",
    "wait_s": "a round trip, beyond latency and computing (waited, not computed)",
    "bytes_per_answer": "an answer without its records",
    "bytes_per_row": "a message",
    "bytes_per_chat": "a listed chat",
    "state_bytes_per_chat": "a chat in the local state",
    "stored_state_bytes_per_chat": "a chat in the state the destination keeps",
}


def cost_rows(costs: Costs) -> list[tuple[str, str]]:
    """What was measured, in words."""
    values = asdict(costs)
    return [
        (text, f"{values[name]:.0f} bytes" if "bytes" in name else _seconds(values[name]))
        for name, text in COST_TEXTS.items()
    ]


def _seconds(value: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.2g} {unit}"
    return f"{value / 1e-6:.0f} µs" if value >= 1e-5 else f"{value / 1e-6:.1f} µs"


def block(result: Mapping[str, Any]) -> str:
    """The generated part of the page."""
    question = Question.from_json(result["question"])
    costs = quiet(Costs(**result["costs"]))
    organisation = question.organisation
    host = result["machine"]
    steal = result["cpu_steal_percent"]
    measured = Costs(**result["costs"])
    works_ = works(organisation)
    one = replace(question.environment, shards=1, rate_per_s=None)
    first = forecast(works_["first reading"], one, costs)
    stored = stored_bytes(organisation, works_["first reading"].message_requests)
    parts = [
        "## Is the model right?",
        f"Measured on {result['date']}: {host['cores']} cores of {host['cpu']}, {host['memory']}, "
        f"{result['rounds']} rounds, medians; steal {steal}%. Others used this machine meanwhile: "
        f"a CPU second took {measured.reading_slowdown:.2f} s of the clock in reading and "
        f"{measured.loading_slowdown:.2f} s elsewhere, and the predictions below say so. "
        "The forecasts further down are for machines with nothing else to do.",
        markdown(CHECK_HEAD, check_rows(result["checks"])),
        *_verdict(result),
        "Costs, each the difference of two small runs; seconds are CPU seconds:",
        markdown(("what", "cost"), cost_rows(costs)),
        f"## {organisation.chats:,} chats, {organisation.messages:,} messages",
        f"{organisation.phone_numbers:,} phone numbers, {organisation.years:g} years; every answer "
        f"{question.environment.latency_s * 1_000:g} ms late, {question.environment.workers} "
        f"workers a shard, packages of {question.environment.package_messages:,} messages that take"
        f" {question.environment.package_s:g} s each in the warehouse. Rates are of all shards "
        "together.",
    ]
    for name, work in works_.items():
        parts += [f"### {name.capitalize()}", markdown(HEAD, list(rows(question, costs, work)))]
    parts += [
        "### One machine, no rate limit: the first reading with other settings",
        markdown(CHOICE_HEAD, list(choices(question, costs))),
        f"![Hours of the first reading against the rate limit, for several shards](charts/{CHART})",
        f"Kept: {stored / 1e9:,.0f} GB in BigQuery, ${storage_dollars(stored):.2f} a month; state "
        f"{first.state_bytes / 1e6:,.0f} MB on disk and {first.stored_state_bytes / 1e6:,.0f} MB "
        "in the destination for every run that changes anything, over all shards.",
    ]
    return "\n\n".join(parts)


def _verdict(result: Mapping[str, Any]) -> list[str]:
    if not result["misses"]:
        return ["All within 1% of requests, 5% of bytes and 20% of seconds."]
    return ["**Not within** 1% of requests, 5% of bytes, 20% of seconds: "
            + "; ".join(result["misses"]) + "."]  # fmt: skip


def with_block(page: str, result: Mapping[str, Any]) -> str:
    """The page with its generated part made anew. Raises `ValueError` without the marks."""
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"the page has no {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{block(result)}\n{END}{after}"


def curves(
    result: Mapping[str, Any], shards: Sequence[int]
) -> dict[int, list[tuple[float, float]]]:
    """Hours of the first reading at each rate, by number of shards."""
    question = Question.from_json(result["question"])
    costs = quiet(Costs(**result["costs"]))
    work = first_work(question.organisation)
    found: dict[int, list[tuple[float, float]]] = {}
    for count in shards:
        for step in range(61):
            rate = 5.0 * 1_000 ** (step / 60)
            environment = replace(question.environment, rate_per_s=rate, shards=count)
            seconds = forecast(work, environment, costs).seconds
            found.setdefault(count, []).append((rate, seconds / 3_600))
    return found


def draw(result: Mapping[str, Any], folder: Path) -> Path:
    """The chart; needs matplotlib."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib.figure import Figure

    from benchmarks.charts import _STYLE, OTHERS, OURS, _save

    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        axes = figure.subplots()
        for shards, points in curves(result, (1, 8, 32)).items():
            line = {1: ":", 8: "--", 32: "-"}[shards]
            colour = OURS if shards == 32 else "#4d8fcb" if shards == 8 else OTHERS
            label = f"{shards} shard{'' if shards == 1 else 's'}"
            axes.plot(*zip(*points, strict=True), line, color=colour, linewidth=2, label=label)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} h")
        axes.set_xlabel("requests per second that the API allows, all shards together")
        axes.set_title("First reading: hours by rate limit", loc="left", fontsize=11,
                       fontweight="bold")  # fmt: skip
        axes.grid(visible=True, color="#e6e9ec", linewidth=0.8)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        _save(figure, folder / CHART)
    return folder / CHART


def text(question: Question, costs: Costs) -> str:
    """The forecasts for the terminal."""
    parts = []
    found: Forecast
    for name, work in works(question.organisation).items():
        parts.append(f"{name}\n{aligned(HEAD, list(rows(question, costs, work)))}")
    work = first_work(question.organisation)
    found = forecast(work, question.environment, costs)
    parts.append(
        f"kept: {stored_bytes(question.organisation, work.message_requests) / 1e9:,.1f} GB in "
        f"BigQuery; state {found.state_bytes / 1e6:,.1f} MB on disk, "
        f"{found.stored_state_bytes / 1e6:,.1f} MB in the destination"
    )
    return "\n\n".join(parts)
