"""Walking a list of API v3: from its head by opaque cursors, until nothing can be missing.

There is no filter by time, no order that is promised, and no count. A walk is *verified* where it
reached the end, or instants fell throughout until all that follows is older than what is wanted;
where no cursor came twice; and where the head, asked for again, is the same but for messages after
the bound. Where a cursor is all digits it may be an offset, over which a deletion hides rows, and
where fewer messages came than are known, an answer may have been old: then two walks one after the
other have to give the same.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from linq_source.decoding.pages import Outline, decode_pages, outline_of
from linq_source.decoding.records import Records, concat_records, distinct_rejected
from linq_source.instants import MAX_US, MIN_US, SECOND_US
from linq_source.planning.listings import MAX_LIST_PAGES, ChatList, ListWalk, read_whole
from linq_source.planning.requests_v3 import ChatsRequest, MessagesRequest
from linq_source.planning.window_reading import (
    ATTEMPTS,
    CHUNK_PAGES,
    WindowRead,
    arrange,
)
from linq_source.planning.windows import Asking, Page, Window, ask

# By so much instants may rise in a list that falls: its order may be that of another instant.
SLACK_US = 3_600 * SECOND_US
# So many records in a row have to be older than what is wanted.
_ENOUGH = 10
# So many pages one after the other that repeat records end a walk, and so many empty ones.
_MOST_STALE = 3
_MOST_EMPTY = 1_000
_MOVED = "the list moved while it was read"


@dataclass(frozen=True)
class WalkGoal:
    """What of a chat's list is wanted: messages from `start_us` on (None: all), before `bound_us`.

    `newest_us` is the newest message known, `known` how many are from `start_us` to it, and
    `known_before` how many older. `listed_us` is where the newest day begins that had any when the
    list was last read: one that falls shows that before all older ones.
    """

    start_us: int | None
    bound_us: int
    newest_us: int | None = None
    listed_us: int | None = None
    known: int = 0
    known_before: int = 0


@dataclass
class _Order:
    """Whether instants fall from record to record, of those whose place tells their instant."""

    is_falling: bool = True
    lowest_us: int = MAX_US
    highest_us: int = MIN_US
    _latest: pa.Array = field(default_factory=lambda: pa.array([], pa.int64()))

    def note(self, page: Outline) -> None:
        """Take in the records of the next page."""
        is_placed = _tells_order(page.instants, page.sent, page.is_late)
        instants = page.instants.filter(is_placed)
        if not len(instants):
            return
        self._latest = pa.concat_arrays([self._latest, instants])[-_ENOUGH:]
        self.highest_us = max(self.highest_us, pc.max(instants).as_py())
        line = pa.concat_arrays([pa.array([self.lowest_us], pa.int64()), instants])
        lowest = pc.cumulative_min(line)
        rise_us = pc.max(pc.subtract(line, lowest)).as_py()
        self.is_falling = self.is_falling and rise_us <= SLACK_US
        self.lowest_us = lowest[-1].as_py()

    def is_past(self, goal: WalkGoal) -> bool:
        """Return whether all that follows may be taken for older than what is wanted.

        A list that rises, or that so far lies within an hour, does not show that it falls, and a
        single older record is not enough to tell.
        """
        if goal.start_us is None or not self.is_falling or len(self._latest) < _ENOUGH:
            return False
        return (
            self.highest_us - self.lowest_us > SLACK_US
            and pc.max(self._latest).as_py() < goal.start_us - SLACK_US
            and (goal.listed_us is None or self.highest_us >= goal.listed_us)
        )


def _tells_order(instants: pa.Array, sent: pa.Array, is_late: pa.Array) -> pa.Array:
    """Return for each record whether its place tells its instant, whatever the list goes by.

    One that arrived late, was sent much later than it was made, or never, may stand anywhere.
    """
    apart_us = pc.abs(pc.subtract(sent, instants))
    is_soon = pc.fill_null(pc.less_equal(apart_us, pa.scalar(SLACK_US, pa.int64())), False)
    return pc.and_(is_soon, pc.invert(is_late))


@dataclass
class Walk:
    """What one walk found, page by page; `problem` says why something may be missing."""

    order: _Order = field(default_factory=_Order)
    pages: int = 0
    is_at_end: bool = False
    is_by_offset: bool = False
    problem: str | None = None
    _bodies: list[bytes] = field(default_factory=list)
    _decoded: list[Records] = field(default_factory=list)

    def add(self, body: bytes, request: MessagesRequest) -> None:
        """Add a page; many are decoded at once, which takes a fraction of the time."""
        self.pages += 1
        self._bodies.append(body)
        if len(self._bodies) == CHUNK_PAGES:
            self._decode(request)

    def records(self, request: MessagesRequest) -> Records:
        """Return all that was found."""
        self._decode(request)
        return concat_records(request.shape, self._decoded)

    def _decode(self, request: MessagesRequest) -> None:
        bodies, self._bodies = self._bodies, []
        self._decoded.append(decode_pages(bodies, request.shape, request.key))


class _Pages:
    """Follows a list by its cursors, and says when that leads nowhere."""

    def __init__(self) -> None:
        self._cursors: set[str] = set()
        self._seen: set[object] = set()
        self._stale = 0
        self._empty = 0
        self._count = 0

    def problem_with(self, cursor: str, identities: Set[object]) -> str | None:
        """Take in a page that is not the last. Return why the next one is not to be asked for."""
        self._count += 1
        self._empty = 0 if identities else self._empty + 1
        if identities:
            self._stale = self._stale + 1 if identities <= self._seen else 0
        self._seen |= identities
        if cursor in self._cursors:
            return "the API gave the same cursor twice"
        self._cursors.add(cursor)
        if self._stale == _MOST_STALE:
            return f"{_MOST_STALE} pages brought nothing new, and the list did not end"
        if self._empty == _MOST_EMPTY:
            return f"{_MOST_EMPTY} pages were empty, and the list did not end"
        if self._count == MAX_LIST_PAGES:
            return f"the list did not end after {MAX_LIST_PAGES} pages: take a larger page_size"
        return None


def walk(first: MessagesRequest, goal: WalkGoal) -> Asking[Walk]:
    """Walk a chat's list from the request of its first page, once.

    The walk ends with the list; where all that follows is older than what is wanted; with a cursor
    that came before or is refused; with a few pages that bring nothing new; at `MAX_LIST_PAGES`.
    """
    result, pages, request = Walk(), _Pages(), first
    while True:
        (page,) = yield from ask(request)
        if page.is_refused:
            result.problem = "the API refused a cursor of its own"
            return result
        result.add(page.body, request)
        outline = outline_of(page.body, request.shape, request.key)
        result.order.note(outline)
        cursor = page.next_cursor
        if cursor is None:
            result.is_at_end = True
            return result
        result.is_by_offset = result.is_by_offset or cursor.isdecimal()
        if result.order.is_past(goal):
            return result
        result.problem = pages.problem_with(cursor, outline.identities)
        if result.problem is not None:
            return result
        request = replace(request, cursor=cursor)


@dataclass(frozen=True)
class ListRead:
    """A chat's list, from its head to what was wanted; to its end where it `is_whole`.

    It `lacks_known` messages where fewer came than are known. `problem` says why it proves
    nothing; None where it is verified.
    """

    records: Records
    is_whole: bool
    lacks_known: bool
    pages: int
    requests: int
    attempts: int
    problem: str | None

    def window(self, window: Window) -> WindowRead:
        """The messages of a window."""
        records, _, after_end = arrange(self.records, window)
        return WindowRead(
            window=window,
            records=records,
            total_count=records.received,
            count_after_end=after_end,
            pages=self.pages,
            requests=self.requests,
            attempts=self.attempts,
            verified=self.problem is None,
            error=self.problem,
        )


def read_messages(first: MessagesRequest, goal: WalkGoal) -> Asking[ListRead]:
    """Read a chat's list until a walk is verified; after a few give what was seen, unverified."""
    seen: list[Records] = []
    confirmed: pa.Array | None = None
    requests = 0
    problem: str | None = None
    result = Walk()
    for attempt in range(1, ATTEMPTS + 1):
        result = yield from walk(first, goal)
        requests += result.pages
        problem = result.problem
        records = result.records(first)
        seen.append(records)
        if problem is None and result.pages > 1:
            (head,) = yield from ask(first)
            requests += 1
            problem = _has_moved(head, first, records, goal, result.order.is_falling)
        if problem is not None:
            confirmed = None
            continue
        lacks_known = _lacks_known(records, goal, result.is_at_end)
        if lacks_known or (result.is_by_offset and result.pages > 1):
            ids = pc.unique(_ids_between(records, goal.start_us, goal.bound_us)).sort()
            if confirmed is None or not ids.equals(confirmed):
                confirmed = ids
                problem = "two walks through the list did not give the same"
                continue
        return ListRead(
            records, result.is_at_end, lacks_known, result.pages, requests, attempt, None
        )
    # Everything seen in any walk existed; of a record seen twice the last version stays.
    union = concat_records(first.shape, seen)
    return ListRead(union, result.is_at_end, False, result.pages, requests, ATTEMPTS, problem)


