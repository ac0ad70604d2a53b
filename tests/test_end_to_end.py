"""The main job: what is in the world arrives, then only what changed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dlt
import pytest

from linq_source import linq_source
from linq_source.sandbox import DEFAULT_TOKEN, Sandbox, World, grow
from linq_source.tables import TABLES
from tests.conftest import NOW_MS, Loader
from tests.truth import query, world_tables

EXAMPLE = Path(__file__).parent / "data" / "chat_messages_example.json"


@pytest.mark.quick
def test_tables_equal_the_world_row_by_row(seeded: Loader) -> None:
    report = seeded.sync()
    seeded.assert_equal_world()
    tables = world_tables(seeded.world)
    assert report.messages == len(tables["chat_messages"]) == 700
    assert report.attachments == len(tables["chat_messages__attachments"])
    assert report.reactions == len(tables["chat_messages__reactions"])
    assert (report.chats, report.chats_skipped, report.chats_failed) == (16, 0, ())
    assert (report.rejected, report.deleted, report.windows_unverified) == (0, 0, 0)
    assert report.exit_code == 0
    assert report.requests == len(seeded.sandbox.requests_log)


@pytest.mark.quick
def test_second_run_loads_only_changed_days_and_third_changes_no_row(seeded: Loader) -> None:
    seeded.sync()
    changes = grow(seeded.world)
    second = seeded.sync()
    seeded.assert_equal_world()
    assert second.deleted == changes.deleted_messages == 1
    assert 0 < second.messages < 350
    before = _all_rows(seeded)
    third = seeded.sync()
    assert (third.messages, third.windows, third.deleted) == (0, 0, 0)
    assert _all_rows(seeded) == before


def test_plain_pipeline_run_and_settle_give_the_same_tables(seeded: Loader) -> None:
    pipeline = seeded.pipeline
    pipeline.run(seeded.source())
    grow(seeded.world)
    pipeline.run(seeded.source())
    assert seeded.settle() == 1
    assert seeded.settle() == 0
    seeded.assert_equal_world()


def test_one_source_object_can_run_twice(seeded: Loader) -> None:
    source = seeded.source()
    pipeline = seeded.pipeline
    pipeline.run(source)
    grow(seeded.world)
    pipeline.run(source)
    seeded.settle()
    seeded.assert_equal_world()


def test_chats_alone(seeded: Loader) -> None:
    requests = seeded.requests_of(
        lambda: seeded.pipeline.run(seeded.source().with_resources("chats"))
    )
    assert {route for route, _ in requests} == {"phone_numbers", "chats"}
    expected = world_tables(seeded.world)
    loaded = seeded.query("SELECT id, display_name, message_count FROM chats ORDER BY id")
    assert loaded == [
        (chat["id"], chat["display_name"], chat["message_count"])
        for chat in sorted(expected["chats"], key=lambda chat: chat["id"])
    ]
    handles = seeded.query("SELECT count(*) FROM chats__chat_handles")
    assert handles == [(len(expected["chats__chat_handles"]),)]


def test_a_chat_that_several_numbers_see_is_read_once(seeded: Loader) -> None:
    shared = [c for c in seeded.world.chats.values() if len(c.phone_number_ids) > 1]
    assert shared
    requests = seeded.requests_of(seeded.sync)
    asked = [params for route, params in requests if route == "chat_messages"]
    firsts = [params for params in asked if params["page"] == "1"]
    assert len(firsts) == len(seeded.world.chats)


def test_given_chat_ids_and_phone_numbers_restrict_the_reading(seeded: Loader) -> None:
    world = seeded.world
    chat_ids = sorted(world.chats)[:3]
    report = seeded.sync(chat_ids=chat_ids)
    assert report.chats == 3
    assert seeded.query("SELECT DISTINCT id FROM chats ORDER BY id") == [(i,) for i in chat_ids]
    number = world.phone_numbers[min(world.phone_numbers)].phone_number
    seen = {chat.id for chat in world.chats_seen_by(number)}
    seeded.sync(phone_numbers=[number])
    loaded = {row[0] for row in seeded.query("SELECT id FROM chats")}
    assert loaded == seen | set(chat_ids)


def test_building_the_source_touches_no_network() -> None:
    source = linq_source(api_token="t", base_url="http://127.0.0.1:9")
    assert sorted(source.selected_resources) == ["chat_messages", "chats", "phone_numbers"]


def test_the_documented_example_arrives_value_by_value(tmp_path: Path) -> None:
    record = json.loads(EXAMPLE.read_text())["data"][0]
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15551234567")
    world.add_chat(chat_id=9)
    world.add_message(
        9,
        message_id=record["id"],
        sent_at_ms=int(datetime(2025, 5, 21, 20, 30, 0, 123000, UTC).timestamp() * 1000),
        raw=json.dumps(record),
    )
    with Sandbox(world) as sandbox:
        pipeline = dlt.pipeline(
            "example",
            destination=dlt.destinations.duckdb(str(tmp_path / "x.duckdb")),
            dataset_name="linq",
            pipelines_dir=str(tmp_path),
        )
        pipeline.run(linq_source(api_token=DEFAULT_TOKEN, base_url=sandbox.url))
    run = query(tmp_path / "x.duckdb", "SELECT synced_at FROM sync_runs")[0][0]

    def at(hour: int, minute: int, second: int, millisecond: int) -> datetime:
        return datetime(2025, 5, 21, hour, minute, second, millisecond * 1000, UTC)

    message = {
        "id": 224,
        "chat_id": 9,
        "text": "Hello, how are you?",
        "sent_at": at(20, 30, 0, 123),
        "delivered_at": at(20, 30, 5, 456),
        "delivery_status": "pending",
        "edited_at": at(20, 31, 0, 789),
        "is_read": False,
        "sent_from": "+15551234567",
        "chat_handle_id": 123,
        "deleted_at": None,
        "expired_at": None,
        "synced_at": run,
    }
    attachment = {
        "chat_message_id": 224,
        "position": 0,
        "chat_id": 9,
        "id": "abc12345-1234-5678-9abc-def012345678",
        "url": "https://storage.googleapis.com/linq-files/attachments/abc123.pdf",
        "filename": "document.pdf",
        "mime_type": "application/pdf",
        "file_size": 12345,
        "synced_at": run,
        "_tombstone": None,
    }
    reaction = {
        "chat_message_id": 224,
        "id": 456,
        "chat_id": 9,
        "reaction": "love",
        "is_from_me": False,
        "from_phone": "+15551234567",
        "sent_at": at(20, 30, 0, 0),
        "created_at": at(20, 30, 0, 0),
        "updated_at": at(20, 30, 0, 0),
        "synced_at": run,
        "_tombstone": None,
    }
    assert _rows(tmp_path / "x.duckdb", "chat_messages") == [message]
    assert _rows(tmp_path / "x.duckdb", "chat_messages__attachments") == [attachment]
    assert _rows(tmp_path / "x.duckdb", "chat_messages__reactions") == [reaction]


def test_page_size_and_workers_never_change_the_tables(serve: Any) -> None:
    from linq_source.sandbox import seeded_world

    results = []
    for page_size, workers in ((100, 1), (7, 8), (33, 3)):
        loader = serve(seeded_world(chats=8, messages=250))
        loader.sync(page_size=page_size, workers=workers)
        loader.assert_equal_world()
        results.append(loader.query("SELECT * EXCLUDE (synced_at) FROM chat_messages ORDER BY id"))
    assert results[0] == results[1] == results[2]


def _rows(database: Path, table: str) -> list[dict[str, Any]]:
    names = [
        name
        for (name,) in query(
            database,
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'linq' "
            f"AND table_name = '{table}' ORDER BY ordinal_position",
        )
    ]
    rows = query(database, f"SELECT {', '.join(names)} FROM {table}")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _all_rows(loader: Loader) -> dict[str, Any]:
    """Every row of every table but the log of runs, `synced_at` included."""
    return {
        name: loader.query(f"SELECT * FROM {name} ORDER BY ALL")
        for name in (
            "phone_numbers",
            "chats",
            "chats__chat_handles",
            "chat_messages",
            "chat_messages__attachments",
            "chat_messages__reactions",
            "sync_windows",
            "rejected_records",
        )
    }


def test_duckdb_says_what_tables_and_columns_mean(seeded: Loader) -> None:
    seeded.sync()
    columns = seeded.query(
        "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE schema_name = 'linq'"
    )
    found = {(table, column): comment for table, column, comment in columns}
    expected = {
        (table.name, column.name): column.description
        for table in TABLES.values()
        for column in table.columns
        if (table.name, column.name) in found
    }
    assert len(expected) > 60
    assert {place: found[place] for place in expected} == expected
    named = dict(
        seeded.query("SELECT table_name, comment FROM duckdb_tables() WHERE schema_name = 'linq'")
    )
    assert named["chat_messages"] == TABLES["chat_messages"].description
