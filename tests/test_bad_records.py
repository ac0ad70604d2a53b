"""Records that break the contract: loaded where they can be typed, kept whole where not."""

from __future__ import annotations

import codecs
import json
from typing import Any

import pytest

from linq_source.sandbox import Exchange, Fault
from linq_source.sandbox.answers import answer_to
from tests.conftest import DAY_MS, NOW_MS, Loader
from tests.truth import instant

AT_MS = NOW_MS - 2 * DAY_MS
AT = "2026-02-14T12:00:00.000Z"
GOOD: dict[str, Any] = {
    "id": 500, "text": "the record", "sent_at": AT, "delivery_status": "delivered",
    "is_read": True, "sent_from": "+15551230000", "attachments": [], "reactions": [],
}  # fmt: skip


@pytest.fixture
def neighbours(small: Loader) -> Loader:
    """Ten good messages around the place of message 500."""
    for number in range(10):
        offset_ms = (number - 5) * 1000 + 500
        small.world.add_message(1, f"good {number}", sent_at_ms=AT_MS + offset_ms)
    return small


def put(loader: Loader, raw: str) -> None:
    loader.world.add_message(1, message_id=500, sent_at_ms=AT_MS, raw=raw)


def with_(**fields: Any) -> str:
    return json.dumps({**GOOD, **fields})


def loaded(loader: Loader, columns: str = "id, text") -> list[tuple[Any, ...]]:
    return loader.query(f"SELECT {columns} FROM chat_messages WHERE id = 500")


def rejected(loader: Loader) -> list[tuple[Any, ...]]:
    return loader.query("SELECT chat_id, message_id, reason, payload FROM rejected_records")


def assert_neighbours_are_there(loader: Loader) -> None:
    assert loader.query("SELECT text FROM chat_messages WHERE id <> 500 ORDER BY id") == [
        (f"good {number}",) for number in range(10)
    ]


@pytest.mark.parametrize(
    ("raw", "column", "value"),
    [
        (with_(id="500"), "text", "the record"),
        (with_(sent_at="2026-02-14 12:00:00.000Z"), "sent_at", instant(AT_MS)),
        (with_(sent_at="2026-02-14T12:00:00.000000999Z"), "sent_at", instant(AT_MS)),
        (with_(text="a\u0000b"), "text", "a\u0000b"),
        (with_(attachments=None, reactions=None), "text", "the record"),
        ('{"id": 500, "id": 500,' + with_()[1:], "text", "the record"),
        (with_(chat_handle_id=7.0), "chat_handle_id", 7),
    ],
    ids=["id as text", "space", "nanoseconds", "NUL", "null lists", "same key twice", "float"],
)
def test_what_can_be_typed_faithfully_is_loaded(
    neighbours: Loader, raw: str, column: str, value: Any
) -> None:
    put(neighbours, raw)
    report = neighbours.sync()
    assert loaded(neighbours, column) == [(value,)]
    assert rejected(neighbours) == []
    assert report.exit_code == 0
    assert_neighbours_are_there(neighbours)


@pytest.mark.parametrize(
    ("raw", "columns", "row", "reason"),
    [
        (with_(text="a\ud800b"), "text", ("a\ufffdb",), "text: characters that are not Unicode"),
        (with_(chat_handle_id=2**70), "chat_handle_id", (None,), "chat_handle_id: beyond 64 bit"),
        (with_(delivered_at="soon"), "delivered_at", (None,), "delivered_at: not an ISO 8601"),
        (
            '{"text": "other",' + with_()[1:],
            "text",
            ("the record",),
            "text: stands twice, the last one kept",
        ),
        (with_(reactions=[None]), "text", ("the record",), "reactions[0]: not an object"),
        (
            with_(reactions=[{"reaction": "love"}]),
            "text",
            ("the record",),
            "reactions[0]: no usable id",
        ),
        (with_(attachments=[None]), "text", ("the record",), "attachments[0]: not an object"),
    ],
)
def test_what_was_repaired_is_loaded_and_said(
    neighbours: Loader, raw: str, columns: str, row: tuple[Any, ...], reason: str
) -> None:
    put(neighbours, raw)
    report = neighbours.sync()
    assert loaded(neighbours, columns) == [row]
    ((chat_id, message_id, why, payload),) = rejected(neighbours)
    assert (chat_id, message_id) == (1, 500)
    assert why.startswith(reason)
    assert payload == raw
    assert (report.rejected, report.exit_code) == (1, 3)
    assert_neighbours_are_there(neighbours)


