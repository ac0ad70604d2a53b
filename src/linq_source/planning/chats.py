"""Reading one chat: from its cursor to the bound, changed days only, until the books close."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypeVar

from linq_source.planning.changes import (
    Part,
    changed_parts,
    count_before,
    newest_of,
    segments_of,
)
from linq_source.planning.cursors import (
    Closed,
    Content,
    Cursor,
    Segment,
    age,
    lookback_start,
    usable,
)
from linq_source.planning.walking import WindowRead, read_span
from linq_source.planning.windows import Ask, Page, PageRequest, Window


@dataclass(frozen=True)
class ChatTask:
    """What to read of a chat.

    `listed` is its `message_count` (none: unknown). With `end_us` the interval from `begin_us`
    to it is read as it is and nothing remembered; else `begin_us` is where history begins and
    `bound_us` the run's upper end. `in_one_go` lets no wish to stop end it early.
    """

    chat_id: int
    listed: int | None
    cursor: Cursor | None
    bound_us: int
    begin_us: int | None = None
    end_us: int | None = None
    lookback_us: int = 0
    per_page: int = 100
    in_one_go: bool = False


@dataclass(frozen=True)
class ChatResult:
    """How a chat's reading ended: what to remember, and whether it came to the bound."""

    cursor: Cursor | None
    complete: bool


@dataclass(frozen=True)
class LedgerWindow:
    """A row of the ledger, before `synced_at`. `messages` counts the rows loaded."""

    window: Window
    total_count: int
    messages: int
    pages: int
    requests: int
    attempts: int
    verified: bool
    error: str | None


@dataclass(frozen=True)
class Loaded:
    """One window was read: what of it is to be loaded, and what is known after it.

    `parts` and `ledger` go together. `cursor` is the chat's memory once they are loaded; none
    when the reading keeps none. `unchanged` counts segments that were read and left alone.
    """

    parts: tuple[Part, ...]
    ledger: tuple[LedgerWindow, ...]
    cursor: Cursor | None
    verified: bool
    unchanged: int = 0

    @property
    def messages(self) -> int:
        """Rows of messages to load."""
        return sum(len(part.records) for part in self.parts)


Event: TypeAlias = Ask | Loaded
Reply: TypeAlias = list[Page] | bool | None
T = TypeVar("T")
Reading: TypeAlias = Generator[Event, Reply, T]


def read_chat(task: ChatTask) -> Reading[ChatResult]:
    """Read what a chat's task says.

    Yields `Ask` (send the pages) and `Loaded` (send whether to go on; after `False` the chat
    ends early and its result says so).
    """
    if task.end_us is not None:
        span = Window(task.chat_id, task.begin_us, task.end_us)
        complete = yield from _read(span, task, _load_as_it_is)
        return ChatResult(None, complete)
    book = _Book(task)
    complete = yield from _read(book.span, task, book.enter)
    if complete and book.contiguous:
        yield from _close(book)
    return ChatResult(book.cursor, complete)


def _read(span: Window, task: ChatTask, accept: Callable[[WindowRead], Loaded]) -> Reading[bool]:
    """Read a span, giving every window to `accept`. Tells whether it was read to its end."""
    if span.start_us is not None and span.start_us >= span.end_us:
        return True
    windows = read_span(span, task.per_page)
    event = next(windows)
    while True:
        reply: list[Page] | None = None
        if isinstance(event, Ask):
            reply = _pages((yield event))
        else:
            go_on = yield accept(event)
            if go_on is False and not task.in_one_go and event.window.end_us < span.end_us:
                return False
        try:
            event = windows.send(reply)
        except StopIteration:
            return True


def _pages(reply: Reply) -> list[Page]:
    if not isinstance(reply, list):
        raise TypeError("an Ask is answered with pages")
    return reply


def _load_as_it_is(read: WindowRead) -> Loaded:
    return _loaded(read, None)


def _loaded(read: WindowRead, cursor: Cursor | None) -> Loaded:
    """Load a whole window."""
    part = Part(read.window, read.records)
    return Loaded((part,), (_ledger_row(read, part, read.total_count),), cursor, read.verified)


def _ledger_row(read: WindowRead, part: Part, total_count: int, first: bool = True) -> LedgerWindow:
    """The effort of a reading stands in the row of its first part only."""
    return LedgerWindow(
        window=part.window,
        total_count=total_count,
        messages=len(part.records),
        pages=read.pages if first else 0,
        requests=read.requests if first else 0,
        attempts=read.attempts,
        verified=read.verified,
        error=read.error,
    )


