"""Fields the API adds, whatever they are called and hold: on every destination as sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from dlt.common.normalizers.naming.snake_case import NamingConvention

from linq_source import sync
from linq_source.rows.unknown_columns import UnknownColumns
from linq_source.tables import CHAT_MESSAGES
from tests.conftest import DAY_MS, NOW_MS, Loader
from tests.destinations import IN_FOLDERS, KINDS, kinds
from tests.truth import Row

EVERYWHERE = pytest.mark.parametrize("place", kinds(fast=["duckdb"]), indirect=True)
REST = sorted({*IN_FOLDERS} - {"bigquery", "delta"})
DATABASES = pytest.mark.parametrize("place", ["duckdb", "parquet"], indirect=True)

snake_case = NamingConvention().normalize_identifier

# What a field is called, and its column.
NAMES = {
    "": "api_empty",
    " ": "api_u20",
    "!!!": "api_u21_u21_u21",
    "\0": "api_u0",
    "😀": "api_u1f600",
    "é": "api_ue9",
    "s p": "s_p",
    "1st": "_1st",
    "long" * 75: "longlonglonglonglonglonglonglonglonglong_x2c832969",
    "ctid": "api_ctid",
    "XMAX": "api_xmax",
    "oid": "api_oid",
    "rowid": "api_rowid",
    "_TABLE_x": "api_table_x",
    "_PARTITIONTIME": "api_partitiontime",
    "__ROOT__": "api_rootxx",
    "_dlt_id": "api_dlt_id",
    "_dlt_load_id": "api_dlt_load_id",
    "_tombstone": "api_tombstone",
    "_rank": "api_rank",
    "_file": "api_file",
    "filename": "api_filename",
    "file_row_number": "api_file_row_number",
    "sent_month": "api_sent_month",
    "linq_days": "api_linq_days",
    "linq_copy": "api_linq_copy",
    "Sent_At": "api_sent_at",
    "select": "select",
    "year": "year",
}


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with KINDS[request.param](tmp_path) as found:
        yield found


@pytest.fixture
def two(small: Loader, place: Any) -> Loader:
    """Two chats of one message each, not loaded yet."""
    small.place = place
    small.world.add_chat(display_name="Two", chat_id=2)
    for chat_id in (1, 2):
        small.world.add_message(chat_id, "hello", sent_at_ms=NOW_MS - DAY_MS)
    return small


def extend(loader: Loader, chat_id: int, **extra: Any) -> None:
    """Give a chat's message these new fields, and no other."""
    (message,) = loader.world.messages_of(chat_id)
    message.extra.clear()
    message.extra.update(extra)


def new_values(loader: Loader, chat_id: int) -> Row:
    """What a chat's message has in columns the contract does not know."""
    assert loader.place is not None
    (row,) = (row for row in loader.place.rows("chat_messages") if row["chat_id"] == chat_id)
    known = CHAT_MESSAGES.column_names
    return {name: value for name, value in row.items() if name not in known and value is not None}


@EVERYWHERE
def test_a_field_may_have_any_name(two: Loader) -> None:
    extend(two, 1, **{name: number for number, name in enumerate(NAMES)})
    report = two.sync()
    assert (report.exit_code, report.rejected) == (0, 0)
    expected = {column: number for number, column in enumerate(NAMES.values())}
    assert new_values(two, 1) == expected
    assert two.sync().messages == 0
    extend(two, 1, **{name: f"no {number}" for number, name in enumerate(NAMES)})
    two.sync()
    assert new_values(two, 1) == {f"{name}__v_text": f"no {n}" for name, n in expected.items()}


@DATABASES
def test_a_field_keeps_its_column_whatever_else_is_spelled_like_it(two: Loader) -> None:
    extend(two, 1, userName=1)
    two.sync()
    extend(two, 1, userName=1, user_name=2, UserName=3)
    extend(two, 2, user_name=4)
    two.sync()
    assert new_values(two, 1) == {
        "user_name": 1,
        "user_name_x2e0d0e00": 2,
        "user_name_xff1eb40a": 3,
    }
    assert new_values(two, 2) == {"user_name_x2e0d0e00": 4}


@DATABASES
def test_a_column_from_before_fields_were_noted_goes_on(two: Loader) -> None:
    extend(two, 1, userName=1, ctid=2)
    two.sync()
    assert new_values(two, 1) == {"user_name": 1, "api_ctid": 2}
    # As an earlier version had them.
    types = UnknownColumns({"chat_messages": {"user_name": "bigint", "ctid": "bigint"}}, snake_case)
    rows = types.fit("chat_messages", pa.table({"userName": [1], "ctid": [2]}))
    assert rows.to_pydict() == {"user_name": [1], "ctid": [2]}
    rows = types.fit("chat_messages", pa.table({"user_name": [3], "userName": [1]}))
    assert rows.to_pydict() == {"user_name_x2e0d0e00": [3], "user_name": [1]}


