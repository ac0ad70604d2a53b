"""What the commands print: short reports and aligned tables."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pendulum import duration
from rich.console import Console
from rich.table import Table

from linq_source.cli import logs

if TYPE_CHECKING:
    from linq_source.destinations.lake import LakeReport
    from linq_source.operations.audit import AuditReport
    from linq_source.operations.forget import ForgetReport
    from linq_source.operations.report import Kept, Report

MAX_LISTED = 20
# Where messages so old are listed, nobody has to hurry.
_LONG_DAYS = 30

_log = logging.getLogger(__name__)


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on standard output."""
    print(json.dumps(value, ensure_ascii=False))  # noqa: T201 - this is the output


def print_report(console: Console, report: Report) -> None:
    """The report of a run, one fact a line, troubles last."""
    read = f"{report.chats:,} ({report.chats_skipped:,} unchanged and skipped)"
    facts: list[tuple[str, str]] = [
        ("chats", read),
        *([("contacts", f"{report.contacts:,}")] if report.contacts else []),
        ("messages loaded", f"{report.messages:,}"),
        ("attachments", f"{report.attachments:,}"),
        ("reactions", f"{report.reactions:,}"),
        ("marked deleted", f"{report.deleted:,}"),
        ("marked expired", f"{report.expired:,}"),
        ("checked again", _checked(report)),
        ("windows", f"{report.windows:,} loaded, {report.windows_unchanged:,} days unchanged"),
        ("requests", f"{report.requests:,} ({report.retries:,} repeated)"),
        ("packages", f"{len(report.loads):,}"),
        ("seconds", f"{report.seconds:.1f}"),
    ]
    if report.chats_unlisted:
        facts.append(("unlisted chats", f"{report.chats_unlisted:,} (known, and not gone)"))
    if report.windows_unverified:
        facts.append(("unverified windows", f"{report.windows_unverified:,} (see sync_windows)"))
    if report.gaps:
        facts.append(("gaps", f"{report.gaps:,} chats (see sync_windows)"))
    if report.rejected:
        facts.append(("rejected records", f"{report.rejected:,} (see rejected_records)"))
    print_table(console, None, ("", ""), facts)
    for note in report.notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True)
    if report.expired or report.gaps:
        print_kept(console, report.kept)
    for text in report.numbers_failed[:MAX_LISTED]:
        console.print(f"[red]failed[/red]: {text}", highlight=False, soft_wrap=True)
    for failure in report.chats_failed[:MAX_LISTED]:
        console.print(f"[red]failed[/red]: {failure.error}", highlight=False, soft_wrap=True)
    if len(report.chats_failed) > MAX_LISTED:
        console.print(f"... and {len(report.chats_failed) - MAX_LISTED:,} more chats failed")


def _checked(report: Report) -> str:
    days = report.oldest_check_days
    oldest = "" if days is None else f" (the oldest check: {days} day{'s' * (days != 1)} ago)"
    if report.chats_never_checked:
        oldest = f" ({report.chats_never_checked:,} wait for their first check)"
    return f"{report.chats_rechecked:,} chats{oldest}"


