"""Walks through lists of API v3: what is verified holds everything that was there throughout."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linq_source.instants import DAY_US, SECOND_US, format_iso
from linq_source.planning.requests_v3 import ChatsRequest, MessagesRequest
from linq_source.planning.walk_v3 import (
    SLACK_US,
    ListRead,
    WalkGoal,
    read_chats,
    read_messages,
    walk,
)
from linq_source.planning.windows import Page

pytestmark = pytest.mark.quick

CHAT = "00000002-0000-4000-8000-000000000001"
BOUND_US = 20_000 * DAY_US
MINUTE_US = 60 * SECOND_US


def uuid(number: int) -> str:
    return f"00000005-0000-4000-8000-{number:012x}"


@dataclass
class Lists:
    """A server of one list of messages: number and instant, in the order of the list."""

    messages: list[tuple[int, int]]
    by_offset: bool = False
    is_falling: bool = True
    late: frozenset[int] = frozenset()
    requests: int = 0
    # Called before each request with its number.
    change: Callable[[int, Lists], None] = field(default=lambda number, lists: None)
    answer: Callable[[MessagesRequest, Page], Page] = field(default=lambda request, page: page)

    def serve(self, request: MessagesRequest) -> Page:
        self.change(self.requests, self)
        self.requests += 1
        ordered = sorted(self.messages, key=lambda m: (m[1], m[0]), reverse=self.is_falling)
        first = 0
        if request.cursor is not None and self.by_offset:
            first = int(request.cursor)
        elif request.cursor is not None:
            key = tuple(json.loads(request.cursor))
            places = [(at_us, number) for number, at_us in ordered]
            is_after = [p < key if self.is_falling else p > key for p in places]
            first = is_after.index(True) if True in is_after else len(ordered)
        found = ordered[first : first + request.limit]
        following = None
        if first + request.limit < len(ordered):
            number, at_us = found[-1]
            following = (
                str(first + request.limit) if self.by_offset else json.dumps([at_us, number])
            )
        records = [self._record(number, at_us) for number, at_us in found]
        body = json.dumps({"messages": records, "next_cursor": following}).encode()
        return self.answer(request, request.read(body))

    def _record(self, number: int, at_us: int) -> dict[str, Any]:
        at = format_iso(at_us)
        record = {"id": uuid(number), "chat_id": CHAT, "created_at": at, "sent_at": at}
        if number in self.late:
            record["reconciled_at"] = format_iso(BOUND_US - DAY_US)
        return record

    def read(self, goal: WalkGoal, limit: int = 3) -> ListRead:
        listed: ListRead = drive(read_messages(MessagesRequest(CHAT, limit), goal), self.serve)
        return listed


def drive(asking: Any, serve: Callable[[Any], Page]) -> Any:
    ask = next(asking)
    while True:
        try:
            ask = asking.send([serve(request) for request in ask.requests])
        except StopIteration as end:
            return end.value


def ids_of(listed: ListRead) -> list[str]:
    return sorted(set(listed.records.root["id"].to_pylist()))


def hourly(count: int) -> list[tuple[int, int]]:
    """So many messages, one every three hours, the newest an hour before the bound."""
    return [(n, BOUND_US - SLACK_US - 3 * n * SLACK_US) for n in range(count)]


ALL = WalkGoal(None, BOUND_US)


@pytest.mark.parametrize("by_offset", [False, True])
@pytest.mark.parametrize("is_falling", [False, True])
def test_a_quiet_list_is_verified_whole(by_offset: bool, is_falling: bool) -> None:
    lists = Lists(hourly(10), by_offset, is_falling)
    listed = lists.read(ALL)
    assert (listed.problem, listed.is_whole) == (None, True)
    assert ids_of(listed) == [uuid(n) for n in range(10)]
    # Four pages and the head again; over offsets twice.
    assert lists.requests == (10 if by_offset else 5)


def test_one_page_is_one_request() -> None:
    lists = Lists(hourly(3))
    assert lists.read(ALL).problem is None
    assert lists.requests == 1


def test_a_falling_list_is_left_when_all_that_follows_is_older() -> None:
    lists = Lists(hourly(100))
    newest_us = BOUND_US - SLACK_US
    wanted = WalkGoal(BOUND_US - 10 * SLACK_US, BOUND_US, newest_us, newest_us, 3)
    listed = lists.read(wanted)
    # Four of the first, ten older ones in a row, and the head again.
    assert (listed.problem, listed.is_whole, lists.requests) == (None, False, 6)
    assert ids_of(listed) == [uuid(n) for n in range(15)]


def test_a_rising_list_is_read_to_its_end() -> None:
    lists = Lists(hourly(100), is_falling=False)
    newest_us = BOUND_US - SLACK_US
    wanted = WalkGoal(BOUND_US - 10 * SLACK_US, BOUND_US, newest_us, newest_us, 3)
    listed = lists.read(wanted, 10)
    assert (listed.problem, listed.is_whole) == (None, True)
    assert len(ids_of(listed)) == 100


def test_a_rising_list_that_begins_with_a_burst_is_read_to_its_end() -> None:
    burst = [(n, BOUND_US - 90 * DAY_US + n * MINUTE_US) for n in range(100, 140)]
    lists = Lists([*hourly(10), *burst], is_falling=False)
    listed = lists.read(WalkGoal(BOUND_US - 10 * DAY_US, BOUND_US), 10)
    assert (listed.problem, listed.is_whole) == (None, True)
    assert len(ids_of(listed)) == 50


def test_a_late_message_at_the_head_does_not_hide_the_order() -> None:
    messages = [*hourly(50), (90, BOUND_US - 10 * DAY_US)]
    lists = Lists(messages, late=frozenset({90}))
    start_us = BOUND_US - 20 * SLACK_US
    newest_us = BOUND_US - SLACK_US
    listed = lists.read(WalkGoal(start_us, BOUND_US, newest_us, newest_us, 7))
    assert (listed.problem, listed.is_whole) == (None, False)


def test_a_message_deleted_while_an_offset_walk_is_under_way_hides_no_other() -> None:
    def change(number: int, lists: Lists) -> None:
        if number == 1:
            lists.messages = [m for m in lists.messages if m[0] != 0]

    lists = Lists(hourly(10), by_offset=True, change=change)
    listed = lists.read(ALL)
    assert listed.problem is None
    assert set(ids_of(listed)) == {uuid(n) for n in range(1, 10)}


def test_fewer_than_known_must_be_said_twice() -> None:
    """An answer that is short once proves nothing; one that is the same again does."""
    once = Lists(hourly(3))
    whole = once.messages

    def change(number: int, lists: Lists) -> None:
        lists.messages = whole[:1] if number == 0 else whole

    once.change = change
    known = WalkGoal(None, BOUND_US, newest_us=BOUND_US - SLACK_US, known=3)
    listed = once.read(known)
    assert (listed.problem, listed.attempts) == (None, 2)
    assert len(ids_of(listed)) == 3
    always = Lists(whole[:1])
    listed = always.read(known)
    assert (listed.problem, always.requests, len(ids_of(listed))) == (None, 2, 1)


def test_a_cursor_that_comes_twice_ends_the_walk() -> None:
    lists = Lists(hourly(20), answer=lambda request, page: replace(page, next_cursor="same"))
    lists.serve(MessagesRequest(CHAT, 3))

    def serve(request: MessagesRequest) -> Page:
        return lists.serve(replace(request, cursor=None))

    result = drive(walk(MessagesRequest(CHAT, 3), ALL), serve)
    assert (result.problem, result.pages) == ("the API gave the same cursor twice", 2)


def test_cursors_without_end_that_bring_nothing_new_end_the_walk() -> None:
    lists = Lists(hourly(20))
    count = 0

    def serve(request: MessagesRequest) -> Page:
        nonlocal count
        count += 1
        return replace(lists.serve(replace(request, cursor=None)), next_cursor=f"c{count}")

    listed = drive(read_messages(MessagesRequest(CHAT, 3), ALL), serve)
    assert listed.problem == "3 pages brought nothing new, and the list did not end"
    assert count == 16


def test_a_refused_cursor_has_the_list_walked_again_from_its_head() -> None:
    lists = Lists(hourly(7))
    refused: list[MessagesRequest] = []

    def serve(request: MessagesRequest) -> Page:
        if request.cursor is not None and not refused:
            refused.append(request)
            return Page(b"", is_refused=True)
        return lists.serve(request)

    listed = drive(read_messages(MessagesRequest(CHAT, 3), ALL), serve)
    assert (listed.problem, listed.attempts, len(ids_of(listed))) == (None, 2, 7)


changes = st.lists(
    st.tuples(
        st.integers(0, 12),
        st.one_of(
            st.tuples(st.just("delete"), st.integers(0, 30)),
            st.tuples(st.just("send"), st.integers(100, 110)),
            st.tuples(st.just("late"), st.integers(200, 210)),
        ),
    ),
    max_size=4,
)


@settings(max_examples=60)
@given(
    count=st.integers(0, 30),
    limit=st.integers(1, 7),
    by_offset=st.booleans(),
    is_falling=st.booleans(),
    start_hours=st.one_of(st.none(), st.integers(0, 120)),
    found=changes,
    is_known=st.booleans(),
)
def test_what_is_verified_holds_all_that_was_there_throughout(
    count: int,
    limit: int,
    by_offset: bool,
    is_falling: bool,
    start_hours: int | None,
    found: list[tuple[int, tuple[str, int]]],
    is_known: bool,
) -> None:
    messages = hourly(count)
    throughout = {n for n, _ in messages} - {n for _, (what, n) in found if what == "delete"}

    def change(number: int, lists: Lists) -> None:
        for at, (what, which) in found:
            if at == number and what == "delete":
                lists.messages = [m for m in lists.messages if m[0] != which]
            elif at == number and what == "send":
                lists.messages.append((which, BOUND_US + which * SECOND_US))
            elif at == number:
                lists.messages.append((which, BOUND_US - (which - 200) * 7 * SLACK_US))

    start_us = None if start_hours is None else BOUND_US - start_hours * SLACK_US
    newest_us = messages[0][1] if messages and is_known else None
    lists = Lists(list(messages), by_offset, is_falling, change=change)
    listed = lists.read(WalkGoal(start_us, BOUND_US, newest_us, newest_us), limit)
    wanted = {uuid(n) for n, at in messages if n in throughout and at >= (start_us or 0)}
    if listed.problem is None:
        assert wanted <= set(ids_of(listed))
    assert lists.requests < 200


def test_chats_are_all_listed_or_the_list_is_not_complete() -> None:
    chats = [f"00000002-0000-4000-8000-{n:012x}" for n in range(7)]

    def serve(request: ChatsRequest) -> Page:
        first = int(request.cursor or 0)
        records = [{"id": chat, "updated_at": "2026-10-04T10:00:00Z"} for chat in chats]
        following = first + request.limit
        body = {"chats": records[first:following], "next_cursor": str(following)}
        if following >= len(chats):
            del body["next_cursor"]
        return request.read(json.dumps(body).encode())

    listed = drive(read_chats("+15550000001", 3), serve)
    assert listed.complete
    assert list(listed.marks) == chats
    assert set(listed.marks.values()) == {1_791_108_000_000_000}
