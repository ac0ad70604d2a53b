"""One bad record never costs its neighbours, and says what became of it."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linq_source.decoding.pages import decode_pages
from linq_source.decoding.records import MESSAGE, Records, distinct_rejected
from linq_source.decoding.scanning import is_nested_deeply
from linq_source.instants import parse_iso
from tests.test_decoding import (
    LAW,
    NOON,
    SENT_AT,
    Record,
    assert_same,
    body,
    decode,
    decode_fast,
    lists_of_one_reading,
    message,
)

pytestmark = pytest.mark.quick

NEAR_US = parse_iso(SENT_AT)


def raw(record: Record, old: str, new: str) -> str:
    """The record's JSON text with one piece of it replaced."""
    text = json.dumps(record)
    assert old in text
    return text.replace(old, new, 1)


def page_of(*records: str) -> bytes:
    return f'{{"data": [{", ".join(records)}], "meta": {{"page": 1}}}}'.encode()


def among_neighbours(bad: str) -> Records:
    """The records of a page where a bad one stands between two good ones, and after a good page."""
    good = [json.dumps(message(id_)) for id_ in (100, 200)]
    decoded = decode_pages([body(message(50)), page_of(good[0], bad, good[1])], MESSAGE)
    assert decoded.received == 4
    neighbours = [row for row in decoded.root.to_pylist() if row["id"] in (50, 100, 200)]
    assert neighbours == decode(body(message(50), message(100), message(200))).root.to_pylist()
    return decoded


def loaded(records: Records) -> list[Record]:
    return [row for row in records.root.to_pylist() if row["id"] not in (50, 100, 200)]


def expected(**changed: Any) -> Record:
    row = {key: value for key, value in message().items() if not isinstance(value, list)}
    return row | {"sent_at": NOON} | changed


REJECTED = [
    (raw(message(), '"id": 1', f'"id": {2**63}'), None, "id: beyond 64 bit"),
    (raw(message(), '"id": 1', '"id": "one"'), None, "id: not a whole number"),
    (raw(message(), '"id": 1', '"id": 1.5'), None, "id: not a whole number"),
    (raw(message(), '"id": 1', '"id": true'), None, "id: not a whole number"),
    (raw(message(), '"id": 1', '"id": null'), None, "id: missing"),
    (raw(message(), '"id": 1, ', ""), None, "id: missing"),
    (json.dumps(message(sent_at="yesterday")), 1, "sent_at: not an ISO 8601 instant"),
    (json.dumps(message(sent_at=1747828800)), 1, "sent_at: not an instant"),
    (json.dumps(message(sent_at=None)), 1, "sent_at: missing"),
    (raw(message(), f'"sent_at": "{SENT_AT}", ', ""), 1, "sent_at: missing"),
    ("null", None, "not an object"),
    ("[]", None, "not an object"),
    ('"{}"', None, "not an object"),
    ("{}", None, "id: missing"),
]


@pytest.mark.parametrize(("bad", "id_", "reason"), REJECTED)
def test_a_record_without_a_usable_key_is_rejected_whole(
    bad: str, id_: int | None, reason: str
) -> None:
    records = among_neighbours(bad)
    assert loaded(records) == []
    (lost,) = records.rejected
    assert (lost.id, lost.reason, lost.payload, lost.near_us, lost.repaired) == (
        id_,
        reason,
        bad,
        NEAR_US,
        False,
    )
    assert records.received == 4


