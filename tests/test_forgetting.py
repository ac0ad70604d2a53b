"""Forgetting: what was asked for is gone from every place, stays gone, and nothing else goes."""

from __future__ import annotations

import errno
import json
import stat
from collections.abc import Iterator
from typing import Any

import dlt
import pytest

from linq_source import ConfigurationError, DestinationError, forget
from linq_source.operations.forget import ForgetReport
from linq_source.privacy.forgotten import Forgotten
from linq_source.sandbox import World
from tests.conftest import DAY_MS, NOW_MS, Loader
from tests.test_privacy import HASHED, all_kept
from tests.truth import Tables, loaded_tables, world_tables

ANN, BOB, OWN = "+15550001111", "+15550002222", "+15550000001"
AT_MS = NOW_MS - 2 * DAY_MS


@pytest.fixture
def people(small: Loader) -> Loader:
    """Ann writes alone in chat 1, with Bob in groups 2 and 3; Bob alone in chat 4."""
    world = small.world
    members = {1: [ANN], 2: [ANN, BOB], 3: [ANN, BOB], 4: [BOB]}
    for chat_id, numbers in members.items():
        if chat_id > 1:
            world.add_chat(chat_id=chat_id, group=len(numbers) > 1, display_name=f"c{chat_id}")
        for number in numbers:
            world.add_handle(chat_id, number, joined_at_ms=AT_MS)
        for offset, number in enumerate([*numbers, OWN] * 3):
            message = world.add_message(
                chat_id, f"from {number} in {chat_id}", sent_at_ms=AT_MS + offset,
                sent_from=number,
            )  # fmt: skip
            world.add_attachment(message.id, filename="file.pdf")
            for reacting in numbers:
                world.add_reaction(message.id, "love", from_phone=reacting, sent_at_ms=AT_MS + 99)
    return small


def forgets(loader: Loader, **options: Any) -> ForgetReport:
    return forget(loader.pipeline, **options)


def without(world: World, chats: set[int], person: str = "") -> Tables:
    """The world's tables without some chats, and without a person's rows."""
    tables = world_tables(world)
    gone = {m["id"] for m in tables["chat_messages"] if person and m["sent_from"] == person}
    return {
        name: [
            row
            for row in rows
            if row.get("chat_id", row["id"] if name == "chats" else None) not in chats
            and row.get("chat_message_id", row["id"] if name == "chat_messages" else None)
            not in gone
            and (name == "phone_numbers" or person not in {"", *row.values()} or not person)
        ]
        for name, rows in tables.items()
    }


def test_a_chat_is_erased_and_does_not_come_back(people: Loader) -> None:
    people.sync()
    report = forgets(people, chat_ids=[2])
    assert report.chats == (2,)
    assert report.erased["chat_messages"] == 9
    assert report.erased["chat_messages__reactions"] == 18
    expected = without(people.world, {2})
    assert loaded_tables(people.database) == expected
    people.world.add_message(2, "more", sent_at_ms=NOW_MS - 1000)
    people.sandbox.requests_log.clear()
    people.sync()
    assert [r for r in people.sandbox.requests_log if "/chats/2/" in r.path] == []
    assert loaded_tables(people.database) == expected
    assert people.audit().differences == ()
    assert people.query("SELECT count(*) FROM sync_windows WHERE chat_id = 2") == [(0,)]


def test_a_person_is_erased_and_does_not_come_back(people: Loader) -> None:
    people.sync()
    report = forgets(people, phone_numbers=["+1 (555) 000-1111"])
    assert (report.chats, report.partly) == ((1,), (2, 3))
    expected = without(people.world, {1}, ANN)
    assert loaded_tables(people.database) == expected
    world = people.world
    world.add_message(2, "Ann again", sent_at_ms=NOW_MS - 1000, sent_from=ANN)
    world.add_message(3, "and Bob", sent_at_ms=NOW_MS - 1000, sent_from=BOB)
    world.add_chat(chat_id=9, group=False)
    world.add_handle(9, ANN, joined_at_ms=AT_MS)
    world.add_message(9, "to Ann", sent_at_ms=NOW_MS - 1000, sent_from=OWN)
    people.sync()
    after = without(world, {1, 9}, ANN)
    assert loaded_tables(people.database) == after
    assert people.audit().exit_code == 0
    assert people.sync().messages == 0


