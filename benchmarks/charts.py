"""The charts of docs/benchmarks.md, as SVG on white, readable on any page."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib.figure import Figure

OURS = "#1668b8"
OTHERS = "#9aa3ad"
INK = "#22272e"
_LABELS = {
    "ours": "linq-source",
    "requests_read_json": "bare loop",
    "rest_api": "rest_api",
    "rest_api_parallelized": "rest_api, parallelized",
    "meltano": "Meltano pair",
    "pyairbyte": "PyAirbyte",
    "floor": "floor",
}
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "svg.fonttype": "path",
    # The same figures give the same file.
    "svg.hashsalt": "linq-source",
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.edgecolor": OTHERS,
}


def draw(result: Mapping[str, Any], folder: Path) -> None:
    """Draw every chart for which there are figures."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = result["cases"]
    with mpl.rc_context(_STYLE):
        if "first-load" in cases:
            first = cases["first-load"]
            messages = first["world"]["chats"] * first["world"]["messages_per_chat"]
            about = f"for {messages:,} messages"
            _bars(
                folder / "first-load.svg", f"Seconds {about} (logarithmic)",
                _medians(first, "seconds"), unit="s", is_logarithmic=True,
            )  # fmt: skip
            _bars(
                folder / "peak-memory.svg", f"Peak memory {about}, MB",
                _medians(first, "peak_mb"), unit="MB",
            )  # fmt: skip
        _lines(folder / "messages.svg", cases)


def _medians(case: Mapping[str, Any], quantity: str) -> dict[str, float]:
    return {
        name: statistics.median(each[quantity] for each in runs)
        for name, runs in case["measurements"].items()
        if runs and not any(each["exit_code"] for each in runs)
    }


def _bars(
    path: Path, title: str, values: Mapping[str, float], *, unit: str, is_logarithmic: bool = False
) -> None:
    """Horizontal bars, the smallest on top, each with its figure."""
    names = sorted(values, key=lambda name: -values[name])
    figure = Figure(figsize=(7.2, 0.42 * len(names) + 0.9), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(
        [_LABELS[name] for name in names],
        [values[name] for name in names],
        color=[OURS if name == "ours" else OTHERS for name in names],
        height=0.68,
    )
    axes.bar_label(
        bars,
        labels=[f"{values[n]:.1f} {unit}" if unit == "s" else f"{values[n]:.0f}" for n in names],
        padding=4,
    )
    if is_logarithmic:
        axes.set_xscale("log")
        axes.set_xlim(left=0.5 * min(values.values()), right=2.2 * max(values.values()))
    else:
        axes.set_xlim(right=1.12 * max(values.values()))
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.xaxis.set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    _save(figure, path)


def _lines(path: Path, cases: Mapping[str, Any]) -> None:
    """Seconds over messages, both logarithmic: a straight diagonal costs the same per message."""
    points: dict[str, list[tuple[int, float]]] = {}
    for name in ("first-load", "large"):
        if name not in cases:
            continue
        world = cases[name]["world"]
        for contender, seconds in _medians(cases[name], "seconds").items():
            if contender == "rest_api_parallelized":
                continue  # its name would lie on the other's
            messages = world["chats"] * world["messages_per_chat"]
            points.setdefault(contender, []).append((messages, seconds))
    if not points:
        return
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    for contender in sorted(points, key=lambda name: name == "ours"):
        _line(axes, contender, sorted(points[contender]))
    axes.set_xscale("log")
    axes.set_yscale("log")
    ends = sorted({messages for found in points.values() for messages, _ in found})
    axes.set_xticks(ends, labels=[f"{messages:,}" for messages in ends])
    axes.minorticks_off()
    # Room for the names beside the points.
    axes.set_xlim(ends[0] / 1.25, ends[-1] * (ends[-1] / ends[0]) ** 0.35 * 1.5)
    axes.set_xlabel("messages")
    axes.set_title("Seconds by number of messages", loc="left", fontsize=11, fontweight="bold")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} s")
    axes.grid(visible=True, color="#e6e9ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def _line(axes: Any, contender: str, found: Sequence[tuple[int, float]]) -> None:
    colour = OURS if contender == "ours" else OTHERS
    axes.plot(*zip(*found, strict=True), marker="o", color=colour, linewidth=2, markersize=5)
    messages, seconds = found[-1]
    axes.annotate(
        f"{_LABELS[contender]} {seconds:.3g} s",
        (messages, seconds),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        color=colour if contender == "ours" else INK,
    )


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
