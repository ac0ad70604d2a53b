"""A lake's readers see every row and column, by the very commands that docs/lake.md gives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from linq_source.destinations.bucket import Bucket
from linq_source.destinations.lake import check_lake, rebuild_lake
from linq_source.destinations.lake.layout import DAY, MONTH, SETTLED_TABLES, Partitioning
from linq_source.tables import ATTACHMENT_FILES, CHAT_MESSAGES, MESSAGE_PARTS, TOMBSTONE, Table
from tests.conftest import DAY_MS, NOW_MS, Loader
from tests.destinations import Lake
from tests.lake_readers import READERS, commands, read_by_spark
from tests.lakes import bucket_of
from tests.truth import assert_equal_tables

MONTHS = 4
# Every table but the one that `linq-source media` makes.
TABLES = [t for t in SETTLED_TABLES if t not in (ATTACHMENT_FILES, MESSAGE_PARTS)]
# Fields that the API adds later, one message's after the other's, and their columns. No double
# has the whole numbers.
NEW = ({"level": 2**62 + 1}, {"label": "é😀"}, {"score": 0.5, "flag": True})
NEW_TYPES = {
    "chat_messages": {
        "level": pa.int64(), "label": pa.string(), "score": pa.float64(), "flag": pa.bool_(),
    },
    "chat_messages__attachments": {"width": pa.int64()},
}  # fmt: skip


@pytest.fixture
def months(small: Loader, monkeypatch: pytest.MonkeyPatch) -> Loader:
    """A lake of one message in each of some months, loaded; the test runs in its folder."""
    small.place = Lake(small.folder)
    monkeypatch.chdir(small.folder)
    for number in range(MONTHS):
        at_ms = NOW_MS - (MONTHS - number) * 31 * DAY_MS
        message = small.world.add_message(1, f"no {number}", sent_at_ms=at_ms)
        small.world.add_attachment(message.id, filename="f", mime_type="a/b", file_size=1)
    small.sync()
    return small


def test_the_page_has_a_command_for_every_reader() -> None:
    assert set(commands()) == {*READERS, "Spark"}


def rows_by_id(reader: str, command: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = READERS[reader](command).to_pylist()
    return sorted(rows, key=lambda row: row["id"])


@pytest.mark.parametrize("place", [0, MONTHS - 1])
def test_a_field_that_appears_later_is_seen(months: Loader, place: int) -> None:
    message = months.world.messages_of(1)[place]
    message.extra.update(level=7, label="x")
    message.attachments[0].extra.update(width=640)
    months.sync(start="2000-01-01", end="2100-01-01")
    for reader in READERS:
        rows = rows_by_id(reader, commands()[reader])
        assert [row["text"] for row in rows] == [f"no {number}" for number in range(MONTHS)]
        expected = [(7, "x") if number == place else (None, None) for number in range(MONTHS)]
        assert [(row["level"], row["label"]) for row in rows] == expected, reader
        files = READERS[reader](commands("chat_messages__attachments")[reader])
        assert files["width"].drop_null().to_pylist() == [640], reader
    assert check_lake(bucket_of(months)).findings == ()


def test_a_lake_from_before_columns_were_remembered_goes_on(months: Loader) -> None:
    months.world.messages_of(1)[-1].extra.update(level=7)
    months.sync(start="2000-01-01", end="2100-01-01")
    marker = months.folder / "lake" / "linq" / "current" / "_settled.json"
    content = json.loads(marker.read_text())
    assert content.pop("columns") == {"chat_messages": {"level": "bigint"}}
    marker.write_text(json.dumps(content))
    message = months.world.messages_of(1)[-2]
    message.extra.update(level="high")
    sent_at = datetime.fromtimestamp(message.sent_at_ms / 1000, UTC)
    months.sync(start=sent_at, end=sent_at + timedelta(days=1))
    for reader in READERS:
        rows = rows_by_id(reader, commands()[reader])
        assert [row["level"] for row in rows] == [None, None, None, 7]
        assert [row["level__v_text"] for row in rows] == [None, None, "high", None]
    bucket = bucket_of(months)
    assert check_lake(bucket).findings == ()
    rebuild_lake(bucket)
    assert check_lake(bucket).findings == ()
    assert json.loads(marker.read_text())["columns"] == {
        "chat_messages": {"level": "bigint", "level__v_text": "text"}
    }


@pytest.fixture
def lakes(months: Loader) -> Loader:
    """The same, where files of some months have columns that others lack; by day, too."""
    world = months.world
    second, third, last = world.messages_of(1)[1:]
    second.extra.update(NEW[0])
    third.extra.update(NEW[1])
    goes = world.add_message(1, "goes", sent_at_ms=last.sent_at_ms)
    months.sync(start="2000-01-01", end="2100-01-01")
    last.extra.update(NEW[2])
    last.attachments[0].extra.update(width=2**53 + 1)
    world.add_reaction(last.id, "love")
    world.delete_message(goes.id)
    months.sync(start=datetime.fromtimestamp(last.sent_at_ms / 1000, UTC), end="2100-01-01")
    found = months.live_tables()
    for name, types in NEW_TYPES.items():
        found[name] = [{k: v for k, v in row.items() if k not in types} for row in found[name]]
    assert_equal_tables(found, world)
    assert months.place is not None
    new = [
        {name: row[name] for name in NEW_TYPES["chat_messages"] if row.get(name) is not None}
        for row in sorted(months.place.rows("chat_messages"), key=lambda row: row["id"])
    ]
    assert new == [{}, *NEW, {}]
    root = Path("lake/linq/current/chat_messages")
    columns = [set(pq.read_schema(file).names) for file in sorted(root.rglob("*.parquet"))]
    assert columns[2] < columns[0]
    shutil.copytree("lake", "by_day")
    rebuild_lake(Bucket(LocalFileSystem(), str(months.folder / "by_day" / "linq")), DAY)
    return months


def read_commands(reader: str, lake: str) -> list[str]:
    """For every table of a lake."""
    return [commands(table.name, lake)[reader] for table in TABLES]


def test_types_and_values_of_every_table_are_seen(lakes: Loader) -> None:
    for reader, read in READERS.items():
        for lake, parts in (("lake", MONTH), ("by_day", DAY)):
            assert_whole(lakes, parts, map(read, read_commands(reader, lake)))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_spark_sees_them_with_mergeschema_and_without(lakes: Loader) -> None:
    merging, by_day = (read_commands("Spark", lake) for lake in ("lake", "by_day"))
    without = [command.replace('.option("mergeSchema", "true")', "") for command in merging]
    assert not set(merging) & set(without)
    found = iter(read_by_spark([*merging, *without, *by_day], lakes.folder))
    for parts in (MONTH, MONTH, DAY):
        assert_whole(lakes, parts, islice(found, len(TABLES)))


def assert_whole(loader: Loader, parts: Partitioning, found: Iterable[pa.Table]) -> None:
    for table, rows in zip(TABLES, found, strict=True):
        assert_equal_files(loader, table, parts, rows)


def assert_equal_files(loader: Loader, table: Table, parts: Partitioning, found: pa.Table) -> None:
    """What was found is what lies in a table's files, with the column that folders are named by."""
    assert loader.place is not None
    types = {c.name: c.field.type for c in table.columns if c.name != TOMBSTONE}
    types |= NEW_TYPES.get(table.name, {})
    rows = [{name: row.get(name) for name in types} for row in loader.place.rows(table.name)]
    if CHAT_MESSAGES.name in (table.name, table.parent):
        sent_at = {row["id"]: row["sent_at"] for row in loader.place.rows(CHAT_MESSAGES.name)}
        for row in rows:
            message = row.get("chat_message_id", row["id"])
            row[parts.column] = sent_at[message].strftime(parts.format)
        types[parts.column] = pa.string()
        # A day is a date to some readers, and text to others.
        place = found.schema.get_field_index(parts.column)
        found = found.set_column(place, parts.column, found[parts.column].cast(pa.string()))
    assert dict(zip(found.schema.names, found.schema.types, strict=True)) == types

    def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(rows, key=lambda row: [row[name] for name in table.key])

    assert in_order(found.to_pylist()) == in_order(rows)
