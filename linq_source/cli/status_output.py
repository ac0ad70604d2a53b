"""What `linq-source status` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from linq_source.cli.output import MAX_LISTED, print_table

if TYPE_CHECKING:
    from linq_source.operations.status_report import Status, Trouble

_NAMES = {"gap": "gap", "failed": "failed", "read": "unverified"}


def print_status(console: Console, status: Status, location: str) -> None:
    """The facts, one a line, then the troubles, then whether the data can be trusted."""
    # Here, because it needs dlt, which takes a second to import.
    from linq_source.operations.status_report import facts, verdict

    print_table(console, None, ("", ""), facts(status))
    for trouble in status.troubles[:MAX_LISTED]:
        text = f"chat {trouble.chat_id}: {_told(trouble)}"
        console.print(f"[red]{_NAMES[trouble.event]}[/red]: {escape(text)}", highlight=False,
                      soft_wrap=True)  # fmt: skip
    if len(status.troubles) > MAX_LISTED:
        console.print(f"... and {len(status.troubles) - MAX_LISTED:,} more (see sync_windows)")
    console.print(f"[bold]{verdict(status)}[/bold]", highlight=False, soft_wrap=True)
    console.print(f"read from {location}", highlight=False, soft_wrap=True, markup=False)


def _told(trouble: Trouble) -> str:
    text = trouble.error or "its counts never agreed"
    return text.removeprefix(f"chat {trouble.chat_id}: ")
