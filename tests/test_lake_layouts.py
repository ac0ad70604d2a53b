"""The Parquet lake's files: wherever dlt's `layout` puts the log, and what is always there."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from linq_source.destinations.bucket import DEFAULT_LAYOUT, Bucket
from linq_source.destinations.lake import check_lake, locking, rebuild_lake
from linq_source.destinations.lake.layout import LOCK, MARKER, SETTLED_TABLES
from linq_source.errors import ConfigurationError
from linq_source.sandbox import World, grow, seeded_world
from linq_source.tables import ATTACHMENT_FILES, MESSAGE_PARTS, TOMBSTONE
from tests.conftest import DAY_MS, NOW_MS, Loader
from tests.destinations import Lake, LakeOnS3, parquet_lake_on_s3
from tests.lake_readers import READERS, commands
from tests.test_cli import assert_one_line, run_cli

LAYOUTS = (
    "{table_name}/{YYYY}/{MM}/{load_id}.{file_id}.{ext}",
    "{table_name}/load={load_id}/{file_id}.{ext}",
    "{table_name}.{load_id}.{file_id}.{ext}",
    "{schema_name}/{table_name}/{timestamp}.{load_id}.{file_id}",
    "raw//{table_name}/{curr_date}/{load_package_timestamp_ms}-{load_id}-{file_id}.{ext}",
    "chats/{table_name}_{load_id}_{file_id}_{load_id}.{ext}.data",
    "{table_name}\\{owner}.{load_id}.{file_id}.{ext}",
)


def lake_of(loader: Loader, layout: str | None = None) -> Bucket:
    """Make the loader's place a lake with a layout; gives its files."""
    settings: dict[str, Any] = {} if layout is None else {"layout": layout}
    if layout is not None and "{owner}" in layout:
        settings["extra_placeholders"] = {"owner": "v1.2 [a]"}
    place = loader.place = Lake(loader.folder, **settings)
    return Bucket(LocalFileSystem(), str(place.bucket / "linq"), layout or DEFAULT_LAYOUT)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_that_names_table_and_load_gives_the_same_rows(
    serve: Callable[[World], Loader], layout: str
) -> None:
    loader = serve(seeded_world(chats=3, messages=60))
    bucket = lake_of(loader, layout)
    loader.sync()
    loader.assert_equal_world()
    grow(loader.world)
    loader.sync()
    loader.assert_equal_world()
    assert check_lake(bucket).findings == ()
    rebuild_lake(bucket)
    loader.assert_equal_world()
    assert loader.audit().exit_code == 0


def test_a_layout_that_changes_between_runs_loses_nothing(
    serve: Callable[[World], Loader],
) -> None:
    loader = serve(seeded_world(chats=3, messages=60))
    for layout in (None, LAYOUTS[0], LAYOUTS[2], None):
        bucket = lake_of(loader, layout)
        loader.sync()
        loader.assert_equal_world()
        grow(loader.world)
    # What settled it may be gone: the log alone tells.
    for path in bucket.list("current"):
        bucket.remove(path)
    rebuild_lake(bucket)
    loader.sync()
    loader.assert_equal_world()
    assert check_lake(bucket).findings == ()


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ("{table_name}/{file_id}.{ext}", "lacks {load_id}"),
        ("{table_name}/{load_id}.{ext}", "lacks {file_id}"),
        ("{table_name}/{timestamp}{load_id}.{file_id}.{ext}", "separator around"),
        ("current/{table_name}/{load_id}.{file_id}.{ext}", "leads out of the log"),
        ("../{table_name}/{load_id}.{file_id}.{ext}", "leads out of the log"),
        ("/{table_name}/{load_id}.{file_id}.{ext}", "leads out of the log"),
        ("{load_id}/{table_name}/{file_id}.{ext}", "{table_name}"),
        ("{load_id}.{file_id}.{ext}", "{table_name} placeholder not found"),
        ("{table_name}/{load_id}.{file_id}.{what}", "what"),
    ],
)
def test_a_layout_by_which_nothing_can_be_found_is_refused_before_reading(
    serve: Callable[[World], Loader], layout: str, words: str
) -> None:
    loader = serve(seeded_world(chats=1, messages=5))
    lake_of(loader, layout)
    with pytest.raises(ConfigurationError) as raised:
        loader.sync()
    assert words in str(raised.value)
    assert "layout" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
    assert loader.sandbox.requests_log == []
    assert loader.place is not None
    assert loader.place.rows("chat_messages") == []