def _has_moved(
    head: Page, first: MessagesRequest, records: Records, goal: WalkGoal, is_falling: bool
) -> str | None:
    """Return how the head of a list is not that of the walk any more, if it is not."""
    now = decode_pages([head.body], first.shape, first.key)
    there = _ids_between(now, None, goal.bound_us)
    is_same = _are_among(there, _ids_between(records, None, goal.bound_us))
    oldest_us = pc.min(_placed(now)["at"]).as_py()
    if is_falling and oldest_us is not None:
        placed = _placed(records)
        above = pc.greater(placed["at"], pa.scalar(oldest_us + SLACK_US, pa.int64()))
        before = pc.less(placed["at"], pa.scalar(goal.bound_us, pa.int64()))
        seen = placed["id"].filter(pc.and_(above, before)).combine_chunks()
        is_same = is_same and _are_among(seen, now.root["id"].combine_chunks())
    return None if is_same else _MOVED


def _placed(records: Records) -> pa.Table:
    """Return ids and instants of the records whose place in the list tells their instant."""
    sent = records.root["sent_at"].cast(pa.int64()).combine_chunks()
    is_late = pc.is_valid(records.root[records.shape.arrival]).combine_chunks()
    rows = pa.table({"id": records.root["id"], "at": records.instants})
    return rows.filter(_tells_order(records.instants, sent, is_late))


