"""Lists of API v3 that are not as one would wish: nothing is lost, and nothing live is deleted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from linq_source import forget
from linq_source.sandbox import Exchange, Fault, World
from linq_source.sandbox.answers_v3 import answer_to
from linq_source.sandbox.rendering import instant_text
from tests.conftest import DAY_MS, HOUR_MS, NOW_MS, Loader

Serve = Callable[[World], Loader]


def world_of(chats: int = 1) -> World:
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001")
    for _ in range(chats):
        world.add_chat()
    return world


def deleted(loader: Loader) -> int:
    ((count,),) = loader.query("SELECT count(deleted_at) FROM chat_messages")
    return int(count)


def test_a_message_sent_in_the_second_of_the_listing_arrives(serve_v3: Serve) -> None:
    """In a quiet chat and in a new one, whose `updated_at` was told with it."""
    world = world_of(2)
    world.add_message(1, "old", sent_at_ms=NOW_MS - 30 * DAY_MS)
    loader = serve_v3(world)
    loader.sync(recheck_share=0.0)
    world.advance(HOUR_MS + 700)
    world.add_message(1, "in a quiet chat", sent_at_ms=world.now_ms - 200)
    world.add_chat()
    world.add_message(3, "in a new chat", sent_at_ms=world.now_ms - 200)
    loader.sync(recheck_share=0.0)
    world.advance(HOUR_MS)
    loader.sync(recheck_share=0.0)
    loader.assert_equal_world()


def test_a_list_that_lags_behind_updated_at_is_read_again(serve_v3: Serve) -> None:
    world = world_of()
    world.add_message(1, "old", sent_at_ms=NOW_MS - 30 * DAY_MS)
    loader = serve_v3(world)
    loader.sync(recheck_share=0.0)
    before = world.copy()
    world.advance(HOUR_MS)
    world.add_message(1, "new", sent_at_ms=world.now_ms - 60_000)
    lag = {"chat_messages": before}
    loader.sandbox.views.append(lambda exchange: lag.get(exchange.route))
    loader.sync(recheck_share=0.0)
    lag.clear()
    world.advance(HOUR_MS)
    loader.sync(recheck_share=0.0)
    loader.assert_equal_world()


def test_one_short_answer_while_all_is_read_again_deletes_nothing(serve_v3: Serve) -> None:
    world = world_of(2)
    for number in range(300):
        world.add_message(1, f"{number}", sent_at_ms=NOW_MS - HOUR_MS - number * 2 * HOUR_MS)
    world.add_message(2, "older", sent_at_ms=NOW_MS - 100 * DAY_MS)
    loader = serve_v3(world)
    loader.sync()
    world.advance(31 * DAY_MS)
    loader.sync(recheck_share=0.0)
    world.advance(DAY_MS)
    short = iter([True])

    def fault(exchange: Exchange) -> Fault | None:
        if exchange.route == "chat_messages" and "cursor" in exchange.params and next(short, False):
            return Fault(status=200, body=b'{"messages":[],"next_cursor":null}')
        return None

    loader.sandbox.faults.append(fault)
    assert loader.sync(recheck_share=1.0).exit_code == 0
    assert next(short, None) is None
    assert deleted(loader) == 0
    loader.assert_equal_world()


def test_failed_messages_that_stand_first_hide_nothing(serve_v3: Serve) -> None:
    """They have no `sent_at`, which a list in its order may put before all others."""
    world = world_of()
    for number in range(12):
        world.add_message(1, f"{number}", sent_at_ms=NOW_MS - (60 + number) * DAY_MS)
    for number in range(15):
        created_ms = NOW_MS - HOUR_MS - number * DAY_MS
        failed = world.add_message(1, "failed", sent_at_ms=created_ms + 1000 * DAY_MS)
        failed.extra |= {"sent_at": None, "created_at": instant_text(created_ms)}
    loader = serve_v3(world)
    loader.sync(page_size=10)
    for number in range(3):
        world.advance(6 * HOUR_MS)
        world.add_message(1, f"new {number}", sent_at_ms=world.now_ms - HOUR_MS)
        assert loader.sync(page_size=10).exit_code == 0
    found = loader.query("SELECT text FROM chat_messages WHERE text LIKE 'new%' ORDER BY text")
    assert found == [("new 0",), ("new 1",), ("new 2",)]
    assert deleted(loader) == 0


def test_a_message_made_long_before_it_was_sent_ends_no_walk(serve_v3: Serve) -> None:
    world = world_of()
    for number in range(40):
        world.add_message(1, f"{number}", sent_at_ms=NOW_MS - HOUR_MS - number * 2 * HOUR_MS)
    for number in range(3):
        world.add_message(1, f"old {number}", sent_at_ms=NOW_MS - (90 + number) * DAY_MS)
    loader = serve_v3(world)
    loader.sync(page_size=10)
    scheduled = world.add_message(1, "scheduled", sent_at_ms=NOW_MS - 30 * 60_000)
    scheduled.extra["created_at"] = instant_text(NOW_MS - 30 * DAY_MS)
    # It is the last one on its page.
    for number in range(9):
        world.add_message(1, f"new {number}", sent_at_ms=NOW_MS - 20 * 60_000 + number * 1000)
    world.advance(HOUR_MS)
    assert loader.sync(page_size=10).exit_code == 0
    assert deleted(loader) == 0
    assert loader.query("SELECT count(*) FROM chat_messages WHERE text LIKE 'new%'") == [(9,)]


@pytest.mark.long
def test_the_same_where_history_begins_later(serve_v3: Serve) -> None:
    world = world_of()
    scheduled = world.add_message(1, "scheduled", sent_at_ms=NOW_MS - 30 * 60_000)
    scheduled.extra["created_at"] = instant_text(NOW_MS - 30 * DAY_MS)
    for number in range(9):
        world.add_message(1, f"new {number}", sent_at_ms=NOW_MS - 20 * 60_000 + number * 1000)
    for number in range(40):
        world.add_message(1, f"{number}", sent_at_ms=NOW_MS - HOUR_MS - number * 2 * HOUR_MS)
    loader = serve_v3(world)
    start = datetime.fromtimestamp((NOW_MS - 20 * DAY_MS) / 1000, UTC)
    assert loader.sync(page_size=10, start=start).messages == 49


def test_a_recovered_message_at_the_head_leaves_its_chat_verified(serve_v3: Serve) -> None:
    world = world_of()
    for number in range(60):
        world.add_message(1, f"{number}", sent_at_ms=NOW_MS - HOUR_MS - number * 2 * HOUR_MS)
    recovered = world.add_message(1, "recovered", sent_at_ms=NOW_MS - 30 * 60_000)
    recovered.extra["created_at"] = instant_text(NOW_MS - 3 * DAY_MS - 60_000)
    recovered.extra["reconciled_at"] = instant_text(NOW_MS - 30 * 60_000)
    loader = serve_v3(world)
    for _ in range(2):
        assert loader.sync(page_size=20).exit_code == 0
        world.advance(HOUR_MS)
    assert loader.query("SELECT count(*) FROM chat_messages") == [(61,)]
    assert loader.audit().exit_code == 0


def test_empty_pages_in_between_are_walked_over(serve_v3: Serve) -> None:
    """As of a server that leaves out what was deleted after it cut the pages."""
    world = world_of()
    for number in range(60):
        world.add_message(1, f"{number}", sent_at_ms=NOW_MS - HOUR_MS - number * 2 * HOUR_MS)
    loader = serve_v3(world)

    def fault(exchange: Exchange) -> Fault | None:
        cursor = exchange.params.get("cursor", "")
        if exchange.route != "chat_messages" or not cursor:
            return None
        count, _, own = cursor.rpartition("-")
        if count != "5":
            page = {"messages": [], "next_cursor": f"{int(count or 0) + 1}-{own}"}
            return Fault(status=200, body=json.dumps(page).encode())
        asked = replace(exchange, params={**exchange.params, "cursor": own})
        answer = answer_to(
            asked, world, max_per_page=100, cursors="keyset", newest_first=True, files_url=None
        )
        return Fault(status=200, body=answer.body)

    loader.sandbox.faults.append(fault)
    report = loader.sync(page_size=20)
    assert (report.exit_code, report.messages) == (0, 60)


def test_after_the_newest_was_deleted_a_run_costs_no_more(serve_v3: Serve) -> None:
    world = world_of()
    for number in range(600):
        world.add_message(1, f"{number}", sent_at_ms=NOW_MS - HOUR_MS - number * 3 * HOUR_MS)
    loader = serve_v3(world)
    loader.sync(page_size=50)

    def pages() -> int:
        world.advance(HOUR_MS)
        requests = loader.requests_of(lambda: loader.sync(page_size=50))
        return sum(route == "chat_messages" for route, _ in requests)

    before = pages()
    world.delete_message(world.messages_of(1)[-1].id)
    pages()
    assert pages() == before
    assert deleted(loader) == 1


@pytest.mark.parametrize("api", ["v2", "v3"])
def test_a_forgotten_number_does_not_come_back_in_a_new_field(serve: Serve, api: str) -> None:
    number = "+15557654321"
    world = world_of(0)
    chat = world.add_chat(group=True)
    world.add_handle(chat.id, number)
    message = world.add_message(chat.id, "text", sent_from="+15550000777", sent_at_ms=NOW_MS - 9)
    message.extra["new_field"] = f"from {number}"
    loader = serve(world)
    loader.api = api
    loader.sync()
    assert loader.query("SELECT new_field FROM chat_messages") == [(f"from {number}",)]
    forget(loader.pipeline, phone_numbers=[number])
    world.edit_message(message.id, "edited")
    world.advance(HOUR_MS)
    loader.sync()
    assert loader.query("SELECT text, new_field FROM chat_messages") == [("edited", None)]
