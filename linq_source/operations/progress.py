"""How far a run is: a live display on a terminal, plain lines elsewhere, or log records."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

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

_INTERVAL_S = 5.0
_T = TypeVar("_T")

_log = logging.getLogger(__name__)


@contextmanager
def show_progress(console: Console) -> Iterator[Listener]:
    """Give the listener to pass to `sync`."""
    started_s = time.monotonic()
    if console.is_terminal:
        yield from _live(console, started_s)
        return

    def tell(extraction: Extraction) -> None:
        done = f"{_chats_done(extraction)}/{extraction.counts.chats} chats"
        console.print(f"{done}  {_detail(extraction, started_s)}", highlight=False)

    yield sometimes(tell)


def _live(console: Console, started_s: float) -> Iterator[Listener]:
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

        def listen(extraction: Extraction) -> None:
            progress.update(
                task,
                total=extraction.counts.chats,
                completed=_chats_done(extraction),
                detail=_detail(extraction, started_s),
            )

        yield listen


def log_progress() -> Listener:
    """Return a listener that logs how far the run is."""
    started_s = time.monotonic()

    def tell(extraction: Extraction) -> None:
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

    return sometimes(tell, at_once=True)


def sometimes(tell: Callable[[_T], None], *, at_once: bool = False) -> Callable[[_T], None]:
    """Return a listener that tells how far something is, every some seconds.

    Lines for people begin after a while; a log says `at_once` that something is being done.
    """
    due_s = time.monotonic() + (0 if at_once else _INTERVAL_S)

    def listen(found: _T) -> None:
        nonlocal due_s
        now_s = time.monotonic()
        if now_s >= due_s:
            due_s = now_s + _INTERVAL_S
            tell(found)

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