@pytest.mark.parametrize(
    ("raw", "message_id", "reason"),
    [
        (with_(id=2**64), None, "id: beyond 64 bit"),
        (with_(id=None), None, "id: missing"),
        (with_(sent_at="soon"), 500, "sent_at: not an ISO 8601 instant"),
        (with_(sent_at=None), 500, "sent_at: missing"),
        ("null", None, "not an object"),
        ("[1, 2]", None, "not an object"),
    ],
)
def test_what_cannot_be_typed_lies_whole_in_rejected_records_once(
    neighbours: Loader, raw: str, message_id: int | None, reason: str
) -> None:
    put(neighbours, raw)
    report = neighbours.sync()
    assert rejected(neighbours) == [(1, message_id, reason, raw)]
    assert (report.rejected, report.windows_unverified, report.exit_code) == (1, 0, 3)
    assert loaded(neighbours) == []
    assert_neighbours_are_there(neighbours)
    again = neighbours.sync()
    assert (again.messages, again.rejected, again.exit_code) == (0, 0, 0)
    assert len(rejected(neighbours)) == 1


@pytest.mark.parametrize("raw", [with_(id=None), with_(sent_at="soon")])
def test_a_record_that_turns_bad_is_not_mistaken_for_deleted(neighbours: Loader, raw: str) -> None:
    put(neighbours, with_())
    neighbours.sync()
    neighbours.world.messages[500].raw = raw
    report = neighbours.sync()
    assert (report.deleted, report.rejected) == (0, 1)
    assert loaded(neighbours, "id, deleted_at") == [(500, None)]
    neighbours.world.messages[500].raw = with_(text="good again")
    assert neighbours.sync().exit_code == 0
    assert loaded(neighbours) == [(500, "good again")]


def test_bad_records_on_every_page_of_a_long_walk(small: Loader) -> None:
    for number in range(60):
        raw = with_(id=f"{number + 1}") if number % 7 == 0 else None
        if raw is not None:
            raw = with_(id=number + 1, sent_at=_iso(AT_MS + number), text="bad \ud800")
        small.world.add_message(1, str(number), sent_at_ms=AT_MS + number, raw=raw)
    report = small.sync(page_size=8)
    assert (report.messages, report.rejected, report.windows_unverified) == (60, 9, 0)
    assert small.query("SELECT count(*) FROM chat_messages WHERE text = 'bad \ufffd'") == [(9,)]


def _iso(at_ms: int) -> str:
    at = instant(at_ms)
    assert at is not None
    return at.isoformat()


def test_an_api_that_begins_with_a_byte_order_mark_and_writes_empty_lists_as_null(
    neighbours: Loader,
) -> None:
    neighbours.world.add_chat(chat_id=2)
    neighbours.world.chats[2].raw = '{"id": 2, "message_count": 0, "chat_handles": null}'

    def answer(exchange: Exchange) -> Fault:
        right = answer_to(exchange, neighbours.world, max_per_page=100, inclusive=False).body
        right = right.replace(b'"data":[]', b'"data":null')
        return Fault(status=200, body=codecs.BOM_UTF8 + right)

    neighbours.sandbox.faults.append(answer)
    report = neighbours.sync()
    assert (report.exit_code, report.retries, report.rejected) == (0, 0, 0)
    assert (report.chats, report.messages, report.windows_unverified) == (2, 10, 0)
    assert_neighbours_are_there(neighbours)
    assert neighbours.sync(chat_ids=[1]).exit_code == 0
    assert neighbours.audit().differences == ()
