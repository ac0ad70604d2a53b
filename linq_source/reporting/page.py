"""A report as one HTML page: headlines, charts, and behind every chart its numbers. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape

from linq_source.operations.status_report import doubts_of, facts, verdict
from linq_source.reporting.figures import CHART_DAYS, RECENT_DAYS, Figures
from linq_source.reporting.panels import Table, panels_of
from linq_source.reporting.words import in_short, many, percent

# What is inlined: the page may ask nobody for anything.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline' 'unsafe-eval'; img-src data:"
)


def page_of(figures: Figures, *, script: str, style: str, library: str) -> str:
    """The page; `library` is Vega's JavaScript, `script` and `style` the page's own."""
    found = panels_of(figures)
    drawn = {chart.id: chart.spec for chart in found if chart.spec is not None}
    data = {"charts": drawn, "busyHours": figures.busy_hours()}
    status = figures.status
    is_well = not doubts_of(status)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>Chat messages: {escape(figures.dataset)}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>Chat messages</h1>
<p>{many(figures.messages, "message")} in {many(figures.chats, "chat")} of \
{many(figures.lines, "phone number")},
dataset {escape(figures.dataset)}, up to {figures.until:%B} {figures.until.day}, \
{figures.until:%Y, %H:%M} UTC.</p>
<p class="health {"well" if is_well else "unwell"}"><a href="#health">{_sentence(figures)}</a></p>
</header>
<main>
<section class="cards" aria-label="Headlines">{"".join(_cards(figures))}</section>
<noscript><p class="health unwell">Charts need JavaScript; all their numbers are in the tables.</p>
</noscript>
<div class="grid">{"".join(chart.html for chart in found)}</div>
<section id="health" class="chart wide"><h2>Can the data be trusted?</h2>
<p class="words">{_sentence(figures)}</p>
{_facts(figures)}</section>
</main>
<footer><p>Made {status.now:%Y-%m-%d %H:%M} UTC by linq-source from {escape(figures.dataset)}.
Deleted messages are left out; those that the API forgot are counted. Days and weeks are UTC, weeks
begin on Monday. An answer's time counts from the first of the messages received since the last one
sent. Charts: <span class="nowrap">Vega-Lite (BSD-3-Clause).</span></p></footer>
<script type="application/json" id="data">{_json(data)}</script>
<script type="module">{library}</script>
<script type="module">{script}</script>
</body>
</html>
"""


def _json(data: object) -> str:
    """JSON that ends no script element, whatever a chat is called."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _sentence(figures: Figures) -> str:
    text = verdict(figures.status)
    return escape(f"{text[0].upper()}{text[1:]}.")


def _cards(figures: Figures) -> Iterable[str]:
    now, before = figures.traffic(0, RECENT_DAYS), figures.traffic(RECENT_DAYS, RECENT_DAYS)
    yield _card(
        f"Received, {RECENT_DAYS} days", f"{now.received:,}", _change(now.received, before.received)
    )
    yield _card(f"Sent, {RECENT_DAYS} days", f"{now.sent:,}", _change(now.sent, before.sent))
    median, earlier = figures.recent, figures.before
    yield _card(
        f"Median answer, {RECENT_DAYS} days",
        "none" if median is None else in_short(median.median_s),
        "" if earlier is None else f"before: {in_short(earlier.median_s)}",
    )
    recent = sum(figures.unanswered[:-1])
    older = sum(figures.unanswered[-1:])
    yield _card(
        "Unanswered now", f"{recent:,}", f"and {older:,} for over 7 days" if older else "chats"
    )
    yield _card(
        f"Delivered, {CHART_DAYS} days",
        percent(figures.delivered, figures.sent),
        f"{figures.sent:,} sent",
    )


def _card(name: str, value: str, more: str) -> str:
    return (
        f'<div class="card"><p class="name">{escape(name)}</p><p class="value">{escape(value)}</p>'
        f'<p class="more">{escape(more) or "&nbsp;"}</p></div>'
    )


def _change(now: int, before: int) -> str:
    if not before:
        return ""
    return f"before: {before:,} ({100 * (now - before) / before:+,.0f}%)"


def _facts(figures: Figures) -> str:
    found: dict[str, list[str]] = {}
    last = ""
    for name, text in facts(figures.status):
        last = name or last
        found.setdefault(last, []).append(text)
    return Table(("", ""), [(name, "; ".join(texts)) for name, texts in found.items()]).html(
        "Status"
    )
