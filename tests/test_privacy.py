"""Numbers and texts that must not be kept are nowhere: tables, state, load files, payloads."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from linq_source import ConfigurationError
from linq_source.decoding.records import MESSAGE, Rejected, empty_records
from linq_source.privacy.hashing import WITHHELD, Privacy
from linq_source.tables import TABLES
from tests.conftest import NOW_MS, Loader
from tests.truth import Tables, loaded_tables, ordered, world_tables

KEY = "0123456789abcdef0123456789abcdef"
HASHED = {"phones": "hash", "text": "hash", "privacy_key": KEY}
PHONES = {
    "phone_numbers": ("phone_number", "forwarding_number"),
    "chats__chat_handles": ("phone_number",),
    "chats__phone_numbers": ("phone_number",),
    "chat_messages": ("sent_from",),
    "chat_messages__reactions": ("from_phone",),
}
WRITINGS = {"chat_messages": ("text",), "chat_messages__attachments": ("filename", "url")}


def hmac_of(kind: str, value: str) -> str:
    return hmac.new(KEY.encode(), f"{kind}:{value}".encode(), hashlib.sha256).hexdigest()


def expected(loader: Loader, treat: Callable[[str, str], str | None]) -> Tables:
    """The world's tables with every number and writing treated."""
    tables = world_tables(loader.world)
    for kind, places in (("phone", PHONES), ("text", WRITINGS)):
        for table, columns in places.items():
            for row in tables[table]:
                for column in columns:
                    if row[column] is not None:
                        value = row[column].partition("?")[0] if column == "url" else row[column]
                        row[column] = treat(kind, value)
    return {name: ordered(rows) for name, rows in tables.items()}


def private_values(loader: Loader) -> set[str]:
    """Every number and every longer text of the world."""
    found: set[str] = set()
    expected(loader, lambda _, value: found.add(value))
    return {value for value in found if len(value) > 9}


def all_kept(loader: Loader) -> str:
    """Everything that was written anywhere, as one text; Parquet and tables by their values."""
    parts = []
    for name in TABLES:
        if loader.query(f"SELECT 1 FROM information_schema.tables WHERE table_name = '{name}'"):
            parts.append(str(loader.query(f"SELECT * FROM {name}")))
    for path in loader.folder.rglob("*"):
        if path.suffix == ".parquet":
            parts.append(str(pq.read_table(path).to_pylist()))
        elif path.is_file() and path != loader.database:
            parts.append(path.read_bytes().decode(errors="replace"))
    return "\n".join(parts)


def test_hashed_rows_equal_the_world_hashed(seeded: Loader) -> None:
    seeded.sync(**HASHED)
    assert loaded_tables(seeded.database) == expected(seeded, hmac_of)
    kept = all_kept(seeded)
    assert [value for value in private_values(seeded) if value in kept] == []
    again = seeded.sync(**HASHED)
    assert (again.messages, again.exit_code) == (0, 0)


def test_one_number_has_one_hash_in_every_table(seeded: Loader) -> None:
    seeded.sync(**HASHED)
    assert seeded.query(
        "SELECT count(*) FROM chat_messages m JOIN chats__chat_handles h"
        " ON h.chat_id = m.chat_id AND h.id = m.chat_handle_id"
        " WHERE h.phone_number IS DISTINCT FROM m.sent_from"
    ) == [(0,)]
    own = seeded.query("SELECT phone_number FROM phone_numbers")
    senders = seeded.query("SELECT DISTINCT sent_from FROM chat_messages")
    assert set(own) & set(senders)


def test_dropped_values_are_null(seeded: Loader) -> None:
    seeded.sync(phones="drop", text="drop")
    assert loaded_tables(seeded.database) == expected(seeded, lambda *_: None)
    kept = all_kept(seeded)
    assert [value for value in private_values(seeded) if value in kept] == []


def test_each_treatment_is_for_its_own_columns(seeded: Loader) -> None:
    seeded.sync(phones="hash", privacy_key=KEY)
    assert loaded_tables(seeded.database) == expected(
        seeded, lambda kind, value: hmac_of(kind, value) if kind == "phone" else value
    )


