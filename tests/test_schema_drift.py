"""Fields the API adds later arrive as columns in the same run, and later changes lose nothing."""

from __future__ import annotations

from typing import Any

import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from tests.conftest import DAY_MS, NOW_MS, Loader


@pytest.fixture
def ten(small: Loader) -> Loader:
    """Ten messages in one day, each with a reaction and an attachment; loaded."""
    for number in range(10):
        message = small.world.add_message(1, str(number), sent_at_ms=NOW_MS - DAY_MS + number)
        small.world.add_reaction(message.id, "love", from_phone="+15550000009")
        small.world.add_attachment(message.id, filename="f", mime_type="a/b", file_size=1)
    small.sync()
    return small


def extend(loader: Loader, number: int, **extra: Any) -> None:
    loader.world.messages_of(1)[number].extra.update(extra)


def column(loader: Loader, name: str, table: str = "chat_messages") -> list[Any]:
    key = "id" if table == "chat_messages" else "chat_message_id"
    return [row[0] for row in loader.query(f"SELECT {name} FROM {table} ORDER BY {key}")]


def types(loader: Loader, table: str, *names: str) -> list[str]:
    found = dict(
        loader.query(
            "SELECT column_name, data_type FROM information_schema.columns "
            f"WHERE table_schema = 'linq' AND table_name = '{table}'"
        )
    )
    return [found[name] for name in names]


def test_new_scalars_become_typed_columns_and_new_objects_json_text(ten: Loader) -> None:
    extend(ten, 2, priority=3, score=0.5, starred=True, label="x", due="2026-01-01T00:00:00Z")
    extend(ten, 3, origin={"app": "ios", "tags": [1, 2]}, history=[{"a": 1}])
    ten.sync()
    none = [None] * 7
    assert column(ten, "priority") == [None, None, 3, None, None, None, None, None, None, None]
    assert column(ten, "score")[2:] == [0.5, *none]
    assert column(ten, "starred")[2:] == [True, *none]
    assert column(ten, "label")[2:] == ["x", *none]
    assert column(ten, "due")[2:] == ["2026-01-01T00:00:00Z", *none]
    assert column(ten, "origin")[3] == '{"app":"ios","tags":[1,2]}'
    assert column(ten, "history")[3] == '[{"a":1}]'
    assert types(ten, "chat_messages", "priority", "score", "starred", "label", "origin") == [
        "BIGINT", "DOUBLE", "BOOLEAN", "VARCHAR", "VARCHAR",
    ]  # fmt: skip
    assert ten.sync().messages == 0


def test_new_fields_of_children_and_chats(ten: Loader) -> None:
    message = ten.world.messages_of(1)[4]
    message.reactions[0].extra.update(weight=2, source={"k": "v"})
    message.attachments[0].extra.update(width=640)
    ten.world.chats[1].extra.update(topic="sales", owner={"id": 1})
    ten.sync()
    assert column(ten, "weight", "chat_messages__reactions")[4] == 2
    assert column(ten, "source", "chat_messages__reactions")[4] == '{"k":"v"}'
    assert column(ten, "width", "chat_messages__attachments")[4] == 640
    assert ten.query("SELECT topic, owner FROM chats") == [("sales", '{"id":1}')]


def test_a_later_change_of_type_loses_nothing(ten: Loader) -> None:
    extend(ten, 0, level=1)
    ten.sync()
    extend(ten, 1, level="high")
    ten.sync()
    extend(ten, 2, level={"deep": True})
    extend(ten, 3, level=2.5)
    ten.sync()
    assert column(ten, "coalesce(level::VARCHAR, level__v_text)")[:4] == [
        "1", "high", '{"deep":true}', "2.5",
    ]  # fmt: skip


def test_a_field_with_two_types_in_one_page_loses_nothing(ten: Loader) -> None:
    extend(ten, 5, mixed=1)
    extend(ten, 6, mixed="two")
    extend(ten, 7, mixed={"three": 3})
    ten.sync()
    assert column(ten, "mixed")[5:8] == ["1", "two", '{"three":3}']


def test_a_field_named_like_a_column_of_ours_does_not_overwrite_it(ten: Loader) -> None:
    extend(ten, 0, chat_id=999, deleted_at="yesterday", synced_at=5)
    ten.sync()
    assert column(ten, "chat_id") == [1] * 10
    assert ten.query(
        "SELECT api_chat_id, api_deleted_at, api_synced_at FROM chat_messages ORDER BY id LIMIT 1"
    ) == [(999, "yesterday", 5)]


def test_a_frozen_schema_is_honoured_with_a_clear_error(ten: Loader) -> None:
    extend(ten, 0, surprise=1)
    source = ten.source()
    source.schema_contract = "freeze"
    with pytest.raises(PipelineStepFailed, match="surprise"):
        ten.pipeline.run(source)
    assert column(ten, "id") == list(range(1, 11))
