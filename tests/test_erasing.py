"""Forgetting in every kind of destination: nothing of it is left in any file, nothing else goes."""

from __future__ import annotations

import errno
import importlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from linq_source import ConfigurationError, DestinationError, forget
from linq_source.destinations.bucket import Bucket
from linq_source.destinations.remote import forgotten_in
from linq_source.sandbox import World
from linq_source.state_keys import FORGOTTEN, source_state
from tests.conftest import DAY_MS, NOW_MS, Loader
from tests.destinations import KINDS, Lake, LakeOnS3, OpenTables, kinds
from tests.ducklake import DuckLake
from tests.test_forgetting import ANN, BOB, OWN, without
from tests.truth import LIVE_TABLES

AT_MS = NOW_MS - 2 * DAY_MS
SAID, LONG_AGO = "pelican said", "pelican long ago"


@pytest.fixture
def people(
    request: pytest.FixtureRequest, serve: Callable[[World], Loader], tmp_path: Path
) -> Iterator[Loader]:
    """Ann writes alone in chat 1, with Bob in group 2, whose name she has; Bob alone in chat 3."""
    world = World(now_ms=NOW_MS)
    world.add_phone_number(OWN)
    for chat_id, numbers in {1: [ANN], 2: [ANN, BOB], 3: [BOB]}.items():
        name = f"with {ANN}" if chat_id == 2 else f"c{chat_id}"
        world.add_chat(chat_id=chat_id, group=len(numbers) > 1, display_name=name)
        for number in numbers:
            world.add_handle(chat_id, number, joined_at_ms=AT_MS)
        for offset, number in enumerate([*numbers, OWN]):
            for at_ms in (AT_MS + offset, AT_MS - 60 * DAY_MS + offset):
                text = f"{SAID} in {chat_id}" if number == ANN else f"said in {chat_id}"
                message = world.add_message(chat_id, text, sent_at_ms=at_ms, sent_from=number)
                name = f"{SAID}.pdf" if number == ANN else "file.pdf"
                world.add_attachment(message.id, filename=name)
                for reacting in numbers:
                    world.add_reaction(message.id, from_phone=reacting, sent_at_ms=at_ms)
    loader = serve(world)
    folder = tmp_path / "place"
    folder.mkdir()
    with KINDS[request.param](folder) as place:
        loader.place = place
        yield loader


every_kind = pytest.mark.parametrize("people", kinds(), indirect=True)
in_files = pytest.mark.parametrize(
    "people",
    [
        *kinds("parquet", "parquet on s3", "delta", "iceberg", "ducklake"),
        pytest.param("ducklake on postgres and s3", marks=pytest.mark.deep),
    ],
    indirect=True,
)


def tables_of(loader: Loader) -> dict[str, list[Any]]:
    """The live rows, but for names of chats."""
    found = loader.live_tables()
    for row in found["chats"]:
        del row["display_name"]
    return {name: found[name] for name in LIVE_TABLES}


def expected(world: World, chats: set[int]) -> dict[str, list[Any]]:
    found = without(world, chats, ANN)
    for row in found["chats"]:
        del row["display_name"]
    return found


def left_of(loader: Loader, *words: str) -> list[str]:
    """Which files under the destination's folder have a word, as bytes or as a value."""
    place = loader.place
    if isinstance(place, LakeOnS3):
        root = f"{place.bucket}/{place.folder}/linq"
        bucket = Bucket(place.file_system(), root)
    elif isinstance(place, DuckLake):
        bucket = Bucket(place.files, place.root)
    else:
        assert isinstance(place, Lake | OpenTables)
        bucket = Bucket(LocalFileSystem(), f"{place.bucket}/linq")
    found = []
    if isinstance(place, DuckLake):
        catalog = str(place.catalog_rows())
        found += [f"{word} in the catalog" for word in words if word in catalog]
    for path in bucket.list(""):
        content = bucket.fs.cat_file(f"{bucket.root}/{path}")
        if path.endswith(".parquet"):
            with bucket.fs.open(f"{bucket.root}/{path}") as file:
                content += json.dumps(pq.ParquetFile(file).read().to_pylist(), default=str).encode()
        found += [f"{word} in {path}" for word in words if word.encode() in content]
    return found


def change_much(loader: Loader) -> None:
    """Several versions of what is to be forgotten: edited, taken back, deleted."""
    world = loader.world
    mine = [m for m in world.messages_of(2) if m.sent_from == ANN]
    world.edit_message(mine[-1].id, f"{LONG_AGO}, then edited")
    loader.sync()
    world.edit_message(mine[-1].id, f"{SAID} in the end")
    world.remove_reaction(mine[-1].id, mine[-1].reactions[0].id)
    loader.sync()
    world.delete_message(mine[-1].id)
    raw = {"id": "x", "text": "hm", "sent_at": "2026-02-14T10:00:00Z", "sent_from": ANN}
    world.add_message(2, message_id=900, sent_at_ms=AT_MS, raw=json.dumps(raw))
    loader.sync()
    world.delete_message(900)
    loader.sync()


@every_kind
def test_a_person_is_erased_and_does_not_come_back(people: Loader) -> None:
    people.sync()
    report = forget(people.pipeline, phone_numbers=[ANN])
    assert (report.chats, report.partly) == ((1,), (2,))
    assert report.erased["chat_messages"] == 6
    assert tables_of(people) == expected(people.world, {1})
    assert people.place is not None
    names = {row["id"]: row["display_name"] for row in people.place.rows("chats")}
    assert names == {2: "with (withheld)", 3: "c3"}
    assert not [row for row in people.place.rows("sync_windows") if row["chat_id"] == 1]
    people.world.add_message(2, "Ann again", sent_at_ms=NOW_MS - 1000, sent_from=ANN)
    people.world.add_message(2, "and Bob", sent_at_ms=NOW_MS - 1000, sent_from=BOB)
    people.sync()
    assert tables_of(people) == expected(people.world, {1})
    assert people.audit().exit_code == 0
    again = forget(people.pipeline, chat_ids=[3])
    assert (again.chats, again.erased["chat_messages"]) == ((3,), 4)
    assert tables_of(people) == expected(people.world, {1, 3})
    assert people.sync().messages == 0


