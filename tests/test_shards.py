"""Shards: pipelines of their own into one dataset, side by side, and divided otherwise."""

from __future__ import annotations

import shutil
import tempfile
import time
from bisect import insort
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import dlt
import pytest
from dlt.destinations.job_client_impl import SqlJobClientBase

from linq_source import (
    ConfigurationError,
    DestinationError,
    Report,
    audit,
    forget,
    open_shard,
    plan_shards,
    settle,
    sync,
)
from linq_source.destinations.settled_until import settled_us
from linq_source.sandbox import World, grow
from linq_source.sandbox.world import Message
from linq_source.settings import Shard
from tests.bigquery.catalog import BigQueryError
from tests.bigquery.server import PROJECT
from tests.conftest import DAY_MS, HOUR_MS, NOW_MS, Loader
from tests.destinations import KINDS, BigQuery, Place, kinds
from tests.test_bigquery_cli import (
    cli_arguments,
    kill_at,
    private_key,
    project,
    run_cli,
    service_account,
    start_cli,
)

__all__ = ["private_key", "project", "service_account"]

CHATS = 8
PER_CHAT = 12


@pytest.fixture
def loader(serve: Callable[[World], Loader]) -> Loader:
    """A loader of eight chats with twelve messages each, four days apart."""
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001")
    for chat_id in range(1, CHATS + 1):
        world.add_chat(display_name=f"Chat {chat_id}", chat_id=chat_id)
        for age in range(PER_CHAT):
            at_ms = NOW_MS - age * 4 * DAY_MS - HOUR_MS
            message = world.add_message(chat_id, f"m{age}", sent_at_ms=at_ms)
            world.add_reaction(message.id, "love", from_phone="+15550000009")
    return serve(world)


@pytest.fixture
def placed(request: pytest.FixtureRequest, loader: Loader, tmp_path: Path) -> Iterator[Loader]:
    """The same into a kind of destination."""
    with KINDS[request.param](tmp_path / "place") as place:
        (tmp_path / "place").mkdir(exist_ok=True)
        loader.place = place
        yield loader


def restore(world: World, message: Message) -> None:
    """A deleted message comes back as it was."""
    world.messages[message.id] = message
    insort(world.chats[message.chat_id].message_keys, (message.sent_at_ms, message.id))


def newest(loader: Loader, chat_id: int) -> int:
    return loader.world.messages_of(chat_id)[-1].id


def messages_of(reports: list[Report]) -> int:
    return sum(report.messages for report in reports)


def other_pipeline(loader: Loader, name: str = "other") -> Loader:
    folder = loader.folder / name
    folder.mkdir(exist_ok=True)
    place = loader._place
    return Loader(loader.sandbox, folder, name, place)


def test_plan() -> None:
    assert plan_shards(1) == ["0/1"]
    assert plan_shards(3) == ["0/3", "1/3", "2/3"]
    for count in (0, -1, 2.0, True, "2"):
        with pytest.raises(ConfigurationError, match="use a whole number"):
            plan_shards(count)  # type: ignore[arg-type]


def test_a_shard_is_a_pipeline_of_its_own(tmp_path: Path) -> None:
    def opened(shard: str) -> dlt.Pipeline:
        destination = dlt.destinations.postgres("postgresql://nobody@localhost/none")
        return open_shard(shard, destination, pipelines_dir=str(tmp_path))

    assert opened("0/1").pipeline_name == "linq_messages"
    pipeline = opened("2/4")
    assert (pipeline.pipeline_name, pipeline.dataset_name) == ("linq_messages_2_of_4", "linq")
    layout = pipeline.destination.config_params["staging_dataset_name_layout"]
    assert layout == "%s_staging_linq_messages_2_of_4"
    with pytest.raises(ConfigurationError, match="use i/n"):
        opened("4/4")


