"""What a first load takes, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from linq_source.cli.output import MAX_LISTED, print_kept, print_table

if TYPE_CHECKING:
    from linq_source.operations.check import CheckReport


def print_check(console: Console, report: CheckReport, location: str) -> None:
    """The facts, one a line, then what the API was seen to keep, and what could not be listed."""
    # Here, because it needs dlt, which takes a second to import.
    from linq_source.operations.status_report import in_words

    is_counted = report.messages is not None
    counted = f"{report.messages:,}, as the API counts them" if is_counted else "not told"
    facts = [
        ("phone numbers", f"{report.lines:,}"),
        ("chats", f"{report.chats:,}"),
        ("messages", counted),
        ("latency", f"{1000 * report.latency_s:,.0f} ms a request"),
        (
            "first load",
            f"{'' if is_counted else 'at least '}{report.requests:,} requests, "
            f"{in_words(report.seconds)} at {rate(report.requests_per_second)} a second, "
            "and the time to write",
        ),
    ]
    print_table(console, None, ("", ""), facts)
    print_kept(console, report.kept)
    can = "cannot" if report.error else "can"
    console.print(f"{location}: {can} be written", highlight=False, soft_wrap=True, markup=False)
    for text in report.failures[:MAX_LISTED]:
        console.print(f"[red]failed[/red]: {text}", highlight=False, soft_wrap=True)


def rate(a_second: float) -> str:
    """Three digits, of large numbers all: `0.125`, `12.5`, `1,350`."""
    return f"{a_second:,.0f}" if a_second >= 100 else f"{a_second:.3g}"
