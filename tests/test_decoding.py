"""Pages become exact Arrow tables, whatever their layout and whichever path reads them."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linq_source.decoding import pages
from linq_source.decoding.pages import decode_pages
from linq_source.decoding.records import (
    CHAT,
    MESSAGE,
    PHONE_NUMBER,
    Records,
    child_schema,
    root_schema,
)
from linq_source.decoding.salvage import salvage_page

pytestmark = pytest.mark.quick

Record = dict[str, Any]

SENT_AT = "2025-05-21T12:00:00.123Z"
NOON = datetime(2025, 5, 21, 12, 0, 0, 123_000, tzinfo=UTC)
EXAMPLE = Path(__file__).parent / "data" / "chat_messages_example.json"


def message(id_: Any = 1, **changed: Any) -> Record:
    """A record as the API sends it, all of the contract's fields there."""
    record = {
        "id": id_,
        "text": f"text {id_}",
        "sent_at": SENT_AT,
        "delivered_at": None,
        "delivery_status": "delivered",
        "edited_at": None,
        "is_read": False,
        "sent_from": "+15550000001",
        "chat_handle_id": 7,
        "attachments": [],
        "reactions": [],
    }
    return record | changed


def body(*records: Any, **layout: Any) -> bytes:
    """A page with these records."""
    meta = {"page": 1, "total_pages": 1, "total_count": len(records), "per_page": 100}
    return json.dumps({"data": records, "meta": meta}, **layout).encode()


def decode(*bodies: bytes) -> Records:
    """The messages of some pages."""
    return decode_pages(bodies, MESSAGE)


def fast_only() -> AbstractContextManager[object]:
    """Fails what is read within where the fast path refuses."""
    return patch.object(pages, "salvage_page", side_effect=AssertionError("went the slow path"))


def decode_fast(*bodies: bytes) -> Records:
    """The same; fails where the fast path refuses."""
    with fast_only():
        return decode(*bodies)


def plain(records: Records) -> Any:
    """Everything records hold, unknown columns in the order of their names."""
    tables = [records.root, *records.children.values()]
    return [table.select(sorted(table.column_names)).to_pylist() for table in tables]


def assert_same(one: Records, other: Records) -> None:
    """Same Arrow values of same types, and nothing rejected in one only."""
    assert one.rejected == other.rejected
    pairs = [(one.root, other.root)]
    pairs += [(one.children[name], other.children[name]) for name in one.shape.children]
    for left, right in pairs:
        left, right = (t.select(sorted(t.column_names)).combine_chunks() for t in (left, right))
        assert left.schema == right.schema
        assert left.equals(right)


LAW = settings(max_examples=25)

NAMES = st.text('aé😀"\\/ \n\x1f\x7f', max_size=3)
TEXTS = st.none() | st.text(max_size=12)
INT64 = st.integers(-(2**63), 2**63 - 1)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
INSTANTS = st.datetimes(
    min_value=datetime(1900, 1, 1),  # noqa: DTZ001 - Hypothesis wants naive bounds
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=ZONES,
).map(lambda moment: moment.isoformat())
ATTACHMENTS = st.fixed_dictionaries(
    {},
    optional={
        "id": TEXTS,
        "url": TEXTS,
        "filename": TEXTS,
        "mime_type": TEXTS,
        "file_size": st.none() | INT64,
        "caption": TEXTS,
        "checksums": st.none() | st.lists(NAMES, max_size=2),
    },
)
REACTIONS = st.fixed_dictionaries(
    {"id": INT64},
    optional={
        "chat_message_id": INT64,
        "reaction": TEXTS,
        "is_from_me": st.none() | st.booleans(),
        "from_phone": TEXTS,
        "sent_at": st.none() | INSTANTS,
        "created_at": st.none() | INSTANTS,
        "updated_at": st.none() | INSTANTS,
        "note": TEXTS,
    },
)
MESSAGES = st.fixed_dictionaries(
    # Small ids are those of records that a test adds.
    {"id": st.integers(1_000, 2**63 - 1), "sent_at": INSTANTS},
    optional={
        "text": TEXTS,
        "delivered_at": st.none() | INSTANTS,
        "delivery_status": TEXTS,
        "edited_at": st.none() | INSTANTS,
        "is_read": st.none() | st.booleans(),
        "sent_from": TEXTS,
        "chat_handle_id": st.none() | INT64,
        "attachments": st.none() | st.lists(ATTACHMENTS, max_size=3),
        "reactions": st.none() | st.lists(REACTIONS, max_size=3, unique_by=itemgetter("id")),
        "subject": TEXTS,
        "effect": st.none() | st.fixed_dictionaries({"name": NAMES}),
    },
)
LISTS = st.lists(MESSAGES, max_size=6, unique_by=itemgetter("id"))


