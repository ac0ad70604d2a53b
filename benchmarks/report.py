"""Write docs/benchmarks.md and its charts from docs/benchmarks.json, without measuring.

Only what stands between the two marks is written; the rest of the page is by hand.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.cases import PER_PAGE, TITLES  # noqa: E402
from benchmarks.promises import Figures, promises  # noqa: E402

BEGIN = "<!-- measured: written by benchmarks/report.py -->"
END = "<!-- /measured -->"
CHARTS = {
    "first-load.svg": "Seconds for 200,000 messages, by contender",
    "peak-memory.svg": "Peak memory for 200,000 messages, by contender",
    "messages.svg": "Seconds by number of messages",
}


def write(docs: Path) -> Path:
    """Write the page and the charts of a folder that holds `benchmarks.json`; gives the page."""
    from benchmarks.charts import draw

    page = docs / "benchmarks.md"
    result = json.loads((docs / "benchmarks.json").read_text())
    draw(result, docs / "charts")
    old = page.read_text() if page.exists() else f"# Benchmarks\n\n{BEGIN}\n{END}\n"
    page.write_text(with_measured(old, result))
    return page


def with_measured(page: str, result: Mapping[str, Any]) -> str:
    """The page with the measured part replaced. Raises `ValueError` without the marks."""
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"the page has no {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{measured(result)}\n{END}{after}"


def measured(result: Mapping[str, Any]) -> str:
    """The measured part: machine, promises, a table per case."""
    charts = {"first-load": ("first-load.svg", "peak-memory.svg"), "large": ("messages.svg",)}
    parts = [_machine(result), _promises(result)]
    for name, case in result["cases"].items():
        parts.append(_case(name, case, result))
        parts += [f"![{CHARTS[chart]}](charts/{chart})" for chart in charts.get(name, ())]
    return "\n\n".join(parts)


def tables(result: Mapping[str, Any]) -> str:
    """The machine and a table per case, to be printed."""
    cases = [_case(name, case, result) for name, case in result["cases"].items()]
    return "\n\n".join([*cases, _machine(result)])


def _machine(result: Mapping[str, Any]) -> str:
    host = result["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in host["versions"].items())
    steal = result["cpu_steal_percent"]
    noise = "is not told here" if steal is None else f"was {steal:g}%"
    return (
        f"Measured on {result['date']} in {result['seconds'] / 60:.0f} minutes: {host['cores']} "
        f"cores of {host['cpu']}, {host['memory']}, {host['system']}.\n"
        f"{versions}.\n"
        f"Processor time taken by other machines on the same host (steal) {noise}."
    )


def _promises(result: Mapping[str, Any]) -> str:
    lines = ["## Targets", "", "| target | measured | |", "|---|---|---|"]
    for promise in promises(Figures(result)):
        verdict = "met" if promise.met else "**not met**"
        if promise.measured is None:
            lines.append(f"| {promise.text} | - | not measured |")
        else:
            lines.append(f"| {promise.text} | {promise.measured} | {verdict} |")
    return "\n".join(lines)


def _case(name: str, case: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    lines = [
        f"## {case['title']}",
        "",
        "| contender | runs | seconds | to ours | CPU s | peak MB | rows |",
        "|---|---|---|---|---|---|---|",
        *_rows(case),
    ]
    world = case["world"]
    told = [
        f"{_count(world['chats'], 'chat')} of {_count(world['messages_per_chat'], 'message')}"
        + (f", every answer {world['latency_ms']:g} ms late" if world["latency_ms"] else "")
        + "."
    ]
    if name == "latency":
        told.append(_ideal(result))
    if "ours" in case["requests"]:
        told.append(_requests(case))
    lines += ["", "\n".join(each for each in told if each)]
    notes = [f"- {TITLES[n]}: WRONG: {'; '.join(why)}" for n, why in case["wrong"].items()]
    notes += [f"- {TITLES[n]}: {why}" for n, why in case["left_out"].items()]
    if notes:
        lines += ["", *notes]
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _rows(case: Mapping[str, Any]) -> Iterator[str]:
    middle = {
        name: {key: statistics.median(each[key] for each in runs) for key in runs[0]}
        for name, runs in case["measurements"].items()
        if runs
    }
    ours = middle.get("ours")
    for name, each in middle.items():
        ratio = f"{each['seconds'] / ours['seconds']:.2f}" if ours else "-"
        rows = "WRONG" if name in case["wrong"] else "right"
        yield (
            f"| {TITLES[name]} | {len(case['measurements'][name])} | {each['seconds']:.2f} | "
            f"{ratio} | {each['cpu_seconds']:.2f} | {each['peak_mb']:.0f} | {rows} |"
        )


def _ideal(result: Mapping[str, Any]) -> str:
    figures = Figures(result)
    try:
        ideal_s, start_s = figures.ideal_latency_s, figures.median("start-up", "ours")
    except KeyError:
        return ""
    world = figures.world("latency")
    return (
        f"The ideal is {world.pages:,} pages of {PER_PAGE} x {world.latency_ms:g} ms / "
        f"{result['workers']} workers + {start_s:.2f} s of start-up (a run with nothing to do) "
        f"= {ideal_s:.2f} s."
    )


def _requests(case: Mapping[str, Any]) -> str:
    kinds = {"phone_numbers": "for phone numbers", "chats": "for chats", "messages": "for messages"}
    asked = case["requests"]["ours"]
    told = ", ".join(f"{asked.get(kind, 0):,} {text}" for kind, text in kinds.items())
    return f"Our requests, counted by the server: {told}."


if __name__ == "__main__":
    print(write(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"))
