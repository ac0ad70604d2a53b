"""Walking a list of API v3: from its head by opaque cursors, until nothing can be missing.

There is no filter by time, no order that is promised, and no count. A walk is *verified* where it
reached the end, or instants fell throughout until all that follows is older than what is wanted;
where no cursor came twice; and where the head, asked for again, is the same but for messages after
the bound. Where a cursor is all digits it may be an offset, over which a deletion hides rows, and
where fewer messages came than are known, an answer may have been old: then two walks one after the
other have to give the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from linq_source.decoding.pages import decode_pages
from linq_source.decoding.records import Records, concat_records, distinct_rejected
from linq_source.instants import MAX_US, MIN_US, SECOND_US
from linq_source.planning.listings import MAX_LIST_PAGES, ChatList, distinct, with_repeats
from linq_source.planning.v3_requests import ChatsRequest, MessagesRequest
from linq_source.planning.window_reading import ATTEMPTS, Asking, WindowRead, arrange
from linq_source.planning.windows import Ask, Page, Window

# By so much instants may rise in a list that falls: its order may be that of another instant.
SLACK_US = 3_600 * SECOND_US
# So many pages one after the other that bring nothing new end a walk.
_MOST_STALE = 3
_MOVED = "the list moved while it was read"

Request = TypeVar("Request", MessagesRequest, ChatsRequest)


@dataclass(frozen=True)
class Wanted:
    """What of a chat's list is wanted: messages from `start_us` on (None: all), before `bound_us`.

    `newest_us` is the newest message known: a list that falls shows it before all older ones.
    `known` is how many messages are known from `start_us` to it, `known_before` how many older.
    """

    start_us: int | None
    bound_us: int
    newest_us: int | None = None
    known: int = 0
    known_before: int = 0


@dataclass
class _Order:
    """Whether instants fall from record to record; one that arrived late may stand anywhere."""

    is_falling: bool = True
    lowest_us: int = MAX_US
    highest_us: int = MIN_US

    def note(self, records: Records) -> None:
        """Take in the records of the next page."""
        instants = records.instants
        is_late = pc.is_valid(records.root[records.shape.arrival]).combine_chunks()
        instants = instants.filter(pc.invert(is_late))
        if not len(instants):
            return
        self.highest_us = max(self.highest_us, pc.max(instants).as_py())
        line = pa.concat_arrays([pa.array([self.lowest_us], pa.int64()), instants])
        lowest = pc.cumulative_min(line)
        rise_us = pc.max(pc.subtract(line, lowest)).as_py()
        self.is_falling = self.is_falling and rise_us <= SLACK_US
        self.lowest_us = lowest[-1].as_py()

    def is_past(self, wanted: Wanted) -> bool:
        """Return whether all that follows is older than what is wanted.

        Of a list that began to rise, or within an hour, nobody knows which way it goes.
        """
        return (
            wanted.start_us is not None
            and self.is_falling
            and self.highest_us - self.lowest_us > SLACK_US
            and self.lowest_us < wanted.start_us - SLACK_US
            and (wanted.newest_us is None or self.highest_us >= wanted.newest_us)
        )


@dataclass
class Walk:
    """What one walk found, page by page; `problem` says why something may be missing."""

    found: list[Records] = field(default_factory=list)
    order: _Order = field(default_factory=_Order)
    identities: set[object] = field(default_factory=set)
    is_at_end: bool = False
    is_by_offset: bool = False
    problem: str | None = None

    @property
    def pages(self) -> int:
        """How many pages came."""
        return len(self.found)


def walk(first: Request, wanted: Wanted | None = None) -> Asking[Walk]:
    """Walk a list from the request of its first page, once.

    The walk ends with the list; where all that follows is older than what is wanted; with a cursor
    that came before or is refused; with a few pages that bring nothing new; at `MAX_LIST_PAGES`.
    """
    result = Walk()
    cursors: set[str] = set()
    request, stale = first, 0
    while True:
        (page,) = yield Ask((request,))
        if page.is_refused:
            result.problem = "the API refused a cursor of its own"
            return result
        records = decode_pages([page.body], request.shape, request.key).records
        result.found.append(records)
        stale = stale + 1 if records.identities <= result.identities else 0
        result.identities |= records.identities
        if records.shape.instant:
            result.order.note(records)
        cursor = page.next_cursor
        if cursor is None:
            result.is_at_end = True
            return result
        result.is_by_offset = result.is_by_offset or cursor.isdecimal()
        if wanted is not None and result.order.is_past(wanted):
            return result
        if cursor in cursors:
            result.problem = "the API gave the same cursor twice"
        elif stale == _MOST_STALE:
            result.problem = f"{_MOST_STALE} pages brought nothing new, and the list did not end"
        elif result.pages == MAX_LIST_PAGES:
            result.problem = f"the list did not end after {MAX_LIST_PAGES} pages"
        if result.problem is not None:
            return result
        cursors.add(cursor)
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


def read_messages(first: MessagesRequest, wanted: Wanted) -> Asking[ListRead]:
    """Read a chat's list until a walk is verified; after a few give what was seen, unverified."""
    seen: list[Records] = []
    confirmed: pa.Array | None = None
    requests = 0
    problem: str | None = None
    result = Walk()
    for attempt in range(1, ATTEMPTS + 1):
        result = yield from walk(first, wanted)
        requests += result.pages
        problem = result.problem
        records = concat_records(first.shape, result.found)
        seen.append(records)
        if problem is None and result.pages > 1:
            (head,) = yield Ask((first,))
            requests += 1
            problem = _has_moved(head, first, records, wanted, result.order.is_falling)
        if problem is not None:
            confirmed = None
            continue
        lacks_known = _lacks_known(records, wanted, result.is_at_end)
        if lacks_known or (result.is_by_offset and result.pages > 1):
            ids = pc.unique(_ids_between(records, wanted.start_us, wanted.bound_us)).sort()
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
    head: Page, first: MessagesRequest, records: Records, wanted: Wanted, is_falling: bool
) -> str | None:
    """Return how the head of a list is not that of the walk any more, if it is not."""
    now = decode_pages([head.body], first.shape, first.key).records
    there = _ids_between(now, None, wanted.bound_us)
    is_same = _are_among(there, _ids_between(records, None, wanted.bound_us))
    if is_falling and len(now):
        oldest_us = pc.min(now.instants).as_py() + SLACK_US
        is_same = is_same and _are_among(
            _ids_between(records, oldest_us, wanted.bound_us), now.root["id"].combine_chunks()
        )
    return None if is_same else _MOVED


