"""A lake in an object store."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest
from werkzeug.serving import WSGIRequestHandler

from linq_source.destinations.bucket import Bucket
from linq_source.destinations.lake import check_lake, rebuild_lake
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


def test_only_files_that_may_change_are_asked_for_and_those_once(
    serve: Callable[[World], Loader], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = serve(seeded_world(chats=3, messages=60))
    world = loader.world
    asked: list[tuple[str, str]] = []
    serve_one = WSGIRequestHandler.run_wsgi

    def noted(handler: WSGIRequestHandler) -> None:
        found = re.search(r"/current/(\w+)/.*parquet$", unquote(handler.path))
        if found:
            asked.append((handler.command, found[1]))
        serve_one(handler)

    with parquet_lake_on_s3(tmp_path) as place:
        loader.place = place
        loader.sync()
        with monkeypatch.context() as patched:
            patched.setattr(WSGIRequestHandler, "run_wsgi", noted)
            loader.sync()
            assert asked == []
            world.add_message(1, "new", sent_at_ms=world.now_ms - 1_000)
            loader.sync()
        assert set(Counter(asked).values()) == {1}
        read, written = ({table for m, table in asked if m == method} for method in ("GET", "PUT"))
        assert read == written >= {"chats", "chat_messages"}
        assert {method for method, _ in asked} == {"GET", "PUT"}
        loader.assert_equal_world()


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
