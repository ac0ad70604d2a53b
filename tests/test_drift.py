"""A field the API adds later arrives by itself, with its value and nobody else's."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from linq_source.decoding.records import (
    MESSAGE,
    Records,
    child_schema,
    concat_records,
    root_schema,
)
from linq_source.decoding.salvage import salvage_page
from linq_source.rows.unknown_columns import UnknownColumns
from linq_source.tables import ATTACHMENTS
from tests.test_decoding import assert_same, body, decode, decode_fast, message

pytestmark = pytest.mark.quick

LISTS = ("attachments", "reactions")


def new_columns(records: Records) -> dict[str, list[Any]]:
    known = root_schema(MESSAGE).names
    return {name: records.root[name].to_pylist() for name in records.root.column_names
            if name not in known}  # fmt: skip


def new_child_columns(records: Records, field: str) -> dict[str, list[Any]]:
    known = child_schema(MESSAGE.children[field]).names
    child = records.children[field]
    return {name: child[name].to_pylist() for name in child.column_names if name not in known}


SCALARS = [
    (7, pa.int64()),
    (-(2**63), pa.int64()),
    (2.5, pa.float64()),
    (True, pa.bool_()),
    ("", pa.string()),
    ("x", pa.string()),
    ("null", pa.string()),
    ("12", pa.string()),
    ("2025-05-21", pa.string()),
    ("2025-05-21T12:00:00Z", pa.string()),
    ("2025-05-21 12:00:00.123", pa.string()),
    ("12:00:00", pa.string()),
]
NESTED = [
    {"a": 1},
    {"a": {"b": [1, 2.5, None, True, 'é"\n/']}},
    {"at": "2025-05-21T12:00:00Z"},
    [1, 2],
    ["2025-05-21"],
    [],
    {},
    [{}],
    [[]],
    [{"a": None}],
    {"big": 2**70},
    {"nul": "a\0b"},
]


@pytest.mark.parametrize(("value", "type_"), SCALARS)
def test_a_scalar_becomes_a_column_of_its_type(value: Any, type_: pa.DataType) -> None:
    records = decode_fast(body(message(1, more=value), message(2)))
    assert new_columns(records) == {"more": [value, None]}
    assert records.root.schema.field("more").type == type_
    assert_same(records, salvage_page(body(message(1, more=value), message(2)), MESSAGE, "data"))


@pytest.mark.parametrize("field", LISTS)
@pytest.mark.parametrize(("value", "type_"), SCALARS)
def test_a_scalar_of_a_child_becomes_a_column_of_its_type(
    value: Any, type_: pa.DataType, field: str
) -> None:
    children = [{"id": 1}, {"id": 2, "more": value}]
    if field == "attachments":
        children = [child | {"id": "a"} for child in children]
    page = body(message(1, **{field: children}), message(2))
    records = decode_fast(page)
    assert new_child_columns(records, field) == {"more": [None, value]}
    assert records.children[field].schema.field("more").type == type_
    assert_same(records, salvage_page(page, MESSAGE, "data"))


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@pytest.mark.parametrize("value", NESTED, ids=compact)
def test_an_object_or_list_becomes_its_json_text(value: Any) -> None:
    records = decode(body(message(1), message(2, more=value)), body(message(3, more=None)))
    assert new_columns(records) == {"more": [None, compact(value), None]}


@pytest.mark.parametrize("field", LISTS)
@pytest.mark.parametrize("value", NESTED, ids=compact)
def test_an_object_or_list_of_a_child_becomes_its_json_text(value: Any, field: str) -> None:
    children: list[Any] = [{"id": "1"}, {"id": "2", "more": value}, {"id": "3", "more": None}]
    if field == "reactions":
        children = [child | {"id": int(child["id"])} for child in children]
    pages = body(message(1), message(2, **{field: children})), body(message(3, **{field: children}))
    records = decode(*pages)
    assert new_child_columns(records, field) == {"more": [None, compact(value), None] * 2}
    assert records.children[field]["_row"].to_pylist() == [1] * 3 + [2] * 3


@pytest.mark.parametrize(
    "value", [[1, None], [None], [None, None], {"a": [None, None]}], ids=compact
)
def test_a_list_of_nulls_becomes_its_json_text(value: Any) -> None:
    assert new_columns(decode(body(message(1, more=value)))) == {"more": [compact(value)]}


def test_a_field_that_is_only_null_adds_nothing_that_reaches_a_table() -> None:
    records = decode_fast(body(message(1, more=None)))
    assert set(new_columns(records)) <= {"more"}
    settled = UnknownColumns({}, str).fit("chat_messages", records.root)
    assert settled.column_names == root_schema(MESSAGE).names


@pytest.mark.parametrize("name", ["chat_id", "synced_at", "position", "_x", "_row", "deleted_at"])
@pytest.mark.parametrize("value", [3, "2025-05-21", [1]])
def test_a_field_named_like_one_of_ours_gets_a_name_of_its_own(name: str, value: Any) -> None:
    shown = compact(value) if isinstance(value, list) else value
    page = body(message(1, **{name: value}))
    assert new_columns(decode_fast(page)) == {f"api_{name}": [shown]}
    assert_same(decode(page), salvage_page(page, MESSAGE, "data"))


def test_a_childs_field_named_like_one_of_ours_gets_a_name_of_its_own() -> None:
    names = ("chat_message_id", "chat_id", "position", "_row", "_tombstone", "synced_at")
    page = body(message(attachments=[{"id": "a", **dict.fromkeys(names, 7)}]))
    records = decode_fast(page)
    assert new_child_columns(records, "attachments") == {f"api_{name}": [7] for name in names}
    assert records.children["attachments"].select(["_row", "position"]).to_pylist() == [
        {"_row": 0, "position": 0}
    ]


def test_a_reactions_own_message_id_is_not_kept_twice() -> None:
    records = decode_fast(body(message(5, reactions=[{"id": 1, "chat_message_id": 5}])))
    assert new_child_columns(records, "reactions") == {}


def test_names_that_meet_both_keep_their_values() -> None:
    page = body(message(chat_id=1, api_chat_id=2))
    values = [value for column in new_columns(decode(page)).values() for value in column]
    assert sorted(values) == [1, 2]


NAMES = ['q"q', "d.d", "s p", "é😀", "'", "a\\b", "$", "[0]", "a[*]", "SELECT", "A", "a/b", "%s"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_may_hold_any_character(name: str) -> None:
    records = decode_fast(body(message(1, **{name: 5}), message(2)))
    assert new_columns(records) == {name: [5, None]}
    nested = decode_fast(body(message(1, **{name: [5]}), message(2)))
    assert new_columns(nested) == {name: ["[5]", None]}


@pytest.mark.parametrize("name", ["*", ""])
def test_a_name_that_is_special_in_a_json_path_is_a_name(name: str) -> None:
    nested = decode(body(message(1, **{name: [5]}), message(2)))
    assert new_columns(nested) == {name: ["[5]", None]}


MIXED = [
    (1, "x", ["1", "x"]),
    (True, "x", ["true", "x"]),
    ("s", {"q": 1}, ["s", '{"q":1}']),
    (1, [2], ["1", "[2]"]),
    (1, 2.5, [1.0, 2.5]),
    (2.5, "x", ["2.5", "x"]),
    ("2025-05-21", "x", ["2025-05-21", "x"]),
]


@pytest.mark.parametrize(("one", "other", "expected"), MIXED)
def test_a_field_of_two_types_keeps_both_values(one: Any, other: Any, expected: list[Any]) -> None:
    pages = body(message(1, more=one)), body(message(2, more=other))
    assert new_columns(decode(*pages)) == {"more": expected}
    assert new_columns(decode(*reversed(pages))) == {"more": expected[::-1]}
    assert new_columns(decode(body(message(1, more=one), message(2, more=other)))) == {
        "more": expected
    }


@pytest.mark.parametrize("number", [2**63, 2**64 + 1, -(2**63) - 1, int("1" * 400)])
def test_a_whole_number_beyond_64_bit_keeps_its_digits(number: int) -> None:
    assert new_columns(decode(body(message(1, more=number)))) == {"more": [str(number)]}


def test_a_whole_number_beside_a_fraction_keeps_its_digits() -> None:
    (value, _) = new_columns(decode(body(message(1, more=2**53 + 1), message(2, more=0.5))))["more"]
    assert int(value) == 2**53 + 1


@pytest.mark.parametrize(
    ("literal", "expected"),
    [
        ("1.10", 1.1),
        ("0.1000000000000000055", "0.1000000000000000055"),
        ("1e400", "1e400"),
        ("1e-400", "1e-400"),
        ("-0.0", -0.0),
        ("1e2", 100.0),
        ("123456789012345678.5", "123456789012345678.5"),
        ('{"a":[0.1000000000000000055,1e400,2.5]}', '{"a":[0.1000000000000000055,1e400,2.5]}'),
    ],
)
def test_a_number_is_never_another_number(literal: str, expected: Any) -> None:
    page = body(message(1, more=5)).replace(b'"more": 5', f'"more": {literal}'.encode())
    assert literal.encode() in page
    for found in (decode(page), salvage_page(page, MESSAGE, "data")):
        (value,) = new_columns(found)["more"]
        assert repr(value) == repr(expected)


def test_whole_numbers_and_fractions_of_different_pages_stay_what_they_are() -> None:
    whole = decode(body(message(1, more=2**53 + 1)))
    assert new_columns(concat_records(MESSAGE, [whole, decode(body(message(2, more=0.5)))])) == {
        "more": [str(2**53 + 1), "0.5"]
    }


def settle(known: dict[str, str], *columns: tuple[str, list[Any]]) -> dict[str, list[Any]]:
    types = UnknownColumns({ATTACHMENTS.name: known}, lambda name: name.lower())
    rows = pa.table({"id": ["a"] * len(columns[0][1]), **dict(columns)})
    return dict(types.fit(ATTACHMENTS.name, rows).to_pydict())


def test_a_new_column_goes_under_its_normalized_name() -> None:
    assert settle({}, ("Width", [1, None])) == {"id": ["a", "a"], "width": [1, None]}


@pytest.mark.parametrize(
    ("known", "values", "expected"),
    [
        ("bigint", [1], {"width": [1]}),
        ("double", [1], {"width": [1.0]}),
        ("bigint", [1.0], {"width": [1]}),
        ("text", [1], {"width": ["1"]}),
        ("text", [True], {"width": ["true"]}),
        ("bigint", [1.5], {"width__v_double": [1.5]}),
        ("bigint", ["1"], {"width__v_text": ["1"]}),
        ("bool", [1], {"width__v_bigint": [1]}),
        ("bigint", [True], {"width__v_bool": [True]}),
        ("double", [2**53 + 1], {"width__v_bigint": [2**53 + 1]}),
        ("timestamp", ["2025-05-21"], {"width__v_text": ["2025-05-21"]}),
    ],
)
def test_a_value_its_column_cannot_hold_goes_to_a_column_of_its_own(
    known: str, values: list[Any], expected: dict[str, list[Any]]
) -> None:
    assert settle({"width": known}, ("width", values)) == {"id": ["a"], **expected}


def test_the_first_type_seen_is_the_columns_type_from_then_on() -> None:
    types = UnknownColumns({}, str)
    for values, expected in (([1], "width"), ([0.5], "width__v_double"), ([2], "width")):
        rows = types.fit(ATTACHMENTS.name, pa.table({"id": ["a"], "width": values}))
        assert rows.to_pydict() == {"id": ["a"], expected: values}


def test_our_own_columns_are_never_renamed() -> None:
    types = UnknownColumns({ATTACHMENTS.name: {"id": "bigint"}}, str.upper)
    rows = pa.table({name: ["a"] for name in ATTACHMENTS.column_names})
    assert types.fit(ATTACHMENTS.name, rows).column_names == list(ATTACHMENTS.column_names)


def test_fields_that_get_one_name_in_the_destination_both_keep_their_values() -> None:
    settled = settle({}, ("Width", [1]), ("width", [2]))
    assert sorted(value for name, (value,) in settled.items() if name != "id") == [1, 2]
