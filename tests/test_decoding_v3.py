"""Pages of API v3 become exact Arrow tables: messages with parts, files and reactions; chats."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from operator import itemgetter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linq_source.decoding.pages import decode_pages
from linq_source.decoding.records import (
    MESSAGE_V3,
    child_schema,
    concat_records,
    empty_records,
    root_schema,
)
from linq_source.decoding.salvage import salvage_page
from linq_source.instants import parse_iso
from tests.records_v3 import (
    CREATED,
    CREATED_AT,
    DATA,
    FILE_ID,
    MARA,
    MARA_ID,
    OTHER,
    OTHER_ID,
    OWN,
    OWN_ID,
    SHAPES,
    body,
    both_paths,
    decode,
    decode_fast,
    held,
    message,
    salvage,
    uuid,
)
from tests.test_decoding import LAW, NAMES, TEXTS, ZONES, Record, assert_same, fast_only

pytestmark = pytest.mark.quick


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize("path", ["fast", "slow"])
def test_the_example_of_messages_arrives_exactly(path: str) -> None:
    content = (DATA / "v3_messages_example.json").read_bytes()
    records = decode_fast(content) if path == "fast" else salvage(content)
    received = {"delivery_status": "received", "is_read": False, "sent_from": OTHER,
                "chat_handle_id": OTHER_ID, "is_from_me": False, "is_delivered": False}  # fmt: skip
    assert held(records.root) == [
        received
        | {
            "id": uuid(5),
            "text": "Lovely. See you at 5?",
            "sent_at": at("2026-10-04T10:12:06.512"),
            "created_at": at("2026-10-04T10:12:06.900"),
            "updated_at": at("2026-10-04T10:12:07.101"),
            "service": "iMessage",
        },
        {
            "id": uuid(4),
            "text": "The beds are ready, Mara!",
            "sent_at": at("2026-10-04T10:10:00.250"),
            "delivered_at": at("2026-10-04T10:10:01.004"),
            "delivery_status": "read",
            "is_read": True,
            "sent_from": OWN,
            "chat_handle_id": OWN_ID,
            "created_at": at("2026-10-04T10:09:59.918"),
            "updated_at": at("2026-10-04T10:12:00.333"),
            "read_at": at("2026-10-04T10:11:30.870"),
            "is_from_me": True,
            "is_delivered": True,
            "service": "iMessage",
            "preferred_service": "iMessage",
            "reply_to_message_id": uuid(2),
            "reply_to_part_position": 0,
            "effect_type": "screen",
            "effect_name": "confetti",
        },
        {
            "id": uuid(3),
            "text": "https://example.com/beds",
            "delivery_status": "failed",
            "is_read": False,
            "sent_from": OWN,
            "chat_handle_id": OWN_ID,
            "created_at": at("2026-10-04T10:08:00"),
            "updated_at": at("2026-10-04T10:08:31"),
            "is_from_me": True,
            "is_delivered": False,
        },
        received
        | {
            "id": uuid(2),
            "text": "How far are you?",
            "sent_at": at("2026-10-04T10:04:59"),
            "created_at": at("2026-10-04T10:05:00"),
            "updated_at": at("2026-10-04T10:05:00"),
            "service": "SMS",
        },
        received
        | {
            "id": uuid(1),
            "text": "Sent from the train, arrived late",
            "sent_at": at("2026-10-03T05:58:10"),
            "created_at": at("2026-10-03T06:00:00"),
            "updated_at": at("2026-10-04T09:00:00"),
            "service": "iMessage",
            "reconciled_at": at("2026-10-04T09:00:00"),
        },
    ]
    assert held(records.children["parts"]) == [
        {"_row": 0, "position": 0, "type": "text", "value": "Lovely. See you at 5?"},
        {
            "_row": 1,
            "position": 0,
            "type": "text",
            "value": "The beds are ready, Mara!",
            "text_decorations": '[{"range":[4,8],"style":"bold","animation":null}]',
            "mentions": '[{"handle":"mara@example.com","is_me":false,"range":[20,24]}]',
        },
        {"_row": 1, "position": 1, "type": "media", "attachment_id": FILE_ID},
        {"_row": 2, "position": 0, "type": "link", "value": "https://example.com/beds"},
        {"_row": 3, "position": 0, "type": "text", "value": "How far are you?"},
        {"_row": 4, "position": 0, "type": "text", "value": "Sent from the train, arrived late"},
    ]
    assert held(records.children["attachments"]) == [
        {
            "_row": 1,
            "position": 1,
            "id": FILE_ID,
            "url": f"https://cdn.linqapp.com/attachments/partners/p1/{FILE_ID}/beds.heic",
            "filename": "beds.heic",
            "mime_type": "image/heic",
            "file_size": 2483011,
        }
    ]
    assert held(records.children["reactions"]) == [
        {
            "_row": 1,
            "part_position": 0,
            "position": 0,
            "id": "9d0c0a00-0000-4000-8000-000000000001",
            "reaction": "love",
            "is_from_me": False,
            "from_phone": OTHER,
            "chat_handle_id": OTHER_ID,
        },
        {
            "_row": 1,
            "part_position": 0,
            "position": 1,
            "reaction": "custom",
            "is_from_me": False,
            "from_phone": MARA,
            "chat_handle_id": MARA_ID,
            "custom_emoji": "🌱",
        },
        {
            "_row": 1,
            "part_position": 1,
            "position": 0,
            "id": "9d0c0a00-0000-4000-8000-000000000002",
            "reaction": "sticker",
            "is_from_me": False,
            "from_phone": OTHER,
            "chat_handle_id": OTHER_ID,
            "sticker_url": "https://cdn.linqapp.com/attachments/s/leaf.png?signature=x",
            "sticker_file_name": "leaf.png",
            "sticker_mime_type": "image/png",
            "sticker_width": 320,
            "sticker_height": 320,
        },
    ]
    assert records.rejected == ()


@pytest.mark.parametrize("path", ["fast", "slow"])
def test_the_examples_of_chats_and_numbers_arrive_exactly(path: str) -> None:
    contents = {name: (DATA / f"v3_{name}_example.json").read_bytes() for name in SHAPES}
    if path == "fast":
        with fast_only():
            found = {n: decode_pages([c], SHAPES[n], n) for n, c in contents.items()}
    else:
        found = {n: salvage_page(c, SHAPES[n], n) for n, c in contents.items()}
    assert held(found["chats"].root) == [
        {
            "id": "7c1d2a34-1111-4111-8111-111111111111",
            "display_name": f"{OWN}, {OTHER}",
            "service": "iMessage",
            "is_group": False,
            "is_archived": False,
            "health_status": "HEALTHY",
            "health_updated_at": at("2026-10-04T10:00:00"),
            "created_at": at("2026-03-02T08:15:30"),
            "updated_at": at("2026-10-04T10:12:07"),
        },
        {
            "id": "7c1d2a34-2222-4222-8222-222222222222",
            "display_name": "Garden plan",
            "service": "iMessage",
            "is_group": True,
            "is_archived": False,
            "health_status": "AT_RISK",
            "health_updated_at": at("2026-10-04T10:00:00"),
            "group_chat_icon": "https://cdn.linqapp.com/icons/garden.png",
            "created_at": at("2026-05-11T17:00:00"),
            "updated_at": at("2026-09-30T21:44:10"),
        },
    ]
    joined = {"service": "iMessage", "joined_at": at("2026-03-02T08:15:30.123456")}
    own = {"id": OWN_ID, "phone_number": OWN, "status": "active", "is_me": True,
           "line_type": "iMessage"} | joined  # fmt: skip
    other = {"id": OTHER_ID, "phone_number": OTHER, "status": "active", "is_me": False} | joined
    mara = other | {"id": MARA_ID, "phone_number": MARA}
    gone = other | {
        "id": "0f6f1c1e-0000-4000-8000-000000000004",
        "phone_number": "+12025550188",
        "status": "removed",
        "left_at": at("2026-08-01"),
    }
    assert held(found["chats"].children["handles"]) == [
        {"_row": row, "position": position} | handle
        for row, handles in enumerate([[own, other], [own, other, mara, gone]])
        for position, handle in enumerate(handles)
    ]
    assert found["phone_numbers"].root.to_pylist() == [
        {
            "id": "aa000000-0000-4000-8000-000000000001",
            "phone_number": OWN,
            "forwarding_number": None,
            "line_type": "iMessage",
            "reputation": "HEALTHY",
        }
    ]
    assert all(records.rejected == () for records in found.values())


def test_no_pages_and_empty_pages_have_every_column() -> None:
    for records in (decode(), decode_fast(body(), body()), empty_records(MESSAGE_V3)):
        assert records.root.schema == root_schema(MESSAGE_V3)
        for name, table in MESSAGE_V3.children.items():
            assert records.children[name].schema == child_schema(table)
        assert len(records) == 0


def test_null_and_absent_are_the_same_and_nothing_wrong() -> None:
    nothing = dict.fromkeys(("from_handle", "reply_to", "effect", "reconciled_at", "sent_at"))
    least = {"id": uuid(2), "created_at": CREATED_AT}
    records = both_paths(message(1, **nothing) | {"parts": None}, least, message(3))
    assert held(records.root) == [
        {"id": uuid(number), "created_at": CREATED} for number in (1, 2, 3)
    ]
    assert [child.num_rows for child in records.children.values()] == [0, 0, 0]


@pytest.mark.parametrize("digits", ["1", "123", "123456", "1234567", "123456789"])
@pytest.mark.parametrize("year", [1969, 2026])
def test_instants_are_cut_to_the_microsecond(digits: str, year: int) -> None:
    sent_at = f"{year}-12-31T23:59:59.{digits}Z"
    records = both_paths(message(created_at=sent_at, sent_at=sent_at))
    us = int(digits[:6].ljust(6, "0"))
    expected = datetime(year, 12, 31, 23, 59, 59, us, tzinfo=UTC)
    assert records.root.select(["created_at", "sent_at"]).to_pylist() == [
        {"created_at": expected, "sent_at": expected}
    ]
    assert records.instants.to_pylist() == [parse_iso(sent_at)]


@pytest.mark.parametrize("year", ["0001", "1600", "2262", "9999"])
def test_an_instant_that_nanoseconds_do_not_hold_arrives_all_the_same(year: str) -> None:
    records = decode(body(message(created_at=f"{year}-12-31T23:59:59.25Z"), message(2)))
    assert records.root["created_at"].to_pylist() == [
        datetime(int(year), 12, 31, 23, 59, 59, 250_000, tzinfo=UTC),
        CREATED,
    ]
    assert records.rejected == ()


# What a test about both paths is to leave out: values that the fast path rightly refuses.
DIGITS = st.text("0123456789", min_size=1, max_size=9)
INSTANTS = st.builds(
    lambda moment, digits, zone: f"{moment:%Y-%m-%dT%H:%M:%S}.{digits}{zone}",
    st.datetimes(
        min_value=CREATED.replace(year=1900, tzinfo=None),
        max_value=CREATED.replace(year=2200, tzinfo=None),
    ),
    DIGITS,
    ZONES.map(lambda zone: CREATED.replace(microsecond=0, tzinfo=zone).isoformat()[19:]),
)
UUIDS = st.uuids().map(str)
NUMBERS = st.none() | st.integers(0, 2**53)
HANDLES = st.none() | st.fixed_dictionaries(
    {}, optional={"id": UUIDS, "handle": TEXTS, "joined_at": st.none() | INSTANTS, "mood": TEXTS}
)
REACTIONS = st.fixed_dictionaries(
    {},
    optional={
        "id": st.none() | UUIDS,
        "type": TEXTS,
        "is_me": st.none() | st.booleans(),
        "handle": HANDLES,
        "custom_emoji": TEXTS,
        "sticker": st.none()
        | st.fixed_dictionaries({}, optional={"url": TEXTS, "width": NUMBERS, "tags": NAMES}),
        "note": st.none() | st.fixed_dictionaries({"by": NAMES}),
    },
)
RANGES = st.lists(
    st.fixed_dictionaries({"range": st.lists(st.integers(0, 9), max_size=2)}), max_size=2
)
PART_FIELDS = {
    "value": TEXTS,
    "reactions": st.none() | st.lists(REACTIONS, max_size=3),
    "text_decorations": st.none() | RANGES,
    "inline_stickers": st.none() | RANGES,
    "id": TEXTS,
    "url": TEXTS,
    "filename": TEXTS,
    "size_bytes": NUMBERS,
    "title": TEXTS,
    "layout": st.none() | st.fixed_dictionaries({"caption": NAMES, "places": NUMBERS}),
    "payload": TEXTS,
    "weight": NUMBERS,
}
PARTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "link", "media", "app_clip", "poll", "", None])},
    optional=PART_FIELDS,
)
MESSAGES = st.fixed_dictionaries(
    {"id": UUIDS, "created_at": INSTANTS},
    optional={
        "chat_id": UUIDS,
        "from": TEXTS,
        "from_handle": HANDLES,
        "sent_at": st.none() | INSTANTS,
        "is_read": st.none() | st.booleans(),
        "reply_to": st.none()
        | st.fixed_dictionaries({}, optional={"message_id": UUIDS, "part_index": NUMBERS}),
        "effect": st.none() | st.fixed_dictionaries({}, optional={"name": TEXTS, "tint": NAMES}),
        "parts": st.none() | st.lists(PARTS, max_size=4),
        "subject": TEXTS,
    },
)
LISTS = st.lists(MESSAGES, max_size=6, unique_by=itemgetter("id"))


@LAW
@given(LISTS)
def test_the_fast_path_reads_what_the_slow_path_reads(found: list[Record]) -> None:
    content = body(*found)
    assert_same(decode_fast(content), salvage(content))


@LAW
@given(LISTS, st.lists(st.integers(0, 6), max_size=3))
def test_pages_hold_what_one_page_of_all_holds(found: list[Record], cuts: list[int]) -> None:
    ends = [0, *sorted(cuts), len(found)]
    pages = [body(*found[start:stop]) for start, stop in pairwise(ends)]
    together = decode(body(*found))
    assert_same(decode(*pages), together)
    assert_same(concat_records(MESSAGE_V3, [decode(page) for page in pages]), together)


@LAW
@given(LISTS, st.data())
def test_parts_of_a_reading_have_the_children_of_theirs(
    found: list[Record], data: st.DataObject
) -> None:
    records = decode(body(*found))
    start = data.draw(st.integers(0, len(found)))
    stop = data.draw(st.integers(start, len(found)))
    part_of = records.slice(start, stop)
    rows = data.draw(st.permutations(range(len(found))))
    taken = records.take(pa.array(rows, pa.int64()))
    for records_, expected in (
        (part_of, found[start:stop]),
        (taken, [found[row] for row in rows]),
    ):
        alone = decode(body(*expected))
        for name in MESSAGE_V3.children:
            columns = alone.children[name].column_names
            assert records_.children[name].select(columns).equals(alone.children[name])
