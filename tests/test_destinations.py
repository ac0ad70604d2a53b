"""Nothing lost, nothing stale, nothing invented: the same scenario over every destination."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from linq_source import forget
from linq_source.destinations import sql_ledger
from linq_source.destinations.bucket import Bucket
from linq_source.destinations.remote import Remote, connected
from linq_source.sandbox import World, grow, seeded_world
from tests.attaching import add_file, fetch, files_of
from tests.conftest import DAY_MS, HOUR_MS, Loader
from tests.destinations import KINDS, V3, kinds, kinds_of_both
from tests.files import Answer, FileHost, content
from tests.truth import Row

IN_STORES = ("parquet on s3", "ducklake on postgres and s3")


@pytest.fixture(params=kinds())
def loader(
    request: pytest.FixtureRequest, serve: Callable[[World], Loader], tmp_path: Path
) -> Iterator[Loader]:
    """A loader of a believable world into each destination in turn."""
    loader = serve(seeded_world(chats=6, messages=200))
    folder = tmp_path / "place"
    folder.mkdir()
    loader.api = "v3" if request.param.endswith(V3) else "v2"
    with KINDS[request.param.removesuffix(V3)](folder) as place:
        loader.place = place
        yield loader


def all_rows(loader: Loader) -> dict[str, list[Any]]:
    assert loader.place is not None
    names = (*loader.live_tables(), "sync_windows")
    return {name: sorted(map(repr, loader.place.rows(name))) for name in names}


@pytest.mark.parametrize("loader", kinds_of_both(*IN_STORES, v3=["parquet"]), indirect=True)
def test_the_world_arrives_and_its_changes_follow(loader: Loader) -> None:
    report = loader.sync()
    assert (report.messages, report.exit_code) == (200, 0)
    loader.assert_equal_world()
    changes = grow(loader.world)
    second = loader.sync()
    assert second.deleted == changes.deleted_messages == 1
    loader.assert_equal_world()
    if loader.api == "v3":
        # Without counts, a chat of which messages are gone is looked at once more.
        loader.sync()
    before = all_rows(loader)
    third = loader.sync()
    assert (third.messages, third.windows, third.deleted) == (0, 0, 0)
    assert all_rows(loader) == before
    # Not all lines are asked: nothing new is known of those that see the chat.
    loader.world.chats[1].display_name = "Another name"
    assert loader.sync(chat_ids=[loader.id_of("chat", 1)]).exit_code == 0
    loader.assert_equal_world()


@pytest.mark.parametrize("loader", kinds_of_both(v3=["duckdb"]), indirect=True)
def test_what_is_deleted_edited_and_taken_back_is_settled(loader: Loader) -> None:
    loader.sync()
    world = loader.world
    chat_id = min(world.chats)
    messages = world.messages_of(chat_id)
    newest, deleted, bare = messages[-1], messages[-2], messages[-3]
    world.edit_message(newest.id, "edited")
    world.add_reaction(newest.id, "love", from_phone="+15550000009")
    world.delete_message(deleted.id)
    for reaction in list(bare.reactions):
        world.remove_reaction(bare.id, reaction.id)
    day = messages[0].sent_at_ms // DAY_MS
    for message in messages[:-3]:
        if message.sent_at_ms // DAY_MS == day:
            world.delete_message(message.id)
    loader.sync()
    loader.assert_equal_world()
    for reaction in list(world.messages[newest.id].reactions):
        world.remove_reaction(newest.id, reaction.id)
    world.add_message(chat_id, "late", sent_at_ms=world.now_ms - 40 * DAY_MS)
    loader.sync()
    loader.assert_equal_world()


def test_a_chat_comes_and_goes(loader: Loader) -> None:
    loader.sync()
    world = loader.world
    gone = max(world.chats)
    world.remove_chat(gone)
    chat = world.add_chat(display_name="New")
    for age in range(3):
        world.add_message(chat.id, f"n{age}", sent_at_ms=world.now_ms - age * 50 * DAY_MS - 2_000)
    loader.sync()
    loader.assert_equal_world()
    assert loader.place is not None
    # Which of the lines saw it nobody tells any more, and not all were shown to keep as much.
    expired = {row["id"] for row in loader.place.rows("chats") if row["expired_at"] is not None}
    assert expired == {loader.id_of("chat", gone)}


@pytest.mark.parametrize("step", ["extract", pytest.param("normalize", marks=pytest.mark.deep)])
def test_a_run_that_ended_early_is_finished(loader: Loader, step: str) -> None:
    loader.sync()
    grow(loader.world)
    pipeline = loader.pipeline
    pipeline.extract(loader.source(), **loader.options)
    if step == "normalize":
        pipeline.normalize()
    loader.world.advance(2 * HOUR_MS)
    loader.sync()
    loader.assert_equal_world()


def test_the_local_state_is_restored(loader: Loader) -> None:
    loader.sync()
    shutil.rmtree(loader.folder / "pipelines")
    grow(loader.world)
    report = loader.sync()
    loader.assert_equal_world()
    assert report.messages < 200


def test_packages_and_a_plain_run_give_the_same(loader: Loader) -> None:
    loader.sync(max_messages=40)
    loader.assert_equal_world()
    grow(loader.world)
    loader.pipeline.run(loader.source(), **loader.options)
    loader.settle()
    loader.assert_equal_world()


def test_a_field_of_the_future_becomes_a_column(loader: Loader) -> None:
    loader.sync()
    chat_id = min(loader.world.chats)
    message = loader.world.add_message(chat_id, "new", sent_at_ms=loader.world.now_ms - 2_000)
    message.extra["mood"] = "calm"
    loader.sync()
    assert loader.place is not None
    moods = {row["id"]: row["mood"] for row in loader.place.rows("chat_messages") if row["mood"]}
    assert moods == {loader.id_of("message", message.id): "calm"}


def test_states_of_old_runs_are_pruned(loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_ledger, "STATES_KEPT", 1)
    monkeypatch.setenv("DESTINATION__FILESYSTEM__MAX_STATE_FILES", "2")
    shard = Loader(loader.sandbox, loader.folder, "another", loader.place, loader.api)
    shard.sync(shard="0/2")
    for number in range(3):
        at_ms = loader.world.now_ms - (1 + number) * 60_000
        loader.world.add_message(2, f"new {number}", sent_at_ms=at_ms)
        loader.sync()
    with connected(loader.pipeline) as remote:
        assert states_of(remote, shard.name) == 1
        assert 1 <= states_of(remote, loader.name) <= 3
    shutil.rmtree(loader.folder / "pipelines")
    assert loader.sync().messages == 0
    loader.assert_equal_world()


def states_of(remote: Remote, pipeline_name: str) -> int:
    if hasattr(remote.client, "fs_client"):
        files = Bucket.of(remote).list("_dlt_pipeline_state")
        return sum(path.rpartition("/")[2].startswith(f"{pipeline_name}__") for path in files)
    table = remote.sql.make_qualified_table_name("_dlt_pipeline_state")
    count = f"SELECT count(*) FROM {table} WHERE pipeline_name = %s"
    return int(remote.sql.execute_sql(count, pipeline_name)[0][0])


@pytest.mark.parametrize("loader", kinds_of_both(*IN_STORES, fast=["duckdb"]), indirect=True)
def test_files_are_fetched_recorded_and_erased(
    loader: Loader, host: FileHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linq_source.media.fetching._BACKOFF", lambda _: 0.01)
    world = loader.world
    keeps, goes = sorted(world.chats)[:2]
    for message in world.messages.values():
        message.attachments.clear()
    of_both = {}
    for chat_id in (keeps, goes):
        at_ms = world.now_ms - 60_000
        message = world.add_message(chat_id, "see these", sent_at_ms=at_ms)
        of_both[chat_id] = message.id
        for number in range(2):
            add_file(loader, host, message, f"/{chat_id}-{number}.pdf", 100 + number)
    host.answers[f"/{keeps}-1.pdf"] = Answer(status=503)
    loader.sync()
    assert loader.audit().exit_code == 0
    first = fetch(loader)
    assert (first.stored, first.failed) == (3, 1)
    host.answers[f"/{keeps}-1.pdf"] = Answer(content("late", 101))
    second = fetch(loader)
    assert (second.stored, second.failed, second.left_out) == (1, 0, 0)
    assert fetch(loader).loads == ()
    found = {(r["chat_message_id"], r["position"]): r["size_bytes"] for r in records(loader)}
    # Of v3 it is the place among the parts, and the text is the first.
    first_place = 0 if loader.api == "v2" else 1
    assert found == {
        (loader.id_of("message", message_id), first_place + number): 100 + number
        for message_id in of_both.values()
        for number in (0, 1)
    }
    world.edit_message(of_both[keeps], "edited")
    loader.sync()
    loader.assert_equal_world()
    forget(loader.pipeline, chat_ids=[loader.id_of("chat", goes)])
    third = fetch(loader, erase_forgotten=True)
    assert (third.erased, third.stored) == (2, 0)
    kept = {row["chat_message_id"] for row in records(loader)}
    assert kept == {loader.id_of("message", of_both[keeps])}
    assert sorted(map(len, files_of(loader).values())) == [100, 101]


@pytest.mark.parametrize("loader", kinds(fast=["duckdb"]), indirect=True)
def test_contacts_come_go_and_return(loader: Loader) -> None:
    world = loader.world
    first, second, *_ = world.sorted_contacts()
    first.extra |= {"mood": "calm", "is_vip": True}
    person = world.add_contact("Eve", None, email="eve@example.com", contact_id="c_1")
    assert loader.sync(contacts=True).exit_code == 0
    assert contacts_of(loader) == {str(id_): (c.full_name, False) for id_, c in
                                   world.contacts.items()}  # fmt: skip
    del world.contacts[first.id]
    second.first_name = "Changed"
    loader.sync(contacts=True)
    found = contacts_of(loader)
    assert found[str(first.id)] == (first.full_name, True)
    assert found[str(second.id)] == (second.full_name, False)
    assert sum(is_gone for _, is_gone in found.values()) == 1
    assert loader.place is not None
    rows = loader.place.rows("contacts")
    unknown = {row["id"]: (row["mood"], row["is_vip"]) for row in rows if row["mood"]}
    assert unknown == {str(first.id): ("calm", True)}
    world.contacts[first.id] = first
    loader.sync(contacts=True)
    assert contacts_of(loader)[str(first.id)] == (first.full_name, False)
    forget(loader.pipeline, phone_numbers=["eve@example.com"])
    loader.sync(contacts=True)
    assert contacts_of(loader).keys() == {str(id_) for id_ in world.contacts if id_ != person.id}


def contacts_of(loader: Loader) -> dict[str, tuple[str, bool]]:
    """Name, and whether it is gone, by id; each once."""
    assert loader.place is not None
    rows = loader.place.rows("contacts")
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: (row["full_name"], row["deleted_at"] is not None) for row in rows}


def records(loader: Loader) -> list[Row]:
    assert loader.place is not None
    rows = loader.place.rows("attachment_files")
    assert {row["status"] for row in rows} == {"stored"}
    return rows