@dataclass
class _Book:
    """A chat's memory while it is read: entered window by window, in order of time."""

    task: ChatTask
    cursor: Cursor = field(init=False)
    prior: Cursor | None = field(init=False)
    span: Window = field(init=False)
    contiguous: bool = True
    windows: int = 0
    beyond: int = 0

    def __post_init__(self) -> None:
        task = self.task
        self.prior = usable(task.cursor, task.begin_us)
        known = self.prior or Cursor(begin_us=task.begin_us)
        start_us = known.begin_us
        end_us = task.bound_us
        newest_us = known.newest_us
        if newest_us is not None:
            lookback_us = lookback_start(newest_us, task.lookback_us)
            start_us = lookback_us if start_us is None else max(start_us, lookback_us)
            if known.edge_us is not None and start_us < known.edge_us:
                known = replace(known, edge_us=start_us)
            # A clock that went back must not hide what was read before.
            end_us = max(end_us, newest_us + 1)
        self.cursor = replace(age(known, task.lookback_us), closed=Closed.OPEN, listed=task.listed)
        self.span = Window(task.chat_id, start_us, end_us)

    def enter(self, read: WindowRead) -> Loaded:
        """Take in a window of the span; gives what of it is to be loaded."""
        self.windows += 1
        self.beyond = read.beyond
        if not read.verified or not self.contiguous:
            self.contiguous = False
            return _loaded(read, self.cursor)
        fresh = self._is_fresh(read.window)
        window, lookback_us = read.window, self.task.lookback_us
        known = {s: c for s, c in self.cursor.days.items() if self._lies_in(s.start_us, window)}
        kept = {s: c for s, c in self.cursor.days.items() if s not in known}
        newest = [at for at in (self.cursor.newest_us, newest_of(read)) if at is not None]
        newest_us = max(newest) if newest else None
        edge_us = window.end_us if newest_us is None else lookback_start(newest_us, lookback_us)
        found = segments_of(read, edge_us if fresh else _start_of(window), self.span.end_us)
        new = {segment: content for segment, (content, _) in found.items()}
        older = self.cursor.older
        older += count_before(read, edge_us) if fresh else -self._counted_before(new)
        cursor = replace(self.cursor, newest_us=newest_us, older=older, days=kept | new)
        self.cursor = age(cursor, lookback_us)
        if fresh and (read.messages or self.prior is None):
            return _loaded(read, self.cursor)
        parts = changed_parts(read, known, found)
        ledger = tuple(
            _ledger_row(read, part, part.records.received, first=index == 0)
            for index, part in enumerate(parts)
        )
        unchanged = sum(known.get(s) == content for s, (content, _) in found.items())
        return Loaded(tuple(parts), ledger, self.cursor, True, unchanged)

    def _is_fresh(self, window: Window) -> bool:
        """Whether nothing of a window can have been read before: it is loaded whole."""
        if self.prior is None or self.prior.newest_us is None:
            return True
        return window.start_us is not None and self.prior.newest_us < window.start_us

    def _counted_before(self, new: Mapping[Segment, Content]) -> int:
        """What a larger lookback than before reads again, already counted among the older."""
        edge_us = self.prior.edge_us if self.prior is not None else None
        if edge_us is None:
            return 0
        return sum(content.count for segment, content in new.items() if segment.start_us < edge_us)

    def _lies_in(self, instant_us: int, window: Window) -> bool:
        return instant_us in window or (
            window.end_us == self.span.end_us and instant_us >= window.end_us
        )


def _start_of(window: Window) -> int:
    return window.end_us if window.start_us is None else window.start_us


def _close(book: _Book) -> Reading[None]:
    """Compare the counts; where they differ, read what lies before the lookback again.

    A count alone does not say where it changed, and changes may partly cancel each other, so
    the chat is read from its beginning. What the API counts after that and never shows is
    remembered as `outside`, so that it costs one reading and not one in every run.
    """
    task = book.task
    from_the_beginning = book.span.start_us is None and book.windows == 1
    if from_the_beginning:
        total = book.cursor.accounted
    elif task.listed == book.cursor.accounted:
        total = task.listed
    else:
        total = yield from _count(book)
        if total != book.cursor.accounted:
            if book.prior is not None or book.windows > 1:
                if not (yield from _read_older(book)):
                    return
                total = yield from _count(book)
            outside = book.cursor.outside + total - book.cursor.accounted
            book.cursor = replace(book.cursor, outside=outside)
    book.cursor = replace(book.cursor, closed=_closed(book, total))


def _closed(book: _Book, total: int) -> Closed:
    listed, prior = book.task.listed, book.prior
    known_outside = 0 if prior is None or book.task.begin_us is not None else prior.outside
    if book.task.begin_us is None and book.cursor.outside != known_outside:
        return Closed.UNEXPLAINED
    if listed is None or listed == total:
        return Closed.YES
    if prior is not None and prior.listed is not None and prior.closed is not Closed.OPEN:
        # The same difference at two bounds is the listing's own way of counting.
        if prior.listed - prior.accounted == listed - total:
            return Closed.YES
    return Closed.UNEXPLAINED


def _count(book: _Book) -> Reading[int]:
    """How many messages the chat has before the bound, by the smallest possible request."""
    window = Window(book.task.chat_id, None, book.span.end_us)
    (page,) = _pages((yield Ask((PageRequest(window, 1, 1),))))
    return page.envelope.total_count - book.beyond


def _read_older(book: _Book) -> Reading[bool]:
    """Read everything before the lookback again. Tells whether all of it was verified."""
    edge_us = book.cursor.edge_us
    if edge_us is None or book.cursor.begin_us == edge_us:
        return True
    older = 0
    verified = True

    def accept(read: WindowRead) -> Loaded:
        nonlocal older, verified
        older += read.messages
        verified = verified and read.verified
        return _loaded(read, book.cursor)

    span = Window(book.task.chat_id, book.cursor.begin_us, edge_us)
    # It counts only when read whole, so it is not left half-way.
    yield from _read(span, replace(book.task, in_one_go=True), accept)
    if verified:
        book.cursor = replace(book.cursor, older=older)
    return verified
