"""Closing the books on a chat: every message is accounted for, or searched for.

The listing's `message_count` usually says so already. Where it differs, one small request gives
the list's own count; where that differs too, the chat is read again from its beginning: a count
does not tell where it changed, and changes may partly cancel each other.

Lists lag behind counters. While the listing counts more than the list gives, nothing counts as
deleted: the last window that was read waits for the counts before its ledger rows are given out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from linq_source.decoding.records import MESSAGE, empty_records
from linq_source.instants import END_US
from linq_source.planning.changes import Part
from linq_source.planning.chat_memory import Book
from linq_source.planning.cursors import Closed, Cursor, is_explained, observe
from linq_source.planning.listings import CountRequest, decode_count
from linq_source.planning.readings import (
    ChatTask,
    LedgerWindow,
    Loaded,
    Reading,
    load_whole,
    pages_of,
    prove_nothing,
    read,
)
from linq_source.planning.walking import WindowRead
from linq_source.planning.windows import Ask, PageRequest, Window


@dataclass
class Counter:
    """What the listing counts of a chat, against what the chat's list gives.

    `believed` is by how much it counts more as its way of counting.
    """

    task: ChatTask
    listed: int | None = field(init=False)
    believed: int = field(init=False)
    everything: int | None = None
    is_asked_again: bool = False

    def __post_init__(self) -> None:
        self.listed = self.task.listed
        self.believed = 0 if self.task.cursor is None else self.task.cursor.believed

    def find_lag(self, given: int) -> Reading[str | None]:
        """How the list lags behind the listing, if it does; it gives `given` messages or more."""
        if not self.exceeds(given):
            return None
        if self.exceeds(max(given, (yield from self.count_everything()))):
            yield from self.ask_again()
        given = max(given, self.everything or 0)
        return self.describe(given) if self.exceeds(given) else None

    def exceeds(self, given: int) -> bool:
        """Whether more is counted than a list with so many messages explains."""
        return self.listed is not None and self.listed - given > self.believed

    def describe(self, given: int) -> str:
        """What the ledger says of windows that prove nothing for it."""
        return (
            f"the listing counts {self.listed} messages, the list gives {given}: "
            "nothing is taken for deleted until they agree"
        )

    def count_everything(self) -> Reading[int]:
        """How many messages the list has, whenever they were sent; asked once."""
        if self.everything is None:
            self.everything = yield from count(self.task, END_US, 0)
        return self.everything

    def ask_again(self) -> Reading[None]:
        """Ask the chat itself for its count: messages may have gone since the chats were listed."""
        if self.is_asked_again or self.listed is None:
            return
        self.is_asked_again = True
        (page,) = pages_of((yield Ask((CountRequest(self.task.chat_id),))))
        now = decode_count(page.body)
        # What was sent since does not make the list look shorter than it is.
        self.listed = self.listed if now is None else min(self.listed, now)


def count(task: ChatTask, before_us: int, beyond: int) -> Reading[int]:
    """Messages before an instant by the smallest possible request, less those known `beyond`."""
    window = Window(task.chat_id, None, before_us)
    (page,) = pages_of((yield Ask((PageRequest(window, 1, 1),))))
    return page.envelope.total_count - beyond


def read_books(book: Book) -> Reading[bool]:
    """Read a chat from its cursor to the bound, and close its books. Tells whether it got there."""
    counter = Counter(book.task)

    def accept(window: WindowRead) -> Reading[Loaded | None]:
        book.enter(window)
        if window.window.end_us >= book.span.end_us:
            return None
        (loaded,) = book.give_out((yield from counter.find_lag(0)))
        return loaded

    if not (yield from read(book.span, book.task, accept)):
        return False
    lag = yield from _close(book, counter)
    for loaded in book.give_out(lag):  # noqa: UP028 - a list takes no replies
        yield loaded
    if lag is not None and not book.has_complained:
        yield _complaint(book, lag)
    return True


def _close(book: Book, counter: Counter) -> Reading[str | None]:
    """Compare the counts, and act on a difference; gives why the reading proves nothing."""
    if book.contiguous and book.cursor.ahead is not None:
        yield from _read_ahead(book, counter)
    if not book.contiguous:
        return (yield from counter.find_lag(0))
    total = yield from _total(book)
    if total is None:
        book.cursor = replace(book.cursor, closed=_closed(book, is_agreed=True))
        return None
    difference = yield from _difference(book, counter, total)
    lag = _observe(book, counter, difference, total)
    before = book.cursor.count_before_bound
    # A list that lags and shows less than is known tells nothing about what it does not show.
    if (book.is_unproven and lag is None) or total > before or (total < before and lag is None):
        if not (yield from _read_older(book, lag)):
            book.cursor = replace(book.cursor, closed=Closed.UNCONFIRMED)
            return "what lies before the lookback could not be verified"
        given = book.cursor.count_before_bound
        if counter.listed is None and given != total:
            book.cursor = replace(book.cursor, closed=Closed.UNCONFIRMED)
            return f"the list counts {total} messages and gives {given}"
        difference = yield from _difference(book, counter, given)
        lag = _observe(book, counter, difference, given)
    is_agreed = difference is None or difference == book.cursor.believed
    book.is_unproven = book.is_unproven or (lag is not None and book.holds_unknown)
    book.cursor = replace(book.cursor, listed=counter.listed, closed=_closed(book, is_agreed))
    return lag


def _total(book: Book) -> Reading[int | None]:
    """How many messages the list has before the bound; none where the listing explains them."""
    task, begin_us = book.task, book.task.begin_us
    if book.prior is None and begin_us is not None:
        yield from _count_outside(book, begin_us)
    is_whole = book.span.start_us is None and book.windows == 1
    if is_whole:
        # A single verified window from the beginning is the whole truth.
        older = book.received - book.cursor.in_days
        book.cursor = replace(book.cursor, outside=0, older=older)
        book.is_unproven = False
    was_closed = book.prior is None or book.prior.closed.is_closed
    if (is_whole or was_closed) and is_explained(book.cursor, task.listed, task.bound_us):
        return None
    if is_whole:
        return book.cursor.count_before_bound
    total = yield from count(task, book.span.end_us, book.beyond)
    if begin_us is not None and total != book.cursor.count_before_bound:
        yield from _count_outside(book, begin_us)
    return total


def _difference(book: Book, counter: Counter, given: int) -> Reading[int | None]:
    """By how much the listing counts more than the list gives; `given` lies before the bound."""
    if counter.listed is None:
        return None
    if counter.exceeds(given + book.cursor.count_ahead) and not book.is_ahead_read:
        # It may count messages at or after the bound as well.
        if (yield from counter.count_everything()) > given:
            yield from _read_ahead(book, counter)
    if counter.exceeds(given + book.cursor.count_ahead):
        yield from counter.ask_again()
    return counter.listed - given - book.cursor.count_ahead


def _observe(book: Book, counter: Counter, difference: int | None, given: int) -> str | None:
    """Remember a difference; gives how the list lags while it is not believed."""
    if difference is None:
        return None
    known = observe(book.prior or Cursor(), difference, book.task.bound_us)
    book.cursor = replace(
        book.cursor, believed=known.believed, seen=known.seen, since_us=known.since_us
    )
    counter.believed = known.believed
    given += book.cursor.count_ahead
    return counter.describe(given) if counter.exceeds(given) else None


def _closed(book: Book, is_agreed: bool) -> Closed:
    """How the books close."""
    if book.is_unproven:
        return Closed.UNCONFIRMED
    if not book.contiguous:
        return Closed.OPEN
    if not is_agreed:
        return Closed.UNEXPLAINED
    newest_us, task = book.cursor.newest_us, book.task
    if book.cursor.ahead is not None:
        return Closed.YES
    if newest_us is None or newest_us + task.lookback_us < task.bound_us:
        return Closed.RESTING
    return Closed.YES


def _count_outside(book: Book, begin_us: int) -> Reading[None]:
    """Count what lies before the history that was asked for."""
    # The request asks one millisecond wider: this stays just short of the beginning itself.
    before = yield from count(book.task, begin_us - 1_001, 0)
    book.cursor = replace(book.cursor, outside=before)


def _read_ahead(book: Book, counter: Counter) -> Reading[None]:
    """Read what was sent by clocks ahead of the server's: all at or after the bound."""
    start_us = max(book.span.end_us, book.task.begin_us or book.span.end_us)
    span = Window(book.task.chat_id, start_us, END_US)

    def accept(window: WindowRead) -> Reading[Loaded | None]:
        lag = None
        if window.window.end_us < END_US:
            lag = yield from counter.find_lag(0)
        return book.enter_ahead(window, lag)

    yield from read(span, replace(book.task, in_one_go=True), accept)


