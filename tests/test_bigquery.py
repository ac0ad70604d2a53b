"""BigQuery: what is kept how, what a run reads, and nasty sequences, on the double."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from linq_source import forget
from linq_source.sandbox import World, grow, seeded_world
from linq_source.tables import ATTACHMENT_FILES, TABLES
from tests.bigquery.warehouse import Statement
from tests.conftest import DAY_MS, HOUR_MS, NOW_MS, Loader
from tests.destinations import BigQuery, bigquery_project

pytestmark = pytest.mark.long


@pytest.fixture
def project(tmp_path: Path) -> Iterator[BigQuery]:
    with bigquery_project(tmp_path) as place:
        yield place


@pytest.fixture
def loader(project: BigQuery, serve: Callable[[World], Loader]) -> Loader:
    """A loader of a believable world into BigQuery."""
    return into(project, serve(seeded_world(chats=6, messages=150)))


def into(project: BigQuery, loader: Loader) -> Loader:
    loader.place = project
    return loader


def statements_of(project: BigQuery, call: Callable[[], Any]) -> list[Statement]:
    """What a call has BigQuery run."""
    count = len(project.double.statements)
    call()
    return project.double.statements[count:]


def day_of(at_ms: int) -> date:
    return datetime.fromtimestamp(at_ms / 1000, UTC).date()


# What stands in the console


def test_tables_are_made_as_they_are_described(loader: Loader, project: BigQuery) -> None:
    loader.world.add_contact("First", "Last")
    loader.sync(contacts=True)
    client = project.client()
    for table in TABLES.values():
        if table is ATTACHMENT_FILES:
            continue
        found = client.get_table(f"linq.{table.name}")
        assert found.description == table.description
        described = {field.name: field.description for field in found.schema}
        expected = {column.name: column.description for column in table.columns}
        assert {name: described[name] for name in expected} == expected
        required = {field.name for field in found.schema if not field.is_nullable}
        assert required == {column.name for column in table.columns if not column.nullable}
        partition = found.time_partitioning
        assert (partition.field if partition else "") == table.partition_by
        assert partition is None or partition.type_ == "DAY"
        assert tuple(found.clustering_fields or ()) == table.cluster_by
    client.close()


def test_messages_and_the_ledger_are_kept_by_day() -> None:
    layout = {t.name: (t.partition_by, t.cluster_by) for t in TABLES.values() if t.cluster_by}
    assert layout == {
        "chats__chat_handles": ("", ("chat_id",)),
        "chats__phone_numbers": ("", ("chat_id",)),
        "chat_messages": ("sent_at", ("chat_id",)),
        "chat_messages__attachments": ("", ("chat_message_id",)),
        "chat_messages__reactions": ("", ("chat_message_id",)),
        "sync_windows": ("synced_at", ("chat_id",)),
    }


# What a run reads


def test_a_run_reads_only_the_days_it_touches(loader: Loader, project: BigQuery) -> None:
    loader.sync()
    world = loader.world
    chat_id = min(world.chats)
    *_, deleted, edited = world.messages_of(chat_id)
    world.edit_message(edited.id, "edited")
    world.delete_message(deleted.id)
    run = statements_of(project, loader.sync)
    loader.assert_equal_world()
    touched = {day_of(edited.sent_at_ms), day_of(deleted.sent_at_ms)}
    scans = [scan for statement in run for scan in statement.scans if scan.table == "chat_messages"]
    # The merge, then settling: what is gone is counted, then marked.
    assert len(scans) >= 3
    for scan in scans:
        assert scan.days <= touched
        assert len(scan.all_days) > 10
    merges = [statement for statement in run if statement.kind == "MERGE"]
    into_messages = [s for s in merges if "`linq`.`chat_messages`" in s.sql]
    assert len(into_messages) == 1
    assert "DATE(d.sent_at) IN UNNEST(" in into_messages[0].sql


def test_children_are_looked_for_between_the_first_and_the_last_key(
    loader: Loader, project: BigQuery
) -> None:
    loader.sync()
    message = loader.world.messages_of(min(loader.world.chats))[-1]
    loader.world.add_reaction(message.id, "love", from_phone="+15550000009")
    run = statements_of(project, loader.sync)
    kinds = {"MERGE", "DELETE"}
    table = "`linq`.`chat_messages__reactions`"
    changes = [s for s in run if s.kind in kinds and s.sql.split(" AS d ")[0].endswith(table)]
    assert [statement.kind for statement in changes] == ["MERGE", "DELETE"]
    for statement in changes:
        assert "d.`chat_message_id` >= CAST(" in statement.sql or (
            "d.chat_message_id >= CAST(" in statement.sql
        )


def test_an_unchanged_run_changes_nothing_and_reads_no_message(
    loader: Loader, project: BigQuery
) -> None:
    loader.sync()
    run = statements_of(project, loader.sync)
    changes = [s for s in run if s.kind != "SELECT" and "_dlt_" not in s.sql]
    assert [s.sql for s in changes if "_staging`" not in s.sql] == []
    assert [scan for s in run for scan in s.scans if scan.table == "chat_messages"] == []


def test_a_history_of_more_days_than_a_job_may_write(
    serve: Callable[[World], Loader], project: BigQuery
) -> None:
    world = World(NOW_MS)
    world.add_phone_number("+15550000001")
    world.add_chat(display_name="Old", chat_id=1)
    for age in range(4_200):
        world.add_message(1, f"{age}", sent_at_ms=NOW_MS - age * DAY_MS - HOUR_MS)
    world.add_message(1, "the first of all", sent_at_ms=1)
    loader = into(project, serve(world))
    run = statements_of(project, loader.sync)
    merges = [s for s in run if s.kind == "MERGE" and "`linq`.`chat_messages` AS d" in s.sql]
    # The one of 1970, then 3,000 days, then the rest.
    assert [s.affected for s in merges] == [1, 3_000, 1_200]
    loader.assert_equal_world()


# What may happen on the way


def test_everything_at_once(loader: Loader, project: BigQuery) -> None:
    world = loader.world
    loader.sync(max_messages=40)
    chat_id = min(world.chats)
    *_, third, second, first = world.messages_of(chat_id)
    world.delete_message(first.id)
    for reaction in list(second.reactions):
        world.remove_reaction(second.id, reaction.id)
    grow(world)
    pipeline = loader.pipeline
    pipeline.extract(loader.source())
    pipeline.normalize()
    world.add_message(chat_id, "late", sent_at_ms=world.now_ms - 60 * DAY_MS)
    world.add_message(
        chat_id, first.text or "back", sent_at_ms=first.sent_at_ms, message_id=first.id
    )
    world.advance(HOUR_MS)
    loader.sync()
    loader.assert_equal_world()
    shutil.rmtree(loader.folder / "pipelines")
    world.delete_message(third.id)
    world.move_message(second.id, second.sent_at_ms - 2 * DAY_MS)
    gone = max(world.chats)
    world.remove_chat(gone)
    loader.sync()
    loader.assert_equal_world()
    loader.pipeline.run(loader.source())
    loader.settle()
    loader.assert_equal_world()
    assert loader.audit().differences == ()
    marked = {row["id"] for row in project.rows("chats") if row["deleted_at"] is not None}
    assert marked == {gone}


def test_forgotten_people_are_gone(loader: Loader, project: BigQuery) -> None:
    loader.sync()
    chat = next(c for c in loader.world.chats.values() if not c.group and c.handles)
    number = chat.handles[0].phone_number
    report = forget(loader.pipeline, phone_numbers=[number])
    assert chat.id in report.chats
    loader.sync()
    for table in ("chats", *(t.name for t in TABLES.values() if "chat_id" in t.column_names)):
        rows = project.rows(table)
        assert number not in {value for row in rows for value in row.values()}
        if table != "sync_windows":
            assert chat.id not in {row.get("chat_id", row["id"]) for row in rows if "id" in row}
    for dataset, tables in project.double.warehouse.catalog.datasets.items():
        for table in tables.keys() & TABLES.keys() if dataset != "linq" else ():
            assert project.double.warehouse.rows(dataset, table) == []