def lists_of_one_reading(least: int, most: int) -> st.SearchStrategy[list[list[Record]]]:
    """So many lists of records; no id stands twice in all of them."""
    return st.builds(
        lambda found, cuts: [
            found[start:stop] for start, stop in pairwise([0, *sorted(cuts), len(found)])
        ],
        st.lists(MESSAGES, max_size=9, unique_by=itemgetter("id")),
        st.lists(st.integers(0, 9), min_size=least - 1, max_size=most - 1),
    )


PAGES = lists_of_one_reading(1, 4)


def test_the_contracts_own_example_arrives_exactly() -> None:
    records = decode_fast(EXAMPLE.read_bytes())
    assert records.root.to_pylist() == [
        {
            "id": 224,
            "text": "Hello, how are you?",
            "sent_at": datetime(2025, 5, 21, 20, 30, 0, 123_000, tzinfo=UTC),
            "delivered_at": datetime(2025, 5, 21, 20, 30, 5, 456_000, tzinfo=UTC),
            "delivery_status": "pending",
            "edited_at": datetime(2025, 5, 21, 20, 31, 0, 789_000, tzinfo=UTC),
            "is_read": False,
            "sent_from": "+15551234567",
            "chat_handle_id": 123,
        }
    ]
    assert records.children["attachments"].to_pylist() == [
        {
            "_row": 0,
            "position": 0,
            "id": "abc12345-1234-5678-9abc-def012345678",
            "url": "https://storage.googleapis.com/linq-files/attachments/abc123.pdf",
            "filename": "document.pdf",
            "mime_type": "application/pdf",
            "file_size": 12345,
        }
    ]
    reacted = datetime(2025, 5, 21, 20, 30, tzinfo=UTC)
    assert records.children["reactions"].to_pylist() == [
        {
            "_row": 0,
            "position": 0,
            "id": 456,
            "reaction": "love",
            "is_from_me": False,
            "from_phone": "+15551234567",
            "sent_at": reacted,
            "created_at": reacted,
            "updated_at": reacted,
        }
    ]
    assert records.rejected == ()


def test_chats_and_numbers_are_read_by_the_same_path() -> None:
    chat = {"id": 5, "group": True, "message_count": 3, "chat_handles": [{"id": 8}, {"id": 9}]}
    chats = decode_pages([body(chat)], CHAT)
    assert chats.root.select(["id", "is_group", "message_count"]).to_pylist() == [
        {"id": 5, "is_group": True, "message_count": 3}
    ]
    assert chats.children["chat_handles"].select(["_row", "id"]).to_pylist() == [
        {"_row": 0, "id": 8},
        {"_row": 0, "id": 9},
    ]
    answer = json.dumps({"phone_numbers": [{"id": 1, "phone_number": "+1"}]}).encode()
    numbers = decode_pages([answer], PHONE_NUMBER, key="phone_numbers")
    assert numbers.root.to_pylist() == [
        {"id": 1, "phone_number": "+1", "forwarding_number": None, "response_rate": None}
    ]


def test_no_pages_and_empty_pages_have_every_column() -> None:
    for decoded in (decode_pages([], MESSAGE), decode_pages([body(), body()], MESSAGE)):
        assert decoded.root.schema == root_schema(MESSAGE)
        for name, table in MESSAGE.children.items():
            assert decoded.children[name].schema == child_schema(table)
        assert decoded.received == 0


