"""What another pipeline of the dataset loaded, or a worker that died: it is loaded again."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from dlt.destinations.job_client_impl import SqlJobClientBase

from linq_source import (
    DestinationError,
)
from tests.conftest import DAY_MS, HOUR_MS, Loader
from tests.destinations import BigQuery, OpenTables, kinds
from tests.eight_chats import (
    loader,
    newest,
    other_pipeline,
    placed,
    restore,
)
from tests.test_bigquery_cli import (
    cli_arguments,
    kill_at,
    private_key,
    project,
    run_cli,
    service_account,
)

__all__ = ["loader", "placed", "private_key", "project", "service_account"]


@pytest.mark.parametrize(
    ("placed", "other_ends"),
    [
        ("duckdb", None),
        ("duckdb", "2100-01-01"),
        pytest.param("parquet", None, marks=pytest.mark.long),
        pytest.param("bigquery", None, marks=pytest.mark.long),
        pytest.param("postgres", None, marks=pytest.mark.deep),
        pytest.param("delta", None, marks=pytest.mark.long),
        pytest.param("ducklake", None, marks=pytest.mark.deep),
    ],
    indirect=["placed"],
)
def test_what_others_loaded_is_doubted(placed: Loader, other_ends: str | None) -> None:
    """A, then B by another pipeline, then A again: the digest alone would say: as it was."""
    loader, world = placed, placed.world
    loader.sync()
    text = world.messages[newest(loader, 1)].text
    world.edit_message(newest(loader, 1), "edited")
    kept = world.messages[newest(loader, 2)]
    world.delete_message(kept.id)
    world.chats[3].display_name = "Renamed"
    world.advance(HOUR_MS)
    other_pipeline(loader).sync(end=other_ends)
    loader.assert_equal_world()
    world.edit_message(newest(loader, 1), text or "")
    restore(world, kept)
    world.chats[3].display_name = "Chat 3"
    world.advance(HOUR_MS)
    loader.sync()
    loader.assert_equal_world()
    assert loader.sync().messages == 0


@pytest.mark.parametrize(
    "placed", kinds("duckdb", "parquet", "delta", fast=["duckdb"]), indirect=True
)
def test_chats_that_another_pipeline_saw_vanish_and_that_came_back(placed: Loader) -> None:
    loader, world = placed, placed.world
    loader.sync()
    other = other_pipeline(loader)
    other.sync()
    loader.sync()
    chat, kept = world.chats[1], world.messages_of(1)
    world.remove_chat(1)
    other.sync()
    loader.assert_equal_world()
    world.chats[1] = replace(chat, message_keys=[])
    for message in kept:
        restore(world, message)
    world.advance(HOUR_MS)
    loader.sync()
    loader.assert_equal_world()


def test_a_package_that_died_with_its_worker_is_doubted(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended with its rows loaded and its state not; its disk lost; what it loaded reverted."""
    loader.sync()
    text = loader.world.messages[newest(loader, 1)].text
    loader.world.edit_message(newest(loader, 1), "edited")
    loader.world.advance(HOUR_MS)
    with monkeypatch.context() as patch:
        # What enters the load into _dlt_loads.
        patch.setattr(SqlJobClientBase, "complete_load", Mock(side_effect=MemoryError))
        with pytest.raises(DestinationError):
            loader.sync()
    assert loader.query("SELECT count(*) FROM chat_messages WHERE text = 'edited'") == [(1,)]
    shutil.rmtree(loader.folder / "pipelines")
    loader.world.edit_message(newest(loader, 1), text or "")
    loader.world.advance(HOUR_MS)
    loader.sync()
    loader.assert_equal_world()


