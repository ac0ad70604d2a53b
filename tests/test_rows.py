"""Rows keep their children when selected, and gain only keys and the run's instant when loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linq_source import tables
from linq_source.decoding.pages import decode_pages
from linq_source.decoding.records import (
    CHAT,
    MESSAGE,
    PHONE_NUMBER,
    Records,
    concat_records,
    empty_records,
)
from linq_source.instants import from_us, parse_iso, to_us
from linq_source.planning.changes import Part
from linq_source.planning.readings import LedgerWindow
from linq_source.planning.windows import Window
from linq_source.rows.building import (
    ledger_rows,
    list_rows,
    message_rows,
    run_row,
)
from tests.test_decoding import (
    LAW,
    LISTS,
    NOON,
    PAGES,
    SENT_AT,
    Record,
    assert_same,
    body,
    decode,
    lists_of_one_reading,
    message,
    plain,
)

pytestmark = pytest.mark.quick

SYNCED_US = parse_iso("2025-06-01T00:00:00.000001Z")
SYNCED = from_us(SYNCED_US)
END_US = parse_iso("2025-05-22")


def part(chat_id: int, *records: Record) -> Part:
    return Part(Window(chat_id, None, END_US), decode(body(*records)))


def rows_of(table: pa.Table, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in table.to_pylist()]


def test_a_message_becomes_exactly_its_row() -> None:
    rows = message_rows([part(9, message(4, is_read=True))], SYNCED_US, tables.TABLES)
    assert rows["chat_messages"].to_pylist() == [
        {
            "id": 4,
            "chat_id": 9,
            "text": "text 4",
            "sent_at": NOON,
            "delivered_at": None,
            "delivery_status": "delivered",
            "edited_at": None,
            "is_read": True,
            "sent_from": "+15550000001",
            "chat_handle_id": 7,
            "deleted_at": None,
            "expired_at": None,
            "synced_at": SYNCED,
        }
    ]


def test_children_become_exactly_their_rows() -> None:
    attachment = {"id": "a", "url": "u", "filename": "f", "mime_type": "m", "file_size": 3}
    reaction = {"id": 8, "chat_message_id": 4, "reaction": "love", "is_from_me": True}
    rows = message_rows(
        [part(9, message(4, attachments=[attachment], reactions=[reaction]))],
        SYNCED_US,
        tables.TABLES,
    )
    keys = {"chat_message_id": 4, "chat_id": 9, "synced_at": SYNCED, "_tombstone": None}
    assert rows["chat_messages__attachments"].to_pylist() == [{**attachment, **keys, "position": 0}]
    unknown = dict.fromkeys(("from_phone", "sent_at", "created_at", "updated_at"))
    assert rows["chat_messages__reactions"].to_pylist() == [{**reaction, **keys, **unknown}]


def test_every_message_is_named_in_its_child_tables() -> None:
    one = part(1, message(1, attachments=[{"id": "a"}, {"id": "b"}]), message(2))
    other = part(2, message(3, reactions=[{"id": 5}]), message(4, attachments=[{"id": "c"}]))
    rows = message_rows([one, part(7), other], SYNCED_US, tables.TABLES)
    assert rows_of(rows["chat_messages"], "chat_id", "id") == [(1, 1), (1, 2), (2, 3), (2, 4)]
    names = ("chat_id", "chat_message_id", "position", "id", "_tombstone")
    assert rows_of(rows["chat_messages__attachments"], *names) == [
        (1, 1, 0, "a", None),
        (1, 1, 1, "b", None),
        (2, 4, 0, "c", None),
        (1, 2, -1, None, True),
        (2, 3, -1, None, True),
    ]
    reaction_names = ("chat_id", "chat_message_id", "id", "_tombstone")
    assert rows_of(rows["chat_messages__reactions"], *reaction_names) == [
        (2, 3, 5, None),
        (1, 1, -1, True),
        (1, 2, -1, True),
        (2, 4, -1, True),
    ]


@LAW
@given(LISTS)
def test_a_message_has_children_or_one_tombstone(found: list[Record]) -> None:
    records = [record | {"id": number} for number, record in enumerate(found)]
    rows = message_rows([part(1, *records)], SYNCED_US, tables.TABLES)
    for field, table in MESSAGE.children.items():
        owners: dict[bool | None, list[int]] = {True: [], None: []}
        for owner, mark in rows_of(rows[table.name], "chat_message_id", "_tombstone"):
            owners[mark].append(owner)
        lists = [record.get(field) or [] for record in records]
        assert owners[True] == [number for number, items in enumerate(lists) if not items]
        assert owners[None] == [number for number, items in enumerate(lists) for _ in items]


@LAW
@given(LISTS)
def test_every_table_begins_with_its_columns_in_order(found: list[Record]) -> None:
    rows = message_rows([part(1, *found)], SYNCED_US, tables.TABLES)
    assert set(rows) == {
        "chat_messages",
        "chat_messages__attachments",
        "chat_messages__reactions",
        "rejected_records",
    }
    for name, table in rows.items():
        schema = tables.TABLES[name].schema
        fields = list(table.schema)[: len(schema)]
        assert [(f.name, f.type) for f in fields] == [(f.name, f.type) for f in schema]
        table.validate(full=True)
        assert set(table["synced_at"].to_pylist()) <= {SYNCED}


def test_fields_added_later_stand_after_the_columns() -> None:
    new = message(1, subject="s", attachments=[{"id": "a", "tags": ["x"]}], chat_id=5)
    rows = message_rows([part(9, new), part(9, message(2))], SYNCED_US, tables.TABLES)
    assert rows_of(rows["chat_messages"], "chat_id", "subject", "api_chat_id") == [
        (9, "s", 5),
        (9, None, None),
    ]
    assert rows_of(rows["chat_messages__attachments"], "id", "tags") == [
        ("a", '["x"]'),
        (None, None),
    ]


def test_rejected_records_are_rows_of_their_chat() -> None:
    bad = [message(None), message(2, chat_handle_id="x")]
    rows = message_rows([part(1, message()), part(9, *bad)], SYNCED_US, tables.TABLES)
    names = ("chat_id", "message_id", "reason", "synced_at")
    assert rows_of(rows["rejected_records"], *names) == [
        (9, None, "id: missing", SYNCED),
        (9, 2, "chat_handle_id: not a whole number", SYNCED),
    ]
    assert [p for (p,) in rows_of(rows["rejected_records"], "payload")] == [
        json.dumps(record) for record in bad
    ]
    assert rows_of(rows["chat_messages"], "chat_id", "id") == [(1, 1), (9, 2)]


def test_no_messages_make_empty_tables_with_every_column() -> None:
    for parts in ([part(1)], [Part(Window(1, None, END_US), empty_records(MESSAGE))]):
        for name, table in message_rows(parts, SYNCED_US, tables.TABLES).items():
            assert table.num_rows == 0
            assert table.schema.names == list(tables.TABLES[name].column_names)


def test_chats_and_their_participants_become_rows() -> None:
    handle = {"id": 3, "phone_number": "+1", "service": "SMS", "joined_at": SENT_AT}
    chats = [
        {"id": 1, "display_name": "One", "group": True, "chat_handles": [handle]},
        {"id": 2, "message_count": 4, "chat_handles": []},
    ]
    rows = list_rows(decode_pages([body(*chats)], CHAT), SYNCED_US, tables.TABLES)
    names = ("id", "display_name", "service", "is_group", "message_count", "deleted_at")
    assert rows_of(rows["chats"], *names) == [
        (1, "One", None, True, None, None),
        (2, None, None, None, 4, None),
    ]
    assert rows["chats__chat_handles"].to_pylist() == [
        {**handle, "joined_at": NOON, "chat_id": 1, "synced_at": SYNCED, "_tombstone": None},
        dict.fromkeys(handle) | {"chat_id": 2, "id": -1, "synced_at": SYNCED, "_tombstone": True},
    ]


def test_phone_numbers_become_rows() -> None:
    found = decode_pages([body({"id": 1, "phone_number": "+1", "response_rate": 90})], PHONE_NUMBER)
    assert list_rows(found, SYNCED_US, tables.TABLES)["phone_numbers"].to_pylist() == [
        {
            "id": 1,
            "phone_number": "+1",
            "forwarding_number": None,
            "response_rate": 90,
            "synced_at": SYNCED,
        }
    ]


def test_a_window_becomes_a_row_of_the_ledger() -> None:
    window = LedgerWindow(
        Window(9, None, END_US), 5, 4, 3, 6, 2, False, "why", kept_since_us=to_us(NOON)
    )
    (row,) = ledger_rows([window], SYNCED_US, tables.TABLES)["sync_windows"].to_pylist()
    assert row == {
        "chat_id": 9,
        "window_start": None,
        "window_end": from_us(END_US),
        "total_count": 5,
        "messages": 4,
        "pages": 3,
        "requests": 6,
        "attempts": 2,
        "verified": False,
        "error": "why",
        "event": "read",
        "kept_since": NOON,
        "synced_at": SYNCED,
    }


def test_a_run_becomes_one_row_and_its_values_are_left_alone() -> None:
    values = {"bound": from_us(END_US), "chats": 3, "seconds": 1.5}
    (row,) = run_row(values, SYNCED_US, tables.TABLES)["sync_runs"].to_pylist()
    assert row == dict.fromkeys(tables.SYNC_RUNS.column_names) | values | {"synced_at": SYNCED}
    assert set(values) == {"bound", "chats", "seconds"}


@LAW
@given(PAGES)
def test_concatenating_pages_is_decoding_them_together(found: list[list[Record]]) -> None:
    parts = [decode(body(*page)) for page in found]
    assert_same(concat_records(MESSAGE, parts), decode(*(body(*page) for page in found)))


@LAW
@given(lists_of_one_reading(3, 3))
def test_concatenation_may_be_bracketed_anyhow(found: Sequence[list[Record]]) -> None:
    a, b, c = (decode(body(*page)) for page in found)
    left = concat_records(MESSAGE, [concat_records(MESSAGE, [a, b]), c])
    right = concat_records(MESSAGE, [a, concat_records(MESSAGE, [b, c])])
    assert_same(left, right)
    assert_same(concat_records(MESSAGE, [empty_records(MESSAGE), left]), left)


def with_columns_of(records: Records, other: Records) -> Records:
    """`other`, with the unknown columns that only `records` has, all null."""
    return concat_records(MESSAGE, [records.slice(0, 0), other])


@LAW
@given(LISTS.filter(len), st.data())
def test_a_selection_carries_its_children(found: list[Record], data: st.DataObject) -> None:
    order = data.draw(st.lists(st.sampled_from(range(len(found))), unique=True))
    records = decode(body(*found))
    taken = records.take(pa.array(order, pa.int64()))
    expected = decode(body(*(found[row] for row in order)))
    assert plain(taken) == plain(with_columns_of(records, expected))


@LAW
@given(LISTS, st.integers(0, 6), st.integers(0, 6))
def test_a_slice_carries_its_children(found: list[Record], one: int, other: int) -> None:
    start, stop = sorted((min(one, len(found)), min(other, len(found))))
    records = decode(body(*found))
    expected = decode(body(*found[start:stop]))
    assert plain(records.slice(start, stop)) == plain(with_columns_of(records, expected))


@LAW
@given(LISTS, st.integers(0, 6))
def test_slices_put_together_are_the_whole(found: list[Record], cut: int) -> None:
    cut = min(cut, len(found))
    records = decode(body(*found))
    parts = [records.slice(0, cut), records.slice(cut, len(records))]
    assert_same(concat_records(MESSAGE, parts), records)
