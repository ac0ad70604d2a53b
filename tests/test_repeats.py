"""One id in two places: one row a key in every destination, and the other record kept whole."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from linq_source.decoding.records import MESSAGE, empty_records
from linq_source.instants import DAY_US, parse_iso
from linq_source.planning.changes import Part
from linq_source.planning.repeated_ids import Owners
from linq_source.planning.windows import Window
from linq_source.sandbox import World
from linq_source.settings import Id
from linq_source.tables import TABLES
from tests.conftest import DAY_MS, NOW_MS, Loader
from tests.destinations import KINDS, kinds
from tests.test_decoding import SENT_AT, body, decode, message

AT_MS = NOW_MS - 2 * DAY_MS
AT = "2026-02-14T12:00:00.000Z"


def part(chat_id: int, *records: dict[str, Any]) -> Part:
    found = decode(body(*records)) if records else empty_records(MESSAGE)
    return Part(Window(chat_id, None, parse_iso(SENT_AT) + DAY_US), found)


def outcome(parts: list[Part]) -> dict[Id, tuple[list[int], list[int | None]]]:
    return {
        part.window.chat_id: (
            part.records.root["id"].to_pylist(),
            [lost.id for lost in part.records.rejected],
        )
        for part in parts
    }


def test_of_chats_given_together_the_least_keeps_an_id_in_any_order() -> None:
    one, two, three = part(1, message(5), message(6)), part(2), part(3, message(4), message(5))
    expected = {1: ([5, 6], []), 2: ([], []), 3: ([4], [5])}
    for parts in ([one, two, three], [three, two, one]):
        assert outcome(Owners().leave_out_repeats(parts)) == expected


def test_a_chat_given_before_keeps_its_ids_and_may_bring_them_again() -> None:
    owners = Owners()
    owners.leave_out_repeats([part(3, message(5), message(6))])
    assert outcome(owners.leave_out_repeats([part(1, message(5)), part(3, message(6))])) == {
        1: ([], [5]),
        3: ([6], []),
    }
    assert outcome(owners.leave_out_repeats([part(2, message(5), message(9))])) == {2: ([9], [5])}


def test_what_is_left_out_is_kept_whole_with_its_children() -> None:
    record = message(
        5, reactions=[{"id": 8, "reaction": "love"}], attachments=[{"id": "a"}], subject="s"
    )
    (_, without) = Owners().leave_out_repeats([part(1, message(5)), part(2, record, message(6))])
    (lost,) = without.records.rejected
    assert (lost.near_us, lost.repaired) == (parse_iso(SENT_AT), False)
    kept = json.loads(lost.payload)
    assert parse_iso(kept.pop("sent_at")) == parse_iso(record.pop("sent_at"))
    (reaction,), (attachment,) = kept.pop("reactions"), kept.pop("attachments")
    assert (reaction["id"], reaction["reaction"], attachment["id"]) == (8, "love", "a")
    assert kept == {k: v for k, v in record.items() if k not in ("reactions", "attachments")}
    assert [child.num_rows for child in without.records.children.values()] == [0, 0]


@pytest.fixture
def world() -> World:
    """Two chats that have message 500, with one reaction and one participant twice."""
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001")
    handle = {"id": 7, "phone_number": "+15551230007", "service": "SMS"}
    for chat_id in (1, 2):
        world.add_chat(chat_id=chat_id)
        record = {
            "id": 500, "text": f"in {chat_id}", "sent_at": AT, "attachments": [{"id": "a"}] * 2,
            "reactions": [{"id": 8, "reaction": "love"}, {"id": 8, "reaction": "like"}],
        }  # fmt: skip
        world.add_message(
            chat_id, message_id=499 + chat_id, sent_at_ms=AT_MS, raw=json.dumps(record)
        )
        world.add_message(chat_id, "alone", message_id=600 + chat_id, sent_at_ms=AT_MS)
        chat = {"id": chat_id, "group": False, "message_count": 2, "chat_handles": [handle] * 2}
        world.chats[chat_id].raw = json.dumps(chat)
        world.add_contact(raw=json.dumps({"id": "c", "first_name": f"In {chat_id}"}))
    return world


@pytest.fixture(params=kinds(fast=["duckdb"]))
def loader(
    request: pytest.FixtureRequest,
    serve: Callable[[World], Loader],
    world: World,
    tmp_path: Path,
) -> Iterator[Loader]:
    """A loader of the world into each destination in turn."""
    loader = serve(world)
    folder = tmp_path / "place"
    folder.mkdir()
    with KINDS[request.param](folder) as place:
        loader.place = place
        yield loader


def rows(loader: Loader, table: str) -> list[dict[str, Any]]:
    assert loader.place is not None
    return loader.place.rows(table)


def assert_every_key_stands_once(loader: Loader) -> None:
    for name, table in TABLES.items():
        if table.key and name != "attachment_files":
            keys = Counter(tuple(row[key] for key in table.key) for row in rows(loader, name))
            assert set(keys.values()) == {1}, name


def test_every_key_stands_once_in_every_destination(loader: Loader) -> None:
    report = loader.sync(contacts=True)
    # The participant twice in both chats, the reaction in both records, the second record, and
    # the second contact.
    assert (report.rejected, report.messages, report.exit_code) == (6, 3, 3)
    assert (report.windows_unverified, report.chats_failed) == (0, ())
    assert_every_key_stands_once(loader)
    found = {row["id"]: (row["chat_id"], row["text"]) for row in rows(loader, "chat_messages")}
    assert found == {500: (1, "in 1"), 601: (1, "alone"), 602: (2, "alone")}
    reactions = {(r["chat_message_id"], r["id"]) for r in rows(loader, "chat_messages__reactions")}
    assert {key for key in reactions if key[1] != -1} == {(500, 8)}
    again = loader.sync(contacts=True)
    assert (again.messages, again.deleted, again.windows_unverified) == (0, 0, 0)
    # The chat that lost the record is read again, and proves nothing about the other's.
    loader.world.delete_message(602)
    loader.world.add_message(2, "new", message_id=700, sent_at_ms=NOW_MS - DAY_MS)
    assert loader.sync(contacts=True).deleted == 1
    assert_every_key_stands_once(loader)
    deleted = {row["id"] for row in rows(loader, "chat_messages") if row["deleted_at"] is not None}
    assert deleted == {602}
