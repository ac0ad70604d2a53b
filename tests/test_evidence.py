"""What proves a deletion, and what a gap, when answers, clocks, lines and disks are odd."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from linq_source.sandbox import Exchange, Fault, World
from tests.conftest import DAY_MS, HOUR_MS, NOW_MS, Loader

MINUTE_MS = 60_000


def world_of(chats: int = 1, *, keeps_ms: int | None = DAY_MS) -> World:
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001", keeps_ms=keeps_ms)
    for _ in range(chats):
        world.add_chat()
    return world


def deleted(loader: Loader) -> list[int]:
    rows = loader.query("SELECT id FROM chat_messages WHERE deleted_at IS NOT NULL ORDER BY 1")
    return [message_id for (message_id,) in rows]


def test_what_expires_while_a_run_lasts_was_not_deleted(serve: Callable[[World], Loader]) -> None:
    """The first chat lists a message that is forgotten before the second is read."""
    world = world_of(2)
    for chat_id, minutes in ((1, 70), (2, 80)):
        world.add_message(chat_id, sent_at_ms=NOW_MS - DAY_MS + minutes * MINUTE_MS)
        world.add_message(chat_id, sent_at_ms=NOW_MS - MINUTE_MS)
    loader = serve(world)
    loader.sync()
    world.advance(HOUR_MS)
    waited: list[int] = []

    def wait(exchange: Exchange) -> None:
        if exchange.chat_id == 2 and not waited:
            waited.append(world.advance(30 * MINUTE_MS))

    loader.sandbox.hooks.append(wait)
    for _ in range(2):
        loader.sync(workers=1)
        assert deleted(loader) == []


@pytest.mark.parametrize("is_new", [True, False])
def test_a_late_message_of_another_chat_is_no_proof(
    serve: Callable[[World], Loader], is_new: bool
) -> None:
    world = world_of(1 if is_new else 2)
    world.add_message(1, sent_at_ms=NOW_MS - DAY_MS + 30 * MINUTE_MS)
    world.add_message(1, sent_at_ms=NOW_MS - MINUTE_MS)
    loader = serve(world)
    loader.sync()
    world.advance(HOUR_MS)
    if is_new:
        world.add_chat()
    world.add_message(2, "arrived late", sent_at_ms=world.now_ms - 3 * DAY_MS)
    assert loader.sync().expired == 1
    assert deleted(loader) == []


@pytest.mark.parametrize("retention", ["auto", "forever"])
def test_records_that_tell_no_instant_delete_nothing(
    serve: Callable[[World], Loader], retention: str
) -> None:
    world = world_of(keeps_ms=None)
    for number in range(3):
        world.add_message(1, sent_at_ms=NOW_MS - 2 * DAY_MS + number)
    loader = serve(world)
    loader.sync()
    for message in world.messages.values():
        message.raw = f'{{"id":{message.id},"sent_at":1700000000,"text":"x"}}'
    report = loader.sync(retention=retention)
    assert (report.rejected, report.deleted, report.expired, report.exit_code) == (3, 0, 0, 3)
    rejected = loader.query("SELECT message_id FROM rejected_records ORDER BY 1")
    assert rejected == [(1,), (2,), (3,)]


def test_a_chat_that_vanished_from_a_line_that_lists_nothing_expired(
    serve: Callable[[World], Loader],
) -> None:
    world = world_of(keeps_ms=None)
    world.add_message(1, sent_at_ms=NOW_MS - 400 * DAY_MS)
    world.add_phone_number("+15550000002", keeps_ms=DAY_MS)
    world.add_chat(phone_number_ids=[2])
    world.add_message(2, sent_at_ms=NOW_MS - HOUR_MS)
    loader = serve(world)
    loader.sync()
    world.remove_chat(2)
    loader.sync()
    assert loader.query("SELECT id FROM chats WHERE expired_at IS NOT NULL") == [(2,)]


def test_the_chat_with_the_oldest_message_is_asked(serve: Callable[[World], Loader]) -> None:
    """A chat that has been silent for longer has younger ones."""
    world = world_of(3, keeps_ms=None)
    for chat_id, ages in ((1, (60, 41)), (2, (400, 20)), (3, (100, 1))):
        for days in ages:
            world.add_message(chat_id, sent_at_ms=NOW_MS - days * DAY_MS)
    loader = serve(world)
    loader.sync()
    world.delete_message(5)
    assert loader.sync().deleted == 1


def test_the_oldest_and_another_deleted_where_nothing_is_forgotten(
    serve: Callable[[World], Loader],
) -> None:
    world = world_of(keeps_ms=None)
    for days in range(60, 0, -5):
        world.add_message(1, sent_at_ms=NOW_MS - days * DAY_MS)
    loader = serve(world)
    loader.sync()
    world.delete_message(1)
    world.delete_message(5)
    assert loader.sync(retention="forever").deleted == 2
    assert deleted(loader) == [1, 5]


def test_gaps_are_entered_though_the_run_ends_in_an_outage(
    serve: Callable[[World], Loader],
) -> None:
    world = world_of(6)
    for chat_id in range(1, 7):
        world.add_message(chat_id, sent_at_ms=NOW_MS - MINUTE_MS)
    loader = serve(world)
    loader.sync()
    world.advance(41 * HOUR_MS)

    def refuse(exchange: Exchange) -> Fault | None:
        is_last = exchange.route == "chat_messages" and exchange.chat_id == 6
        return Fault(status=401) if is_last else None

    loader.sandbox.faults.append(refuse)
    assert (loader.sync(workers=1).gaps, loader.sync(workers=1).gaps) == (5, 0)
    loader.sandbox.faults.clear()
    assert loader.sync().gaps == 1


@pytest.mark.parametrize("odd", ["empty disk", "shards", "a number that fails", "chat_ids"])
def test_an_idle_organisation_that_is_read_hourly_has_no_gap(
    serve: Callable[[World], Loader], odd: str
) -> None:
    world = world_of(2)
    world.add_phone_number("+15550000002")
    for chat_id in (1, 2):
        world.add_message(chat_id, sent_at_ms=NOW_MS - MINUTE_MS)
    loader = serve(world)
    loader.sync()
    if odd == "a number that fails":
        loader.sandbox.faults.append(
            lambda exchange: (
                Fault(status=403) if "0002" in exchange.params.get("phone_number", "") else None
            )
        )
    for hours in (10, 12, 1, 1, 1):
        world.advance(hours * HOUR_MS)
        if odd == "empty disk":
            shutil.rmtree(loader.folder / "pipelines")
        if odd == "shards":
            reports = loader.sync_shards(2)
        else:
            reports = [loader.sync(chat_ids=[1, 2] if odd == "chat_ids" else None)]
        assert {report.gaps for report in reports} == {0}
