"""The Parquet lake: what is special about files that nobody but us keeps consistent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pyarrow.dataset as pds
import pytest
from fsspec.implementations.local import LocalFileSystem

from linq_source import settle
from linq_source.destinations.lake import (
    Bucket,
    check_lake,
    locking,
    rebuild_lake,
    settle_lake,
    settler,
)
from linq_source.destinations.lake.layout import DAY, LOCK, MARKER
from linq_source.destinations.lake.locking import locked
from linq_source.errors import DestinationError
from linq_source.sandbox import DEFAULT_TOKEN, World, grow, seeded_world
from tests import processes
from tests.conftest import DAY_MS, NOW_MS, Loader
from tests.destinations import Lake, LakeOnS3, parquet_lake_on_s3


@pytest.fixture
def lake(serve: Callable[[World], Loader], tmp_path: Path) -> Loader:
    """A loader of a world into a lake."""
    loader = serve(seeded_world(chats=5, messages=150))
    loader.place = Lake(tmp_path)
    return loader


def bucket_of(loader: Loader) -> Bucket:
    assert isinstance(loader.place, Lake)
    return Bucket(LocalFileSystem(), str(loader.place.bucket / "linq"))


def current_of(loader: Loader) -> Path:
    return Path(bucket_of(loader).root, "current")


def contents(loader: Loader) -> dict[str, bytes]:
    """Every visible file of the current state."""
    root = current_of(loader)
    return {str(f.relative_to(root)): f.read_bytes() for f in sorted(root.rglob("*.parquet"))}


def inodes(loader: Loader) -> dict[str, int]:
    root = current_of(loader)
    return {str(f.relative_to(root)): f.stat().st_ino for f in sorted(root.rglob("*.parquet"))}


def test_every_promised_reader_sees_the_same_rows(lake: Loader) -> None:
    lake.sync()
    grow(lake.world)
    lake.sync()
    lake.assert_equal_world()
    folder = str(current_of(lake) / "chat_messages")
    assert lake.place is not None
    expected = sorted((row["id"], row["text"]) for row in lake.place.rows("chat_messages"))
    months = {f"{row['sent_at']:%Y-%m}" for row in lake.place.rows("chat_messages")}
    assert len(months) > 1
    names = ("id", "text", "sent_month")
    by_pandas = pd.read_parquet(folder)
    by_duckdb = duckdb.connect().sql(
        f"SELECT id, text, sent_month FROM read_parquet('{folder}/**/*.parquet')"
    )
    found: dict[str, list[tuple[Any, ...]]] = {
        "pandas": list(zip(*(by_pandas[name].astype(object) for name in names), strict=True)),
        "polars": pl.read_parquet(f"{folder}/**/*.parquet", hive_partitioning=True)
        .select(names)
        .rows(),
        "pyarrow": [
            tuple(row[name] for name in names)
            for row in pds.dataset(folder, partitioning="hive").to_table().to_pylist()
        ],
        "duckdb": by_duckdb.fetchall(),
    }
    for reader, rows in found.items():
        seen = sorted((int(i), None if pd.isna(text) else text) for i, text, _ in rows)
        assert seen == expected, reader
        assert {str(month) for _, _, month in rows} == months, reader


def test_children_lie_in_their_messages_partition(lake: Loader) -> None:
    lake.sync()
    root = current_of(lake)
    month_of = {
        row[0]: row[1]
        for row in duckdb.connect()
        .sql(f"SELECT id, sent_month FROM read_parquet('{root}/chat_messages/**/*.parquet')")
        .fetchall()
    }
    for table in ("chat_messages__attachments", "chat_messages__reactions"):
        files = f"read_parquet('{root}/{table}/**/*.parquet')"
        rows = duckdb.connect().sql(f"SELECT chat_message_id, sent_month FROM {files}").fetchall()
        assert rows
        assert all(month_of[message] == month for message, month in rows)


def test_a_run_rewrites_only_the_partitions_it_touches(lake: Loader) -> None:
    lake.sync()
    before = inodes(lake)
    world = lake.world
    newest = max(world.messages.values(), key=lambda m: m.sent_at_ms)
    world.edit_message(newest.id, "edited")
    lake.sync()
    lake.assert_equal_world()
    after = inodes(lake)
    changed = {path for path in after if before.get(path) != after[path]}
    month = time.strftime("%Y-%m", time.gmtime(newest.sent_at_ms / 1000))
    partitioned = {path for path in changed if "sent_month" in path}
    assert partitioned
    assert all(f"sent_month={month}" in path for path in partitioned)
    again = inodes(lake)
    lake.sync()
    assert inodes(lake) == again


def test_a_rebuild_gives_the_same_and_a_check_finds_what_differs(lake: Loader) -> None:
    bucket = bucket_of(lake)
    lake.sync()
    for _ in range(2):
        grow(lake.world)
        lake.sync()
    report = check_lake(bucket)
    assert (report.findings, report.unsettled_loads, report.exit_code) == ((), 0, 0)
    assert lake.place is not None
    assert report.rows["chat_messages"] == len(lake.place.rows("chat_messages"))
    before = sorted(map(repr, lake.place.rows("chat_messages")))
    files = sorted((current_of(lake) / "chat_messages").rglob("*.parquet"))
    files[0].write_bytes(files[0].read_bytes()[:-20])
    files[1].unlink()
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT * REPLACE ('x' AS text) FROM read_parquet('{files[2]}', "
            f"hive_partitioning = false)) TO '{files[2]}'"
        )
    findings = {f.path.rpartition("=")[2]: f.problem for f in check_lake(bucket).findings}
    keys = [file.parent.name.partition("=")[2] for file in files[:3]]
    problems = [findings.pop(f"{key}/part-0.parquet") for key in keys]
    assert "cannot be read" in problems[0]
    assert problems[1] == "is missing"
    assert "differs from the log: 0 rows missing, 0 too many" in problems[2]
    assert findings == {}
    assert rebuild_lake(bucket) == len(contents(lake))
    assert check_lake(bucket).findings == ()
    assert sorted(map(repr, lake.place.rows("chat_messages"))) == before
    lake.assert_equal_world()


def test_a_damaged_partition_is_told_and_nothing_is_lost(lake: Loader) -> None:
    lake.sync()
    newest = max((current_of(lake) / "chat_messages").rglob("*.parquet"))
    newest.write_bytes(b"PAR1 this is not")
    grow(lake.world)
    with pytest.raises(DestinationError, match=r"part-0\.parquet.*lake rebuild") as raised:
        lake.sync()
    assert len(str(raised.value).splitlines()) == 1
    rebuild_lake(bucket_of(lake))
    lake.sync()
    lake.assert_equal_world()


def test_a_foreign_file_is_told_and_nothing_is_lost(lake: Loader) -> None:
    lake.sync()
    foreign = current_of(lake) / "chat_messages" / "export.parquet"
    foreign.write_bytes(b"whatever")
    grow(lake.world)
    with pytest.raises(DestinationError, match=r"export\.parquet: is not a file of the lake"):
        lake.sync()
    with pytest.raises(DestinationError, match=r"export\.parquet: is not a file of the lake"):
        rebuild_lake(bucket_of(lake))
    assert [f.path for f in check_lake(bucket_of(lake)).findings] == [
        "current/chat_messages/export.parquet"
    ]
    foreign.unlink()
    lake.sync()
    lake.assert_equal_world()


# A pipeline into a lake, ended by its own hand at a step of its settling.
SUICIDE = """
import os, signal, sys
import dlt
from linq_source import sync
from linq_source.destinations.lake import bucket
place = bucket.Bucket
seen = 0
def counted(original):
    def run(self, *arguments):
        global seen
        if seen == int(os.environ["AFTER"]):
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1
        return original(self, *arguments)
    return run
