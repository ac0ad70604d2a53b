"""What is kept of people in records of API v3: pure parts, on the records themselves."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

import pytest

from linq_source.decoding.pages import decode_pages
from linq_source.decoding.records import CHAT_V3, Records
from linq_source.privacy.forgotten import Forgotten
from linq_source.privacy.hashing import WITHHELD, Privacy
from tests.records_v3 import (
    FILE_ID,
    MARA,
    OTHER,
    OTHER_ID,
    OWN,
    body,
    decode,
    held,
    message,
    part,
    uuid,
)
from tests.test_decoding import Record, assert_same

pytestmark = pytest.mark.quick

KEY = b"0123456789abcdef0123456789abcdef"
LINK = "https://cdn.linqapp.com/a.png"
MENTIONS = f'[{{"handle":"{OTHER}"}}]'
DECORATIONS = '[{"range":[0,2]}]'
CLIP = f'{{"type":"app_clip","title":"Call {OTHER}","url":"{LINK}?signature=1"}}'
HANDLE = {"id": OTHER_ID, "handle": OTHER}
MESSAGE = message(
    1,
    part(
        value="my secret",
        mentions=json.loads(MENTIONS),
        text_decorations=json.loads(DECORATIONS),
        mood="secret",
    ),
    {"type": "media", "id": FILE_ID, "url": f"{LINK}?signature=1", "filename": "plan.pdf",
     "reactions": [{"type": "love", "handle": HANDLE,
                    "sticker": {"url": f"{LINK}?signature=1", "file_name": "leaf.png"}}]},
    {**json.loads(CLIP)},
    **{"from": OTHER, "from_handle": HANDLE, "effect": {"name": "confetti", "tint": "secret"}},
)  # fmt: skip


def phone(value: str) -> str:
    return hmac.new(KEY, f"phone:{value}".encode(), hashlib.sha256).hexdigest()


def text(value: str) -> str:
    return hmac.new(KEY, f"text:{value}".encode(), hashlib.sha256).hexdigest()


def private(records: Records) -> Mapping[str, Any]:
    """The columns with personal data, and every column that the contract does not have."""
    children = {name: held(rows) for name, rows in records.children.items()}
    (root,), parts = held(records.root), children["parts"]
    (file,), (reaction,) = children["attachments"], children["reactions"]
    return {
        "text": root.get("text"),
        "sent_from": root.get("sent_from"),
        "unknown": [root.get("effect.tint"), parts[0].get("mood")],
        "parts": [
            [row.get(name) for name in ("value", "mentions", "text_decorations", "payload")]
            for row in parts
        ],
        "file": [file.get("url"), file.get("filename")],
        "reaction": [
            reaction.get(name) for name in ("from_phone", "sticker_url", "sticker_file_name")
        ],
    }


def kept(phones: Any, texts: Any) -> Mapping[str, Any]:
    return private(Privacy(phones, texts, KEY).protect(decode(body(MESSAGE))))


def test_hashed_and_dropped_columns() -> None:
    clip = CLIP.replace("?signature=1", "")
    secret, url = text("my secret"), text(LINK)
    assert kept("hash", "hash") == {
        "text": secret,
        "sent_from": phone(OTHER),
        "unknown": [None, None],
        "parts": [
            [secret, text(MENTIONS), text(DECORATIONS), None],
            [None] * 4,
            [None, None, None, text(clip)],
        ],
        "file": [url, text("plan.pdf")],
        "reaction": [phone(OTHER), url, text("leaf.png")],
    }
    assert kept("drop", "drop") == {
        "text": None,
        "sent_from": None,
        "unknown": [None, None],
        "parts": [[None] * 4] * 3,
        "file": [None, None],
        "reaction": [None, None, None],
    }


@pytest.mark.parametrize(
    ("phones", "texts", "treatment"),
    [
        ("plain", "plain", "plain"),
        ("hash", "plain", "hash"),
        ("plain", "hash", "hash"),
        ("hash", "drop", "drop"),
        ("drop", "plain", "drop"),
        ("plain", "drop", "drop"),
    ],
)
def test_what_may_hold_anything_is_treated_as_the_stricter_of_both(
    phones: str, texts: str, treatment: str
) -> None:
    found = kept(phones, texts)["parts"]
    expected = {"plain": (MENTIONS, CLIP), "drop": (None, None),
                "hash": (text(MENTIONS), text(CLIP.replace("?signature=1", "")))}  # fmt: skip
    assert (found[0][1], found[2][3]) == expected[treatment]


def test_a_rejected_payload_keeps_what_is_harmless() -> None:
    bad: Record = json.loads(json.dumps(MESSAGE)) | {
        "id": "my secret",
        "chat_id": uuid(7),
        "is_from_me": "my secret",
        "reply_to": {"message_id": uuid(2), "part_index": 1, "my secret": 1},
        "created_at": "2026-10-04T10:00:00Z",
    }
    bad["parts"] += [OTHER, {"type": "text", "value": {"a": OTHER}, "id": OTHER}, {"type": [OTHER]}]
    bad["parts"][1] |= {"id": OTHER, "size_bytes": 5}
    (lost,) = Privacy("hash", "hash", KEY).protect(decode(body(bad))).rejected
    hidden = dict.fromkeys(("mentions", "text_decorations", "mood"), WITHHELD)
    assert json.loads(lost.payload) == {
        "id": WITHHELD,
        "chat_id": WITHHELD,
        "is_from_me": WITHHELD,
        "from": phone(OTHER),
        "from_handle": {"id": OTHER_ID, "handle": phone(OTHER)},
        "effect": {"name": "confetti", "tint": WITHHELD},
        "reply_to": {"message_id": uuid(2), "part_index": 1, WITHHELD: WITHHELD},
        "created_at": "2026-10-04T10:00:00Z",
        "parts": [
            {"type": "text", "value": text("my secret"), "reactions": None} | hidden,
            {
                "type": "media",
                "id": WITHHELD,
                "url": text(LINK),
                "filename": text("plan.pdf"),
                "size_bytes": 5,
                "reactions": [
                    {
                        "type": "love",
                        "handle": {"id": OTHER_ID, "handle": phone(OTHER)},
                        "sticker": {"url": text(LINK), "file_name": text("leaf.png")},
                    }
                ],
            },
            {"type": "app_clip", "title": WITHHELD, "url": WITHHELD},
            WITHHELD,
            {"type": "text", "value": WITHHELD, "id": WITHHELD},
            {"type": WITHHELD},
        ],
    }


def test_a_rejected_chat_keeps_no_handle() -> None:
    bad = {"id": "?", "display_name": f"Mara, {OTHER}", "handles": [HANDLE, OTHER]}
    records = decode_pages([body(bad, name="chats")], CHAT_V3, "chats")
    (lost,) = Privacy("hash", "plain", KEY).protect(records).rejected
    assert json.loads(lost.payload) == {
        "id": WITHHELD,
        "display_name": f"Mara, {phone(OTHER)}",
        "handles": [{"id": OTHER_ID, "handle": phone(OTHER)}, WITHHELD],
    }


FORGOTTEN = Forgotten(salt=b"salt").with_people([OTHER])


def reaction(number: str) -> Record:
    return {"type": "love", "handle": {"handle": number}}


def test_a_forgotten_person_is_in_no_row() -> None:
    mentions = [{"handle": "+1 202 555 0177"}]
    clip = {"type": "app_clip", "title": f"Call {OTHER}"}
    records = decode(
        body(
            message(1, part(), {"type": "media"}, **{"from": OTHER}),
            message(
                2,
                part(mentions=mentions, reactions=[reaction(OTHER), reaction(MARA)]),
                clip,
                **{"from": MARA},
            ),
            message(3, part(value=OTHER), id="no UUID"),
        )
    )
    expected = decode(
        body(
            message(
                2, part(reactions=[None, reaction(MARA)]), {"type": "app_clip"}, **{"from": MARA}
            )
        )
    )
    found = FORGOTTEN.without(records)
    payloads = ["payload"]
    parts = [r.children["parts"].drop_columns(payloads) for r in (found, expected)]
    assert parts[0].equals(parts[1])
    assert found.children["parts"]["payload"].to_pylist() == [None, None]
    assert found.root.equals(expected.root)
    for name in ("attachments", "reactions"):
        assert found.children[name].equals(expected.children[name])
    assert found.rejected == ()


def test_who_is_not_forgotten_keeps_everything() -> None:
    records = decode(body(MESSAGE))
    assert_same(Forgotten(salt=b"s").with_people([OWN]).without(records), records)


def test_chats_of_a_forgotten_person_are_found_and_left_out() -> None:
    chats = [
        {"id": uuid(1), "is_group": False, "handles": [{"id": uuid(8), "handle": OTHER}]},
        {"id": uuid(2), "is_group": True, "handles": [{"id": uuid(8), "handle": OTHER}]},
        {"id": uuid(3), "is_group": False, "handles": [{"id": uuid(9), "handle": MARA}]},
        {"id": uuid(4), "is_group": False, "handles": []},
    ]
    records = decode_pages([body(*chats, name="chats")], CHAT_V3, "chats")
    forgotten = FORGOTTEN.with_chats([uuid(4), uuid(5)])
    gone = forgotten.chats_of(records)
    assert gone == {uuid(1), uuid(4)}
    assert forgotten.without_chats(records, gone).root["id"].to_pylist() == [uuid(2), uuid(3)]
    handles = forgotten.without(records).children["handles"]
    assert handles.select(["_row", "phone_number"]).to_pylist() == [
        {"_row": 2, "phone_number": MARA}
    ]
