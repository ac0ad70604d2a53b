"""A live display of a run on a terminal, plain lines elsewhere; always on standard error."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

if TYPE_CHECKING:
    from linq_source.extraction import Extraction, Listener

_PLAIN_INTERVAL_S = 5.0


@contextmanager
def show_progress(console: Console, *, quiet: bool = False) -> Iterator[Listener | None]:
    """Gives the listener to pass to `sync`; none when `quiet`."""
    if quiet:
        yield None
    elif console.is_terminal:
        yield from _live(console)
    else:
        yield _plain(console)


def _live(console: Console) -> Iterator[Listener]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("chats  {task.fields[detail]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("reading", total=None, detail="")
        started_s = time.monotonic()

        def listen(extraction: Extraction) -> None:
            progress.update(
                task,
                total=extraction.counts.chats,
                completed=_chats_done(extraction),
                detail=_detail(extraction, started_s),
            )

        yield listen


def _plain(console: Console) -> Listener:
    started_s = time.monotonic()
    last_s = started_s

    def listen(extraction: Extraction) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s >= _PLAIN_INTERVAL_S:
            last_s = now_s
            done = f"{_chats_done(extraction)}/{extraction.counts.chats} chats"
            console.print(f"{done}  {_detail(extraction, started_s)}", highlight=False)

    return listen


def _chats_done(extraction: Extraction) -> int:
    return extraction.counts.chats_done + extraction.counts.chats_skipped


def _detail(extraction: Extraction, started_s: float) -> str:
    elapsed_s = max(time.monotonic() - started_s, 0.001)
    messages = extraction.counts.messages
    return (
        f"{messages:,} messages  {extraction.client.requests:,} requests  "
        f"{messages / elapsed_s:,.0f}/s"
    )
