"""Reading one chat of API v2: from its cursor to the bound, until the counts agree."""

from __future__ import annotations

from linq_source.planning.changes import oldest_of
from linq_source.planning.chat_progress import ChatProgress
from linq_source.planning.readings import (
    ChatResult,
    ChatTask,
    Reading,
    WindowToLoad,
    earliest,
    keeping,
    load_whole,
    prove_nothing,
)
from linq_source.planning.reconciliation import Counter, reconcile
from linq_source.planning.window_cutting import read
from linq_source.planning.window_reading import WindowRead
from linq_source.planning.windows import Window


def read_chat(task: ChatTask) -> Reading[ChatResult]:
    """Read what a chat's task says.

    Yields `Ask` (send the pages) and `WindowToLoad` (send whether to go on; after `False` the chat
    ends early and its result says so).
    """
    if task.end_us is not None:
        span = Window(task.chat_id, task.begin_us, task.end_us)
        return ChatResult(None, (yield from _read_interval(task, span)))
    progress = ChatProgress(task)
    complete = yield from reconcile(progress)
    return ChatResult(progress.cursor, complete, progress.all_gone_us, progress.oldest_us)


def _read_interval(task: ChatTask, span: Window) -> Reading[bool]:
    """Read an interval whatever is remembered. Return whether it was read to its end."""
    counter = Counter(task)
    late = None if task.cursor is None else task.cursor.late
    oldest_us: int | None = None

    def accept(window: WindowRead) -> Reading[WindowToLoad | None]:
        nonlocal oldest_us
        oldest_us = earliest(oldest_us, oldest_of(window.records, late))
        loaded = load_whole(window, None, has_losses=True)
        lag = yield from counter.find_lag(window.messages + window.count_after_end)
        return keeping(loaded if lag is None else prove_nothing(loaded, lag), oldest_us)

    return (yield from read(span, task, accept))
