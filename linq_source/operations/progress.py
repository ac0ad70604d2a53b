"""How far a run is: a live display on a terminal, plain lines elsewhere, or log records."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
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

_log = logging.getLogger(__name__)


@contextmanager
def show_progress(console: Console, *, quiet: bool = False) -> Iterator[Listener | None]:
    """Give the listener to pass to `sync`; None when `quiet`."""
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


def log_progress() -> Listener:
    """A listener that logs how far the run is, at once and then every some seconds."""
    started_s = time.monotonic()
    is_due = every(_PLAIN_INTERVAL_S)

    def listen(extraction: Extraction) -> None:
        if not is_due():
            return
        elapsed_s = max(time.monotonic() - started_s, 0.001)
        counts = extraction.counts
        fields = {
            "chats_done": _chats_done(extraction),
            "chats": counts.chats,
            "messages": counts.messages,
            "messages_per_second": round(counts.messages / elapsed_s),
            "requests": extraction.client.requests,
            "retries": extraction.client.retries,
            "seconds": round(elapsed_s, 3),
        }
        _log.info("progress", extra=fields)

    return listen


def every(interval_s: float) -> Callable[[], bool]:
    """Return what says whether it is time: when first asked, then once per interval."""
    due_s = time.monotonic()

    def is_due() -> bool:
        nonlocal due_s
        now_s = time.monotonic()
        if now_s < due_s:
            return False
        due_s = now_s + interval_s
        return True

    return is_due


def _chats_done(extraction: Extraction) -> int:
    return extraction.counts.chats_done + extraction.counts.chats_skipped


def _detail(extraction: Extraction, started_s: float) -> str:
    elapsed_s = max(time.monotonic() - started_s, 0.001)
    messages = extraction.counts.messages
    return (
        f"{messages:,} messages  {extraction.client.requests:,} requests  "
        f"{messages / elapsed_s:,.0f}/s"
    )
