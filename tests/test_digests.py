"""A digest is the same for the same messages, and for nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from linq_source.decoding.records import Rejected
from linq_source.instants import parse_iso
from linq_source.planning.changes import segments_of
from linq_source.planning.chat_cursors import day_segment
from linq_source.planning.digests import digest_records, digest_rejected
from linq_source.planning.window_reading import WindowRead
from linq_source.planning.windows import Window
from tests import records_v3 as v3
from tests.test_decoding import (
    LAW,
    LISTS,
    PAGES,
    Record,
    body,
    decode,
    decode_fast,
    lists_of_one_reading,
    message,
)

pytestmark = pytest.mark.quick

ATTACHMENT = {
    "id": "a-1",
    "url": "https://files.example.com/a.pdf?signature=1",
    "filename": "a.pdf",
    "mime_type": "application/pdf",
    "file_size": 10,
    "caption": "new field",
}
REACTION = {
    "id": 9,
    "reaction": "love",
    "is_from_me": True,
    "from_phone": "+15550000002",
    "sent_at": "2025-05-21T12:00:00Z",
    "created_at": "2025-05-21T12:00:01Z",
    "updated_at": "2025-05-21T12:00:02Z",
    "weight": 2,
}
MESSAGE_ = message(
    delivered_at="2025-05-21T12:00:01Z", edited_at="2025-05-21T13:00:00Z", subject="new field"
)
LATER = "2025-05-21T12:00:00.000001Z"


def digest(*records: Any) -> str:
    return digest_records(decode(body(*records)))


def whole(
    attachment: Record = ATTACHMENT, reaction: Record = REACTION, **changed: Any
) -> list[Record]:
    """Three messages, the one in the middle with children and `changed`."""
    middle = MESSAGE_ | {"attachments": [attachment], "reactions": [reaction]} | changed
    return [message(0), middle, message(2)]


def altered(record: Record, name: str) -> list[Any]:
    value = record[name]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, -value]
    if name.endswith("_at"):
        return [LATER]
    if name == "url":
        return [value.replace("a.pdf", "b.pdf"), value.replace("https", "http"), ""]
    return [f"{value}x", f" {value}", value[:-1], ""]


FIELDS = [
    (kind, name, value)
    for kind, record in (("message", MESSAGE_), ("attachment", ATTACHMENT), ("reaction", REACTION))
    for name in record
    if name not in ("attachments", "reactions")
    for value in [*altered(record, name), *([] if name in ("id", "sent_at") else [None])]
]


@pytest.mark.parametrize(("kind", "name", "value"), FIELDS)
def test_any_single_field_changes_the_digest(kind: str, name: str, value: Any) -> None:
    if kind == "message":
        changed = whole(**{name: value})
    elif kind == "attachment":
        changed = whole(attachment=ATTACHMENT | {name: value})
    else:
        changed = whole(reaction=REACTION | {name: value})
    assert digest(*changed) != digest(*whole())


@pytest.mark.parametrize(
    "changed",
    [
        whole(attachments=[]),
        whole(reactions=[]),
        whole(attachments=[ATTACHMENT, ATTACHMENT]),
        whole(attachments=[ATTACHMENT, {}]),
        whole(more=0),
        whole(attachment=ATTACHMENT | {"more": False}),
        whole(reaction=REACTION | {"more": {}}),
        whole()[1:],
        whole()[:2],
        [*whole(), message(3)],
        [whole()[1], message(0), message(2)],
        [whole()[0] | {"attachments": [ATTACHMENT]}, whole(attachments=[])[1], whole()[2]],
        [whole()[0] | {"reactions": [REACTION]}, whole(reactions=[])[1], whole()[2]],
    ],
)
def test_what_is_added_removed_or_moved_changes_the_digest(changed: list[Record]) -> None:
    assert digest(*changed) != digest(*whole())


def test_the_order_of_attachments_counts() -> None:
    one, other = ATTACHMENT, ATTACHMENT | {"id": "a-2"}
    assert digest(message(attachments=[one, other])) != digest(message(attachments=[other, one]))


def test_values_do_not_run_into_each_other() -> None:
    texts = [("ab", "c"), ("a", "bc"), ("abc", ""), ("abc", None), (None, "abc")]
    digests = {digest(message(1, text=a), message(2, text=b)) for a, b in texts}
    assert len(digests) == len(texts)


@pytest.mark.parametrize("query", ["", "?", "?signature=2", "?a=1&b=2#f", "?a=1\nb=2", "?x?y"])
def test_the_query_string_of_a_link_does_not_count(query: str) -> None:
    url = f"https://files.example.com/a.pdf{query}"
    assert digest(*whole(attachment=ATTACHMENT | {"url": url})) == digest(*whole())


def test_a_query_string_counts_everywhere_else() -> None:
    assert digest(message(text="a?b")) != digest(message(text="a?c"))
    names = [whole(attachment=ATTACHMENT | {"filename": f"a?{n}"}) for n in range(2)]
    assert digest(*names[0]) != digest(*names[1])


def test_rejected_records_count() -> None:
    records = decode(body(message()))
    rejected = [Rejected(None, "why", payload, None, repaired=False) for payload in ("1", "2")]
    digests = [
        digest_records(records, lost)
        for lost in ([], rejected[:1], rejected[1:], rejected, rejected[:1] * 2)
    ]
    assert len(set(digests)) == 5


@LAW
@given(LISTS)
def test_unequal_messages_have_unequal_digests(found: list[Record]) -> None:
    one = digest_records(decode(body(*found)))
    other = digest_records(decode(body(*found, message(0))))
    assert one != other
    assert len(one) == len(other) == 12


@LAW
@given(PAGES)
def test_the_page_size_does_not_count(found: list[list[Record]]) -> None:
    together = digest_records(decode(body(*(r for page in found for r in page))))
    assert digest_records(decode(*(body(*page) for page in found))) == together


@LAW
@given(lists_of_one_reading(3, 3))
def test_neighbours_do_not_count(found: list[list[Record]]) -> None:
    before, own, after = found
    alone = digest_records(decode(body(*own)))
    records = decode(body(*before, *own), body(*after))
    part = records.slice(len(before), len(before) + len(own))
    assert digest_records(part) == alone


@LAW
@given(LISTS)
def test_the_path_of_decoding_does_not_count(own: list[Record]) -> None:
    slow = decode(body(*own, message("1")))
    assert digest_records(slow.slice(0, len(own))) == digest_records(decode_fast(body(*own)))


def test_the_type_a_neighbour_gives_a_new_field_does_not_count() -> None:
    own = message(1, score=1)
    records = decode(body(own, message(2, score=1.5)))
    assert digest_records(records.slice(0, 1)) == digest(own)


LINK = "https://cdn.linqapp.com/a.png?signature=1"
PARTS = [
    v3.part(mentions=[{"handle": "mara@example.com"}], reactions=[{"type": "love"}]),
    {"type": "media", "url": LINK, "reactions": [{"type": "sticker", "sticker": {"url": LINK}}]},
    {"type": "app_clip", "title": "How?", "icon": {"url": LINK}},
    v3.part(inline_stickers=[{"url": LINK, "at": 1}]),
]


def digest_v3(parts: list[Any]) -> str:
    return digest_records(v3.decode(v3.body(v3.message(1, *parts))))


@pytest.mark.parametrize("query", ["", "?", "?signature=2", "?x?y&z=%22"])
def test_the_query_strings_of_links_in_parts_do_not_count(query: str) -> None:
    signed = json.loads(json.dumps(PARTS).replace("?signature=1", query))
    assert digest_v3(signed) == digest_v3(PARTS)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("How?", "How? No"),
        ("a.png", "b.png"),
        ("mara@", "ann@"),
        ("love", "like"),
        ('sticker"', 'custom"'),
        ("app_clip", "poll"),
        ('"at": 1', '"at": 2'),
        ('"value": "Hi"', '"value": "Ho"'),
    ],
)
def test_any_value_of_a_part_changes_the_digest(old: str, new: str) -> None:
    text = json.dumps(PARTS)
    assert old in text
    assert digest_v3(json.loads(text.replace(old, new, 1))) != digest_v3(PARTS)


def test_the_place_of_a_part_and_of_a_reaction_changes_the_digest() -> None:
    love, like = ({"type": type_} for type_ in ("love", "like"))
    reactions: list[list[Any]] = [[love, like], [like, love], [love], []]
    found = {
        digest_v3([v3.part(reactions=first), v3.part(reactions=second)])
        for first in reactions
        for second in reactions
    }
    assert len(found) == len(reactions) ** 2


def test_the_query_strings_of_links_in_rejected_records_do_not_count() -> None:
    texts = [f'{{"url":"https://example.com/a?{n}","text":"b?{t}"}}' for n in "12" for t in "34"]
    rejected = [[Rejected(None, "why", text, None, repaired=True)] for text in texts]
    digests = [digest_rejected(lost) for lost in rejected]
    assert digests[:2] == digests[2:]
    assert digests[0] != digests[1]


def test_messages_before_1970_lie_in_a_day_too() -> None:
    start_us, end_us = parse_iso("1969-01-01"), parse_iso("1971-01-01")
    records = decode(body(message(1, sent_at="1969-12-30T12:00:00Z")))
    read = WindowRead(Window(1, start_us, end_us), records, 1, 0, 1, 1, 1, verified=True)
    found = segments_of(read, start_us, end_us)
    day = day_segment(parse_iso("1969-12-30"))
    assert [(segment, content.count) for segment, (content, _) in found.items()] == [(day, 1)]
