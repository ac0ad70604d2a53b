"""Eight chats with twelve messages each, and pipelines that load them beside each other."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from linq_source import (
    Report,
)
from linq_source.sandbox import World
from linq_source.sandbox.world import Message
from tests.conftest import DAY_MS, HOUR_MS, NOW_MS, Loader
from tests.destinations import KINDS

CHATS = 8
PER_CHAT = 12


@pytest.fixture
def loader(serve: Callable[[World], Loader]) -> Loader:
    """A loader of eight chats with twelve messages each, four days apart."""
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001")
    for chat_id in range(1, CHATS + 1):
        world.add_chat(display_name=f"Chat {chat_id}", chat_id=chat_id)
        for age in range(PER_CHAT):
            at_ms = NOW_MS - age * 4 * DAY_MS - HOUR_MS
            message = world.add_message(chat_id, f"m{age}", sent_at_ms=at_ms)
            world.add_reaction(message.id, "love", from_phone="+15550000009")
    return serve(world)


@pytest.fixture
def placed(request: pytest.FixtureRequest, loader: Loader, tmp_path: Path) -> Iterator[Loader]:
    """The same into a kind of destination."""
    with KINDS[request.param](tmp_path / "place") as place:
        (tmp_path / "place").mkdir(exist_ok=True)
        loader.place = place
        yield loader


def restore(world: World, message: Message) -> None:
    """A deleted message comes back as it was."""
    world.messages[message.id] = message
    insort(world.chats[message.chat_id].message_keys, (message.sent_at_ms, message.id))


def newest(loader: Loader, chat_id: int) -> int:
    return loader.world.messages_of(chat_id)[-1].id


def messages_of(reports: list[Report]) -> int:
    return sum(report.messages for report in reports)


def other_pipeline(loader: Loader, name: str = "other") -> Loader:
    folder = loader.folder / name
    folder.mkdir(exist_ok=True)
    place = loader._place
    return Loader(loader.sandbox, folder, name, place)
