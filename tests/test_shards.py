"""Shards: pipelines of their own into one dataset, side by side, and divided otherwise."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import dlt
import pytest

from linq_source import (
    ConfigurationError,
    audit,
    forget,
    open_shard,
    plan_shards,
    settle,
    sync,
)
from linq_source.destinations.settled_until import settled_us
from linq_source.sandbox import World, grow
from linq_source.settings import Shard
from tests.bigquery.catalog import BigQueryError
from tests.bigquery.server import PROJECT
from tests.conftest import HOUR_MS, NOW_MS, Loader
from tests.destinations import KINDS, BigQuery, Place, kinds
from tests.eight_chats import (
    CHATS,
    PER_CHAT,
    loader,
    messages_of,
    newest,
    placed,
)
from tests.test_bigquery_cli import (
    private_key,
    project,
    service_account,
    start_cli,
)

__all__ = ["loader", "placed", "private_key", "project", "service_account"]


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
