"""The panels of a report: every chart with what it says in words, and its numbers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

from linq_source.operations.status_report import in_words
from linq_source.reporting import charts
from linq_source.reporting.charts import DAYS_OF_THE_WEEK, RECEIVED, SENT, Spec
from linq_source.reporting.figures import BUSY_WEEKS, CHART_DAYS, WAITS, Figures
from linq_source.reporting.words import in_short, isolated, many, percent, size_of


@dataclass(frozen=True)
class Table:
    """The numbers behind a chart; the first column names a row."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    id: str = ""

    def html(self, label: str) -> str:
        """As HTML; the label says what it is to those who hear it."""
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in self.head)
        body = "".join(
            f'<tr><th scope="row">{escape(row[0])}</th>'
            + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
            + "</tr>"
            for row in self.rows
        )
        name = f' id="{self.id}"' if self.id else ""
        return (
            f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">'
            f"<table{name}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )


@dataclass(frozen=True)
class Panel:
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
            return f"{begin}{self.table.html(self.title) if self.table else ''}</section>"
        return (
            f"{begin}"
            f'<div class="plot" id="{self.id}"></div>'
            f"<details><summary>Numbers</summary>{self.table.html(self.title)}</details></section>"
        )


def panels_of(figures: Figures) -> list[Panel]:
    """Every panel, in the order of the page."""
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


def _traffic(figures: Figures) -> Panel:
    found = figures.traffic_by_period()
    title = f"Messages a {figures.period.name}"
    if not found:
        return Panel("traffic", title, "No messages yet.", None, wide=True)
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
    return Panel("traffic", title, words, spec, Table(("From", RECEIVED, SENT), rows), wide=True)


def _responses(figures: Figures) -> Panel:
    title = f"Response time, by {figures.period.name}"
    found = figures.responses
    if not found:
        return Panel("responses", title, "Nothing was answered yet.", None)
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
    return Panel("responses", title, words, spec, table)


def _waits(figures: Figures) -> Panel:
    title = f"How fast answers came, {CHART_DAYS} days"
    total = sum(figures.answered)
    if not total:
        return Panel("waits", title, "Nothing was answered.", None)
    rows = [(name, count) for (_, name), count in zip(WAITS, figures.answered, strict=True)]
    quick = sum(figures.answered[:4])
    words = f"{percent(quick, total)} of {many(total, 'answer')} came within an hour."
    return _bars("waits", title, words, rows, ("Time", "Answers"), "var(--sent)")


def _unanswered(figures: Figures) -> Panel:
    title = "Unanswered now, by age"
    total = sum(figures.unanswered)
    if not total:
        return Panel("unanswered", title, "No chat waits for an answer.", None)
    rows = [(name, count) for (_, name), count in zip(WAITS, figures.unanswered, strict=True)]
    words = (
        f"{many(total, 'chat')} without an answer to what was received last, "
        f"{figures.unanswered[-1]:,} for over 7 days."
    )
    return _bars("unanswered", title, words, rows, ("Waiting", "Chats"))


def _busy(figures: Figures) -> Panel:
    title = f"Busiest hours, {BUSY_WEEKS} weeks"
    cells = [[0] * 24 for _ in DAYS_OF_THE_WEEK]
    for number, received in figures.busy_hours():
        # 1970-01-01 was a Thursday.
        cells[(number // 24 + 3) % 7][number % 24] += received
    if not any(map(any, cells)):
        return Panel("busy", title, "Nothing was received.", None)
    head = ("UTC", *(f"{hour:02}" for hour in range(24)))
    rows = [
        (day, *(f"{count:,}" for count in counts))
        for day, counts in zip(DAYS_OF_THE_WEEK, cells, strict=True)
    ]
    words = "Messages received, by the hour of the week."
    return Panel(
        "busy", title, words, charts.busy_chart(words), Table(head, rows, "busy-table"), wide=True
    )


def _funnel(figures: Figures) -> Panel:
    title = f"Delivery, {CHART_DAYS} days"
    if not figures.sent:
        return Panel("funnel", title, "Nothing was sent.", None)
    steps = [("Sent", figures.sent), ("Delivered", figures.delivered), ("Read", figures.read)]
    words = (
        f"Of {many(figures.sent, 'message')} sent {percent(figures.delivered, figures.sent)} were "
        f"delivered and {percent(figures.read, figures.sent)} read."
    )
    labels = {name: percent(count, figures.sent) for name, count in steps}
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
    return Panel("funnel", title, words, spec, Table(("Status", "Sent", "Delivered", "Read"), rows))


def _busiest(figures: Figures) -> Panel:
    title = f"Most active chats, {CHART_DAYS} days"
    rows = [replace(found, name=isolated(found.name)) for found in figures.busiest]
    if not rows:
        return Panel("busiest", title, "No messages.", None)
    all_of_them = figures.traffic(0, CHART_DAYS).messages
    share = percent(sum(row.values[0] for row in rows), all_of_them)
    words = f"{rows[0].name} leads; what is shown has {share} of all messages."
    spec = charts.sides_chart(rows, (RECEIVED, SENT), f"{title}. {words}")
    table = Table(
        ("Chat", "Messages", RECEIVED, SENT),
        [(row.name, *(f"{value:,}" for value in row.values)) for row in rows],
    )
    return Panel("busiest", title, words, spec, table)


def _reactions(figures: Figures) -> Panel:
    title = f"Reactions, {CHART_DAYS} days"
    rows = figures.reactions
    if not rows:
        return Panel("reactions", title, "No reactions.", None)
    total = sum(row.values[0] for row in rows)
    words = f"{many(total, 'reaction')}; the most frequent is {rows[0].name}."
    sides = ("Of people", "Ours")
    spec = charts.sides_chart(rows, sides, f"{title}. {words}")
    table = Table(
        ("Reaction", "All", *sides),
        [(row.name, *(f"{value:,}" for value in row.values)) for row in rows],
    )
    return Panel("reactions", title, words, spec, table)


def _attachments(figures: Figures) -> Panel:
    title = f"Attachments, {CHART_DAYS} days"
    found = figures.attachments
    if not found:
        return Panel("attachments", title, "No attachments.", None)
    files = sum(row.values[0] for row in found)
    size = sum(row.values[1] for row in found)
    words = f"{many(files, 'file')}, {size_of(size)}."
    rows = [(row.name, row.values[0]) for row in found]
    spec = charts.bar_chart(rows, f"{title}. {words}")
    table = Table(
        ("Kind", "Files", "Size"),
        [(row.name, f"{row.values[0]:,}", size_of(row.values[1])) for row in found],
    )
    return Panel("attachments", title, words, spec, table)


def _bars(
    id_: str,
    title: str,
    words: str,
    rows: Sequence[tuple[str, int]],
    head: tuple[str, str],
    color: str = "var(--received)",
) -> Panel:
    spec = charts.bar_chart(rows, f"{title}. {words}", color=color)
    return Panel(id_, title, words, spec, Table(head, [(name, f"{n:,}") for name, n in rows]))


def _waiting(figures: Figures) -> Panel:
    title = "Waiting longest, of the last 7 days"
    if not figures.waiting:
        return Panel("waiting", title, "None.", None)
    rows = [
        (isolated(found.chat), in_words((figures.until - found.since).total_seconds()))
        for found in figures.waiting
    ]
    words = "Chats whose last message was received, and how long ago that turn began."
    return Panel("waiting", title, words, None, Table(("Chat", "For"), rows))
