"""Counts close the books: additions and deletions of any age are found."""

from __future__ import annotations

import pytest

from linq_source.sandbox import Exchange, World
from tests.conftest import DAY_MS, HOUR_MS, NOW_MS, Loader


@pytest.fixture
def year(small: Loader) -> Loader:
    """A chat of two years, one message every two days, and a second, dormant chat; loaded."""
    world = small.world
    world.add_chat(display_name="Dormant", chat_id=2)
    for day in range(700, 0, -2):
        world.add_message(1, f"day {day}", sent_at_ms=NOW_MS - day * DAY_MS)
    for day in range(400, 380, -1):
        world.add_message(2, f"day {day}", sent_at_ms=NOW_MS - day * DAY_MS)
    small.sync()
    small.assert_equal_world()
    return small


def chat_requests(loader: Loader) -> list[dict[str, str]]:
    return [p for route, p in loader.requests_of(loader.sync) if route == "chat_messages"]


def test_a_message_a_year_late_is_settled_by_the_next_ordinary_run(year: Loader) -> None:
    year.world.add_message(1, "late", sent_at_ms=NOW_MS - 365 * DAY_MS + 5)
    requests = chat_requests(year)
    year.assert_equal_world()
    assert len(requests) < 12
    assert len(chat_requests(year)) == 1


def test_a_message_deleted_a_year_after_it_was_sent_is_settled(year: Loader) -> None:
    old = year.world.messages_of(1)[100]
    year.world.delete_message(old.id)
    year.sync()
    year.assert_equal_world()
    assert year.query("SELECT id FROM chat_messages WHERE deleted_at IS NOT NULL") == [(old.id,)]
    assert len(chat_requests(year)) == 1


def test_a_dormant_chat_costs_no_request_until_its_count_changes(year: Loader) -> None:
    assert len(chat_requests(year)) == 1
    year.world.add_message(2, "late", sent_at_ms=NOW_MS - 390 * DAY_MS + 5)
    report = year.sync()
    year.assert_equal_world()
    assert report.chats_skipped == 0
    assert year.sync().chats_skipped == 1


def test_additions_and_deletions_at_several_ages_at_once(year: Loader) -> None:
    messages = year.world.messages_of(1)
    for index in (0, 50, 120, 121, 300):
        year.world.delete_message(messages[index].id)
    for day in (699, 500, 333, 90, 11, 1000):
        year.world.add_message(1, "late", sent_at_ms=NOW_MS - day * DAY_MS + 7)
    year.sync()
    year.assert_equal_world()
    assert len(chat_requests(year)) == 1


@pytest.mark.parametrize("offset", [5, -3])
def test_an_api_that_counts_otherwise_costs_small_requests_and_one_re_reading(
    small: Loader, offset: int
) -> None:
    world = small.world
    for day in range(60, 0, -1):
        world.add_message(1, f"day {day}", sent_at_ms=NOW_MS - day * DAY_MS)
    world.chats[1].count_offset = offset
    # Where more is counted than listed, something may be missing; where less is, nothing can be.
    reported = 3 if offset > 0 else 0
    assert small.sync().exit_code == reported
    small.assert_equal_world()
    asked = ["100", "1", "1"] if offset > 0 else ["100", "1"]
    for _ in range(2):
        assert [p["per_page"] for p in chat_requests(small)] == asked
        assert small.sync().exit_code == reported
    world.advance(7 * HOUR_MS)
    # It was the same for hours: this is how the API counts. What a list gave that seemed to lag
    # proved nothing, so it is read once more.
    once_more = ["100"] if offset > 0 else []
    assert [p["per_page"] for p in chat_requests(small)] == asked + once_more
    assert [p["per_page"] for p in chat_requests(small)] == ["100"]
    assert small.sync().exit_code == 0
    world.advance(10 * DAY_MS)
    assert [p["per_page"] for p in chat_requests(small)] == ["100", "1"]
    assert chat_requests(small) == []
    world.advance(HOUR_MS)
    world.add_message(1, "again", sent_at_ms=world.now_ms - 60_000)
    assert [p["per_page"] for p in chat_requests(small)] == ["100"]
    small.assert_equal_world()
    assert small.query("SELECT count(*) FROM chat_messages") == [(61,)]


