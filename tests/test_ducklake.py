"""A DuckLake by the command: where it lies, processes that are killed, shards at the same time."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from linq_source import ConfigurationError, DestinationError, forget, plan_shards
from linq_source.sandbox import DEFAULT_TOKEN, grow
from tests import processes
from tests.conftest import Loader
from tests.destinations import KINDS
from tests.ducklake import DuckLake, extensions
from tests.test_cli import assert_one_line, run_cli
from tests.test_crashes import MOMENTS, SUICIDE

pytestmark = pytest.mark.long


@pytest.fixture(params=["ducklake"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DuckLake]:
    with KINDS[request.param](tmp_path) as place:
        assert isinstance(place, DuckLake)
        yield place


def run(
    loader: Loader, lake: DuckLake, folder: Path, *options: str, dying: str = ""
) -> processes.Process:
    """Start the command."""
    with extensions() as found:
        environment = {**os.environ, **found}
    environment |= {
        "SOURCES__LINQ__API_TOKEN": DEFAULT_TOKEN,
        "DLT_DATA_DIR": str(folder / "dlt"),
        "HOME": str(folder),
        "DIE": dying,
    }
    environment |= lake.environment
    arguments = [
        "run", "--base-url", loader.sandbox.url, "--json", "--destination", "ducklake",
        "--bucket-url", lake.data, *options,
    ]  # fmt: skip
    if not lake.environment:
        arguments += ["--database", lake.catalog.removeprefix("duckdb:///")]
    return processes.start(arguments, folder, environment, *([SUICIDE] if dying else []))


@pytest.mark.parametrize(
    "moment", ["after a table was staged, before dlt noted it", "while merging", "after marking"]
)
def test_killed_at_a_step_of_the_first_and_of_a_later_run(
    seeded: Loader, lake: DuckLake, tmp_path: Path, moment: str
) -> None:
    seeded.place = lake
    for _ in range(2):
        killed = run(seeded, lake, tmp_path, dying=MOMENTS[moment])
        assert killed.wait() == -signal.SIGKILL, killed.communicate()
        again = run(seeded, lake, tmp_path)
        _, errors = again.communicate()
        assert again.returncode == 0, errors
        seeded.assert_equal_world()
        grow(seeded.world)


@pytest.mark.parametrize("lake", ["ducklake", "ducklake on postgres and s3"], indirect=True)
def test_shards_at_the_same_time(seeded: Loader, lake: DuckLake, tmp_path: Path) -> None:
    seeded.place = lake
    for count in (2, 3):
        running = []
        for shard in plan_shards(count):
            folder = Path(tempfile.mkdtemp(dir=tmp_path))
            name = f"linq_messages_{shard.partition('/')[0]}_of_{count}"
            running.append(run(seeded, lake, folder, "--shard", shard, "--pipeline-name", name))
        for process in running:
            _, errors = process.communicate()
            assert process.returncode == 0, errors
        seeded.assert_equal_world()
        grow(seeded.world)


def test_a_file_that_is_not_the_lake_s_is_named_and_one_of_a_killed_run_is_erased(
    seeded: Loader, lake: DuckLake
) -> None:
    seeded.place = lake
    seeded.sync()
    stray = Path(lake.data) / "ours.parquet"
    stray.write_bytes(b"?")
    chat_id = min(seeded.world.chats)
    with pytest.raises(ConfigurationError, match=r"ours\.parquet: is not a file of the DuckLake"):
        forget(seeded.pipeline, chat_ids=[chat_id])
    seeded.assert_equal_world()
    stray.unlink()
    # And a file that a killed run wrote, and no snapshot knows.
    whole = next(Path(lake.data).glob("linq/chat_messages/*.parquet"))
    lost = whole.with_name("ducklake-00000000-0000-7000-8000-000000000000.parquet")
    lost.write_bytes(whole.read_bytes())
    assert forget(seeded.pipeline, chat_ids=[chat_id]).chats == (chat_id,)
    assert not lost.exists()


def test_what_is_left_is_found_after_forgetting(seeded: Loader, lake: DuckLake) -> None:
    """The catalog's least and greatest texts, by which DuckDB leaves out files, are changed."""
    seeded.place = lake
    seeded.sync()
    forget(seeded.pipeline, chat_ids=[min(seeded.world.chats)])
    for _ in range(2):
        texts = [row["text"] for row in lake.rows("chat_messages") if row["text"] is not None]
        (found,) = lake.query("SELECT min(text) AS a, max(text) AS z FROM lake.linq.chat_messages")
        assert found == {"a": min(texts), "z": max(texts)}
        for text in {*found.values(), texts[0]}:
            value = text.replace("'", "''")
            sql = f"SELECT count(*) AS n FROM lake.linq.chat_messages WHERE text = '{value}'"
            assert lake.query(sql) == [{"n": texts.count(text)}]
        grow(seeded.world)
        seeded.sync()


def test_an_address_that_does_not_answer_is_told_without_its_password(
    seeded: Loader, lake: DuckLake, tmp_path: Path
) -> None:
    with extensions() as found:
        environment = {
            **os.environ,
            **found,
            "SOURCES__LINQ__API_TOKEN": DEFAULT_TOKEN,
            "DLT_DATA_DIR": str(tmp_path / "dlt"),
            "DESTINATION__DUCKLAKE__CREDENTIALS__CATALOG": "postgresql://me:se%40cret@127.0.0.1:9/x",
        }
    arguments = [
        "run", "--base-url", seeded.sandbox.url, "--debug", "--destination", "ducklake",
        "--bucket-url", lake.data,
    ]  # fmt: skip
    result = processes.run(arguments, tmp_path, environment)
    assert result.returncode == 1
    assert "error: ducklake: check its address, credentials and rights" in result.stderr
    assert "cret" not in result.stderr.replace("secrets", "") + result.stdout


def test_an_extension_that_cannot_be_had_is_told(
    seeded: Loader, lake: DuckLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeded.place = lake
    settings = f'{{"extension_directory": "{tmp_path}", "autoinstall_known_extensions": false}}'
    monkeypatch.setenv("DESTINATION__DUCKLAKE__CREDENTIALS__GLOBAL_CONFIG", settings)
    with pytest.raises(DestinationError, match=r"cannot fetch an extension .* name a folder"):
        seeded.sync()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--destination", "ducklake"), "needs --bucket-url"),
        (("--destination", "ducklake", "--bucket-url", "it's"), "takes no '"),
        (("--destination", "ducklake", "--bucket-url", "b", "--dataset", "ducklake"), "--dataset"),
        (
            ("--destination", "ducklake", "--bucket-url", "b", "--database", "no/c.ducklake"),
            "does not exist",
        ),
    ],
)
def test_wrong_options_are_one_line(tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    result = run_cli(tmp_path, "run", "--base-url", "http://127.0.0.1:9", *options)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1, result.stderr
    (line,) = result.stderr.splitlines()
    assert words in line
    assert not [path for path in tmp_path.iterdir() if "ducklake" in path.name]


def test_commands_that_look_make_no_catalog(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for command in (["status"], ["report"], ["forget", "--chat-id", "1"]):
        done = run_cli(
            tmp_path, *command, "--destination", "ducklake", "--bucket-url", "data", token=None
        )
        assert done.returncode == 2
        assert_one_line(done, f"{tmp_path / 'linq_messages.ducklake'}: there is no such file")
    assert not (tmp_path / "linq_messages.ducklake").exists()
    assert [*(tmp_path / "data").iterdir()] == []
