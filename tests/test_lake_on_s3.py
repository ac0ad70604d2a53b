"""A lake in an object store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from linq_source.destinations.lake import (
    Bucket,
    check_lake,
    rebuild_lake,
)
from linq_source.destinations.lake.layout import LOCK
from linq_source.errors import DestinationError
from linq_source.sandbox import World, seeded_world
from tests.conftest import Loader
from tests.destinations import LakeOnS3, parquet_lake_on_s3

pytestmark = pytest.mark.long


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
