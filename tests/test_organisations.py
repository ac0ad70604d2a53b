"""One organisation's messages are not mixed with another's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from linq_source import ConfigurationError, settle, sync
from linq_source.sandbox import Exchange, Fault, Sandbox, World, grow, seeded_world
from tests.conftest import DAY_MS, NOW_MS, Loader


def world_of(number: str, chat_ids: range) -> World:
    """An organisation of one number, whose chats have a message each."""
    world = World(now_ms=NOW_MS)
    world.add_phone_number(number)
    for chat_id in chat_ids:
        world.add_chat(chat_id=chat_id)
        world.add_message(chat_id, number, sent_at_ms=NOW_MS - DAY_MS)
    return world


@pytest.fixture
def loader(serve: Callable[[World], Loader]) -> Loader:
    """A dataset with the twelve chats of an organisation."""
    loader = serve(world_of("+15550000001", range(1, 13)))
    loader.sync()
    return loader


@pytest.fixture
def turned(loader: Loader) -> Any:
    """The same pipeline and dataset, turned to the API of another world."""
    running: list[Sandbox] = []

    def turn(world: World) -> Loader:
        sandbox = Sandbox(world)
        sandbox.start()
        running.append(sandbox)
        return Loader(sandbox, loader.folder)

    yield turn
    for sandbox in running:
        sandbox.stop()


def rows_of(loader: Loader) -> list[list[tuple[Any, ...]]]:
    tables = ("chats", "chat_messages", "phone_numbers", "sync_windows", "sync_runs")
    return [loader.query(f"SELECT * FROM {table} ORDER BY ALL") for table in tables]


def test_another_organisation_is_refused_before_anything_is_written(
    loader: Loader, turned: Callable[[World], Loader]
) -> None:
    """Though its chats have the same ids."""
    before = rows_of(loader)
    other = turned(world_of("+15557654321", range(1, 13)))
    for options in ({}, {"start": "2026-01-01", "end": "2027-01-01"}, {"chat_ids": [3]}):
        with pytest.raises(ConfigurationError, match="--accept-organisation") as caught:
            other.sync(**options)
        assert "+1555" not in str(caught.value)
        assert "765" not in str(caught.value)
    with pytest.raises(PipelineStepFailed, match="accept_organisation=True"):
        other.pipeline.run(other.source())
    assert rows_of(loader) == before
    assert loader.sync().exit_code == 0


def test_another_organisation_is_loaded_when_it_is_accepted(
    loader: Loader, turned: Callable[[World], Loader]
) -> None:
    other = turned(world_of("+15557654321", range(101, 113)))
    assert other.sync(accept_organisation=True).messages == 12
    other.world.add_message(101, "more", sent_at_ms=NOW_MS - 1_000)
    assert other.sync().messages == 1
    # What was accepted is what the dataset is now.
    with pytest.raises(ConfigurationError, match="another organisation"):
        loader.sync()


def test_the_same_numbers_at_another_address_are_the_same_organisation(
    loader: Loader, turned: Callable[[World], Loader]
) -> None:
    """A proxy, or numbers that came and went, one at a time, written in another way."""
    world = world_of("+1 (555) 000-0001", range(1, 13))
    world.add_phone_number("+15550000002")
    other = turned(world)
    assert other.sync().exit_code == 0
    world.phone_numbers.pop(next(iter(world.phone_numbers)))
    for chat in world.chats.values():
        chat.phone_number_ids = list(world.phone_numbers)
    world.add_message(1, "more", sent_at_ms=NOW_MS - 1_000)
    assert (other.sync().exit_code, other.sync().messages) == (0, 0)
    assert other.query("SELECT count(*) FROM chat_messages") == [(13,)]


def test_chats_that_nearly_all_vanish_at_once_are_refused(
    loader: Loader, turned: Callable[[World], Loader]
) -> None:
    before = rows_of(loader)
    other = turned(world_of("+15550000001", range(8, 30)))
    with pytest.raises(ConfigurationError, match=r"7 of the 12 chats.*--accept-organisation"):
        other.sync()
    with pytest.raises(PipelineStepFailed, match="accept_organisation=True"):
        other.pipeline.run(other.source())
    assert rows_of(loader) == before
    assert other.sync(accept_organisation=True).exit_code == 0
    gone = loader.query("SELECT id FROM chats WHERE deleted_at IS NOT NULL ORDER BY 1")
    assert gone == [(chat_id,) for chat_id in range(1, 8)]
    assert other.sync().exit_code == 0


def test_half_of_the_chats_may_vanish(loader: Loader) -> None:
    for chat_id in range(1, 7):
        loader.world.remove_chat(chat_id)
    assert loader.sync().exit_code == 0


def test_a_listing_that_is_short_for_once_is_no_other_organisation(loader: Loader) -> None:
    empty = b'{"data":[],"meta":{"page":1,"total_pages":0,"total_count":0,"per_page":100}}'

    def shorten(exchange: Exchange) -> Fault | None:
        return Fault(status=200, body=empty) if exchange.route == "chats" else None

    loader.sandbox.faults.append(shorten)
    loader.sync()
    loader.sandbox.faults.clear()
    assert loader.sync().exit_code == 0
    loader.assert_equal_world()


def test_a_state_from_before_is_taken_over(
    loader: Loader, turned: Callable[[World], Loader]
) -> None:
    with loader.pipeline.managed_state(extract_state=True) as state:
        assert len(state["sources"]["linq"].pop("lines")) == 1
    loader.pipeline.normalize()
    loader.pipeline.load()
    loader.world.add_message(1, "more", sent_at_ms=NOW_MS - 1_000)
    assert loader.sync().exit_code == 0
    with pytest.raises(ConfigurationError, match="another organisation"):
        turned(world_of("+15557654321", range(1, 13))).sync()


def test_a_new_count_of_shards_knows_the_organisation_of_the_old(
    serve: Callable[[World], Loader], turned: Callable[[World], Loader], tmp_path: Path
) -> None:
    loader = serve(world_of("+15550000001", range(1, 13)))
    loader.sync_shards(2)
    other = turned(world_of("+15557654321", range(1, 13)))
    other.folder = loader.folder
    with pytest.raises(ConfigurationError, match="another organisation"):
        sync(other.open_shard("0/3", tmp_path), **other.arguments(shard="0/3"))
    # Another pipeline of the dataset may load another organisation.
    apart = Loader(other.sandbox, loader.folder, "apart")
    assert apart.sync().exit_code == 0
    assert settle(apart.pipeline) == 0


def test_another_seed_is_another_organisation(
    serve: Callable[[World], Loader], turned: Callable[[World], Loader]
) -> None:
    first = serve(seeded_world(chats=6, messages=40))
    first.sync()
    grow(first.world)
    assert first.sync().exit_code == 0
    second = turned(seeded_world(seed=8, chats=6, messages=40))
    second.folder = first.folder
    with pytest.raises(ConfigurationError, match="another organisation"):
        second.sync()


def test_an_api_that_forgot_most_chats_is_no_other_organisation(loader: Loader) -> None:
    for chat_id in range(1, 11):
        loader.world.remove_chat(chat_id)
    for message in list(loader.world.messages):
        loader.world.delete_message(message)
    loader.world.advance(2 * DAY_MS)
    loader.world.add_message(11, sent_at_ms=loader.world.now_ms - 1_000)
    assert loader.sync().exit_code in (0, 3)
    gone = "SELECT count(*) FILTER (deleted_at IS NOT NULL), count(expired_at) FROM chats"
    assert loader.query(gone) == [(0, 10)]