LONE = "kept as U+FFFD"
REPAIRED: list[tuple[str, Record, str]] = [
    (
        raw(message(), '"text 1"', '"a\\ud83dz"'),
        {"text": "a\ufffdz"},
        f"text: characters that are not Unicode, {LONE}",
    ),
    (
        raw(message(), '"text 1"', '"\\ude00\\ud83d"'),
        {"text": "\ufffd\ufffd"},
        f"text: characters that are not Unicode, {LONE}",
    ),
    (json.dumps(message(chat_handle_id=2**64)), {"chat_handle_id": None}, "beyond 64 bit"),
    (json.dumps(message(chat_handle_id="x")), {"chat_handle_id": None}, "not a whole number"),
    (json.dumps(message(text={"a": 1})), {"text": None}, "an object or list where text belongs"),
    (json.dumps(message(is_read="true")), {"is_read": None}, "not true or false"),
    (json.dumps(message(edited_at="soon")), {"edited_at": None}, "not an ISO 8601 instant"),
    (
        raw(message(), '"text 1"', '"first", "text": "last"'),
        {"text": "last"},
        "text: stands twice, the last one kept",
    ),
    (raw(message(), '"id": 1', '"id": 7, "id": 1'), {}, "id: stands twice, the last one kept"),
    (json.dumps(message(attachments={"id": "a"})), {}, "attachments: not a list, left out"),
    (json.dumps(message(attachments=[None])), {}, "attachments[0]: not an object, left out"),
    (json.dumps(message(reactions=[5])), {}, "reactions[0]: not an object, left out"),
    (json.dumps(message(reactions=[{}])), {}, "reactions[0]: no usable id, left out"),
]


@pytest.mark.parametrize(("bad", "changed", "reason"), REPAIRED)
def test_what_can_be_typed_is_loaded_and_the_record_is_kept_whole_beside_it(
    bad: str, changed: Record, reason: str
) -> None:
    records = among_neighbours(bad)
    assert loaded(records) == [expected(**changed)]
    (lost,) = records.rejected
    assert (lost.id, lost.payload, lost.near_us, lost.repaired) == (1, bad, NEAR_US, True)
    assert reason in lost.reason
    assert records.received == 4


FAITHFUL: list[tuple[str, Record]] = [
    (json.dumps(message("1")), {}),
    (raw(message(), '"id": 1', '"id": 1.0'), {}),
    (json.dumps(message(text=5)), {"text": "5"}),
    (json.dumps(message(text=True)), {"text": "true"}),
    (raw(message(), '"text 1"', '"text 1", "text": "text 1"'), {}),
    (
        json.dumps(message(sent_at="2025-05-21T12:00:00.123456789Z")),
        {"sent_at": NOON.replace(microsecond=123_456)},
    ),
    (json.dumps(message(sent_at="2025-05-21 12:00:00.123Z")), {}),
    (json.dumps(message(sent_at="2025-05-21 12:00:00.123")), {}),
    (json.dumps(message(sent_at="2025-05-21T12:00:00.123")), {}),
    (json.dumps(message(sent_at="2025-05-21t12:00:00.123z")), {}),
    (json.dumps(message(sent_at="2025-05-21T07:00:00.123-05")), {}),
    (json.dumps(message(sent_at="2025-05-21")), {"sent_at": datetime(2025, 5, 21, tzinfo=UTC)}),
    (json.dumps(message(text="a\0b")), {"text": "a\0b"}),
    (json.dumps(message(attachments=None, reactions=None)), {}),
]


@pytest.mark.parametrize(("odd", "changed"), FAITHFUL)
def test_what_can_be_read_faithfully_is_not_rejected(odd: str, changed: Record) -> None:
    records = among_neighbours(odd)
    assert loaded(records) == [expected(**changed)]
    assert records.rejected == ()


def test_a_bad_child_leaves_its_siblings_in_their_places() -> None:
    attachments = [None, {"id": "a", "file_size": "big"}, {"id": "b"}]
    reactions = [{"reaction": "love"}, {"id": "8", "sent_at": SENT_AT}, {"id": 9, "sent_at": "?"}]
    bad = message(attachments=attachments, reactions=reactions)
    records = among_neighbours(json.dumps(bad))
    found = records.children["attachments"].select(["_row", "position", "id", "file_size"])
    assert found.to_pylist() == [
        {"_row": 2, "position": 1, "id": "a", "file_size": None},
        {"_row": 2, "position": 2, "id": "b", "file_size": None},
    ]
    found = records.children["reactions"].select(["_row", "position", "id", "sent_at"])
    assert found.to_pylist() == [
        {"_row": 2, "position": 1, "id": 8, "sent_at": NOON},
        {"_row": 2, "position": 2, "id": 9, "sent_at": None},
    ]
    (lost,) = records.rejected
    assert lost.reason.split("; ") == [
        "attachments[0]: not an object, left out",
        "attachments[1].file_size: not a whole number",
        "reactions[0]: no usable id, left out",
        "reactions[2].sent_at: not an ISO 8601 instant",
    ]