@pytest.mark.parametrize(
    "placed",
    [
        *kinds("duckdb", "delta", fast=["duckdb"]),
        *(pytest.param(kind, marks=pytest.mark.deep) for kind in ("bigquery", "parquet")),
    ],
    indirect=True,
)
def test_another_count_of_shards_goes_on_where_the_others_were(placed: Loader) -> None:
    """Nothing is read from the beginning again, lost, or left as it was."""
    loader, world = placed, placed.world
    assert messages_of(loader.sync_shards(2)) == CHATS * PER_CHAT
    loader.assert_equal_world()
    world.advance(HOUR_MS)
    world.edit_message(newest(loader, 1), "edited")
    world.delete_message(newest(loader, 2))
    world.delete_message(world.messages_of(3)[0].id)  # long before the lookback
    world.add_message(4, "new", sent_at_ms=world.now_ms - HOUR_MS)
    world.remove_chat(5)
    reports = loader.sync_shards(3)
    assert sum(report.exit_code for report in reports) == 0
    # The days that changed; that the oldest message is missing writes none.
    assert messages_of(reports) == 1 + 2
    loader.assert_equal_world()
    world.advance(HOUR_MS)
    world.edit_message(newest(loader, 6), "edited")
    reports = loader.sync_shards(1)
    loader.assert_equal_world()
    assert messages_of(reports) == 1
    # Back to pipelines that know how it was two divisions ago.
    world.edit_message(newest(loader, 6), "edited again")
    loader.sync_shards(2)
    loader.assert_equal_world()
    assert messages_of(loader.sync_shards(2)) == 0


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


def test_pipelines_of_two_organisations_leave_each_other_alone(
    loader: Loader, serve: Callable[[World], Loader]
) -> None:
    """One does not list the other's chats; that does not mean that they vanished."""
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000002")
    world.add_chat(display_name="Of the other", chat_id=1001)
    world.add_message(1001, "of the other", sent_at_ms=NOW_MS - HOUR_MS)
    other = serve(world)
    other.name, other.place = "other", loader._place
    loader.sync()
    other.sync()
    assert loader.query("SELECT count(*) FROM linq.chats WHERE deleted_at IS NULL") == [(9,)]
    loader.sync()
    loader.world.advance(HOUR_MS)
    world.advance(HOUR_MS)
    first = loader.query("SELECT max(synced_at) FROM linq.chats")
    assert (loader.sync().messages, other.sync().messages) == (0, 0)
    assert loader.query("SELECT max(synced_at) FROM linq.chats") == first
    assert loader.query("SELECT count(*) FROM linq.chats WHERE deleted_at IS NULL") == [(9,)]


def test_a_chat_that_vanished_while_shards_were_divided_otherwise_is_marked(
    loader: Loader,
) -> None:
    loader.sync_shards(2)
    loader.world.remove_chat(3)
    loader.sync_shards(3)
    loader.assert_equal_world()
    assert loader.query("SELECT id FROM linq.chats WHERE deleted_at IS NOT NULL") == [(3,)]


def test_what_one_pipeline_forgot_no_other_loads(loader: Loader) -> None:
    loader.sync()
    forget(loader.pipeline, chat_ids=[3])
    loader.sync_shards(2)
    assert loader.query("SELECT count(*) FROM linq.chat_messages WHERE chat_id = 3") == [(0,)]
    forget(loader.pipeline, chat_ids=[4])
    # Everything is read again: nothing but what they were told keeps them from loading it.
    loader.sync_shards(2, end="2100-01-01")
    loader.sync_shards(3, end="2100-01-01")
    left = loader.query("SELECT DISTINCT chat_id FROM linq.chat_messages ORDER BY 1")
    assert left == [(1,), (2,), (5,), (6,), (7,), (8,)]


def test_a_new_shard_keeps_to_the_privacy_of_the_dataset(loader: Loader) -> None:
    loader.sync()
    with pytest.raises(ConfigurationError, match="phones=drop"):
        loader.sync_shards(2, phones="drop")


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


def test_settling_of_one_shard_leaves_the_others_alone(loader: Loader) -> None:
    """Another shard's load may be half done: its windows are there, its messages not yet."""
    loader.sync_shards(2)
    for chat_id in (1, 2):
        loader.world.delete_message(newest(loader, chat_id))
    loader.world.advance(HOUR_MS)
    assert [report.deleted for report in loader.sync_shards(2, settles=False)] == [0, 0]
    live = "SELECT chat_id FROM linq.chat_messages WHERE deleted_at IS NOT NULL ORDER BY 1"
    for shard, chats in (("1/2", [(1,)]), ("0/2", [(1,), (2,)])):
        with tempfile.TemporaryDirectory() as folder:
            assert settle(loader.open_shard(shard, Path(folder)), shard=shard) == 1
            assert settle(loader.open_shard(shard, Path(folder)), shard=shard) == 0
        assert loader.query(live) == chats
    loader.assert_equal_world()


