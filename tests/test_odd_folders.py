"""Folders with names that globs, SQL, addresses and shells give a meaning of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from linq_source import sync
from linq_source.destinations.bucket import Bucket
from linq_source.destinations.lake import check_lake, rebuild_lake
from linq_source.destinations.remote import connected
from linq_source.errors import ConfigurationError
from linq_source.media import media
from linq_source.sandbox import World, grow, seeded_world
from tests.attaching import attach
from tests.conftest import Loader
from tests.destinations import (
    KINDS,
    DuckDB,
    Lake,
    LakeOnS3,
    OpenTables,
    Place,
    kinds,
    parquet_lake_on_s3,
)
from tests.files import FileHost
from tests.test_cli import assert_one_line, run_cli

NAMES = ("lake [prod]", "it's", "a*b?c", "100% #1", "h%20y", "ü {a,b}", '"q" & back\\slash', "a[b")


def assert_loads_what_changed_and_no_more(loader: Loader) -> None:
    loader.sync()
    loader.assert_equal_world()
    assert loader.sync().messages == 0
    grow(loader.world)
    report = loader.sync()
    assert report.notes == ()
    assert 0 < report.messages < len(loader.world.messages)
    loader.assert_equal_world()
    assert loader.audit().exit_code == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_lake_in_any_folder(
    serve: Callable[[World], Loader], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = serve(seeded_world(chats=3, messages=60))
    scratch = loader.folder / f"tmp {name}"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    loader.place = Lake(loader.folder, name)
    assert_loads_what_changed_and_no_more(loader)
    bucket = Bucket(LocalFileSystem(), str(loader.folder / name / "linq"))
    assert check_lake(bucket).findings == ()
    rebuild_lake(bucket)
    loader.assert_equal_world()
    assert list(scratch.iterdir()) == []


@pytest.mark.long
def test_a_lake_in_a_folder_of_an_object_store_whose_name_has_brackets(
    serve: Callable[[World], Loader], tmp_path: Path
) -> None:
    loader = serve(seeded_world(chats=3, messages=60))
    with parquet_lake_on_s3(tmp_path) as place:
        loader.place = LakeOnS3(place.address, place.bucket, "lake [prod] it's")
        assert_loads_what_changed_and_no_more(loader)


def test_delta_tables_in_a_folder_with_an_odd_name(serve: Callable[[World], Loader]) -> None:
    loader = serve(seeded_world(chats=3, messages=60))
    loader.place = OpenTables(loader.folder / "it's {a,b} a*b?c 100% #1 ü", "delta")
    assert_loads_what_changed_and_no_more(loader)


@pytest.mark.parametrize(
    ("table_format", "name"),
    [
        ("delta", "lake [prod]"), ("delta", "a^b"), ("delta", "a|b"), ("delta", "h%20y"),
        ("delta", "back\\slash"), ("iceberg", "my lake"), ("iceberg", "it's"), ("iceberg", "ü"),
    ],
)  # fmt: skip
def test_a_folder_that_a_format_cannot_take_is_refused_before_reading(
    serve: Callable[[World], Loader], table_format: str, name: str
) -> None:
    loader = serve(seeded_world(chats=1, messages=5))
    loader.place = OpenTables(loader.folder / name, table_format)
    with pytest.raises(ConfigurationError, match="be in a folder whose name") as raised:
        loader.sync()
    assert name in str(raised.value)
    assert loader.sandbox.requests_log == []


@pytest.mark.parametrize("kind", kinds("parquet", "delta", "iceberg"))
def test_a_folder_that_a_killed_run_made_is_loaded_into(
    serve: Callable[[World], Loader], kind: str
) -> None:
    """It made the dataset's folder, and was killed before dlt marked it; or another shard was."""
    loader = serve(seeded_world(chats=3, messages=60))
    with KINDS[kind](loader.folder) as place:
        loader.place = place
        with connected(loader.pipeline) as remote:
            Path(remote.client.dataset_path).mkdir(parents=True)
        assert_loads_what_changed_and_no_more(loader)


def test_a_duckdb_file_in_a_folder_with_an_odd_name(serve: Callable[[World], Loader]) -> None:
    loader = serve(seeded_world(chats=3, messages=60))
    folder = loader.folder / "it's [a]* #1 h%20y ü"
    folder.mkdir()
    place: Place = DuckDB(folder)
    loader.place = place
    assert_loads_what_changed_and_no_more(loader)


def test_a_database_that_duckdb_cannot_take_is_one_line(tmp_path: Path) -> None:
    refused = run_cli(
        tmp_path, "run", "--database", "what?.duckdb", "--base-url", "http://127.0.0.1:9"
    )
    assert refused.returncode == 2
    assert_one_line(refused, "--database what?.duckdb", "question mark")


@pytest.mark.parametrize(
    "written", ["lake x/", "./lake x", "file://{}/lake%20x/", "file://{}/lake x"]
)
def test_a_folder_is_one_however_it_is_written(
    serve: Callable[[World], Loader], tmp_path: Path, written: str
) -> None:
    loader = serve(seeded_world(chats=2, messages=20))
    loader.place = Lake(tmp_path, "lake x")
    url = written.format(tmp_path)
    run = run_cli(
        tmp_path, "run", "--base-url", loader.sandbox.url, "--destination", "parquet",
        "--bucket-url", url,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    loader.assert_equal_world()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_address", [False, pytest.param(True, marks=pytest.mark.deep)])
def test_files_of_attachments_in_any_folder(
    small: Loader, host: FileHost, name: str, is_address: bool
) -> None:
    attach(small, host, "/a.png", 10)
    sync(small.pipeline, **small.arguments())
    folder = small.folder / name
    url = folder.as_uri() if is_address else str(folder)
    for _ in range(2):
        report = media(small.pipeline, url, allow_private_hosts=True)
        assert report.exit_code == 0
    (stored,) = (path for path in folder.rglob("*") if path.is_file())
    assert stored.stat().st_size == 10
    assert {path.name for path in small.folder.iterdir()} >= {name}


KILLED = """
import os, signal
from linq_source.destinations.scratch import ScratchFolder
folder = ScratchFolder()
open(os.path.join(folder.name, "messages.parquet"), "w").write("hello")
print(folder.name, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_had_under_way_is_removed_by_the_next(
    serve: Callable[[World], Loader], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED],
        env=os.environ | {"TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL
    left = Path(killed.stdout.strip())
    assert (left / "messages.parquet").exists()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    loader = serve(seeded_world(chats=1, messages=5))
    loader.place = Lake(tmp_path)
    loader.sync()
    loader.assert_equal_world()
    assert list(scratch.iterdir()) == []
