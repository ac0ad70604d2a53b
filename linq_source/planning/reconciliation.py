"""Reconciling a chat of API v2 with its counts: every message is accounted for, or searched for.

The listing's `message_count` usually says so already. Where it differs, one small request gives
the list's own count; where that differs too, the chat is read again from its beginning: a count
does not tell where it changed, and changes may partly cancel each other.

Lists lag behind counters. While the listing counts more than the list gives, nothing counts as
deleted: the last window that was read waits for the counts before its ledger rows are given out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from linq_source.decoding.pages import decode_pages
from linq_source.decoding.records import MESSAGE, empty_records
from linq_source.instants import DAY_US, END_US, floor_day
from linq_source.planning.changes import Part, history_of, oldest_of
from linq_source.planning.chat_cursors import Cursor, Reconciled, is_explained, observe
from linq_source.planning.chat_progress import ChatProgress
from linq_source.planning.readings import (
    ChatTask,
    LedgerWindow,
    Reading,
    WindowToLoad,
    give,
    keeping,
    load_whole,
    prove_nothing,
)
from linq_source.planning.requests_v2 import CountRequest, MessagesRequest, decode_count
from linq_source.planning.window_cutting import read
from linq_source.planning.window_reading import WindowRead, in_order, read_window
from linq_source.planning.windows import Window, ask, deepest_page


@dataclass
class Counter:
    """What the listing counts of a chat, against what the chat's list gives.

    `known_difference` is by how much it counts more as its way of counting.
    """

    task: ChatTask
    message_count: int | None = field(init=False)
    known_difference: int = field(init=False)
    everything: int | None = None
    is_asked_again: bool = False

    def __post_init__(self) -> None:
        self.message_count = self.task.change_mark
        self.known_difference = 0 if self.task.cursor is None else self.task.cursor.known_difference

    def find_lag(self, given: int) -> Reading[str | None]:
        """How the list lags behind the listing, if it does; it gives `given` messages or more."""
        if not self.exceeds(given):
            return None
        if self.exceeds(max(given, (yield from self.count_everything()))):
            yield from self.ask_again()
        given = max(given, self.everything or 0)
        return self.describe(given) if self.exceeds(given) else None

    def exceeds(self, given: int) -> bool:
        """Return whether more is counted than a list with so many messages explains."""
        return self.message_count is not None and self.message_count - given > self.known_difference

    def describe(self, given: int) -> str:
        """Return what the ledger says of windows that prove nothing for it."""
        return (
            f"the listing counts {self.message_count} messages, the list gives {given}: "
            "nothing is taken for deleted until they agree"
        )

    def count_everything(self) -> Reading[int]:
        """How many messages the list has, whenever they were sent; asked once."""
        if self.everything is None:
            self.everything = yield from count(self.task, END_US, 0)
        return self.everything

    def ask_again(self) -> Reading[None]:
        """Ask the chat itself for its count: messages may have gone since the chats were listed."""
        if self.is_asked_again or self.message_count is None:
            return
        self.is_asked_again = True
        (page,) = yield from ask(CountRequest(self.task.chat_id))
        now = decode_count(page.body)
        # What was sent since does not make the list look shorter than it is.
        self.message_count = self.message_count if now is None else min(self.message_count, now)


def count(task: ChatTask, before_us: int, count_after_end: int) -> Reading[int]:
    """Messages before an instant by the smallest possible request, less those after it."""
    window = Window(task.chat_id, None, before_us)
    (page,) = yield from ask(MessagesRequest(window, 1, 1))
    return page.envelope.total_count - count_after_end


def reconcile(progress: ChatProgress) -> Reading[bool]:
    """Read a chat from its cursor to the bound, and reconcile it. Return whether it got there."""
    counter = Counter(progress.task)

    def accept(window: WindowRead) -> Reading[WindowToLoad | None]:
        progress.enter(window)
        if window.window.end_us >= progress.span.end_us:
            return None
        (loaded,) = progress.give_out((yield from counter.find_lag(0)))
        return loaded

    if not (yield from read(progress.span, progress.task, accept)):
        return False
    lag = yield from _compare_counts(progress, counter)
    if lag is None and progress.all_verified and progress.task.is_recheck:
        lag = yield from _recheck(progress)
    if progress.has_losses and lag is None:
        yield from _find_older(progress)
    yield from give(progress.give_out(lag))
    if lag is not None and not progress.has_told_lag:
        yield _row_of_lag(progress, lag)
    return True


def _compare_counts(progress: ChatProgress, counter: Counter) -> Reading[str | None]:
    """Compare the counts, and act on a difference. Return why the reading proves nothing."""
    if progress.all_verified and progress.cursor.ahead is not None:
        yield from _read_ahead(progress, counter)
    if not progress.all_verified:
        return (yield from counter.find_lag(0))
    total = yield from _total(progress)
    if total is None:
        progress.cursor = replace(progress.cursor, reconciled=progress.reconciled(is_agreed=True))
        return None
    difference = yield from _difference(progress, counter, total)
    lag = _observe(progress, counter, difference, total)
    before = progress.cursor.count_before_bound
    # A list that lags and shows less than is known tells nothing about what it does not show.
    if lag is None and total < before and (yield from _is_front_gone(progress, total)):
        before = total
    if (progress.is_unproven and lag is None) or total > before or (total < before and lag is None):
        if not (yield from _read_before_lookback(progress, lag)):
            progress.cursor = replace(progress.cursor, reconciled=Reconciled.UNCONFIRMED)
            return "what lies before the lookback could not be verified"
        given = progress.cursor.count_before_bound
        if counter.message_count is None and given != total:
            progress.cursor = replace(progress.cursor, reconciled=Reconciled.UNCONFIRMED)
            return f"the list counts {total} messages and gives {given}"
        difference = yield from _difference(progress, counter, given)
        lag = _observe(progress, counter, difference, given)
    is_agreed = difference is None or difference == progress.cursor.known_difference
    progress.is_unproven = progress.is_unproven or (lag is not None and progress.holds_unknown)
    progress.cursor = replace(
        progress.cursor,
        change_mark=counter.message_count,
        reconciled=progress.reconciled(is_agreed),
    )
    return lag


def _total(progress: ChatProgress) -> Reading[int | None]:
    """How many messages the list has before the bound; None where the listing explains them."""
    task, begin_us = progress.task, progress.task.begin_us
    if progress.prior is None and begin_us is not None:
        yield from _count_unlisted(progress, begin_us)
    is_whole = progress.span.start_us is None and progress.windows == 1
    if is_whole:
        # A single verified window from the beginning is the whole truth.
        count_before = progress.received - progress.cursor.count_in_lookback
        progress.cursor = replace(
            progress.cursor, count_unlisted=0, count_before_lookback=count_before
        )
        progress.is_unproven = False
    was_complete = progress.prior is None or progress.prior.reconciled.is_complete
    if (is_whole or was_complete) and is_explained(
        progress.cursor, task.change_mark, task.bound_us
    ):
        return None
    if is_whole:
        return progress.cursor.count_before_bound
    total = yield from count(task, progress.span.end_us, progress.count_after_end)
    if begin_us is not None and total != progress.cursor.count_before_bound:
        yield from _count_unlisted(progress, begin_us)
    return total


def _difference(progress: ChatProgress, counter: Counter, given: int) -> Reading[int | None]:
    """By how much the listing counts more than the list gives; `given` lies before the bound."""
    if counter.message_count is None:
        return None
    if counter.exceeds(given + progress.cursor.count_after_bound) and not progress.is_ahead_read:
        # It may count messages at or after the bound as well.
        if (yield from counter.count_everything()) > given:
            yield from _read_ahead(progress, counter)
    if counter.exceeds(given + progress.cursor.count_after_bound):
        yield from counter.ask_again()
    return counter.message_count - given - progress.cursor.count_after_bound


def _observe(
    progress: ChatProgress, counter: Counter, difference: int | None, given: int
) -> str | None:
    """Remember a difference. Return how the list lags while it is not accepted."""
    if difference is None:
        return None
    known = observe(progress.prior or Cursor(), difference, progress.task.bound_us)
    progress.cursor = replace(
        progress.cursor,
        known_difference=known.known_difference,
        new_difference=known.new_difference,
        difference_since_us=known.difference_since_us,
    )
    counter.known_difference = known.known_difference
    given += progress.cursor.count_after_bound
    return counter.describe(given) if counter.exceeds(given) else None


def _count_unlisted(progress: ChatProgress, begin_us: int) -> Reading[None]:
    """Count what lies before the history that was asked for."""
    # The request asks one millisecond wider: this stays just short of the beginning itself.
    before = yield from count(progress.task, begin_us - 1_001, 0)
    progress.cursor = replace(progress.cursor, count_unlisted=before)


def _read_ahead(progress: ChatProgress, counter: Counter) -> Reading[None]:
    """Read what was sent by clocks ahead of the server's: all at or after the bound."""
    start_us = max(progress.span.end_us, progress.task.begin_us or progress.span.end_us)
    span = Window(progress.task.chat_id, start_us, END_US)

    def accept(window: WindowRead) -> Reading[WindowToLoad | None]:
        lag = None
        if window.window.end_us < END_US:
            lag = yield from counter.find_lag(0)
        return progress.enter_ahead(window, lag)

    yield from read(span, replace(progress.task, in_one_go=True), accept)