@in_files
def test_nothing_readable_is_left_in_any_file(people: Loader) -> None:
    people.sync()
    change_much(people)
    words = (ANN, SAID, LONG_AGO)
    assert {word for word in words if left_of(people, word)} == set(words)
    forget(people.pipeline, phone_numbers=[ANN])
    assert left_of(people, *words, ANN.lstrip("+")) == []
    assert tables_of(people) == expected(people.world, {1})
    people.sync()
    assert left_of(people, *words) == []
    assert tables_of(people) == expected(people.world, {1})
    assert forget(people.pipeline, chat_ids=[3]).erased["chat_messages"] == 4


CRASHES = {
    "parquet": "linq_source.destinations.bucket.Bucket.publish",
    "delta": "linq_source.destinations.open_tables.delta.DeltaTables.replace",
    "iceberg": "linq_source.destinations.open_tables.iceberg.IcebergTables.drop_history",
    "ducklake": "linq_source.destinations.ducklake.DuckLake._call",
}


@pytest.mark.parametrize(
    ("people", "crash"),
    [
        pytest.param(kind, place, marks=[] if kind == "parquet" else pytest.mark.long, id=kind)
        for kind, place in CRASHES.items()
    ],
    indirect=["people"],
)
def test_what_a_crash_left_undone_is_done_by_asking_again(
    people: Loader, crash: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    people.sync()
    change_much(people)
    module, _, method = crash.rpartition(".")
    place, _, name = module.rpartition(".")
    kind = getattr(importlib.import_module(place), name)
    does, calls = getattr(kind, method), itertools.count()

    def breaks(*arguments: Any) -> Any:
        if next(calls) == 2:
            raise OSError(errno.ENOSPC, "the disk is full")
        return does(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(kind, method, breaks)
        with pytest.raises(DestinationError, match="the disk is full"):
            forget(people.pipeline, phone_numbers=[ANN])
    people.sync()
    forget(people.pipeline, phone_numbers=[ANN])
    assert left_of(people, ANN, SAID, LONG_AGO) == []
    assert tables_of(people) == expected(people.world, {1})


@pytest.mark.parametrize("people", ["parquet"], indirect=True)
def test_files_of_no_complete_load_are_erased_too(people: Loader) -> None:
    people.sync()
    assert isinstance(people.place, Lake)
    log = people.place.bucket / "linq" / "chat_messages"
    whole = next(iter(sorted(log.glob("*.parquet"))))
    # A package that was dropped, one file of it half written; and what a killed settler left.
    (log / "1700000000.5.abcdef.parquet").write_bytes(whole.read_bytes())
    (log / "1700000000.5.012345.parquet").write_bytes(whole.read_bytes()[:-50])
    current = people.place.bucket / "linq" / "current" / "chat_messages"
    part = next(current.rglob("part-0.parquet"))
    part.with_name(".0123456789abcdef.tmp").write_bytes(SAID.encode())
    forget(people.pipeline, phone_numbers=[ANN])
    assert left_of(people, ANN, SAID) == []
    assert (log / "1700000000.5.abcdef.parquet").exists()
    assert not (log / "1700000000.5.012345.parquet").exists()
    people.sync()
    assert tables_of(people) == expected(people.world, {1})


@pytest.mark.parametrize("people", ["parquet"], indirect=True)
def test_a_lake_with_files_that_nobody_can_explain_is_left_alone(people: Loader) -> None:
    people.sync()
    assert isinstance(people.place, Lake)
    stray = people.place.bucket / "linq" / "old" / "chat_messages.parquet"
    stray.parent.mkdir()
    stray.write_bytes(b"?")
    before = people.live_tables()
    with pytest.raises(ConfigurationError, match=r"old/chat_messages\.parquet: has another layout"):
        forget(people.pipeline, phone_numbers=[ANN])
    assert people.live_tables() == before
    assert not forgotten_in(people.pipeline).people
    stray.unlink()
    assert forget(people.pipeline, phone_numbers=[ANN]).chats == (1,)


@pytest.mark.parametrize("people", kinds("iceberg"), indirect=True)
def test_nothing_is_erased_while_a_tag_keeps_old_rows(people: Loader) -> None:
    people.sync()
    with people.pipeline.destination_client() as client:
        iceberg: Any = client.load_open_table("iceberg", "chats")  # type: ignore[attr-defined]
        snapshot_id = iceberg.current_snapshot().snapshot_id
        iceberg.manage_snapshots().create_tag(snapshot_id, "audited").commit()
    with pytest.raises(ConfigurationError, match="table chats: the branches or tags audited keep"):
        forget(people.pipeline, phone_numbers=[ANN])
    assert {row["sent_from"] for row in people.live_tables()["chat_messages"]} == {ANN, BOB, OWN}
    assert not forgotten_in(people.pipeline).people
    assert FORGOTTEN not in source_state(people.pipeline.state)
    with people.pipeline.destination_client() as client:
        iceberg = client.load_open_table("iceberg", "chats")  # type: ignore[attr-defined]
        iceberg.manage_snapshots().remove_tag("audited").commit()
    forget(people.pipeline, phone_numbers=[ANN])
    assert tables_of(people) == expected(people.world, {1})
    assert left_of(people, ANN, SAID) == []