@pytest.mark.parametrize("days", [3, 30], ids=["after the newest", "in a chat at rest"])
def test_what_a_dead_worker_loaded_and_is_gone_is_marked_deleted(
    loader: Loader, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    """A message younger than all that the state knows, which no count tells of any more."""
    loader.sync()
    loader.world.advance(days * DAY_MS)
    loader.sync()
    message = loader.world.add_message(1, "soon gone", sent_at_ms=loader.world.now_ms - 1000)
    with monkeypatch.context() as patch:
        patch.setattr(SqlJobClientBase, "complete_load", Mock(side_effect=MemoryError))
        with pytest.raises(DestinationError):
            loader.sync()
    assert loader.query("SELECT count(*) FROM chat_messages WHERE text = 'soon gone'") == [(1,)]
    shutil.rmtree(loader.folder / "pipelines")
    loader.world.delete_message(message.id)
    loader.world.advance(HOUR_MS)
    report = loader.sync()
    assert (report.deleted, report.messages, report.exit_code) == (1, 0, 0)
    loader.assert_equal_world()
    assert loader.sync().windows == 0


@pytest.mark.long
def test_a_package_that_was_killed_in_bigquery_is_doubted(
    loader: Loader, project: BigQuery, service_account: Path
) -> None:
    """The same by SIGKILL."""
    loader.place = project
    arguments = cli_arguments(loader)
    first = run_cli(project, service_account, arguments)
    assert first.returncode == 0, first.stderr
    text = loader.world.messages[newest(loader, 1)].text
    loader.world.edit_message(newest(loader, 1), "edited")
    loader.world.advance(HOUR_MS)
    kill_at(project, service_account, arguments, "query", "INSERT INTO")  # into _dlt_loads
    assert "edited" in {row["text"] for row in project.rows("chat_messages")}
    shutil.rmtree(loader.folder / "pipelines")
    loader.world.edit_message(newest(loader, 1), text or "")
    loader.world.advance(HOUR_MS)
    last = run_cli(project, service_account, arguments)
    assert last.returncode == 0, last.stderr
    loader.assert_equal_world()


def test_a_package_that_lands_after_a_newer_one_is_doubted(loader: Loader) -> None:
    """Two pipelines read the same chats at once, and the older reading is loaded last."""
    loader.sync()
    loader.world.edit_message(newest(loader, 1), "edited")
    pipeline = loader.pipeline
    pipeline.extract(loader.source())
    loader.world.edit_message(newest(loader, 1), "edited again")
    loader.world.add_message(1, "new", sent_at_ms=loader.world.now_ms - HOUR_MS // 2)
    loader.world.advance(HOUR_MS)
    other_pipeline(loader).sync()
    loader.assert_equal_world()
    report = loader.sync()
    assert any("an earlier run had left pending" in note for note in report.notes)
    loader.assert_equal_world()


def test_what_others_loaded_is_doubted_though_other_runs_came_between(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of chats alone, and a plain one, look for nothing: the next `sync` does."""
    loader.sync()
    message_id = newest(loader, 1)
    was_read = bool(loader.world.messages[message_id].is_read)
    loader.world.mark_read(message_id, not was_read)
    loader.world.advance(HOUR_MS)
    other_pipeline(loader).sync(end="2100-01-01")
    loader.assert_equal_world()
    loader.world.mark_read(message_id, was_read)
    loader.world.advance(3 * DAY_MS)
    later_us = time.time_ns() // 1000 + 3 * 86_400_000_000
    monkeypatch.setattr("linq_source.source.session._now_us", lambda: later_us)
    loader.world.chats[2].display_name = "Renamed"
    loader.pipeline.run(loader.source().with_resources("chats"))
    loader.world.add_message(3, "new", sent_at_ms=loader.world.now_ms - HOUR_MS)
    loader.pipeline.run(loader.source())
    loader.sync()
    loader.assert_equal_world()
    assert loader.sync().messages == 0


def test_a_pipeline_s_clock_is_never_behind_what_others_loaded(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deletion is proved by what was stamped later."""
    with monkeypatch.context() as patch:
        ahead_us = time.time_ns() // 1000 + 3_600_000_000
        patch.setattr("linq_source.source.session._now_us", lambda: ahead_us)
        loader.sync()
    loader.world.delete_message(newest(loader, 1))
    loader.world.advance(HOUR_MS)
    (deleted,) = {sum(report.deleted for report in loader.sync_shards(2))}
    assert deleted == 1
    loader.assert_equal_world()


@pytest.mark.parametrize("placed", kinds("delta", "iceberg"), indirect=True)
def test_where_no_schema_tells_of_a_ledger_nothing_remembered_is_believed(
    placed: Loader,
) -> None:
    """What a worker loaded that died before its state arrived would stay as it was."""
    placed.sync()
    place = placed.place
    assert isinstance(place, OpenTables)
    states = place.bucket / "linq" / "_dlt_pipeline_state"
    known = set(states.iterdir())
    text = placed.world.messages[newest(placed, 1)].text
    placed.world.edit_message(newest(placed, 1), "edited")
    placed.sync()
    for path in set(states.iterdir()) - known:
        path.unlink()
    placed.world.edit_message(newest(placed, 1), text or "")
    shutil.rmtree(place.bucket / "linq" / "_dlt_version")
    other_pipeline(placed).sync()
    placed.assert_equal_world()