@LAW
@given(lists_of_one_reading(2, 2), st.sampled_from([bad for bad, _, _ in REJECTED]))
def test_a_rejected_record_changes_nothing_else(lists: list[list[Record]], bad: str) -> None:
    before, after = lists
    page = page_of(*map(json.dumps, before), bad, *map(json.dumps, after))
    found = decode(page)
    assert_same(Records(MESSAGE, found.root, found.children), decode(body(*before, *after)))
    assert len(found.rejected) == 1


def test_a_record_without_an_instant_stands_at_the_record_before_it() -> None:
    days = [f"2025-05-2{day}T12:00:00Z" for day in range(4)]
    unreadable = message(2, sent_at="?")
    unkeyed = message(None, sent_at=days[1])
    records = [message(1, sent_at=days[0]), unreadable, unkeyed, message(3, sent_at=days[3])]
    found = decode(body(*records, unreadable))
    assert [lost.near_us for lost in found.rejected] == [
        parse_iso(day) for day in (days[0], days[1], days[3])
    ]


def test_the_first_record_of_a_page_stands_at_a_neighbour_too() -> None:
    bad = message(2, sent_at="?")
    assert decode(body(bad, message(3))).rejected[0].near_us == NEAR_US
    assert decode(body(message(1)), body(bad)).rejected[0].near_us == NEAR_US


def test_a_value_that_is_no_json_costs_its_record_only() -> None:
    records = among_neighbours(raw(message(), '"chat_handle_id": 7', '"chat_handle_id": NaN'))
    assert loaded(records) == [expected(chat_handle_id=None)]
    assert [lost.repaired for lost in records.rejected] == [True]


def test_a_number_of_any_length_costs_its_record_only() -> None:
    digits = "1" * 5_000
    records = among_neighbours(raw(message(), '"chat_handle_id": 7', f'"chat_handle_id": {digits}'))
    assert loaded(records) == [expected(chat_handle_id=None)]


def test_bytes_that_are_no_utf_8_become_replacement_characters() -> None:
    page = body(message(), message(2)).replace(b'"text 1"', b'"a\xffb"')
    records = decode(page)
    records.root.validate(full=True)
    assert records.root["text"].to_pylist() == ["a\ufffdb", "text 2"]
    assert [lost.reason for lost in records.rejected] == [
        "text: characters that are not Unicode, kept as U+FFFD"
    ]


@pytest.mark.parametrize(
    "name", [b"te\xffxt", b"a\\ud83d"], ids=["invalid UTF-8", "lone surrogate"]
)
def test_a_name_that_is_no_unicode_costs_its_record_only(name: bytes) -> None:
    page = body(message(), message(2)).replace(b'"text"', b'"' + name + b'": 5, "text"', 1)
    assert decode(page).root["id"].to_pylist() == [1, 2]


@pytest.mark.parametrize(
    "sent_at",
    ["0000-01-01T00:00:00Z", "9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00"],
)
def test_an_instant_that_no_destination_holds_is_rejected(sent_at: str) -> None:
    records = among_neighbours(json.dumps(message(sent_at=sent_at)))
    assert loaded(records) == []
    assert len(records.rejected) == 1


@pytest.mark.parametrize("depth", [50, 400])
def test_depth_of_nesting_costs_nobody(depth: int) -> None:
    nested = "[" * depth + "]" * depth
    bad = raw(message(), '"id": 1', f'"more": {nested}, "id": "1"')
    assert decode(page_of(json.dumps(message(100)), bad)).root["id"].to_pylist() == [100, 1]


def nested(depth: int, blank: str = "") -> str:
    return f"[{blank}" * depth + f"]{blank}" * depth


DEEP = {
    "3,000 deep": nested(3_000),
    "100,000 deep": nested(100_000),
    "with blanks": nested(3_000, " \n"),
    "objects with neighbours": '{"a":[],"b":' * 3_000 + "1" + ',"c":"]"}' * 3_000,
    "text that closes": "[" + json.dumps("]" * 5_000) + "," + nested(3_000) + "]",
}


