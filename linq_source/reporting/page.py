"""A report as one HTML page: headlines, charts, and behind every chart its numbers. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from linq_source.operations.status_words import facts, in_words, verdict
from linq_source.reporting import charts
from linq_source.reporting.charts import DAYS_OF_THE_WEEK, RECEIVED, SENT, Spec, in_short
from linq_source.reporting.figures import BUSY_WEEKS, CHART_DAYS, RECENT_DAYS, WAITS, Figures

# What is inlined: the page may ask nobody for anything.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline' 'unsafe-eval'; img-src data:"
)


@dataclass(frozen=True)
class Table:
    """The numbers behind a chart; the first column names a row."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    id: str = ""

    @property
    def html(self) -> str:
        """As HTML."""
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in self.head)
        body = "".join(
            f'<tr><th scope="row">{escape(row[0])}</th>'
            + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
            + "</tr>"
            for row in self.rows
        )
        name = f' id="{self.id}"' if self.id else ""
        return (
            f'<div class="scroll" tabindex="0" role="region" aria-label="Table"><table{name}>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )


@dataclass(frozen=True)
class Chart:
    """A chart with its title, what it says in words, and its numbers.

    Without a spec there is nothing to draw: the numbers are shown, if there are any.
    """

    id: str
    title: str
    words: str
    spec: Spec | None
    table: Table | None = None
    wide: bool = False

    @property
    def html(self) -> str:
        """As HTML."""
        title = f'<h2 id="{self.id}-title">{escape(self.title)}</h2>'
        begin = f'<section class="chart{" wide" if self.wide else ""}">{title}'
        begin += f'<p class="words" id="{self.id}-words">{escape(self.words)}</p>'
        if self.spec is None or self.table is None:
            return f"{begin}{self.table.html if self.table else ''}</section>"
        return (
            f"{begin}"
            f'<div class="plot" id="{self.id}"></div>'
            f"<details><summary>Numbers</summary>{self.table.html}</details></section>"
        )


def page_of(figures: Figures, *, script: str, style: str, library: str) -> str:
    """The page; `library` is Vega's JavaScript, `script` and `style` the page's own."""
    found = charts_of(figures)
    drawn = {chart.id: chart.spec for chart in found if chart.spec is not None}
    data = {"charts": drawn, "busyHours": figures.busy_hours()}
    status = figures.status
    is_well = not (status.troubles or status.rejected)
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
<p>{figures.messages:,} messages in {figures.chats:,} chats of {figures.lines:,} phone numbers,
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
        _percent(figures.delivered, figures.sent),
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


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "none"


def charts_of(figures: Figures) -> list[Chart]:
    """Every chart, in the order of the page."""
    return [
        _traffic(figures),
        _responses(figures),
        _waits(figures),
        _busy(figures),
        _unanswered(figures),
        _waiting(figures),
        _busiest(figures),
        _reactions(figures),
        _funnel(figures),
        _attachments(figures),
    ]


def _traffic(figures: Figures) -> Chart:
    found = figures.traffic_by_period()
    title = f"Messages a {figures.period.name}"
    if not found:
        return Chart("traffic", title, "No messages yet.", None, wide=True)
    start, most = max(found, key=lambda item: item[1].messages)
    received = sum(traffic.received for _, traffic in found)
    sent = sum(traffic.sent for _, traffic in found)
    words = (
        f"{received:,} received and {sent:,} sent; the most in the {figures.period.name} of "
        f"{start:%Y-%m-%d}: {most.messages:,}."
    )
    rows = [
        (f"{start:%Y-%m-%d}", f"{traffic.received:,}", f"{traffic.sent:,}")
        for start, traffic in found
    ]
    spec = charts.traffic_chart(figures, f"{title}. {words}")
    return Chart("traffic", title, words, spec, Table(("From", RECEIVED, SENT), rows), wide=True)


def _responses(figures: Figures) -> Chart:
    title = f"Response time, by {figures.period.name}"
    found = figures.responses
    if not found:
        return Chart("responses", title, "Nothing was answered yet.", None)
    words = (
        f"Half of the answers came within the median; one of ten took longer than the dashed line. "
        f"The last {figures.period.name}: {in_short(found[-1].median_s)}, "
        f"{in_short(found[-1].p90_s)}."
    )
    rows = [
        (
            f"{figures.period.start_of(each.period):%Y-%m-%d}",
            in_short(each.median_s),
            in_short(each.p90_s),
            f"{each.turns:,}",
        )
        for each in found
    ]
    spec = charts.responses_chart(found, figures, f"{title}. {words}")
    table = Table(("From", charts.MEDIAN, charts.SLOWEST, "Answers"), rows)
    return Chart("responses", title, words, spec, table)


def _waits(figures: Figures) -> Chart:
    title = f"How fast answers came, {CHART_DAYS} days"
    total = sum(figures.answered)
    if not total:
        return Chart("waits", title, "Nothing was answered.", None)
    rows = [(name, count) for (_, name), count in zip(WAITS, figures.answered, strict=True)]
    quick = sum(figures.answered[:4])
    words = f"{_percent(quick, total)} of {total:,} answers came within an hour."
    return _bars("waits", title, words, rows, ("Time", "Answers"), "var(--sent)")


def _unanswered(figures: Figures) -> Chart:
    title = "Unanswered now, by age"
    total = sum(figures.unanswered)
    if not total:
        return Chart("unanswered", title, "No chat waits for an answer.", None)
    rows = [(name, count) for (_, name), count in zip(WAITS, figures.unanswered, strict=True)]
    words = f"{total:,} chats end with messages received, {figures.unanswered[-1]:,} of them old."
    return _bars("unanswered", title, words, rows, ("Waiting", "Chats"))


def _busy(figures: Figures) -> Chart:
    title = f"Busiest hours, {BUSY_WEEKS} weeks"
    cells = [[0] * 24 for _ in DAYS_OF_THE_WEEK]
    for number, received in figures.busy_hours():
        # 1970-01-01 was a Thursday.
        cells[(number // 24 + 3) % 7][number % 24] += received
    if not any(map(any, cells)):
        return Chart("busy", title, "Nothing was received.", None)
    head = ("UTC", *(f"{hour:02}" for hour in range(24)))
    rows = [
        (day, *(f"{count:,}" for count in counts))
        for day, counts in zip(DAYS_OF_THE_WEEK, cells, strict=True)
    ]
    words = "Messages received, by the hour of the week."
    return Chart(
        "busy", title, words, charts.busy_chart(words), Table(head, rows, "busy-table"), wide=True
    )


def _funnel(figures: Figures) -> Chart:
    title = f"Delivery, {CHART_DAYS} days"
    if not figures.sent:
        return Chart("funnel", title, "Nothing was sent.", None)
    steps = [("Sent", figures.sent), ("Delivered", figures.delivered), ("Read", figures.read)]
    words = (
        f"Of {figures.sent:,} messages sent {_percent(figures.delivered, figures.sent)} were "
        f"delivered and {_percent(figures.read, figures.sent)} read."
    )
    labels = {name: _percent(count, figures.sent) for name, count in steps}
    spec = charts.bar_chart(steps, f"{title}. {words}", color="var(--sent)", labels=labels)
    rows = [
        (
            found.status.replace("_", " "),
            f"{found.sent:,}",
            f"{found.delivered:,}",
            f"{found.read:,}",
        )
        for found in figures.deliveries
    ]
    return Chart("funnel", title, words, spec, Table(("Status", "Sent", "Delivered", "Read"), rows))


def _busiest(figures: Figures) -> Chart:
    title = f"Most active chats, {CHART_DAYS} days"
    rows = figures.busiest
    if not rows:
        return Chart("busiest", title, "No messages.", None)
    all_of_them = figures.traffic(0, CHART_DAYS).messages
    share = _percent(sum(row.values[0] for row in rows), all_of_them)
    words = f"{rows[0].name} leads; these {len(rows)} have {share} of all messages."
    spec = charts.sides_chart(rows, (RECEIVED, SENT), f"{title}. {words}")
    table = Table(
        ("Chat", "Messages", RECEIVED, SENT),
        [(row.name, *(f"{value:,}" for value in row.values)) for row in rows],
    )
    return Chart("busiest", title, words, spec, table)


def _reactions(figures: Figures) -> Chart:
    title = f"Reactions, {CHART_DAYS} days"
    rows = figures.reactions
    if not rows:
        return Chart("reactions", title, "No reactions.", None)
    total = sum(row.values[0] for row in rows)
    words = f"{total:,} reactions; the most frequent is {rows[0].name}."
    sides = ("Of people", "Ours")
    spec = charts.sides_chart(rows, sides, f"{title}. {words}")
    table = Table(
        ("Reaction", "All", *sides),
        [(row.name, *(f"{value:,}" for value in row.values)) for row in rows],
    )
    return Chart("reactions", title, words, spec, table)


def _attachments(figures: Figures) -> Chart:
    title = f"Attachments, {CHART_DAYS} days"
    found = figures.attachments
    if not found:
        return Chart("attachments", title, "No attachments.", None)
    files = sum(row.values[0] for row in found)
    size = sum(row.values[1] for row in found)
    words = f"{files:,} files, {_size(size)}."
    rows = [(row.name, row.values[0]) for row in found]
    spec = charts.bar_chart(rows, f"{title}. {words}")
    table = Table(
        ("Kind", "Files", "Size"),
        [(row.name, f"{row.values[0]:,}", _size(row.values[1])) for row in found],
    )
    return Chart("attachments", title, words, spec, table)


def _bars(
    id_: str,
    title: str,
    words: str,
    rows: Sequence[tuple[str, int]],
    head: tuple[str, str],
    color: str = "var(--received)",
) -> Chart:
    spec = charts.bar_chart(rows, f"{title}. {words}", color=color)
    return Chart(id_, title, words, spec, Table(head, [(name, f"{n:,}") for name, n in rows]))


def _size(size_bytes: int) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= size:
            return f"{size_bytes / size:,.1f} {unit}"
    return f"{size_bytes / 1e3:,.0f} kB"


def _waiting(figures: Figures) -> Chart:
    title = "Waiting longest, of the last 7 days"
    if not figures.waiting:
        return Chart("waiting", title, "None.", None)
    rows = [
        (found.chat, in_words((figures.until - found.since).total_seconds()))
        for found in figures.waiting
    ]
    words = "Chats whose last message was received, and how long ago that turn began."
    return Chart("waiting", title, words, None, Table(("Chat", "For"), rows))


def _facts(figures: Figures) -> str:
    found: dict[str, list[str]] = {}
    last = ""
    for name, text in facts(figures.status):
        last = name or last
        found.setdefault(last, []).append(text)
    return Table(("", ""), [(name, "; ".join(texts)) for name, texts in found.items()]).html
