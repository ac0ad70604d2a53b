"""Closing the books on a chat: every message before the bound is accounted for, or searched for.

The listing's `message_count` usually says so already. Where it differs, one small request gives
the exact count; where that differs too, the chat is read again from its beginning: a count does
not tell where it changed, and changes may partly cancel each other.
"""

from __future__ import annotations

from dataclasses import replace

from linq_source.instants import DAY_US, MAX_US
from linq_source.planning.chat_memory import Book
from linq_source.planning.cursors import Closed, Cursor
from linq_source.planning.readings import Loaded, Reading, load_whole, pages_of, read
from linq_source.planning.walking import WindowRead
from linq_source.planning.windows import Ask, PageRequest, Window


def close(book: Book) -> Reading[None]:
    """Compare the counts of a chat that was read to its bound, and act on a difference."""
    total = yield from _total(book)
    if total is None:
        book.cursor = replace(book.cursor, closed=Closed.UNCONFIRMED)
        return
    outside = book.cursor.outside + total - book.cursor.accounted
    if outside != book.cursor.outside:
        # The API counts what it does not show, or something moved just now. The next run reads
        # everything again; only the same number twice is believed.
        confirmed = _is_unconfirmed(book) and book.prior is not None
        if not confirmed or (book.prior is not None and book.prior.outside != outside):
            book.cursor = replace(book.cursor, outside=outside, closed=Closed.UNCONFIRMED)
            return
        book.cursor = replace(book.cursor, outside=outside)
    closed = yield from _closed(book, total)
    book.cursor = replace(book.cursor, closed=closed)


def _total(book: Book) -> Reading[int | None]:
    """How many messages there are before the bound; none if reading again could not tell."""
    begin_us = book.task.begin_us
    if book.prior is None and begin_us is not None:
        yield from _count_outside(book, begin_us)
    if book.span.start_us is None and book.windows == 1:
        # A single verified window from the beginning is the whole truth.
        book.cursor = replace(book.cursor, outside=0, older=book.received - book.in_days)
        return book.cursor.accounted
    unconfirmed = _is_unconfirmed(book)
    if not unconfirmed and _is_explained(book, book.cursor.accounted):
        return book.cursor.accounted
    total = yield from _count(book, book.span.end_us, book.beyond)
    if begin_us is not None and total != book.cursor.accounted:
        yield from _count_outside(book, begin_us)
    if unconfirmed or total != book.cursor.accounted:
        if not (yield from _read_older(book)):
            return None
        total = yield from _count(book, book.span.end_us, book.beyond)
    return total


def _closed(book: Book, total: int) -> Reading[Closed]:
    """How the books close once every message before the bound is accounted for."""
    if book.task.listed is not None and not _is_explained(book, total):
        # Where the listing differs, it counts otherwise, or messages beyond the bound as well.
        everything = yield from _count(book, MAX_US - DAY_US, 0)
        if everything != total:
            return Closed.UNEXPLAINED
    newest_us = book.cursor.newest_us
    if newest_us is None or newest_us + book.task.lookback_us < book.task.bound_us:
        return Closed.RESTING
    return Closed.YES


def _is_unconfirmed(book: Book) -> bool:
    return book.prior is not None and book.prior.closed is Closed.UNCONFIRMED


def _is_explained(book: Book, accounted: int) -> bool:
    """Whether the listing counts what is accounted for, in its known way of counting."""
    listed = book.task.listed
    if listed is None:
        return False
    return listed - accounted == _known_difference(book.prior)


def _known_difference(prior: Cursor | None) -> int | None:
    """By how much the listing counts otherwise; none where that was never established."""
    if prior is None:
        return 0
    if prior.listed is None or not prior.closed.is_closed:
        return None
    return prior.listed - prior.accounted


def _count_outside(book: Book, begin_us: int) -> Reading[None]:
    """Count what lies before the history that was asked for."""
    # The request asks one millisecond wider: this stays just short of the beginning itself.
    before = yield from _count(book, begin_us - 1_001, 0)
    book.cursor = replace(book.cursor, outside=before)


def _count(book: Book, before_us: int, beyond: int) -> Reading[int]:
    """Messages before an instant by the smallest possible request, less those known `beyond`."""
    window = Window(book.task.chat_id, None, before_us)
    (page,) = pages_of((yield Ask((PageRequest(window, 1, 1),))))
    return page.envelope.total_count - beyond


def _read_older(book: Book) -> Reading[bool]:
    """Read everything before this run's span again. Tells whether all of it was verified."""
    older = 0
    verified = True

    def accept(window: WindowRead) -> Loaded:
        nonlocal older, verified
        older += window.messages
        verified = verified and window.verified
        return load_whole(window, book.cursor)

    begin_us, end_us = book.cursor.begin_us, book.span.start_us
    if end_us is not None and end_us != begin_us:
        span = Window(book.task.chat_id, begin_us, end_us)
        # It counts only when read whole, so it is not left half-way.
        yield from read(span, replace(book.task, in_one_go=True), accept)
    if verified:
        book.cursor = replace(book.cursor, older=older + book.received - book.in_days)
    return verified
