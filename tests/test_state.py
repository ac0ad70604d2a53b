"""State that was lost, that ran ahead of the destination, or that several shards share."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from linq_source import sync
from linq_source.instants import to_us
from linq_source.sandbox import World, grow, seeded_world
from linq_source.source import session
from tests.conftest import DAY_MS, NOW_MS, Loader
from tests.destinations import DuckDB
from tests.truth import LIVE_TABLES


def test_a_lost_local_state_is_restored_from_the_destination(seeded: Loader) -> None:
    seeded.sync()
    shutil.rmtree(seeded.folder / "pipelines")
    report = seeded.sync()
    assert (report.messages, report.notes) == (0, ())
    grow(seeded.world)
    seeded.sync()
    seeded.assert_equal_world()


def test_a_lost_destination_is_noticed_and_everything_read_again(seeded: Loader) -> None:
    seeded.sync()
    seeded.database.unlink()
    report = seeded.sync()
    assert report.messages == 700
    assert report.notes == ("the destination holds nothing of this pipeline; going on from there",)
    seeded.assert_equal_world()


def test_a_package_dropped_by_hand_is_noticed(seeded: Loader) -> None:
    seeded.sync()
    grow(seeded.world)
    pipeline = seeded.pipeline
    pipeline.extract(seeded.source())
    pipeline.normalize()
    pipeline._delete_pending_packages()
    report = seeded.sync()
    assert report.notes == ("the destination holds an earlier state of it; going on from there",)
    seeded.assert_equal_world()


def test_an_aborted_package_is_read_again(seeded: Loader) -> None:
    seeded.sync()
    grow(seeded.world)
    pipeline = seeded.pipeline
    pipeline.extract(seeded.source())
    pipeline.abort_packages()
    seeded.sync()
    seeded.assert_equal_world()


def test_a_destination_lost_while_a_package_is_pending(seeded: Loader) -> None:
    seeded.sync()
    grow(seeded.world)
    pipeline = seeded.pipeline
    pipeline.extract(seeded.source())
    pipeline.normalize()
    seeded.database.unlink()
    report = seeded.sync()
    assert report.notes[0] == (
        "the destination lost what was loaded before; reading everything again"
    )
    seeded.assert_equal_world()


def test_a_second_destination_of_the_same_pipeline_gets_everything(seeded: Loader) -> None:
    seeded.sync()
    second = Loader(seeded.sandbox, seeded.folder / "second", seeded.name)
    second.folder.mkdir()
    shutil.copytree(seeded.folder / "pipelines", second.folder / "pipelines")
    assert second.sync().messages == 700
    second.assert_equal_world()


def test_an_idle_run_writes_no_state(seeded: Loader) -> None:
    seeded.sync()
    before = seeded.query("SELECT count(*) FROM _dlt_pipeline_state")
    for _ in range(2):
        seeded.sync()
    assert seeded.query("SELECT count(*) FROM _dlt_pipeline_state") == before


def test_shards_together_equal_the_world_though_their_clocks_differ(
    seeded: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = timedelta(0)
    monkeypatch.setattr(session, "_now_us", lambda: to_us(datetime.now(UTC) + ahead))
    shards = [Loader(seeded.sandbox, seeded.folder, f"shard_{i}") for i in range(3)]

    def run() -> int:
        nonlocal ahead
        deleted = 0
        for index, shard in enumerate(shards):
            ahead = timedelta(minutes=10 * (2 - index))
            report = sync(shard.pipeline, **shard.arguments(shard=f"{index}/3"))
            deleted += report.deleted
        return deleted

    run()
    seeded.assert_equal_world()
    changes = grow(seeded.world)
    assert run() == changes.deleted_messages
    seeded.assert_equal_world()


def test_rows_written_by_hourly_runs_with_and_without_the_filter(small: Loader) -> None:
    """A chat with ten messages a day: what half a day of hourly runs writes, against re-loading."""
    for day in range(8, 0, -1):
        for number in range(10):
            small.world.add_message(1, sent_at_ms=NOW_MS - day * DAY_MS + number * 60_000)
    small.sync()
    written = 0
    without = 0
    for hour in range(1, 13):
        small.world.now_ms = NOW_MS + hour * 3_600_000
        if hour in (2, 3, 7, 8, 10):
            small.world.add_message(1, "now", sent_at_ms=small.world.now_ms - 60_000)
        written += small.sync().messages
        without += small.query(
            "SELECT count(*) FROM chat_messages, (SELECT max(sent_at) AS newest FROM chat_messages)"
            " WHERE sent_at >= date_trunc('day', newest - INTERVAL 7 DAY)"
        )[0][0]
    small.assert_equal_world()
    assert written == 15
    assert without == 885


def test_what_is_pending_for_one_destination_is_never_loaded_into_another(
    serve: Callable[[World], Loader], tmp_path: Path
) -> None:
    """There is one working folder per name, whatever the destination."""
    first, second = serve(seeded_world(chats=3, messages=20)), serve(seeded_world(seed=8, chats=4))
    second.folder = first.folder
    second.place = DuckDB(tmp_path)
    first.sync()
    grow(first.world)
    first.pipeline.extract(first.source())
    report = second.sync()
    assert any("another destination" in note for note in report.notes)
    second.assert_equal_world()
    first.sync()
    first.assert_equal_world()


def test_a_memory_of_another_version_is_no_memory(
    serve: Callable[[World], Loader],
) -> None:
    loader = serve(seeded_world(chats=3, messages=20))
    loader.sync()
    with loader.pipeline.managed_state(extract_state=True) as state:
        cursors = state["sources"]["linq"]["resources"]["chat_messages"]["cursors"]
        cursors.update(dict.fromkeys(cursors, "1|2|of another version"))
    loader.pipeline.normalize()
    loader.pipeline.load()
    report = loader.sync()
    assert report.messages == 20
    (note,) = report.notes
    assert note.startswith("the cursors of 3 chats were written by another version")
    loader.assert_equal_world()
    assert loader.sync().notes == ()


@pytest.mark.parametrize(
    "table",
    [
        "chat_messages",
        "sync_windows",
        *(
            pytest.param(name, marks=pytest.mark.deep)
            for name in (*LIVE_TABLES, "sync_runs")
            if name != "chat_messages"
        ),
    ],
)
def test_a_table_dropped_by_hand_is_read_again(
    serve: Callable[[World], Loader], table: str
) -> None:
    loader = serve(seeded_world(chats=3, messages=40))
    shards = [Loader(loader.sandbox, loader.folder, f"shard_{i}") for i in range(2)]
    for index, shard in enumerate(shards):
        shard.sync(shard=f"{index}/2")
    pipeline = shards[0].pipeline
    grow(loader.world)
    pipeline.extract(shards[0].source(shard="0/2"))
    with duckdb.connect(str(loader.database)) as connection:
        connection.execute(f"DROP TABLE linq.{table}")
    reports = [shard.sync(shard=f"{index}/2") for index, shard in enumerate(shards)]
    assert [report.exit_code for report in reports] == [0, 0]
    assert reports[0].notes == (f"made again, and read again what was in them: {table}",)
    loader.assert_equal_world()
    assert [shard.sync(shard=f"{i}/2").messages for i, shard in enumerate(shards)] == [0, 0]
