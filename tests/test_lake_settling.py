"""A lake that is settled by several at once, read meanwhile, or left by a killed settler."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pytest

from linq_source import settle
from linq_source.destinations.lake import (
    check_lake,
    locking,
    rebuild_lake,
    settle_lake,
)
from linq_source.destinations.lake.layout import LOCK
from linq_source.destinations.lake.locking import locked
from linq_source.errors import DestinationError
from linq_source.sandbox import DEFAULT_TOKEN, grow
from tests import processes
from tests.conftest import Loader
from tests.destinations import Lake
from tests.lakes import bucket_of, contents, current_of, lake

__all__ = ["lake"]

# A pipeline into a lake, ended by its own hand at a step of its settling.
SUICIDE = """
import os, signal, sys
import dlt
from linq_source import sync
from linq_source.destinations import bucket
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
        for _ in range(2):
            grow(lake.world)
            lake.sync()
        rebuild_lake(bucket_of(lake))
    finally:
        stop.set()
        reader.join()
    assert problems == []
    assert reads > 3
    lake.assert_equal_world()


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