def test_an_edit_is_seen_in_hashed_rows(seeded: Loader) -> None:
    seeded.sync(**HASHED)
    message = seeded.world.messages_of(1)[-1]
    seeded.world.edit_message(message.id, "another text", edited_at_ms=NOW_MS)
    seeded.world.advance(60_000)
    seeded.sync(**HASHED)
    assert loaded_tables(seeded.database) == expected(seeded, hmac_of)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"phones": "drop", "text": "hash", "privacy_key": KEY},
        {**HASHED, "privacy_key": "another key of thirty-two letters"},
    ],
)
def test_another_treatment_than_the_rows_have_is_refused(
    seeded: Loader, changed: dict[str, Any]
) -> None:
    seeded.sync(**HASHED)
    before = loaded_tables(seeded.database)

    def run() -> None:
        with pytest.raises(ConfigurationError, match="put it back, or load into a new dataset"):
            seeded.sync(**changed)

    assert seeded.requests_of(run) == []
    assert loaded_tables(seeded.database) == before
    assert seeded.sync(**HASHED).messages == 0


def test_plain_rows_are_not_mixed_with_hashed_ones(small: Loader) -> None:
    small.world.add_message(1, "plain", sent_at_ms=NOW_MS - 5000)
    small.sync()
    with pytest.raises(ConfigurationError, match="phones=plain,text=plain"):
        small.sync(end="2030-01-01", **HASHED)


@pytest.mark.parametrize(
    "written", ["+1 (555) 123-4567", "＋１－５５５－１２３－４５６７", "+1\u200b5551234567"]
)
def test_a_name_that_is_a_number_is_masked(small: Loader, written: str) -> None:
    small.world.add_chat(display_name=f"Ann, {written} / ann@example.com", chat_id=2)
    small.sync(phones="hash", privacy_key=KEY)
    number, address = hmac_of("phone", "+15551234567"), hmac_of("phone", "ann@example.com")
    assert small.query("SELECT display_name FROM chats WHERE id = 2") == [
        (f"Ann, {number} / {address}",)
    ]


def test_rejected_records_and_unknown_fields_keep_nothing(small: Loader) -> None:
    bad = {
        "id": "no number", "text": "my secret plan", "sent_at": "2026-02-14T10:00:00Z",
        "sent_from": "+15551230000", "attachments": [{"filename": "plan.pdf", "file_size": "x"}],
        "reactions": [{"id": 7, "from_phone": ["+15551230000"], "reaction": "love"}, "+1555"],
        "reply_to_number": "+15557770000", "is_read": "my secret plan",
    }  # fmt: skip
    good = {**bad, "id": 501, "is_read": True, "attachments": [], "reactions": []}
    at_ms = NOW_MS - 86_400_000
    for number, raw in ((500, bad), (501, good)):
        small.world.add_message(1, message_id=number, sent_at_ms=at_ms, raw=json.dumps(raw))
    small.sync(**HASHED)
    kept = all_kept(small)
    for value in ("secret plan", "+1555123", "plan.pdf", "+1555777"):
        assert value not in kept
    ((payload,),) = small.query("SELECT payload FROM rejected_records")
    assert json.loads(payload) == {
        "id": WITHHELD, "text": hmac_of("text", "my secret plan"),
        "sent_at": "2026-02-14T10:00:00Z", "sent_from": hmac_of("phone", "+15551230000"),
        "attachments": [{"filename": hmac_of("text", "plan.pdf"), "file_size": WITHHELD}],
        "reactions": [{"id": 7, "from_phone": WITHHELD, "reaction": "love"}, WITHHELD],
        "reply_to_number": WITHHELD, "is_read": WITHHELD,
    }  # fmt: skip
    assert small.query(
        "SELECT count(*) FROM information_schema.columns WHERE column_name = 'reply_to_number'"
    ) == [(0,)]


@pytest.mark.parametrize(
    "payload", ["[1", '"text"', "[" * 100_000, '{"text": "\\ud800", "id": NaN, "x": 1e999}']
)
def test_a_payload_that_cannot_be_read_is_withheld(payload: str) -> None:
    records = empty_records(MESSAGE)
    records = type(records)(
        MESSAGE, records.root, records.children, (Rejected(1, "why", payload, None, False),)
    )
    (kept,) = Privacy("hash", "hash", KEY.encode()).protect(records).rejected
    assert kept.payload == WITHHELD or json.loads(kept.payload)["x"] == WITHHELD
    pa.array([kept.payload])


def test_nothing_tells_the_key() -> None:
    privacy = Privacy("hash", "hash", KEY.encode())
    assert KEY not in repr(privacy) + privacy.fingerprint
    assert privacy.fingerprint != Privacy("hash", "hash", b"another").fingerprint
    assert privacy.hash_phone("a") != privacy.hash_text("a")


def test_plain_records_are_left_alone(tmp_path: Path) -> None:
    records = empty_records(MESSAGE)
    assert Privacy().protect(records) is records
