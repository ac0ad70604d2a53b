"""The charts of a report as Vega-Lite specifications. Pure.

Colours are the page's own (CSS variables), so that a chart follows the theme and the printer
without being drawn again. See https://vega.github.io/vega-lite/docs/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from linq_source.reporting.figures import DAY_S, HOUR_S, WEEK_S, Figures, Responses, Share
from linq_source.reporting.words import in_short

Spec = dict[str, Any]

RECEIVED, SENT = "Received", "Sent"
MEDIAN, SLOWEST = "Median", "Slowest tenth"
DAYS_OF_THE_WEEK = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

_SIDES = ("var(--received)", "var(--sent)")
_HEAT = [f"var(--heat-{step})" for step in range(6)]
_BAR_HEIGHT = 26
# So few bars over time would be blocks, were they as wide as there is room.
_FEW_PERIODS = 10
# Of response times, from a second to a month, and what the axis calls them.
_TICKS = {
    1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", HOUR_S: "1 h", 6 * HOUR_S: "6 h",
    DAY_S: "1 day", WEEK_S: "7 days", 30 * DAY_S: "30 days",
}  # fmt: skip


def traffic_chart(figures: Figures, description: str) -> Spec:
    """Messages by period, sent on top of received."""
    found = figures.traffic_by_period()
    rows = [
        {"start": _date(start), "side": side, "messages": messages, "order": order}
        for start, traffic in found
        for order, (side, messages) in enumerate(
            ((RECEIVED, traffic.received), (SENT, traffic.sent))
        )
    ]
    return _spec(
        description,
        rows,
        height=220,
        mark={"type": "bar", "width": 24 if len(found) < _FEW_PERIODS else {"band": 0.86}},
        encoding={
            "x": {
                "field": "start",
                "type": "ordinal",
                "title": None,
                "axis": {
                    "values": _some([_date(start) for start, _ in found], 8),
                    "labelExpr": "utcFormat(toDate(datum.value + 'T00:00Z'), '%b %e, %Y')",
                    "labelAngle": 0,
                    "labelOverlap": "greedy",
                    "labelPadding": 8,
                    "ticks": False,
                },
            },
            "y": {"field": "messages", "type": "quantitative", "title": None, "axis": _FEW_LINES},
            "color": _side_color((RECEIVED, SENT)),
            "order": {"field": "order"},
            "tooltip": [
                {"field": "start", "type": "nominal", "title": f"{figures.period.name} of"},
                {"field": "side", "type": "nominal", "title": " "},
                {"field": "messages", "type": "quantitative", "format": ",", "title": "messages"},
            ],
        },
    )


def responses_chart(responses: Sequence[Responses], figures: Figures, description: str) -> Spec:
    """How long answers took: the median, and the least of the slowest tenth; in logarithms."""
    rows = [
        {
            "start": _date(figures.period.start_of(found.period)),
            "what": what,
            "seconds": max(seconds, 1.0),
            "words": in_short(seconds),
            "turns": found.turns,
        }
        for found in responses
        for what, seconds in ((MEDIAN, found.median_s), (SLOWEST, found.p90_s))
    ]
    names = "{" + ",".join(f"'{seconds}':'{name}'" for seconds, name in _TICKS.items()) + "}"
    return _spec(
        description,
        rows,
        height=220,
        mark={"type": "line", "point": {"size": 22}, "strokeWidth": 2},
        encoding={
            "x": {
                "field": "start",
                "type": "temporal",
                "scale": {"type": "utc"},
                "title": None,
                "axis": {
                    "format": "%b %e" if figures.period.seconds == DAY_S else "%b %Y",
                    "tickCount": 4,
                    "labelOverlap": "greedy",
                    "labelSeparation": 12,
                    "grid": False,
                },
            },
            "y": {
                "field": "seconds",
                "type": "quantitative",
                "scale": {"type": "log", "nice": False, "domain": _around(rows)},
                "title": None,
                "axis": {"values": list(_TICKS), "labelExpr": f"{names}[datum.value]"},
            },
            "color": {
                "field": "what",
                "type": "nominal",
                "scale": {"domain": [MEDIAN, SLOWEST], "range": ["var(--sent)", "var(--muted)"]},
                "legend": _LEGEND,
            },
            "strokeDash": {
                "field": "what",
                "type": "nominal",
                "scale": {"domain": [MEDIAN, SLOWEST], "range": [[1, 0], [4, 3]]},
                "legend": _LEGEND,
            },
            "tooltip": [
                {"field": "start", "type": "nominal", "title": f"{figures.period.name} of"},
                {"field": "what", "type": "nominal", "title": " "},
                {"field": "words", "type": "nominal", "title": "time"},
                {"field": "turns", "type": "quantitative", "format": ",", "title": "answers"},
            ],
        },
    )


def bar_chart(
    rows: Sequence[tuple[str, int]],
    description: str,
    *,
    color: str = "var(--received)",
    labels: Mapping[str, str] | None = None,
) -> Spec:
    """One bar a row, in the order given, with its number at its end, or another label."""
    values = [
        {
            "row": _row(place, name),
            "name": name,
            "count": count,
            "label": (labels or {}).get(name, f"{count:,}"),
        }
        for place, (name, count) in enumerate(rows)
    ]
    most = max(count for _, count in rows) or 1
    longest = max(len(str(value["label"])) for value in values)
    return _spec(
        description,
        values,
        height=_BAR_HEIGHT * len(values),
        layer=[
            {"mark": {"type": "bar", "color": color, "height": {"band": 0.72}}},
            {
                "mark": {"type": "text", "align": "left", "dx": 5, "color": "var(--ink)"},
                "encoding": {"text": {"field": "label"}},
            },
        ],
        encoding={
            "y": _NAMES_AXIS,
            "x": {
                "field": "count",
                "type": "quantitative",
                "title": None,
                "axis": None,
                # Room for the label of the longest bar.
                "scale": {"domain": [0, most * (1 + 0.04 * (longest + 1))], "nice": False},
            },
            "tooltip": [
                {"field": "name", "type": "nominal", "title": " "},
                {"field": "label", "type": "nominal", "title": "count"},
            ],
        },
    )


def sides_chart(rows: Sequence[Share], sides: tuple[str, str], description: str) -> Spec:
    """A bar a row, of two parts; the values are all, the first and the second part."""
    values = [
        {
            "row": _row(place, row.name),
            "name": row.name,
            "side": side,
            "count": count,
            "order": order,
        }
        for place, row in enumerate(rows)
        for order, (side, count) in enumerate(zip(sides, row.values[1:], strict=True))
    ]
    return _spec(
        description,
        values,
        height=_BAR_HEIGHT * len(rows),
        mark={"type": "bar", "height": {"band": 0.72}},
        encoding={
            "y": _NAMES_AXIS,
            "x": {
                "field": "count",
                "type": "quantitative",
                "title": None,
                "axis": {**_FEW_LINES, "labelOverlap": "greedy"},
            },
            "color": _side_color(sides),
            "order": {"field": "order"},
            "tooltip": [
                {"field": "name", "type": "nominal", "title": " "},
                {"field": "side", "type": "nominal", "title": "who"},
                {"field": "count", "type": "quantitative", "format": ",", "title": "count"},
            ],
        },
    )


def busy_chart(description: str) -> Spec:
    """The hours of the week; the page adds up the messages, for only it knows the time zone."""
    hours = list(range(24))
    return _spec(
        description,
        [],
        height=_BAR_HEIGHT * len(DAYS_OF_THE_WEEK),
        mark={"type": "rect", "stroke": "var(--paper)", "strokeWidth": 1.5, "cornerRadius": 2},
        encoding={
            "x": {
                "field": "hour",
                "type": "ordinal",
                "title": None,
                "scale": {"domain": hours},
                "axis": {
                    "values": hours[::3],
                    "labelExpr": "pad(datum.value, 2, '0', 'left')",
                    "labelAngle": 0,
                    "ticks": False,
                    "domain": False,
                },
            },
            "y": {
                "field": "day",
                "type": "ordinal",
                "title": None,
                "scale": {"domain": list(DAYS_OF_THE_WEEK)},
                "axis": {"ticks": False, "domain": False},
            },
            "color": {
                "field": "messages",
                "type": "quantitative",
                "scale": {"type": "quantize", "range": _HEAT},
                "legend": {**_LEGEND, "title": None, "format": ",.0f", "type": "symbol"},
            },
            "tooltip": [
                {"field": "when", "type": "nominal", "title": " "},
                {"field": "messages", "type": "quantitative", "format": ",", "title": "received"},
            ],
        },
    )


_LEGEND = {
    "title": None,
    "orient": "top",
    "direction": "horizontal",
    "columns": 6,
    "symbolType": "square",
}
# Of `_row`, called by its name.
_NAMES_AXIS = {
    "field": "row",
    "type": "ordinal",
    "title": None,
    "axis": {
        "labelExpr": "slice(datum.value, 5)",
        "ticks": False,
        "domain": False,
        "labelLimit": 120,
        "labelPadding": 8,
    },
}
_FEW_LINES = {
    "tickCount": 4,
    "tickMinStep": 1,
    "domain": False,
    "ticks": False,
    "labelExpr": "datum.value % 1 ? '' : format(datum.value, datum.value < 1000 ? ',' : '~s')",
}


def _side_color(sides: tuple[str, str]) -> Spec:
    return {
        "field": "side",
        "type": "nominal",
        "scale": {"domain": list(sides), "range": list(_SIDES)},
        "legend": _LEGEND,
    }


def _row(place: int, name: str) -> str:
    """What tells a row from every other, and sorts by place: two may have one name."""
    return f"{place:04} {name}"


def _spec(description: str, rows: Sequence[Mapping[str, Any]], **rest: Any) -> Spec:
    return {
        "description": description,
        "data": {"name": "rows", "values": list(rows)},
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        **rest,
    }


def _around(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """The marks of the axis just below and above all response times."""
    times_s = [row["seconds"] for row in rows]
    below = [mark for mark in _TICKS if mark <= min(times_s)]
    above = [mark for mark in _TICKS if mark >= max(times_s)]
    return [max(below, default=1), min(above, default=max(times_s))]


def _some(items: Sequence[str], most: int) -> list[str]:
    """Some of the items, at equal distances, with the first."""
    return list(items[:: max(1, -(-len(items) // most))])


def _date(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d}"