def _read_before_lookback(progress: ChatProgress, lag: str | None) -> Reading[bool]:
    """Read everything before this run's span again. Return whether all of it was verified."""
    received = 0
    verified = True
    begin_us, end_us = progress.cursor.begin_us, progress.span.start_us

    def accept(window: WindowRead) -> Reading[WindowToLoad | None]:
        nonlocal received, verified
        received += window.messages
        verified = verified and window.verified
        progress.see(window.records)
        if window.window.end_us == end_us:
            progress.hold_before_lookback(window)
            return None
        loaded = load_whole(window, None, has_losses=progress.prior is not None)
        return keeping(loaded if lag is None else prove_nothing(loaded, lag), progress.oldest_us)
        yield  # a reading that asks for nothing

    if end_us is not None and end_us != begin_us:
        span = Window(progress.task.chat_id, begin_us, end_us)
        # It counts only when read whole, so it is not left half-way.
        yield from read(span, replace(progress.task, in_one_go=True), accept)
    if verified:
        progress.close_before_lookback(received)
        progress.is_unproven = lag is not None
    return verified


def _recheck(progress: ChatProgress) -> Reading[str | None]:
    """Read what lies before the lookback again, though the counts show no change.

    Return why it proves nothing, where less came than was counted: an answer was old. Of a long
    chat each run reads a window, which no count tells anything of: it is loaded, and proves what is
    gone, once it was the same in two runs.
    """
    today, task = progress.task.bound_us // DAY_US, progress.task
    counted = progress.cursor.count_before_lookback
    if progress.cursor.checked_day == today:
        return None
    if counted <= deepest_page(task.per_page) * task.per_page:
        if not (yield from _read_before_lookback(progress, None)):
            progress.cursor = replace(progress.cursor, reconciled=Reconciled.NO)
            return "what lies before the lookback could not be verified"
        given = progress.cursor.count_before_lookback
        if given >= counted:
            return None
        progress.is_unproven = True
        progress.cursor = replace(
            progress.cursor, checked_day=None, reconciled=Reconciled.UNCONFIRMED
        )
        return f"the list counts {counted} messages before the lookback and gives {given}"
    yield from _recheck_window(progress)
    return None