def test_a_refused_layout_is_one_line_of_the_command(
    serve: Callable[[World], Loader], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = serve(seeded_world(chats=2, messages=20))
    where = ("--destination", "parquet", "--bucket-url", str(loader.folder / "lake"))
    run = ("run", "--base-url", loader.sandbox.url, *where)
    monkeypatch.setenv("DESTINATION__FILESYSTEM__LAYOUT", "{table_name}/{file_id}.{ext}")
    refused = run_cli(tmp_path, *run)
    assert refused.returncode == 2
    assert_one_line(refused, "'{table_name}/{file_id}.{ext}'", "lacks {load_id}")
    monkeypatch.setenv("DESTINATION__FILESYSTEM__LAYOUT", LAYOUTS[0])
    assert run_cli(tmp_path, *run).returncode == 0
    loader.place = Lake(loader.folder)
    loader.assert_equal_world()


def test_a_load_whose_files_are_not_found_is_never_called_settled(
    serve: Callable[[World], Loader],
) -> None:
    loader = serve(seeded_world(chats=2, messages=30))
    bucket = lake_of(loader, "{table_name}/{file_id}.{ext}")
    # dlt alone takes such a layout.
    loader.pipeline.run(loader.source())
    with pytest.raises(ConfigurationError, match=r"lacks \{load_id\}"):
        loader.settle()
    lake_of(loader)
    for act in (loader.settle, loader.sync):
        with pytest.raises(ConfigurationError, match=r"\.parquet: has another layout") as raised:
            act()
        assert len(str(raised.value).splitlines()) == 1
    assert not Path(bucket.root, MARKER).exists()


def test_a_load_under_a_layout_not_known_any_more_is_told_and_then_settled(
    serve: Callable[[World], Loader],
) -> None:
    loader = serve(seeded_world(chats=2, messages=30))
    lake_of(loader, LAYOUTS[1])
    loader.pipeline.run(loader.source())
    bucket = lake_of(loader)
    with pytest.raises(ConfigurationError, match=r"load=.*\.parquet: has another layout"):
        loader.settle()
    lake_of(loader, LAYOUTS[1])
    loader.settle()
    lake_of(loader)
    loader.sync()
    loader.assert_equal_world()
    assert check_lake(bucket).findings == ()


@pytest.mark.parametrize("file_format", ["jsonl", "csv"])
def test_a_lake_is_parquet_whatever_format_a_run_asks_for(
    serve: Callable[[World], Loader], file_format: Any
) -> None:
    loader = serve(seeded_world(chats=2, messages=30))
    bucket = lake_of(loader)
    loader.pipeline.run(loader.source(), loader_file_format=file_format)
    loader.settle()
    loader.assert_equal_world()
    assert [path for path in bucket.list("chat_messages") if not path.endswith(".parquet")] == []


def test_layouts_in_an_object_store(serve: Callable[[World], Loader], tmp_path: Path) -> None:
    loader = serve(seeded_world(chats=2, messages=30))
    with parquet_lake_on_s3(tmp_path) as place:
        for layout in LAYOUTS[:5]:
            loader.place = LakeOnS3(place.address, place.bucket, layout=layout)
            loader.sync()
            loader.assert_equal_world()
            grow(loader.world)
        bucket = Bucket(place.file_system(), f"{place.bucket}/deep/linq", LAYOUTS[4])
        rebuild_lake(bucket)
        loader.sync()
        loader.assert_equal_world()


def test_every_table_can_be_read_though_it_never_had_a_row(small: Loader) -> None:
    bucket = lake_of(small)
    for step in ("no message", "no reaction", "rebuilt", "reacted", "taken back", "rebuilt"):
        if step == "no reaction":
            message = small.world.add_message(1, "hello", sent_at_ms=NOW_MS - DAY_MS)
        elif step == "reacted":
            reaction = small.world.add_reaction(message.id, "love")
        elif step == "taken back":
            small.world.remove_reaction(message.id, reaction.id)
        if step == "rebuilt":
            rebuild_lake(bucket)
        else:
            small.sync()
        small.assert_equal_world()
        for table in set(SETTLED_TABLES) - {ATTACHMENT_FILES, MESSAGE_PARTS}:
            expected = set(table.schema.names) - {TOMBSTONE}
            for reader, read in READERS.items():
                found = read(commands(table.name, small.folder / "lake")[reader]).column_names
                assert set(found) - {"sent_month"} == expected, (step, table.name, reader)
        assert check_lake(bucket).findings == (), step


def test_a_mount_without_hard_links(
    serve: Callable[[World], Loader], monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    loader = serve(seeded_world(chats=3, messages=60))
    bucket = lake_of(loader)
    loader.sync()
    loader.assert_equal_world()
    # One alone gets the lock, and one that was killed while taking it is not waited for.
    won: list[bool] = []
    threads = [
        threading.Thread(target=lambda: won.append(bucket.create_json("current/x", {"owner": 1})))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 5 + [True]
    bucket.remove("current/x")
    Path(bucket.root, LOCK).touch()
    monkeypatch.setattr(locking, "LEASE_S", 0.0)
    grow(loader.world)
    loader.sync()
    loader.assert_equal_world()
    assert check_lake(bucket).findings == ()
    assert not Path(bucket.root, LOCK).exists()
