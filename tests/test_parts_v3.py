"""Odd records of API v3: parts of any type, new fields, and what is wrong costs only itself."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from linq_source.decoding.pages import decode_pages
from linq_source.decoding.records import (
    MESSAGE_V3,
    Records,
    child_schema,
    record_text,
)
from linq_source.instants import parse_iso
from tests.records_v3 import (
    CREATED,
    CREATED_AT,
    DATA,
    FILE_ID,
    MARA,
    OTHER,
    OTHER_ID,
    OWN,
    SHAPES,
    body,
    both_paths,
    decode,
    held,
    message,
    part,
    salvage,
    uuid,
)
from tests.test_decoding import Record, assert_same

pytestmark = pytest.mark.quick


def test_text_is_that_of_text_and_link_parts_a_line_each() -> None:
    records = both_paths(
        message(1, part(value="one"), {"type": "media", "value": "no"}, part(value="two\n")),
        message(2, {"type": "media"}, {"type": "app_clip", "value": "https://example.com"}),
        message(3, part(value=None), part(value=""), {"type": "link", "value": "https://a.b"}),
        message(4, part(value="")),
    )
    texts = ["one\ntwo\n", None, "\nhttps://a.b", ""]
    assert records.root["text"].to_pylist() == texts


CLIP = {
    "type": "app_clip",
    "value": "https://example.com/clip?id=5",
    "title": "Clip",
    "url": {"an": "object"},
    "nested": {"list": [{"é": "\u2028/\x1f\n"}], "empty": [], "price": 1.5, "no": None},
    "nothing": None,
}


def test_a_part_of_another_type_is_kept_whole_without_its_reactions() -> None:
    clip = {**CLIP, "url": "https://example.com", "reactions": [{"type": "love"}]}
    records = both_paths(message(1, part(), clip, {"value": "no type"}, {}))
    parts = held(records.children["parts"])
    payload = {name: value for name, value in clip.items() if name != "reactions"}
    assert [json.loads(row.pop("payload", "0")) for row in parts] == [
        0, payload, {"value": "no type"}, {}
    ]  # fmt: skip
    assert parts == [
        {"_row": 0, "position": 0, "type": "text", "value": "Hi"},
        {"_row": 0, "position": 1, "type": "app_clip"},
        {"_row": 0, "position": 2},
        {"_row": 0, "position": 3},
    ]
    assert held(records.children["reactions"]) == [
        {"_row": 0, "part_position": 1, "position": 0, "reaction": "love"}
    ]


@pytest.mark.parametrize("odd", [{}, {"nested": [None, 1, "a"]}, {"value": ["a"], "id": 5}])
def test_a_part_of_another_type_may_have_anything(odd: Record) -> None:
    records = decode(body(message(1, part(), CLIP | odd)))
    assert json.loads(records.children["parts"]["payload"][1].as_py()) == CLIP | odd
    assert records.rejected == ()


def test_new_fields_of_known_parts_are_columns_those_of_others_are_not() -> None:
    records = both_paths(
        message(
            1,
            part(mood="good", weight=2, facts={"a": [1]}, payload="taken", url="https://a.b"),
            {"type": "media", "id": FILE_ID, "duration": 1.5, "url": "https://c.d"},
            {"type": "poll", "question": "?", "mood": "bad", "weight": 3, "options": [1]},
        )
    )
    assert held(records.children["parts"].drop_columns(["payload"])) == [
        {
            "_row": 0,
            "position": 0,
            "type": "text",
            "value": "Hi",
            "mood": "good",
            "weight": 2,
            "facts": '{"a":[1]}',
            "api_payload": "taken",
            "url": "https://a.b",
        },
        {
            "_row": 0,
            "position": 1,
            "type": "media",
            "attachment_id": FILE_ID,
            "duration": 1.5,
        },
        {"_row": 0, "position": 2, "type": "poll"},
    ]
    assert held(records.children["attachments"]) == [
        {"_row": 0, "position": 1, "id": FILE_ID, "url": "https://c.d"}
    ]


def test_a_number_of_another_type_does_not_change_the_type_of_a_column() -> None:
    content = body(message(1, part(weight=2), {"type": "poll", "weight": 2.5}))
    assert_same(decode(content), salvage(content))
    assert decode(content).children["parts"]["weight"].type == pa.int64()


def test_new_members_of_objects_are_columns_those_of_a_handle_are_not_kept() -> None:
    handle = {"id": OTHER_ID, "handle": OTHER, "mood": "good", "more": [1]}
    records = both_paths(
        message(
            1,
            part(reactions=[{"handle": handle, "sticker": {"url": "u", "alt": "leaf"}}]),
            from_handle=handle,
            effect={"name": "confetti", "seconds": 2, "colors": ["red"], "since": "2026-10-04"},
        )
    )
    (row,) = held(records.root)
    assert row == {
        "id": uuid(1),
        "text": "Hi",
        "created_at": CREATED,
        "chat_handle_id": OTHER_ID,
        "sent_from": OTHER,
        "effect_name": "confetti",
        "effect.seconds": 2,
        "effect.colors": '["red"]',
        "effect.since": "2026-10-04",
    }
    (reaction,) = held(records.children["reactions"])
    assert reaction == {
        "_row": 0,
        "part_position": 0,
        "position": 0,
        "chat_handle_id": OTHER_ID,
        "from_phone": OTHER,
        "sticker_url": "u",
        "sticker.alt": "leaf",
    }


def test_what_repeats_mentions_is_not_kept_and_what_they_lack_is_put_there() -> None:
    mention = {"mention": MARA, "mention_range": [0, 2]}
    mentions = [{"handle": MARA, "range": [0, 2], "is_me": False}]
    records = both_paths(message(1, part(**mention, mentions=mentions)))
    assert json.loads(records.children["parts"]["mentions"][0].as_py()) == mentions
    assert records.children["parts"].schema == child_schema(MESSAGE_V3.children["parts"])
    lacks: list[Record] = [{}, {"mentions": None}, {"mentions": []}]
    for lacking in lacks:
        records = decode(body(message(1, part(**mention, **lacking))))
        assert records.children["parts"]["mentions"].to_pylist() == [
            '[{"handle":"mara@example.com","range":[0,2]}]'
        ]
        assert records.rejected == ()


def test_the_sender_is_who_the_handle_names_else_who_the_deprecated_field_does() -> None:
    senders: list[Record] = [
        {"from": OWN, "from_handle": {"handle": OTHER}},
        {"from": OWN, "from_handle": {"handle": None}},
        {"from": OWN, "from_handle": None},
        {"from": OWN},
        {"from_handle": {"handle": OTHER}},
        {"from": None},
    ]
    records = both_paths(*(message(n, **sender) for n, sender in enumerate(senders)))
    assert records.root["sent_from"].to_pylist() == [OTHER, OWN, OWN, OWN, OTHER, None]


BAD_IDS = ["no UUID", 5, "", None, uuid(1)[:-1], f" {uuid(1)}", f"{uuid(1)}\n"]


@pytest.mark.parametrize("id_", BAD_IDS)
def test_a_record_whose_id_is_no_uuid_is_rejected_whole(id_: Any) -> None:
    bad = message(1, part(), id=id_)
    records = decode(body(message(2), bad, message(3)))
    assert records.root["id"].to_pylist() == [uuid(2), uuid(3)]
    (lost,) = records.rejected
    assert (lost.id, lost.repaired, json.loads(lost.payload)) == (None, False, bad)
    assert lost.near_us == parse_iso(CREATED_AT)
    assert lost.reason == ("id: missing" if id_ is None else "id: not a UUID")
    assert records.children["parts"].num_rows == 0


@pytest.mark.parametrize("created_at", ["yesterday", None, 5])
def test_a_message_without_an_instant_is_rejected_whole(created_at: Any) -> None:
    records = decode(body(message(2), message(1, created_at=created_at)))
    assert [lost.id for lost in records.rejected] == [uuid(1)]
    assert records.rejected[0].reason.startswith("created_at: ")
    assert records.rejected[0].near_us == parse_iso(CREATED_AT)
    assert records.received == 2


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_chats_and_numbers_need_a_uuid_too(shape: Any) -> None:
    records = [{"id": id_, "phone_number": OWN} for id_ in (uuid(1), "no UUID")]
    found = decode_pages([body(*records, name="list")], shape, "list")
    assert found.root["id"].to_pylist() == [uuid(1)]
    assert [lost.reason for lost in found.rejected] == ["id: not a UUID"]


DAMAGES: list[tuple[Record, str]] = [
    ({"parts": [part(), None]}, "parts[1]: not an object, left out"),
    ({"parts": {"type": "text"}}, "parts: not a list, left out"),
    (
        {"parts": [{"type": "media", "size_bytes": "big"}]},
        "parts[0].size_bytes: not a whole number",
    ),
    ({"parts": [part(value={})]}, "parts[0].value: an object or list where text belongs"),
    ({"parts": [part(reactions={})]}, "parts[0].reactions: not a list, left out"),
    ({"parts": [part(), part(reactions=[5])]}, "parts[1].reactions[0]: not an object, left out"),
    ({"parts": [part(reactions=[{"handle": OWN}])]}, "handle: not an object, left out"),
    ({"parts": [part(reactions=[{"is_me": "no"}])]}, "is_me: not true or false"),
    ({"effect": "confetti"}, "effect: not an object, left out"),
    ({"reply_to": {"part_index": "first"}}, "reply_to.part_index: not a whole number"),
]


@pytest.mark.parametrize(("damage", "reason"), DAMAGES)
def test_what_is_wrong_in_a_record_costs_only_itself(damage: Record, reason: str) -> None:
    good = message(2, part(reactions=[{"type": "love"}]))
    bad = message(1, part()) | damage
    records = decode(body(good, bad), body(message(3)))
    assert records.root["id"].to_pylist() == [uuid(2), uuid(1), uuid(3)]
    assert_same(
        Records(MESSAGE_V3, *_without_second(records)), decode(body(good), body(message(3)))
    )
    (lost,) = records.rejected
    assert (lost.id, lost.repaired, json.loads(lost.payload)) == (uuid(1), True, bad)
    assert reason in lost.reason


def _without_second(records: Records) -> tuple[pa.Table, dict[str, pa.Table]]:
    kept = records.take(pa.array([0, 2], pa.int64()))
    return kept.root, dict(kept.children)


def test_a_bad_part_or_reaction_leaves_the_others_in_their_places() -> None:
    reactions = [{"type": "love"}, None, {"type": "like", "handle": {"handle": OWN}}]
    media = {"type": "media", "id": FILE_ID, "url": ["?"], "reactions": reactions}
    records = decode(body(message(1, 5, part(), media, part(value="end"))))
    assert held(records.children["parts"]) == [
        {"_row": 0, "position": 1, "type": "text", "value": "Hi"},
        {"_row": 0, "position": 2, "type": "media", "attachment_id": FILE_ID},
        {"_row": 0, "position": 3, "type": "text", "value": "end"},
    ]
    assert held(records.children["attachments"]) == [{"_row": 0, "position": 2, "id": FILE_ID}]
    assert held(records.children["reactions"]) == [
        {"_row": 0, "part_position": 2, "position": 0, "reaction": "love"},
        {"_row": 0, "part_position": 2, "position": 2, "reaction": "like", "from_phone": OWN},
    ]
    assert records.root["text"].to_pylist() == ["Hi\nend"]
    assert records.rejected[0].reason.split("; ") == [
        "parts[0]: not an object, left out",
        "parts[2].url: an object or list where text belongs",
        "parts[2].reactions[1]: not an object, left out",
    ]


def test_a_record_says_as_json_what_it_holds() -> None:
    content = (DATA / "v3_messages_example.json").read_bytes()
    sent = json.loads(content)["messages"][1]
    said = json.loads(record_text(decode(content), 1))
    for name in ("id", "reply_to", "effect", "delivery_status"):
        assert said[name] == sent[name]
    assert said["from_handle"]["handle"] == sent["from"]
    for found, expected in zip(said["parts"], sent["parts"], strict=True):
        assert [r["type"] for r in found["reactions"]] == [r["type"] for r in expected["reactions"]]
        assert found["type"] == expected["type"]
        assert found.get("url") == expected.get("url")