def _lacks_known(records: Records, wanted: Wanted, is_at_end: bool) -> bool:
    """Return whether fewer messages came than are known."""
    if wanted.newest_us is None:
        return False

    lost = [r.near_us for r in distinct_rejected(records.rejected) if not r.repaired]

    def came(start_us: int | None, end_us: int) -> int:
        ids = _ids_between(records, start_us, end_us)
        window = Window("", start_us, end_us)
        untyped = sum(near_us is None or near_us in window for near_us in lost)
        return int(pc.count_distinct(ids).as_py()) + untyped

    if came(wanted.start_us, wanted.newest_us + 1) < wanted.known:
        return True
    if not is_at_end or wanted.start_us is None:
        return False
    return came(None, wanted.start_us) < wanted.known_before


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
    """All chats of a phone number.

    The list is `complete` where a walk came to its end and no chat came twice, as one does that
    moved while the list was read; where cursors may be offsets, two walks have to give the same.
    """
    first = ChatsRequest(phone_number, limit)
    seen: list[Records] = []
    before: set[object] | None = None
    for _ in range(ATTEMPTS):
        result = yield from walk(first)
        records = concat_records(first.shape, result.found)
        seen.append(records)
        received = sum(page.received for page in result.found)
        if result.problem is not None or received != len(result.identities):
            before = None
        elif result.is_by_offset and result.identities != before:
            before = result.identities
        else:
            listed = distinct(with_repeats(records))
            return ChatList(listed, complete=all(lost.id is not None for lost in listed.rejected))
    seen[-1] = with_repeats(seen[-1])
    return ChatList(distinct(concat_records(first.shape, seen)), complete=False)
