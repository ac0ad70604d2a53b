"""A Parquet lake from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from linq_source.sandbox import World, grow, seeded_world
from tests.conftest import Loader
from tests.destinations import Lake
from tests.test_cli import assert_one_line, run_cli


def test_a_lake_is_filled_audited_checked_and_rebuilt(
    serve: Callable[[World], Loader], tmp_path: Path
) -> None:
    loader = serve(seeded_world(chats=3, messages=40))
    place = Lake(tmp_path)
    loader.place = place
    where = ("--bucket-url", str(place.bucket))
    load = ("--base-url", loader.sandbox.url, "--destination", "parquet", *where, "--json")
    assert json.loads(run_cli(tmp_path, "run", *load).stdout)["messages"] == 40
    grow(loader.world)
    again = run_cli(tmp_path, "run", *load, "--lake-partition", "month")
    assert again.returncode == 0, again.stderr
    loader.assert_equal_world()
    audit = run_cli(tmp_path, "audit", *load, "--pipelines-dir", str(tmp_path / "elsewhere"))
    assert audit.returncode == 0, audit.stderr
    live = [row for row in place.rows("chat_messages") if row["deleted_at"] is None]
    assert json.loads(audit.stdout)["messages"] == len(live)
    refused = run_cli(tmp_path, "run", *load, "--lake-partition", "day")
    assert refused.returncode == 2
    assert_one_line(refused, "partitioned by month", "lake rebuild --lake-partition day")
    (newest, *_) = sorted((place.bucket / "linq/current/chat_messages").rglob("*.parquet"))[::-1]
    newest.unlink()
    check = run_cli(tmp_path, "lake", "check", *where, "--json")
    assert check.returncode == 3
    (finding,) = json.loads(check.stdout)["findings"]
    assert finding["problem"] == "is missing"
    rebuilt = run_cli(tmp_path, "lake", "rebuild", *where)
    assert rebuilt.returncode == 0, rebuilt.stderr
    table = run_cli(tmp_path, "lake", "check", *where)
    assert table.returncode == 0, table.stdout
    assert "files are as the log says" in table.stdout
    loader.assert_equal_world()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("run", "--destination", "parquet"), ("needs --bucket-url",)),
        (
            ("run", "--destination", "parquet", "--bucket-url", "b", "--table-format", "delta"),
            ("--table-format delta", "--destination filesystem"),
        ),
        (
            ("run", "--destination", "parquet", "--bucket-url", "b", "--lake-partition", "year"),
            ("'year'", "month or day"),
        ),
        (("run", "--lake-partition", "day"), ("partition is day", "Parquet lake", "duckdb")),
        (
            (
                "run",
                "--destination",
                "filesystem",
                "--table-format",
                "delta",
                "--bucket-url",
                "b",
                "--lake-partition",
                "day",
            ),
            ("partition is day", "Parquet lake", "delta"),
        ),
        (("lake", "check", "--bucket-url", "nothing"), ("there is no lake", "--bucket-url")),
    ],
)
def test_wrong_options_are_one_line(
    tmp_path: Path, command: tuple[str, ...], words: tuple[str, ...]
) -> None:
    more = ("--base-url", "http://127.0.0.1:9") if command[0] == "run" else ()
    result = run_cli(tmp_path, *command, *more)
    assert result.returncode == 2
    assert_one_line(result, *words)


def test_a_lake_of_api_v3_is_found_by_the_version(
    serve_v3: Callable[[World], Loader], tmp_path: Path
) -> None:
    loader = serve_v3(seeded_world(chats=2, messages=10))
    where = ("--bucket-url", "lake", "--api", "v3")
    load = ("--base-url", loader.sandbox.url, "--destination", "parquet", *where)
    assert run_cli(tmp_path, "run", *load).returncode == 0
    for command in ("check", "rebuild"):
        done = run_cli(tmp_path, "lake", command, *where)
        assert done.returncode == 0, done.stderr