@pytest.mark.parametrize("deep", DEEP.values(), ids=DEEP)
@pytest.mark.parametrize(
    "place", ['"id": 1, "more": %s', '"id": 1, "attachments": [{"x": %s}]', '"id": %s'],
    ids=["in the record", "in a child", "in the place of its id"],
)  # fmt: skip
def test_a_record_that_is_nested_deeply_costs_itself_alone(deep: str, place: str) -> None:
    good = [json.dumps(message(number)) for number in range(100, 199)]
    bad = raw(message(), '"id": 1', place % deep)
    records = decode(page_of(*good[:50], bad, *good[50:]))
    assert records.root["id"].to_pylist() == list(range(100, 199))
    (lost,) = records.rejected
    id_ = None if place == '"id": %s' else 1
    assert (lost.id, lost.payload, lost.near_us, lost.repaired) == (id_, bad, NEAR_US, False)
    assert records.received == 100


def test_many_records_that_are_nested_deeply_cost_themselves_alone() -> None:
    good = [json.dumps(message(number)) for number in range(100, 150)]
    bad = f'{{"more": {nested(20_000)}}}'
    records = decode(page_of(*(text for one in good for text in (one, bad))))
    assert records.root["id"].to_pylist() == list(range(100, 150))
    assert [lost.payload for lost in records.rejected] == [bad] * 50
    assert len(distinct_rejected(records.rejected)) == 50


@pytest.mark.parametrize(
    "text", ["]" * 1_000, "[" * 1_000, '"[\\' * 1_000, "x" * 3_000_000], ids=range(4)
)
def test_brackets_in_a_text_are_no_nesting(text: str) -> None:
    page = body(message(text=text), message(2))
    assert not is_nested_deeply(page, 5)
    assert decode_fast(page).root["text"].to_pylist() == [text, "text 2"]


def test_one_id_twice_in_an_answer_is_one_record_and_the_other_kept_whole() -> None:
    again = json.dumps(message(1, text="again"))
    records = decode(page_of(json.dumps(message()), again, again), body(message(1)))
    assert records.root["text"].to_pylist() == ["text 1", "text 1"]
    assert [(lost.id, lost.payload, lost.repeat) for lost in records.rejected] == [
        (1, again, 0),
        (1, again, 1),
    ]
    assert records.received == 4


def test_one_reaction_twice_in_a_record_is_one_row_and_said() -> None:
    reactions = [{"id": 8, "reaction": "love"}, {"id": 9}, {"id": 8, "reaction": "like"}]
    bad = json.dumps(message(reactions=reactions, attachments=[{"id": "a"}, {"id": "a"}]))
    other = message(200, reactions=[{"id": 8}])
    records = decode(page_of(bad, json.dumps(other)))
    found = records.children["reactions"].select(["_row", "position", "id", "reaction"])
    assert [tuple(row.values()) for row in found.to_pylist()] == [
        (0, 0, 8, "love"),
        (0, 1, 9, None),
        (1, 0, 8, None),
    ]
    assert records.children["attachments"]["position"].to_pylist() == [0, 1]
    assert [(lost.reason, lost.payload, lost.repaired) for lost in records.rejected] == [
        ("reactions[2]: id stands twice, the first kept", bad, True)
    ]


@pytest.mark.parametrize(
    "content",
    [
        'b"null"',
        'b\'{"data": [{"x": \' + b"[" * 20_000 + b"]" * 20_000 + b"}]}"',
        'b\'{"data": [{"x": \' + b"[ " * 20_000 + b"] " * 20_000 + b"}]}"',
        'b\'{"data": [\' + b\'{"a": "]", "b": \' * 20_000 + b"1" + b"}" * 20_000 + b"]}"',
    ],
)
def test_no_page_ends_the_process(content: str) -> None:
    program = (
        "from linq_source.decoding.pages import decode_pages\n"
        "from linq_source.decoding.records import MESSAGE\n"
        f"decode_pages([{content}], MESSAGE)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode >= 0