place.publish = counted(place.publish)
place.write_json = counted(place.write_json)
pipeline = dlt.pipeline(
    "test_linq", destination=dlt.destinations.filesystem(os.environ["BUCKET"]),
    dataset_name="linq", pipelines_dir=os.environ["PIPELINES"],
)
sync(pipeline, api_token=os.environ["TOKEN"], base_url=os.environ["URL"])
"""


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8])
def test_killed_while_settling_the_next_run_heals(lake: Loader, steps: int) -> None:
    lake.sync()
    grow(lake.world)
    before = contents(lake)
    assert isinstance(lake.place, Lake)
    environment = os.environ | {
        "AFTER": str(steps),
        "BUCKET": str(lake.place.bucket),
        "PIPELINES": str(lake.folder / "pipelines"),
        "TOKEN": DEFAULT_TOKEN,
        "URL": lake.sandbox.url,
    }
    killed = processes.run([], lake.folder, environment, SUICIDE)
    assert killed.returncode in (-signal.SIGKILL, 0)
    # Every file is either the old or a new one, whole.
    with duckdb.connect() as connection:
        for path, content in contents(lake).items():
            if before.get(path) != content:
                connection.execute(f"SELECT * FROM read_parquet('{current_of(lake)}/{path}')")
    lake.sync()
    lake.assert_equal_world()
    assert check_lake(bucket_of(lake)).findings == ()
    assert [p for p in current_of(lake).rglob(".*")] == []
    assert not Path(bucket_of(lake).root, LOCK).exists()


def test_a_reader_in_a_loop_never_sees_a_key_twice_or_a_partition_missing(lake: Loader) -> None:
    lake.sync()
    folder = current_of(lake) / "chat_messages"
    months = {path.parent.name for path in folder.rglob("*.parquet")}
    problems: list[Any] = []
    reads = 0
    stop = threading.Event()

    def read() -> None:
        nonlocal reads
        with duckdb.connect() as connection:
            while not stop.is_set():
                try:
                    found = connection.execute(
                        "SELECT COUNT(*), COUNT(DISTINCT id), LIST(DISTINCT sent_month) FROM"
                        f" read_parquet('{folder}/**/*.parquet', hive_partitioning = true)"
                    ).fetchall()[0]
                except duckdb.Error as error:
                    problems.append(error)
                    continue
                reads += 1
                seen = {f"sent_month={month}" for month in found[2]}
                if found[0] != found[1] or not months <= seen:
                    problems.append(found)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(3):
            grow(lake.world)
            lake.sync()
        rebuild_lake(bucket_of(lake))
    finally:
        stop.set()
        reader.join()
    assert problems == []
    assert reads > 3
    lake.assert_equal_world()


def test_days_as_partitions(lake: Loader) -> None:
    lake.sync()
    bucket = bucket_of(lake)
    rebuild_lake(bucket, DAY)
    names = {path.parent.name for path in (current_of(lake) / "chat_messages").rglob("*.parquet")}
    assert all(name.startswith("sent_day=20") for name in names)
    days = {m.sent_at_ms // DAY_MS for m in lake.world.messages.values()}
    assert len(names) == len(days)
    grow(lake.world)
    lake.sync()
    assert check_lake(bucket).findings == ()
    assert json.loads(Path(bucket.root, MARKER).read_text())["lake_partition"] == "day"
    rebuild_lake(bucket)
    lake.sync()
    lake.assert_equal_world()


def test_a_large_partition_is_merged_slice_by_slice(
    lake: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settler, "SLICE_ROWS", 10)
    lake.sync()
    lake.assert_equal_world()
    grow(lake.world)
    lake.sync()
    lake.assert_equal_world()
    assert check_lake(bucket_of(lake)).findings == ()


def test_a_load_that_is_not_complete_is_not_settled(lake: Loader) -> None:
    lake.sync()
    bucket = bucket_of(lake)
    torn = Path(bucket.root, "chat_messages", "9999999999.1.abc.parquet")
    torn.write_bytes(b"PAR1 half a fi")
    before = contents(lake)
    assert settle_lake(bucket) == 0
    assert contents(lake) == before
    assert check_lake(bucket).findings == ()


def test_settling_waits_for_another_and_takes_over_from_the_dead(lake: Loader) -> None:
    pipeline = lake.pipeline
    pipeline.run(lake.source())
    bucket = bucket_of(lake)
    with (
        locked(bucket),
        pytest.raises(DestinationError, match="is settling this lake"),
        locked(bucket, patience_s=0.1),
    ):
        pass
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                           capture_output=True, text=True, check=True)  # fmt: skip
    holder = {"owner": "x", "place": locking._place(), "pid": int(ended.stdout)}
    assert bucket.create_json(LOCK, holder)
    settle(pipeline)
    lake.assert_equal_world()
    assert not Path(bucket.root, LOCK).exists()


def test_two_settlers_at_once_lose_nothing(lake: Loader) -> None:
    lake.sync()
    world = lake.world
    assert lake.place is not None
    for index in range(2):
        grow(world)
        pipeline = dlt.pipeline(
            f"shard_{index}",
            destination=lake.place.destination(),
            dataset_name="linq",
            pipelines_dir=str(lake.folder / f"pipelines-{index}"),
        )
        pipeline.run(lake.source(shard=f"{index}/2"))
    threads = [threading.Thread(target=settle_lake, args=(bucket_of(lake),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert check_lake(bucket_of(lake)).findings == ()
    assert check_lake(bucket_of(lake)).unsettled_loads == 0


def test_a_message_at_each_edge_of_a_month(
    serve: Callable[[World], Loader], tmp_path: Path
) -> None:
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001")
    world.add_chat(chat_id=1)
    first_ms = 20_454 * DAY_MS  # 2026-01-01T00:00:00Z
    for at_ms in (first_ms - 1, first_ms, first_ms + 31 * DAY_MS - 1, first_ms + 31 * DAY_MS):
        world.add_message(1, str(at_ms), sent_at_ms=at_ms)
    loader = serve(world)
    loader.place = Lake(tmp_path)
    loader.sync()
    loader.assert_equal_world()
    months = {
        path.parent.name: duckdb.connect().sql(f"SELECT id FROM '{path}'").fetchall()
        for path in (current_of(loader) / "chat_messages").rglob("*.parquet")
    }
    assert {name: len(rows) for name, rows in months.items()} == {
        "sent_month=2025-12": 1, "sent_month=2026-01": 2, "sent_month=2026-02": 1,
    }  # fmt: skip


@pytest.mark.long
def test_an_object_store_gives_the_lock_to_one_alone(tmp_path: Path) -> None:
    with parquet_lake_on_s3(tmp_path) as place:
        bucket = Bucket(place.file_system(), f"{place.bucket}/linq")
        won: list[bool] = []
        threads = [
            threading.Thread(target=lambda: won.append(bucket.create_json(LOCK, {"owner": 1})))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(won) == [False] * 5 + [True]


@pytest.mark.long
def test_a_lake_in_an_object_store_is_checked_and_rebuilt(
    serve: Callable[[World], Loader], tmp_path: Path
) -> None:
    loader = serve(seeded_world(chats=3, messages=60))
    with parquet_lake_on_s3(tmp_path) as place:
        loader.place = place
        loader.sync()
        bucket = Bucket(place.file_system(), f"{place.bucket}/deep/linq")
        assert check_lake(bucket).findings == ()
        damaged = next(path for path in bucket.list("current") if "chat_messages/" in path)
        bucket.fs.pipe_file(f"{bucket.root}/{damaged}", b"PAR1 not really")
        assert [f.path for f in check_lake(bucket).findings] == [damaged]
        rebuild_lake(bucket)
        assert check_lake(bucket).findings == ()
        loader.assert_equal_world()
        assert loader.audit().exit_code == 0


@pytest.mark.long
def test_a_bucket_that_is_not_there_is_told_in_one_line(
    serve: Callable[[World], Loader], tmp_path: Path
) -> None:
    loader = serve(seeded_world(chats=1, messages=5))
    with parquet_lake_on_s3(tmp_path) as place:
        loader.place = LakeOnS3(place.address, "no-such-bucket")
        with pytest.raises(
            DestinationError, match="the bucket no-such-bucket does not exist"
        ) as raised:
            loader.sync()
    assert len(str(raised.value).splitlines()) == 1
    assert "run again" in str(raised.value)


def test_a_lock_is_never_seen_half_written(lake: Loader) -> None:
    """Nor does it get lost where another process removes the empty folder in the same moment."""
    lake.sync()
    bucket = bucket_of(lake)
    place = "current/locks/lock.json"
    is_over = threading.Event()
    seen: list[Any] = []

    def read() -> None:
        while not is_over.is_set():
            seen.append(bucket.read_json(place))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(500):
            assert bucket.create_json(place, {"number": number})
            assert not bucket.create_json(place, {"number": -1})
            bucket.remove(place)
    finally:
        is_over.set()
        reader.join()
    assert all(found is None or found["number"] >= 0 for found in seen)
    assert len({found["number"] for found in seen if found}) > 1