def _recheck_window(progress: ChatProgress) -> Reading[None]:
    """Read the next window of a long chat again; load it once two runs saw the same."""
    task = progress.task
    from_us = progress.cursor.recheck_from_us or progress.cursor.begin_us
    until_us, known, is_same = from_us, progress.cursor.history, False

    def accept(window: WindowRead) -> Reading[WindowToLoad | None]:
        nonlocal until_us, is_same
        progress.see(window.records)
        found = history_of(window, floor_day(window.window.end_us))
        is_same = window.verified and found == known
        progress.cursor = replace(progress.cursor, history=found if window.verified else None)
        if not is_same:
            return WindowToLoad((), (), None, window.verified)
        until_us = window.window.end_us
        return keeping(load_whole(window, None, has_losses=True), progress.oldest_us)
        yield  # a reading that asks for nothing

    span = Window(task.chat_id, from_us, progress.span.start_us or progress.span.end_us)
    complete = yield from read(span, task, accept, only_one=True)
    if not is_same:
        return
    progress.cursor = replace(progress.cursor, recheck_from_us=until_us, history=None)
    if from_us == progress.cursor.begin_us:
        progress.cursor = replace(progress.cursor, oldest_us=progress.first_us)
    if complete:
        today = task.bound_us // DAY_US
        progress.cursor = replace(progress.cursor, recheck_from_us=None, checked_day=today)


def _is_front_gone(progress: ChatProgress, total: int) -> Reading[bool]:
    """Return whether the oldest messages went, as they do where the API forgets; hold the proof.

    Then the rest is not read again for it. A younger message before the lookback that somebody
    deleted at the same time is found when the chat is checked.
    """
    cursor, start_us = progress.cursor, progress.span.start_us
    if cursor.oldest_us is None or start_us is None:
        return False
    if progress.is_unproven or progress.task.keeps_forever:
        return False
    front = Window(progress.task.chat_id, cursor.begin_us, start_us)
    (page,) = yield from ask(MessagesRequest(front, 1, 1))
    records = in_order(decode_pages([page.body], MESSAGE))
    first_us = oldest_of(records)
    if first_us is None or not cursor.oldest_us < first_us < start_us:
        return False
    gone = yield from read_window(replace(front, end_us=first_us), progress.task.per_page)
    if not gone.verified or gone.messages:
        return False
    progress.has_losses = True
    progress.see(records)
    progress.hold_gone_front(gone, total - cursor.count_unlisted - cursor.count_in_lookback)
    return True


def _find_older(progress: ChatProgress) -> Reading[None]:
    """Look whether a message from before the lookback is still listed, by the smallest request."""
    start_us = progress.span.start_us
    if progress.cursor.count_before_lookback == 0 or start_us is None:
        return
    if progress.oldest_us is None or progress.oldest_us >= start_us:
        window = Window(progress.task.chat_id, None, start_us)
        (page,) = yield from ask(MessagesRequest(window, 1, progress.task.per_page))
        progress.see(in_order(decode_pages([page.body], MESSAGE)))


def _row_of_lag(progress: ChatProgress, lag: str) -> WindowToLoad:
    """Return a ledger row that says why a chat's reading proved nothing, where no other does."""
    span = progress.span
    row = LedgerWindow(span, 0, 0, 0, 0, 0, False, lag)
    return WindowToLoad((Part(span, empty_records(MESSAGE)),), (row,), None, False)
