"""Delta and Iceberg tables: what is theirs alone, beyond what every destination promises."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dlt
import pytest

from linq_source import settle, sync
from linq_source.destinations.open_tables.delta import DeltaTables
from linq_source.destinations.open_tables.iceberg import IcebergTables
from linq_source.errors import ConfigurationError
from linq_source.extraction import row_buffer
from linq_source.sandbox import World, seeded_world
from linq_source.tables import TABLES
from tests.conftest import DAY_MS, HOUR_MS, NOW_MS, Loader
from tests.destinations import OpenTables
from tests.test_cli import assert_one_line, run_cli

pytestmark = pytest.mark.long

FORMATS = ("delta", "iceberg")
CLASSES = {"delta": DeltaTables, "iceberg": IcebergTables}
DATA = tuple(name for name in TABLES if name not in ("sync_runs", "contacts", "attachment_files"))


@pytest.fixture(params=FORMATS)
def table_format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def loader(serve: Callable[[World], Loader], tmp_path: Path, table_format: str) -> Loader:
    """A loader of one chat with five messages, a day apart, with children."""
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001")
    chat = world.add_chat(display_name="One", chat_id=1)
    for age in range(5):
        message = world.add_message(chat.id, f"m{age}", sent_at_ms=NOW_MS - age * DAY_MS - HOUR_MS)
        world.add_reaction(message.id, "love", from_phone="+15550000009")
    loader = serve(world)
    loader.place = OpenTables(tmp_path / "place", table_format)
    return loader


def place_of(loader: Loader) -> OpenTables:
    assert isinstance(loader.place, OpenTables)
    return loader.place


def versions(loader: Loader) -> dict[str, int]:
    return {name: place_of(loader).version(name) for name in DATA}


def keys(loader: Loader, name: str) -> list[tuple[Any, ...]]:
    key = TABLES[name].key
    return sorted(tuple(row[part] for part in key) for row in place_of(loader).rows(name))


def newest(loader: Loader) -> Any:
    return loader.world.messages_of(1)[-1]


def test_children_that_went_are_removed_and_no_tombstone_is_ever_there(loader: Loader) -> None:
    loader.sync()
    message = newest(loader)
    loader.world.remove_reaction(message.id, message.reactions[0].id)
    loader.pipeline.run(loader.source(), **loader.options)
    for name in ("chat_messages__reactions", "chat_messages__attachments", "chats__chat_handles"):
        assert [r for r in place_of(loader).rows(name) if r["_tombstone"]] == []
    assert loader.settle() == 0
    assert len(keys(loader, "chat_messages__reactions")) == 4
    loader.assert_equal_world()


def test_a_message_that_comes_back_is_live_again(loader: Loader) -> None:
    loader.sync()
    message = newest(loader)
    loader.world.delete_message(message.id)
    assert loader.sync().deleted == 1
    (row,) = [r for r in place_of(loader).rows("chat_messages") if r["id"] == message.id]
    (window,) = [
        r for r in place_of(loader).rows("sync_windows") if r["synced_at"] > row["synced_at"]
    ]
    assert row["deleted_at"] == window["synced_at"]
    loader.world.messages[message.id] = message
    loader.sync()
    loader.assert_equal_world()


def test_a_run_with_nothing_to_do_writes_no_version_and_a_change_few(loader: Loader) -> None:
    loader.sync()
    first = versions(loader)
    assert loader.sync().windows == 0
    assert loader.settle() == 0
    assert versions(loader) == first
    loader.world.edit_message(newest(loader).id, "edited")
    loader.sync()
    # One day's rows replaced by one transaction of each table concerned: for Iceberg two
    # snapshots, rows taken out and rows put in.
    written = {name: versions(loader)[name] - first[name] for name in DATA}
    most = 1 if place_of(loader).options["table_format"] == "delta" else 2
    assert 0 < written["chat_messages"] <= most
    assert written["sync_windows"] == 1
    assert written["chats__chat_handles"] == written["phone_numbers"] == 0


# A settling's commits, in order: the method and the table of its call.
COMMITS = (
    ("remove_children", "chat_messages__reactions"),
    ("mark", "chat_messages"),
    ("mark", "chats"),
    ("remove", "sync_windows"),
)


def test_a_settling_cut_off_before_and_after_each_commit_is_finished_by_the_next(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = loader.world
    world.add_chat(chat_id=2)
    loader.sync()
    world.remove_reaction(newest(loader).id, newest(loader).reactions[0].id)
    world.delete_message(world.messages_of(1)[-2].id)
    world.remove_chat(2)
    loader.pipeline.run(loader.source(), **loader.options)
    kind = CLASSES[str(place_of(loader).options["table_format"])]
    for name, table_name in COMMITS:
        for moment in ("before", "after"):
            with monkeypatch.context() as patch:
                patch.setattr(kind, name, _cut_off(getattr(kind, name), table_name, moment))
                with pytest.raises(KeyboardInterrupt):
                    # Kept for less than no time, so that there is something to prune.
                    settle(loader.pipeline, ledger_retention_days=-1)
    settle(loader.pipeline, ledger_retention_days=-1)
    assert place_of(loader).rows("sync_windows") == []
    loader.assert_equal_world()
    before = versions(loader)
    loader.settle()
    assert versions(loader) == before


def _cut_off(original: Any, table_name: str, moment: str) -> Any:
    def cut(self: Any, table: Any, *arguments: Any) -> None:
        if table.name != table_name or moment == "after":
            original(self, table, *arguments)
        if table.name == table_name:
            raise KeyboardInterrupt

    return cut


def test_the_ledger_is_pruned_after_its_retention(loader: Loader) -> None:
    loader.sync()
    assert len(place_of(loader).rows("sync_windows")) > 0
    loader.world.edit_message(newest(loader).id, "edited")
    loader.pipeline.run(loader.source(), **loader.options)
    settle(loader.pipeline, ledger_retention_days=0)
    rows = place_of(loader).rows("sync_windows")
    assert len({row["synced_at"] for row in rows}) == 1
    loader.sync()
    loader.assert_equal_world()


def test_a_column_that_comes_up_in_the_middle_of_a_package(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every chat's rows are a file of their own; only the last has the new column.
    monkeypatch.setattr(row_buffer, "FLUSH_ROWS", 1)
    chat = loader.world.add_chat(chat_id=2)
    message = loader.world.add_message(chat.id, "second", sent_at_ms=NOW_MS - HOUR_MS)
    loader.sync()
    loader.world.edit_message(newest(loader).id, "edited")
    loader.world.edit_message(message.id, "edited")
    message.extra["mood"] = "calm"
    loader.sync(workers=1)
    loader.sync(end="2100-01-01")
    moods = {r["id"]: r["mood"] for r in place_of(loader).rows("chat_messages") if r["mood"]}
    assert moods == {message.id: "calm"}
    assert len(keys(loader, "chat_messages")) == 6


def test_a_reader_never_sees_a_key_twice_nor_a_message_missing(loader: Loader) -> None:
    loader.sync()
    expected = keys(loader, "chat_messages")
    seen: list[list[tuple[Any, ...]]] = []
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            seen.append(keys(loader, "chat_messages"))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(10):
            for message in loader.world.messages_of(1):
                loader.world.edit_message(message.id, f"edited {number}")
            loader.sync()
            if number >= 2 and len(seen) > 3:
                break
    finally:
        is_over.set()
        reader.join()
    assert len(seen) > 3
    assert all(found == expected for found in seen)
    loader.assert_equal_world()


@pytest.mark.parametrize("table_format", ["iceberg"])
def test_packages_of_new_messages_are_one_snapshot_each(loader: Loader) -> None:
    loader.world.add_chat(chat_id=2)
    loader.world.add_message(2, "second", sent_at_ms=NOW_MS - HOUR_MS)
    report = loader.sync(max_messages=1, workers=1)
    assert len(report.loads) == 2
    snapshots = place_of(loader).table("chat_messages").metadata.snapshots
    assert [snapshot.summary.operation.value for snapshot in snapshots] == ["append"] * 2
    loader.assert_equal_world()


def test_a_dataset_stays_with_its_format(loader: Loader, table_format: str) -> None:
    loader.sync()
    other = FORMATS[1 - FORMATS.index(table_format)]
    loader.place = _told(loader, other)
    with pytest.raises(ConfigurationError, match=f"kept as {table_format}"):
        loader.sync()
    loader.place = _told(loader, None)
    loader.world.edit_message(newest(loader).id, "edited")
    loader.sync()
    loader.place = _told(loader, table_format)
    loader.assert_equal_world()


def _told(loader: Loader, table_format: str | None) -> OpenTables:
    place = OpenTables(place_of(loader).bucket.parent, table_format or "")
    place.options = {} if table_format is None else {"table_format": table_format}
    return place


def test_audit_counts_live_messages(loader: Loader) -> None:
    loader.sync()
    loader.world.delete_message(newest(loader).id)
    loader.sync()
    report = loader.audit()
    assert (report.messages, report.differences) == (4, ())
    loader.world.add_message(1, "unread", sent_at_ms=NOW_MS - 1)
    (difference,) = loader.audit().differences
    assert (difference.live_rows, difference.message_count) == (4, 5)


def test_a_format_needs_the_filesystem_and_a_known_name(loader: Loader, tmp_path: Path) -> None:
    loader.place = _told(loader, "hudi")
    with pytest.raises(ConfigurationError, match="'hudi' is not known; use one of delta, iceberg"):
        loader.sync()
    duckdb = dlt.pipeline("other", destination="duckdb", pipelines_dir=str(tmp_path / "other"))
    with pytest.raises(ConfigurationError, match="the destination duckdb keeps tables its own"):
        sync(duckdb, table_format="delta", **loader.arguments())


def test_the_command_loads_and_audits(
    serve: Callable[[World], Loader], tmp_path: Path, table_format: str
) -> None:
    loader = serve(seeded_world(chats=3, messages=30))
    place = OpenTables(tmp_path, table_format)
    loader.place = place
    options = (
        "--base-url", loader.sandbox.url, "--destination", "filesystem",
        "--bucket-url", str(place.bucket), "--table-format", table_format, "--json",
    )  # fmt: skip
    result = run_cli(tmp_path, "run", *options)
    assert result.returncode == 0, result.stderr
    loader.assert_equal_world()
    audit = run_cli(tmp_path, "audit", *options, "--pipelines-dir", str(tmp_path / "elsewhere"))
    assert audit.returncode == 0, audit.stderr
    assert json.loads(audit.stdout)["messages"] == 30


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--destination", "filesystem", "--table-format", "delta"), ("needs --bucket-url",)),
        (("--destination", "filesystem", "--bucket-url", "b"), ("needs --table-format delta",)),
        (("--table-format", "delta"), ("destination duckdb", "filesystem")),
        (("--bucket-url", "b"), ("duckdb is not in a bucket",)),
        (
            ("--destination", "filesystem", "--bucket-url", "b", "--table-format", "hudi"),
            ("'hudi'", "delta, iceberg"),
        ),
        (
            ("--destination", "filesystem", "--bucket-url", "file/b", "--table-format", "delta"),
            ("file is a file", "another folder"),
        ),
    ],
)  # fmt: skip
def test_wrong_options_are_one_line(
    tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    (tmp_path / "file").write_text("")
    result = run_cli(tmp_path, "run", "--base-url", "http://127.0.0.1:9", *options)
    assert result.returncode == 2
    assert_one_line(result, *words)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "dlt") == ["file"]