def test_nothing_of_the_person_is_left_on_disk(people: Loader) -> None:
    raw = {"id": "x", "text": "hm", "sent_at": "2026-02-14T10:00:00Z", "sent_from": ANN}
    people.world.add_message(2, message_id=900, sent_at_ms=AT_MS, raw=json.dumps(raw))
    people.world.add_chat(chat_id=5, group=True, display_name=f"Bob and {ANN}")
    people.sync()
    assert ANN in all_kept(people)
    assert ANN.encode() in people.database.read_bytes()
    report = forgets(people, phone_numbers=[ANN])
    assert report.erased["rejected_records"] == 1
    kept = all_kept(people)
    assert ANN not in kept
    assert people.query("SELECT display_name FROM chats WHERE id = 5") == [("Bob and (withheld)",)]
    assert ANN.encode() not in people.database.read_bytes()


def test_the_file_keeps_its_rights_and_its_link(small: Loader) -> None:
    small.sync()
    file = small.database.rename(small.folder / "elsewhere.duckdb")
    file.chmod(0o600)
    small.database.symlink_to(file)
    forget(small.pipeline, chat_ids=[1])
    assert small.database.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert small.query("SELECT count(*) FROM chats") == [(0,)]


def test_a_hashed_person_is_found_by_the_key(people: Loader) -> None:
    people.sync(**HASHED)
    with pytest.raises(ConfigurationError, match="SOURCES__LINQ__PRIVACY_KEY"):
        forgets(people, phone_numbers=[ANN])
    report = forgets(people, phone_numbers=[ANN], privacy_key=HASHED["privacy_key"])
    assert (report.chats, report.partly) == ((1,), (2, 3))
    people.world.add_message(2, "Ann again", sent_at_ms=NOW_MS - 1000, sent_from=ANN)
    people.sync(**HASHED)
    ids = [row["id"] for row in without(people.world, {1}, ANN)["chat_messages"]]
    assert [row["id"] for row in loaded_tables(people.database)["chat_messages"]] == ids


@pytest.mark.parametrize("treatment", [{}, HASHED], ids=["plain", "hashed"])
@pytest.mark.parametrize(
    "written", ["tel:+1-555-000-1111", "\u202a+15550001111\u202c", "＋１５５５０００１１１１"]
)
def test_a_person_is_found_however_the_number_is_written(
    people: Loader, written: str, treatment: dict[str, Any]
) -> None:
    """In the API's records and in the request; also in what comes later."""
    world = people.world
    world.add_message(2, "Ann, oddly", sent_at_ms=AT_MS + 500, sent_from=written)
    people.sync(**treatment)
    forgets(people, phone_numbers=[written], privacy_key=treatment.get("privacy_key"))
    world.add_message(3, "Ann, oddly again", sent_at_ms=NOW_MS - 1000, sent_from=written)
    world.add_message(3, "Ann again", sent_at_ms=NOW_MS - 1000, sent_from=ANN)
    people.sync(**treatment)
    senders = {row["sent_from"] for row in world_tables(world)["chat_messages"]}
    assert {ANN, written} <= senders
    of_others = [
        row["id"]
        for row in without(world, {1}, ANN)["chat_messages"]
        if row["sent_from"] != written
    ]
    assert [row["id"] for row in loaded_tables(people.database)["chat_messages"]] == of_others