def test_children_are_numbered_from_0_within_their_parent() -> None:
    counts = [0, 2, 0, 1, 3, 0]
    lists = [[{"id": f"{row}.{place}"} for place in range(n)] for row, n in enumerate(counts)]
    bodies = [
        body(*(message(i, attachments=a) for i, a in enumerate(lists[:3]))),
        body(),
        body(*(message(i, attachments=a) for i, a in enumerate(lists[3:], 3))),
    ]
    found = decode_fast(*bodies).children["attachments"]
    assert found.select(["_row", "position", "id"]).to_pylist() == [
        {"_row": row, "position": place, "id": f"{row}.{place}"}
        for row, n in enumerate(counts)
        for place in range(n)
    ]


def test_lists_that_are_null_or_absent_are_empty() -> None:
    absent = {"id": 2, "sent_at": SENT_AT}
    records = decode_fast(body(message(1, attachments=None, reactions=None), absent))
    assert records.root["id"].to_pylist() == [1, 2]
    assert [child.num_rows for child in records.children.values()] == [0, 0]
    assert records.root.to_pylist()[1] == dict.fromkeys(root_schema(MESSAGE).names) | {
        "id": 2,
        "sent_at": NOON,
    }


@pytest.mark.parametrize(
    "content",
    [
        body(message(), message(2), indent=2),
        body(message(), message(2), indent="\t").replace(b"\n", b"\r\n"),
        body(message(), message(2), separators=(",", ":")),
        body(message(), message(2)).replace(b", ", b",\r"),
        body(message(), message(2)) + b"\n\n",
        json.dumps({"meta": {"page": 1}, "data": [message(), message(2)]}).encode(),
        json.dumps({"data": [message(), message(2)]}).encode(),
        json.dumps({"data": [message(), message(2)], "meta": {"page": 1, "x": [{}]}}).encode(),
        json.dumps({"links": {"next": None}, "data": [message(), message(2)]}).encode(),
    ],
    ids=["indented", "crlf", "compact", "cr", "newlines", "meta first", "no meta", "extra", "more"],
)
def test_layout_and_other_members_change_nothing(content: bytes) -> None:
    assert_same(decode_fast(content), decode_fast(body(message(), message(2))))
    both = decode_fast(content, body(message(3)))
    assert both.root["id"].to_pylist() == [1, 2, 3]


@pytest.mark.parametrize(
    "text", ["", "a\0b", "😀", "\u2028", '"meta":{"page":9}}', "]},", "\\", "line\nline", "\x1f"]
)
def test_text_arrives_character_by_character(text: str) -> None:
    for layout in ({}, {"ensure_ascii": False}):
        page = body(message(text=text, attachments=[{"filename": text}]), **layout)
        records = decode_fast(page)
        assert records.root["text"].to_pylist() == [text]
        assert records.children["attachments"]["filename"].to_pylist() == [text]


@LAW
@given(LISTS)
def test_the_fast_path_reads_what_the_slow_path_reads(found: list[Record]) -> None:
    content = body(*found)
    assert_same(decode_fast(content), salvage_page(content, MESSAGE, "data"))


@LAW
@given(PAGES)
def test_pages_hold_what_one_page_of_all_holds(found: list[list[Record]]) -> None:
    decoded = decode_pages([body(*page) for page in found], MESSAGE)
    assert_same(decoded, decode(body(*(r for page in found for r in page))))


@pytest.mark.parametrize(
    "content", [b"", b"<html></html>", body(message())[:-60], b"[]", b'{"data": [1 2]}']
)
def test_a_page_that_is_no_json_is_rejected_whole_and_costs_no_other(content: bytes) -> None:
    decoded = decode_pages([body(message()), content, body(message(2))], MESSAGE)
    assert decoded.root["id"].to_pylist() == [1, 2]
    (lost,) = decoded.rejected
    assert lost.reason.startswith("a whole page: ")
    assert (lost.id, lost.payload, lost.repaired) == (None, content.decode(), False)