def test_a_message_sent_between_bound_and_listing_is_loaded_at_once(
    small: Loader,
) -> None:
    world = small.world
    for day in range(20, 0, -1):
        world.add_message(1, f"day {day}", sent_at_ms=NOW_MS - day * DAY_MS)
    # Sent within the second that the Date header cuts off: listed, but not before the bound.
    world.now_ms = NOW_MS + 700
    world.add_message(1, "in the last second", sent_at_ms=NOW_MS + 500)
    assert small.sync().exit_code == 0
    small.assert_equal_world()
    world.advance(30 * DAY_MS)
    small.sync()
    small.assert_equal_world()
    assert small.sync().messages == 0


def test_what_lies_before_start_is_counted_once_and_never_loaded(small: Loader) -> None:
    world = small.world
    for day in range(60, 0, -1):
        world.add_message(1, f"day {day}", sent_at_ms=NOW_MS - day * DAY_MS)
    start = "2026-01-17T00:00:00Z"
    small.sync(start=start)
    loaded = small.query("SELECT count(*) FROM chat_messages")
    requests = [p for r, p in small.requests_of(lambda: small.sync(start=start)) if "page" in p]
    assert len([p for p in requests if "before" in p]) == 1
    world.add_message(1, "before the start", sent_at_ms=NOW_MS - 59 * DAY_MS)
    small.sync(start=start)
    assert small.query("SELECT count(*) FROM chat_messages") == loaded
    world.add_message(1, "after the start", sent_at_ms=NOW_MS - 20 * DAY_MS + 3)
    small.sync(start=start)
    assert small.query("SELECT count(*) FROM chat_messages") == [(loaded[0][0] + 1,)]


def test_an_empty_chat_is_loaded_when_its_first_message_comes(small: Loader) -> None:
    small.sync()
    assert small.sync().windows == 0
    small.world.add_message(1, "first", sent_at_ms=NOW_MS - 90 * DAY_MS)
    small.sync()
    small.assert_equal_world()


def test_deep_audit_finds_nothing_to_do_when_all_agree(year: Loader) -> None:
    report = year.audit(deep=True)
    assert (report.differences, report.repair) == ((), None)
    assert report.messages == 370


def test_world_of_another_number_is_not_mistaken_for_vanished(small: Loader) -> None:
    world: World = small.world
    other = world.add_phone_number("+15550000002")
    world.add_chat(display_name="Other", chat_id=5, phone_number_ids=[other.id])
    world.add_message(5, "hello")
    small.sync()
    small.sync(phone_numbers=["+15550000001"])
    assert small.query("SELECT id FROM chats WHERE deleted_at IS NOT NULL") == []


def test_a_known_difference_of_the_listing_hides_no_change(small: Loader) -> None:
    world = small.world
    for day in range(60, 0, -1):
        world.add_message(1, f"day {day}", sent_at_ms=NOW_MS - day * DAY_MS)
    world.chats[1].count_offset = -1
    small.sync()
    world.advance(7 * HOUR_MS)
    small.sync()
    world.add_message(1, "late", sent_at_ms=NOW_MS - 50 * DAY_MS + 5)
    small.sync()
    small.assert_equal_world()


def test_a_message_that_slips_in_while_the_older_are_read_again(small: Loader) -> None:
    world = small.world
    for day in range(60, 0, -1):
        world.add_message(1, f"day {day}", sent_at_ms=NOW_MS - day * DAY_MS)
    small.sync()
    world.delete_message(world.messages_of(1)[5].id)
    seen = 0

    def hook(exchange: Exchange) -> None:
        nonlocal seen
        seen += exchange.route == "chat_messages"
        if seen == 4 and exchange.params.get("per_page") == "1":
            world.add_message(1, "slipped in", sent_at_ms=NOW_MS - 55 * DAY_MS + 9)

    small.sandbox.hooks.append(hook)
    small.sync()
    small.sandbox.hooks.clear()
    small.sync()
    small.sync()
    small.assert_equal_world()
    assert small.sync().requests == 3


def test_nothing_is_loaded_twice_when_the_older_are_read_again(small: Loader) -> None:
    world = small.world
    for day in range(30, 0, -1):
        message = world.add_message(1, f"day {day}", sent_at_ms=NOW_MS - day * DAY_MS)
        world.add_reaction(message.id, "love", from_phone="+15550000009")
    small.sync()
    world.advance(6 * DAY_MS)
    world.delete_message(world.messages_of(1)[2].id)
    world.add_message(1, "new", sent_at_ms=world.now_ms - HOUR_MS)
    world.add_reaction(world.messages_of(1)[25].id, "laugh", from_phone="+15550000009")
    small.sync()
    small.assert_equal_world()