def _lacks_known(records: Records, goal: WalkGoal, is_at_end: bool) -> bool:
    """Return whether fewer messages came than are known."""
    if goal.newest_us is None:
        return False

    lost = [r.near_us for r in distinct_rejected(records.rejected) if not r.repaired]

    def came(start_us: int | None, end_us: int) -> int:
        ids = _ids_between(records, start_us, end_us)
        window = Window("", start_us, end_us)
        untyped = sum(near_us is None or near_us in window for near_us in lost)
        return int(pc.count_distinct(ids).as_py()) + untyped

    if came(goal.start_us, goal.newest_us + 1) < goal.known:
        return True
    if not is_at_end or goal.start_us is None:
        return False
    return came(None, goal.start_us) < goal.known_before


def _ids_between(records: Records, start_us: int | None, end_us: int) -> pa.Array:
    """Return the ids of the records of an interval."""
    instants = records.instants
    is_inside = pc.less(instants, pa.scalar(end_us, pa.int64()))
    if start_us is not None:
        is_inside = pc.and_(is_inside, pc.greater_equal(instants, pa.scalar(start_us, pa.int64())))
    return records.root["id"].combine_chunks().filter(is_inside)


def _are_among(ids: pa.Array, others: pa.Array) -> bool:
    return not len(ids) or bool(pc.all(pc.is_in(ids, value_set=others)).as_py())


def read_chats(phone_number: str, limit: int) -> Asking[ChatList]:
    """Return all chats of a phone number."""
    return read_whole(lambda: _walk_chats(ChatsRequest(phone_number, limit)))


def _walk_chats(request: ChatsRequest) -> Asking[ListWalk]:
    """Walk through the chats once.

    That is all where it came to the end and no chat came twice, as one does that moved while the
    list was read; where cursors may be offsets, two walks have to give the same.
    """
    found: list[Records] = []
    pages, is_by_offset = _Pages(), False
    while True:
        (page,) = yield from ask(request)
        found.append(decode_pages([page.body], request.shape, request.key))
        cursor = page.next_cursor
        is_over = cursor is None or pages.problem_with(cursor, found[-1].identities) is not None
        if is_over or cursor is None:
            records = concat_records(request.shape, found)
            is_whole = cursor is None and records.received == len(records.identities)
            return ListWalk(records, is_whole, is_by_offset)
        is_by_offset = is_by_offset or cursor.isdecimal()
        request = replace(request, cursor=cursor)