def test_a_dropped_number_cannot_be_looked_for(people: Loader) -> None:
    people.sync(phones="drop")
    with pytest.raises(ConfigurationError, match="phones=drop"):
        forgets(people, phone_numbers=[ANN])
    assert forgets(people, chat_ids=[1]).chats == (1,)


def test_own_numbers_are_refused(people: Loader) -> None:
    people.sync()
    before = loaded_tables(people.database)
    with pytest.raises(ConfigurationError, match="organisation's own") as caught:
        forgets(people, phone_numbers=[OWN])
    assert OWN not in str(caught.value)
    assert loaded_tables(people.database) == before


def test_nothing_named_is_refused(people: Loader) -> None:
    with pytest.raises(ConfigurationError, match="name a phone number or a chat id"):
        forgets(people)


def test_an_unknown_person_is_remembered_all_the_same(people: Loader) -> None:
    people.sync(chat_ids=[4])
    report = forgets(people, phone_numbers=[ANN])
    assert (report.erased, report.chats) == ({}, ())
    people.sync()
    assert loaded_tables(people.database) == without(people.world, {1}, ANN)


def test_forgetting_twice_and_more_changes_nothing_else(people: Loader) -> None:
    people.sync()
    forgets(people, phone_numbers=[ANN])
    again = forgets(people, phone_numbers=[ANN], chat_ids=[4])
    assert (again.erased["chat_messages"], again.chats) == (6, (4,))
    people.sync()
    assert loaded_tables(people.database) == without(people.world, {1, 4}, ANN)


def test_a_crash_in_the_middle_is_mended_by_asking_again(
    people: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    people.sync()

    def crash(*_: object) -> None:
        raise OSError(errno.ENOSPC, "the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr("linq_source.destinations.databases._treat_others", crash)
        with pytest.raises(DestinationError, match="the disk is gone"):
            forgets(people, phone_numbers=[ANN])
    people.sync()
    forgets(people, phone_numbers=[ANN])
    assert loaded_tables(people.database) == without(people.world, {1}, ANN)


def test_a_lost_local_state_still_knows_who_is_forgotten(people: Loader) -> None:
    people.sync()
    forgets(people, phone_numbers=[ANN], chat_ids=[4])
    people.pipeline.drop()
    people.sync()
    assert loaded_tables(people.database) == without(people.world, {1, 4}, ANN)


def test_a_load_leaves_no_copies(people: Loader) -> None:
    people.sync()
    assert [p for p in people.folder.rglob("*.parquet")] == []
    with people.pipeline.sql_client() as client, client.with_staging_dataset():
        rows = client.execute_sql(
            f"SELECT count(*) FROM {client.make_qualified_table_name('chat_messages')}"
        )
    assert rows == [(0,)]


def test_a_record_of_any_length_is_looked_through_in_linear_time() -> None:
    forgotten = Forgotten(salt=b"salt").with_people(["+15551234567", "anna@example.com"])
    nested = "[" * 100_000
    assert not forgotten.is_named_in(nested)
    assert forgotten.is_named_in(f"{nested} anna@example.com")
    assert forgotten.is_named_in(f"{nested}+1 (555) 123-4567")


def test_the_state_of_a_pipeline_that_is_not_ours_stays_as_it_was(people: Loader) -> None:
    """Even though it knows the destination by another name."""
    people.sync()
    database = dlt.destinations.duckdb(str(people.database), destination_name="prod")
    folder = str(people.folder / "foreign")
    other = dlt.pipeline("foreign", destination=database, dataset_name="linq", pipelines_dir=folder)

    @dlt.resource
    def rows() -> Iterator[dict[str, int]]:
        dlt.current.resource_state()["seen"] = 1
        yield {"a": 1}

    other.run(rows())
    states = "SELECT pipeline_name, version_hash FROM _dlt_pipeline_state ORDER BY ALL"
    theirs = [row for row in people.query(states) if row[0] == "foreign"]
    forgets(people, chat_ids=[1])
    assert [row for row in people.query(states) if row[0] == "foreign"] == theirs != []