# What two chats have in a field.
NUMBERS = [
    (9007199254740993, 0.5),
    (0.5, 9007199254740993),
    (2**63, 1),
    (1, 2**70),
    (-(2**63), 2.5),
    (True, 1),
    (1, True),
    (-0.0, 1),
    (1, -0.0),
    (1e300, 1),
    (1.1, "1.1"),
    (None, 0.1),
]


@pytest.mark.parametrize("runs", [1, 2])
@DATABASES
def test_numbers_stay_what_they_are(two: Loader, runs: int) -> None:
    one, other = ({f"n{n}": pair[chat] for n, pair in enumerate(NUMBERS)} for chat in (0, 1))
    extend(two, 1, **one)
    if runs == 2:
        two.sync()
    extend(two, 2, **other)
    two.sync()
    for chat_id, sent in ((1, one), (2, other)):
        found = {name.partition("__v_")[0]: v for name, v in new_values(two, chat_id).items()}
        for name, value in sent.items():
            kept = found.get(name)
            assert kept == value or str(kept) == json.dumps(value), (name, value, kept)


@DATABASES
def test_what_one_column_holds_exactly_stays_in_it(two: Loader) -> None:
    extend(two, 1, level=7, rate=0.5)
    two.sync()
    extend(two, 1, level=7, rate=9007199254740993)
    extend(two, 2, level=2.5, rate=3)
    two.sync()
    assert new_values(two, 1) == {"level": 7, "rate__v_bigint": 9007199254740993}
    assert new_values(two, 2) == {"level__v_double": 2.5, "rate": 3.0}


def field_values(loader: Loader, name: str) -> dict[int, Any]:
    """What each chat has in a field, whichever of its columns it stands in."""
    found = {}
    for chat_id in (1, 2):
        (value,) = (v for c, v in new_values(loader, chat_id).items() if c.split("__v_")[0] == name)
        found[chat_id] = value
    return found


@pytest.mark.parametrize(
    ("place", "one", "other"),
    [
        ("duckdb", 5, "high"),
        pytest.param("postgres", 0.5, True, marks=pytest.mark.long),
        pytest.param("bigquery", "high", 5, marks=pytest.mark.long),
        pytest.param("delta", "high", 5, marks=pytest.mark.long),
        *(pytest.param(kind, "high", 5, marks=pytest.mark.deep) for kind in REST),
    ],
    indirect=["place"],
)
def test_shards_that_meet_a_new_field_one_after_the_other(
    two: Loader, one: Any, other: Any
) -> None:
    two.sync_shards(2)
    extend(two, 2, level=one)
    extend(two, 1, level=other)
    for _ in range(2):
        assert [report.exit_code for report in two.sync_shards(2)] == [0, 0]
    # The chat with an even id is the first shard's.
    assert field_values(two, "level") == {2: one, 1: str(other) if one == "high" else other}


@pytest.mark.parametrize(
    ("place", "one", "other"),
    [
        ("duckdb", "high", 5),
        ("duckdb", 0.5, 7),
        pytest.param("parquet", "high", 5, marks=pytest.mark.long),
        pytest.param("parquet", 5, "high", marks=pytest.mark.deep),
        pytest.param("postgres", "high", 5, marks=pytest.mark.long),
        pytest.param("postgres", 5, "high", marks=pytest.mark.deep),
        pytest.param("bigquery", "high", 5, marks=pytest.mark.long),
        pytest.param("bigquery", 5, "high", marks=pytest.mark.deep),
    ],
    indirect=["place"],
)
def test_shards_that_meet_a_new_field_at_the_same_time(
    two: Loader, tmp_path: Path, one: Any, other: Any
) -> None:
    """Both have read it before either loads."""
    folders = {shard: tmp_path / shard[0] for shard in ("0/2", "1/2")}
    for shard, folder in folders.items():
        sync(two.open_shard(shard, folder), **two.arguments(shard=shard))
    extend(two, 2, level=one)
    extend(two, 1, level=other)
    for shard, folder in folders.items():
        two.open_shard(shard, folder).extract(two.source(shard=shard), **two.options)
    for _ in range(2):
        for shard, folder in folders.items():
            report = sync(two.open_shard(shard, folder), **two.arguments(shard=shard))
            assert report.exit_code == 0
    stored = field_values(two, "level")
    assert stored[2] == one
    assert stored[1] in (other, str(other))
    (message,) = two.world.messages_of(1)
    message.extra["level"] = 9
    shard = "1/2"
    assert sync(two.open_shard(shard, folders[shard]), **two.arguments(shard=shard)).messages == 1