def test_a_worker_with_an_empty_disk_knows_what_is_settled(loader: Loader) -> None:
    """Or it would look at the whole ledger, and what that covers, in every run."""
    stamps = []
    for _ in range(3):
        grow(loader.world)
        loader.sync_shards(2)
        with tempfile.TemporaryDirectory() as folder:
            pipeline = loader.open_shard("1/2", Path(folder))
            pipeline.sync_destination()
            stamps.append(settled_us(pipeline, Shard(1, 2)))
    sql = "SELECT DISTINCT epoch_us(synced_at) FROM linq.sync_windows WHERE chat_id % 2 = 1"
    written = sorted(at for (at,) in loader.query(sql))
    # What was settled before the package was read: one behind.
    assert stamps == [0, written[0], written[1]]


def test_numbers_are_the_first_shards(loader: Loader) -> None:
    """Two shards that add the same row at once would double it."""
    reports = loader.sync_shards(3)
    assert [report.exit_code for report in reports] == [0, 0, 0]
    assert loader.query("SELECT count(*) FROM linq.phone_numbers") == [(1,)]
    loader.sandbox.requests_log.clear()


@pytest.mark.parametrize(
    ("kind", "counts"),
    [
        ("parquet", (3, 2)),
        pytest.param("parquet", (3, 3, 2), marks=pytest.mark.long),
        pytest.param("bigquery", (3, 3, 2), marks=pytest.mark.long),
    ],
)
def test_shards_at_the_same_time(
    kind: str,
    counts: tuple[int, ...],
    loader: Loader,
    project: BigQuery,
    service_account: Path,
    tmp_path: Path,
) -> None:
    """Whole processes, three at once, maybe twice; then divided by two, at once again."""
    place: Place = project
    if kind == "parquet":
        with KINDS["parquet"](tmp_path) as place:
            pass
    loader.place = place
    for count in counts:
        run_at_once(loader, project, service_account, count, kind)
        loader.assert_equal_world()
        grow(loader.world)
        loader.world.delete_message(newest(loader, 1 + count))
        loader.world.advance(HOUR_MS)
    report = audit(loader.open_shard("0/2", tmp_path / "audit"), **loader.arguments())
    assert {d.chat_id for d in report.differences} >= {3}  # what happened since the last run
    if kind == "bigquery":
        names = [f"linq_messages_{i}_of_{n}" for n in (2, 3) for i in range(n)]
        assert set(project.double.warehouse.catalog.datasets) == {
            "linq", *(f"linq_staging_{name}" for name in names)
        }  # fmt: skip


@pytest.mark.long
def test_statements_that_bigquery_refuses_for_another_s_are_repeated(
    loader: Loader, project: BigQuery
) -> None:
    """Of two shards that change a table at once, one may have to try again."""
    loader.place = project
    loader.sync()
    refused: list[str] = []

    def refuse(event: str, sql: str) -> None:
        kinds = ("MERGE INTO", "UPDATE", "DELETE FROM")
        (kind,) = [kind for kind in kinds if kind in sql][:1] or ("",)
        if event == "query" and kind and refused.count(kind) < 2:
            refused.append(kind)
            raise BigQueryError(
                "invalidQuery",
                "Could not serialize access to table linq due to concurrent update",
            )

    loader.world.edit_message(newest(loader, 1), "edited")
    loader.world.delete_message(newest(loader, 2))
    loader.world.advance(HOUR_MS)
    project.double.hooks.append(refuse)
    try:
        loader.sync()
    finally:
        project.double.hooks.clear()
    assert {kind: refused.count(kind) for kind in refused} == {
        "MERGE INTO": 2, "UPDATE": 2, "DELETE FROM": 2
    }  # fmt: skip
    loader.assert_equal_world()


def run_at_once(loader: Loader, project: BigQuery, account: Path, count: int, kind: str) -> None:
    running = []
    for shard in plan_shards(count):
        index = shard.partition("/")[0]
        arguments = [
            "--base-url", loader.sandbox.url, "--shard", shard,
            "--pipeline-name", f"linq_messages_{index}_of_{count}",
            "--pipelines-dir", tempfile.mkdtemp(dir=loader.folder),
        ]  # fmt: skip
        if kind == "parquet":
            arguments += ["--destination", "parquet", "--bucket-url", str(loader.place.bucket)]  # type: ignore[union-attr]
        running.append(start_cli(project, account, arguments))
    for process in running:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert PROJECT not in errors


def test_sync_is_the_same_for_one_shard_of_one(loader: Loader, tmp_path: Path) -> None:
    pipeline = loader.open_shard("0/1", tmp_path)
    report = sync(pipeline, shard="0/1", **loader.arguments())
    assert report.messages == CHATS * PER_CHAT
    loader.assert_equal_world()
