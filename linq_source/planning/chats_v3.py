"""Reading one chat of API v3: one walk through its list, from its head to the lookback.

There is no count to reconcile with: a verified walk is the whole truth of what it covers. One that
came to the end of the list covers all of the chat, whether that was asked for or not.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow.compute as pc

from linq_source.instants import DAY_US, END_US
from linq_source.planning.changes import oldest_of
from linq_source.planning.chat_cursors import Reconciled
from linq_source.planning.chat_progress import ChatProgress
from linq_source.planning.readings import (
    ChatResult,
    ChatTask,
    Reading,
    give,
    keeping,
    load_whole,
)
from linq_source.planning.requests_v3 import MessagesRequest
from linq_source.planning.walk_v3 import ListRead, WalkGoal, read_messages
from linq_source.planning.windows import Asking, Window
from linq_source.settings import Id

# Messages so far after the bound are there to stay: a clock was wrong. Nearer ones were sent while
# the chats were read, and are the next run's.
_AHEAD_US = DAY_US


def read_chat(task: ChatTask) -> Reading[ChatResult]:
    """Read what a chat's task says, in one go; yields and returns what `chats_v2` does."""
    if task.end_us is not None:
        yield from _read_interval(task, Window(task.chat_id, task.begin_us, task.end_us))
        return ChatResult(None, True)
    progress = ChatProgress(task)
    begin_us, span = progress.cursor.begin_us, progress.span
    is_due = task.is_recheck and progress.cursor.checked_day != task.bound_us // DAY_US
    is_whole = is_due or progress.is_unproven or span.start_us is None
    listed = yield from _read_list(task, _goal(progress, is_whole))
    progress.enter(listed.window(span))
    # Older messages prove what the API keeps.
    progress.see(listed.window(Window(task.chat_id, None, span.end_us)).records)
    if progress.all_verified:
        _enter_ahead(progress, listed)
        if is_whole or listed.is_whole:
            if span.start_us is not None and span.start_us != begin_us:
                before = listed.window(Window(task.chat_id, begin_us, span.start_us))
                if before.messages or progress.cursor.count_before_lookback or progress.is_unproven:
                    progress.hold_before_lookback(before)
                progress.close_before_lookback(before.messages)
            progress.is_unproven = False
    reconciled = progress.reconciled(True)
    if reconciled is Reconciled.RESTING and (listed.lacks_known or _is_recent(task)):
        # The list may lag behind what is known, or behind what the listing tells.
        reconciled = Reconciled.YES
    progress.cursor = replace(progress.cursor, change_mark=task.change_mark, reconciled=reconciled)
    if listed.lacks_known and progress.prior is not None:
        progress.cursor = replace(progress.cursor, checked_day=progress.prior.checked_day)
    yield from give(progress.give_out(None))
    return ChatResult(progress.cursor, True, progress.all_gone_us, progress.oldest_us)


def _goal(progress: ChatProgress, is_whole: bool) -> WalkGoal:
    """What is to be read of a chat: all of it, or what lies in its span."""
    cursor = progress.cursor
    listed = [segment.start_us for segment, digest in cursor.days.items() if digest.count]
    return WalkGoal(
        start_us=cursor.begin_us if is_whole else progress.span.start_us,
        bound_us=progress.span.end_us,
        newest_us=cursor.newest_us,
        listed_us=max(listed, default=None),
        known=cursor.count_in_lookback + (cursor.count_before_lookback if is_whole else 0),
        known_before=0 if is_whole else cursor.count_before_lookback,
    )


def _is_recent(task: ChatTask) -> bool:
    """Return whether the listing tells of something that the list may have shown after the bound.

    The bound has no fractions of a second, and the list is read some time after it was set.
    """
    updated_us = task.change_mark
    return updated_us is None or updated_us >= task.bound_us - task.lookback_us


def count_messages(chat_id: Id, per_page: int) -> Asking[int | None]:
    """Return how many messages a chat has; None where its list cannot be verified."""
    listed = yield from read_messages(MessagesRequest(chat_id, per_page), WalkGoal(None, END_US))
    if listed.problem is not None:
        return None
    return listed.window(Window(chat_id, None, END_US)).messages


def _read_list(task: ChatTask, goal: WalkGoal) -> Reading[ListRead]:
    """Read a chat's list, and leave out of it what is not to be kept."""
    listed = yield from read_messages(MessagesRequest(task.chat_id, task.per_page), goal)
    # From here on nobody sees what is not to be kept: digests are made of it, too.
    return replace(listed, records=task.privacy.protect(listed.records))


def _read_interval(task: ChatTask, span: Window) -> Reading[None]:
    """Read an interval whatever is remembered."""
    listed = yield from _read_list(task, WalkGoal(span.start_us, span.end_us))
    late = None if task.cursor is None else task.cursor.late
    seen = listed.window(Window(task.chat_id, None, END_US)).records
    loaded = load_whole(listed.window(span), None, has_losses=True)
    yield keeping(loaded, oldest_of(seen, late))


def _enter_ahead(progress: ChatProgress, listed: ListRead) -> None:
    """Enter what was sent by a clock far ahead of the server's, and that such is gone."""
    ahead = listed.window(Window(progress.task.chat_id, progress.span.end_us, END_US))
    newest_us = pc.max(ahead.records.instants).as_py() if ahead.messages else None
    is_far = newest_us is not None and newest_us >= progress.span.end_us + _AHEAD_US
    if is_far or progress.cursor.ahead is not None:
        progress.enter_ahead(ahead, None)
