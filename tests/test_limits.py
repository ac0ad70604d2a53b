"""`add_limit`: dlt closes a generator at one of its tables, and keeps the state."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from linq_source.extraction import row_buffer
from linq_source.sandbox import World
from tests.conftest import DAY_MS, NOW_MS, Loader

# A run gives out twelve tables here.
COUNTS = range(13)
SOME = (0, 2, 5, 9)


@pytest.fixture
def loader(serve: Callable[[World], Loader], monkeypatch: pytest.MonkeyPatch) -> Loader:
    """A loader that gives out its rows in several portions."""
    monkeypatch.setattr(row_buffer, "FLUSH_ROWS", 4)
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001")
    add_chat(world, 1)
    return serve(world)


def add_chat(world: World, chat_id: int) -> None:
    """A chat with something in each of its tables."""
    world.add_chat(display_name="as it was", chat_id=chat_id)
    for number in range(3):
        at_ms = NOW_MS - 5 * DAY_MS + number * 60_000
        message = world.add_message(chat_id, f"text {number}", sent_at_ms=at_ms)
        world.add_attachment(message.id)
        world.add_reaction(message.id, from_phone="+15550000009")


def run_limited(loader: Loader, count: int, *resources: str) -> None:
    source = loader.source(workers=1)
    if resources:
        source = source.with_resources(*resources)
    loader.pipeline.run(source.add_limit(count))


def change(world: World, before: bool) -> None:
    """Change what the chats held before this, or change it back."""
    for chat_id in list(world.chats)[:2]:
        world.chats[chat_id].display_name = "for a while" if before else "as it was"
        for message in world.messages_of(chat_id):
            world.mark_read(message.id, before)


@pytest.mark.parametrize(
    ("counts", "resources"),
    [
        (SOME, ()),
        ([count for count in COUNTS if count not in SOME], ()),
        ((1, 2, 5), ("chats",)),
        ((1, 2, 5), ("chat_messages",)),
    ],
    ids=str,
)
def test_what_was_not_taken_is_loaded_by_the_next_run(
    loader: Loader, counts: Iterable[int], resources: tuple[str, ...]
) -> None:
    """New chats, and what was changed back since: rows were loaded that no digest may hide."""
    for count in counts:
        add_chat(loader.world, 2 + count)
        change(loader.world, True)
        soon_deleted = loader.world.add_message(1, sent_at_ms=NOW_MS - 3_600_000 + count)
        run_limited(loader, count, *resources)
        change(loader.world, False)
        loader.world.delete_message(soon_deleted.id)
        loader.sync()
        loader.assert_equal_world()


def test_limits_in_a_row_end_in_the_world(loader: Loader) -> None:
    for chat_id in (2, 3):
        add_chat(loader.world, chat_id)
    for count in (1, 3, 7):
        run_limited(loader, count)
    loader.pipeline.run(loader.source())
    loader.settle()
    loader.assert_equal_world()