def _read_older(book: Book, lag: str | None) -> Reading[bool]:
    """Read everything before this run's span again. Tells whether all of it was verified."""
    older = 0
    verified = True
    begin_us, end_us = book.cursor.begin_us, book.span.start_us

    def accept(window: WindowRead) -> Reading[Loaded | None]:
        nonlocal older, verified
        older += window.messages
        verified = verified and window.verified
        loaded = load_whole(window, None)
        if window.window.end_us == end_us:
            book.hold_older(loaded)
            return None
        return loaded if lag is None else prove_nothing(loaded, lag)
        yield  # a reading that asks for nothing

    if end_us is not None and end_us != begin_us:
        span = Window(book.task.chat_id, begin_us, end_us)
        # It counts only when read whole, so it is not left half-way.
        yield from read(span, replace(book.task, in_one_go=True), accept)
    if verified:
        book.cursor = replace(book.cursor, older=older + book.received - book.cursor.in_days)
        book.is_unproven = lag is not None and not book.task.is_new
    return verified


def _complaint(book: Book, lag: str) -> Loaded:
    """A ledger row that says why a chat's reading proved nothing, where no other does."""
    span = book.span
    row = LedgerWindow(span, 0, 0, 0, 0, 0, False, lag)
    return Loaded((Part(span, empty_records(MESSAGE)),), (row,), None, False)


def read_as_it_is(task: ChatTask, span: Window) -> Reading[bool]:
    """Read an interval whatever is remembered. Tells whether it was read to its end."""
    counter = Counter(task)

    def accept(window: WindowRead) -> Reading[Loaded | None]:
        loaded = load_whole(window, None)
        lag = yield from counter.find_lag(window.messages + window.beyond)
        return loaded if lag is None else prove_nothing(loaded, lag)

    return (yield from read(span, task, accept))
