"""The sandbox's worlds: seeded the same every time, and grown as time passes."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests

from linq_source.sandbox import (
    DEFAULT_TOKEN,
    Sandbox,
    World,
    grow,
    seeded_world,
)
from tests import processes
from tests.sandboxed import API, DAY_MS, sandbox, world

__all__ = ["sandbox", "world"]


def test_seeding_is_deterministic() -> None:
    assert seeded_world().snapshot() == seeded_world().snapshot()
    assert seeded_world(seed=8).snapshot() != seeded_world().snapshot()


@pytest.mark.parametrize(("chats", "messages"), [(0, 0), (1, 5), (3, 0), (4, 1), (12, 250)])
def test_a_seeded_world_has_the_size_asked_for(chats: int, messages: int) -> None:
    world = seeded_world(chats=chats, messages=messages)
    grow(world, seed=1)
    world = seeded_world(chats=chats, messages=messages)
    assert (len(world.chats), len(world.messages)) == (chats, messages)


def test_a_seeded_world_has_every_kind_of_thing() -> None:
    world = seeded_world()
    chats, messages = list(world.chats.values()), list(world.messages.values())
    reactions = [reaction for message in messages for reaction in message.reactions]
    keys = [chat.message_keys for chat in chats]
    assert len(world.phone_numbers) == 3
    assert any(len(chat.phone_number_ids) == 2 for chat in chats)
    assert {0, 1} <= {chat.message_count for chat in chats}
    assert {chat.group for chat in chats} == {True, False}
    assert {chat.service for chat in chats} == {"iMessage", "SMS", "RCS"}
    assert any("@" in handle.phone_number for chat in chats for handle in chat.handles)
    assert sum(bool(k) and k[-1][0] < world.now_ms - 30 * DAY_MS for k in keys) >= 3
    assert any(a[0] == b[0] for k in keys for a, b in pairwise(k))
    assert all(
        world.now_ms - 120 * DAY_MS <= message.sent_at_ms <= world.now_ms for message in messages
    )
    assert {m.delivery_status for m in messages} >= {"pending", "delivered", "service_unavailable"}
    assert {len(message.attachments) for message in messages} == {0, 1, 2, 3}
    assert {len(message.reactions) for message in messages} == {0, 1, 2, 3, 4, 5}
    assert len({reaction.reaction for reaction in reactions}) == 6
    assert {reaction.is_from_me for reaction in reactions} == {True, False}
    assert all(message.attachments for message in messages if message.text is None)
    assert any(message.text is None for message in messages)
    assert any(message.edited_at_ms for message in messages)
    assert any(len(message.text or "") >= 10_000 for message in messages)
    for piece in ("\n", '"', "\\", "\u200d", "مرحبا", "会議", "e\u0301"):
        assert any(piece in (message.text or "") for message in messages), repr(piece)


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_growth_counts_what_differs_between_snapshots(seed: int | None) -> None:
    world, twin = seeded_world(), seeded_world()
    for _ in range(3):
        old = world.snapshot()
        changes = grow(world, seed)
        assert grow(twin, seed) == changes
        assert twin.snapshot() == world.snapshot()
        new = world.snapshot()
        before = {message["id"]: message for message in old["messages"]}
        after = {message["id"]: message for message in new["messages"]}
        newest = {c.id: c.message_keys[-1][0] for c in world.chats.values() if c.message_keys}

        added = [after[key] for key in after.keys() - before.keys()]
        late = [message for message in added if message["sent_at_ms"] <= old["now_ms"]]
        gone = [before[key] for key in before.keys() - after.keys()]
        changed = [k for k in before.keys() & after.keys() if before[k] != after[k]]

        def differing(name: str, keys: list[int], a: Any = before, b: Any = after) -> int:
            return sum(a[key][name] != b[key][name] for key in keys)

        reactions_before = {r["id"] for m in old["messages"] for r in m["reactions"]}
        reactions_after = {r["id"] for m in new["messages"] for r in m["reactions"]}
        assert changes.advanced_ms == new["now_ms"] - old["now_ms"]
        assert changes.new_messages == len(added) - len(late)
        assert changes.late_messages == len(late) == 1
        assert changes.deleted_messages == len(gone) == 1
        assert changes.edited_messages == differing("text", changed) > 0
        assert changes.edited_messages == differing("edited_at_ms", changed)
        assert changes.deliveries == differing("delivery_status", changed)
        assert changes.reads == differing("is_read", changed)
        assert changes.new_reactions == len(reactions_after - reactions_before) > 0
        assert changes.removed_reactions == len(reactions_before - reactions_after) > 0
        assert changes.new_chats == len(new["chats"]) - len(old["chats"]) == 1
        for message in gone + [before[key] for key in changed]:
            assert message["sent_at_ms"] >= newest[message["chat_id"]] - 5 * DAY_MS
        for message in late:
            assert new["now_ms"] - 3 * DAY_MS <= message["sent_at_ms"]
            assert message["sent_at_ms"] < newest[message["chat_id"]]
        assert all(message["sent_at_ms"] <= new["now_ms"] for message in added)


def test_growth_over_http_is_the_same_growth(world: World, sandbox: Sandbox) -> None:
    before = world.snapshot()
    url = f"{sandbox.url}/sandbox/grow"
    assert requests.post(url, timeout=10).status_code == 401
    assert world.snapshot() == before
    headers = {"X-LINQ-INTEGRATION-TOKEN": DEFAULT_TOKEN}
    counts = requests.post(url, headers=headers, timeout=10).json()
    assert counts["new_messages"] + counts["late_messages"] - counts["deleted_messages"] == (
        len(world.messages) - len(before["messages"])
    )
    assert counts["advanced_ms"] == world.now_ms - before["now_ms"]


def test_the_command_serves_a_world_that_forgets(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["sandbox", "--port", str(port), "--keeps-hours", "24", "--chats", "5"]
    process = processes.start(command, tmp_path, os.environ)
    url, headers = f"http://127.0.0.1:{port}", {"X-LINQ-INTEGRATION-TOKEN": DEFAULT_TOKEN}

    def listed() -> dict[int, datetime]:
        """The messages of the only chat that all numbers' lists begin with, oldest first."""
        chats = get("chats", phone_number="+15550100001")
        messages = get(f"chats/{chats[0]['id']}/chat_messages", per_page=100)
        return {record["id"]: datetime.fromisoformat(record["sent_at"]) for record in messages}

    def get(path: str, **params: Any) -> list[dict[str, Any]]:
        answer = requests.get(f"{url}{API}/{path}", params, headers=headers, timeout=10)
        data: list[dict[str, Any]] = answer.json()["data"]
        return data

    try:
        for _ in range(600):
            with suppress(requests.ConnectionError):
                requests.get(url, timeout=10)
                break
            time.sleep(0.1)
        before = listed()
        for _ in range(13):
            requests.post(f"{url}/sandbox/grow", headers=headers, timeout=10)
        after = listed()
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait() == 0
    for found in (before, after):
        assert max(found.values()) - min(found.values()) <= timedelta(days=1)
    assert before
    assert not before.keys() & after.keys()