def print_kept(console: Console, found: Sequence[Kept]) -> None:
    """What the API was seen to keep of the lines that keep least."""
    for kept in found[:MAX_LISTED]:
        age = duration(hours=int(kept.age_s // 3600))
        often = duration(hours=max(int(kept.age_s // 7200), 1))
        advice = f"; run at least every {often.in_words()}" if age.days < _LONG_DAYS else ""
        console.print(
            f"line {kept.line}: oldest message listed is {age.in_words() or 'new'} old{advice}",
            highlight=False,
            soft_wrap=True,
        )


def log_failures(report: Report) -> None:
    """A log line for each number and chat that failed, where standard error is JSON."""
    if logs.is_json():
        for text in report.numbers_failed[:MAX_LISTED]:
            _log.warning("number failed: %s", text)
        for failure in report.chats_failed[:MAX_LISTED]:
            _log.warning("chat failed: %s", failure.error, extra={"chat_id": failure.chat_id})


def print_audit(console: Console, report: AuditReport) -> None:
    """The differences as a table, or that there are none."""
    if report.repair is not None:
        console.print(
            f"repaired: {report.repair.messages:,} messages loaded again, "
            f"{report.repair.deleted:,} marked deleted",
            highlight=False,
        )
    if report.differences:
        _print_differences(console, report)
    elif report.chats or not report.failures:
        console.print(
            f"{report.chats:,} chats, {report.messages:,} live messages: "
            "every count agrees with the API",
            highlight=False,
        )
    _print_excused(console, report)
    print_kept(console, report.kept)
    for gap in report.gaps[:MAX_LISTED]:
        console.print(
            f"[red]gap[/red]: chat {gap.chat_id}: what was sent from {gap.start:%Y-%m-%d %H:%M} to"
            f" {gap.end:%Y-%m-%d %H:%M} may have been forgotten before it was read",
            highlight=False,
            soft_wrap=True,
        )
    for text in report.failures[:MAX_LISTED]:
        console.print(f"[red]not compared[/red]: {text}", highlight=False, soft_wrap=True)


def _print_differences(console: Console, report: AuditReport) -> None:
    rows = [
        (
            str(d.chat_id),
            f"{d.live_rows:,}",
            "not listed" if d.message_count is None else f"{d.message_count:,}",
            "" if d.message_count is None else f"{d.live_rows - d.message_count:+,}",
        )
        for d in report.differences
    ]
    print_table(console, None, ("chat", "live rows", "API counts", "difference"), rows)
    console.print(
        f"{len(rows):,} of {report.chats:,} chats differ; "
        "`linq-source audit --deep` reads them again and repairs",
        highlight=False,
    )


def _print_excused(console: Console, report: AuditReport) -> None:
    if report.forgotten_in:
        console.print(
            f"{len(report.forgotten_in):,} chats have fewer rows because somebody in them was "
            "forgotten",
            highlight=False,
        )


def print_lake(console: Console, report: LakeReport) -> None:
    """The rows of each table, and what is not as the log says."""
    rows = [(name, f"{count:,}") for name, count in sorted(report.rows.items())]
    print_table(console, None, ("table", "rows"), rows)
    for finding in report.findings:
        console.print(f"{finding.path}: {finding.problem}", highlight=False, markup=False)
    if report.unsettled_loads:
        console.print(f"{report.unsettled_loads:,} loads are not settled yet", highlight=False)
    console.print(
        f"{len(report.findings):,} of {report.files:,} files differ from the log; "
        "`linq-source lake rebuild` rebuilds them"
        if report.findings
        else f"all {report.files:,} files are as the log says",
        highlight=False,
    )


def print_forgotten(console: Console, report: ForgetReport) -> None:
    """What was erased, by table, and what it means for the next runs."""
    rows = [(name, f"{count:,}") for name, count in report.erased.items()]
    if rows:
        print_table(console, None, ("table", "rows erased"), rows)
    else:
        console.print("nothing of it was in the destination")
    whole, partly = len(report.chats), len(report.partly)
    console.print(
        f"{whole:,} chats erased whole, {partly:,} in part; no run of this pipeline loads it again",
        highlight=False,
    )
    for note in report.notes:
        console.print(f"note: {note}", highlight=False)


def print_table(
    console: Console, title: str | None, columns: Sequence[str], rows: Iterable[Sequence[str]]
) -> None:
    """An aligned table; every column but the first is set to the right if it holds numbers."""
    lines = [list(row) for row in rows]
    table = Table(title=title, title_justify="left", box=None, show_header=any(columns))
    for index, name in enumerate(columns):
        numbers = all(_is_number(line[index]) for line in lines)
        table.add_column(name, justify="right" if numbers and any(columns) else "left")
    for line in lines:
        table.add_row(*line)
    console.print(table, highlight=False)


def _is_number(text: str) -> bool:
    return not text or text.replace(",", "").replace(".", "").lstrip("+-").isdigit()
