"""The Airflow DAG in a real Airflow: mapped shards, kills and retries, failures, backfills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from threading import Event, Lock
from typing import Any

import duckdb
import pytest

from linq_source import open_shard, sync
from linq_source.sandbox import DEFAULT_TOKEN, Fault, World, grow, seeded_world
from linq_source.sandbox.exchange import Exchange
from tests.airflow import BIN, DAG_FILE, PATIENCE_S, Airflow, migrated_database, wait_until
from tests.conftest import HOUR_MS, Loader
from tests.destinations import DuckDB, Lake
from tests.truth import assert_equal_tables, live_tables

pytestmark = pytest.mark.long

TABLES = ("messages", "attachments", "reactions")
Serve = Callable[[World], Loader]


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Airflow's own database, migrated once for all tests."""
    folder = tmp_path_factory.getbasetemp()
    return migrated_database(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder)


def install(loader: Loader, database: Path, **variables: str) -> Airflow:
    """An Airflow that loads what a sandbox serves."""
    connection = {"conn_type": "generic", "password": DEFAULT_TOKEN, "host": loader.sandbox.url}
    connected = {"AIRFLOW_CONN_LINQ_API": json.dumps(connection)}
    return Airflow(loader.folder, database, connected | variables)


def test_the_file_is_read_without_network_and_limits_writers() -> None:
    """Airflow reads it again and again: it asks nobody, and does not even import dlt."""
    program = """
import json, os, runpy, sys

def forbid(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind"):
        raise RuntimeError(f"{event} while the file is read")

sys.addaudithook(forbid)
found = {}
for destination, table_format in [
    ("duckdb", ""), ("bigquery", ""), ("filesystem", ""),
    ("filesystem", "delta"), ("filesystem", "iceberg"),
]:
    os.environ.update(LINQ_DESTINATION=destination, LINQ_TABLE_FORMAT=table_format)
    names = runpy.run_path(sys.argv[1])
    dag = names["DAG"]
    load = dag.get_task("load").partial_kwargs
    found[f"{destination} {table_format}"] = load["max_active_tis_per_dag"]
assert "dlt" not in sys.modules
assert (dag.max_active_runs, dag.catchup) == (1, False)
assert "backfill" not in dag.allowed_run_types
print(json.dumps(found))
"""
    assert (BIN / "python").exists(), f"{BIN.parent} is missing: run make setup-airflow"
    result = subprocess.run(
        [str(BIN / "python"), "-c", program, str(DAG_FILE)],
        env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == {
        "duckdb ": 1,
        "bigquery ": 8,
        "filesystem ": 8,
        "filesystem delta": 1,
        "filesystem iceberg": 1,
    }


@pytest.mark.deep
@pytest.mark.timeout(1500)
def test_dags_test_loads_every_shard(serve: Serve, database: Path) -> None:
    loader = serve(seeded_world(chats=12, messages=300))
    place = DuckDB(loader.folder)
    airflow = install(loader, database, LINQ_SHARDS="3", LINQ_LOCATION=str(place.database))
    chat_id, late, once = max(loader.world.chats), [], Lock()  # several chats are listed at a time

    def write(exchange: Exchange) -> None:
        """Somebody writes between load and audit: no difference that anybody must be told of."""
        is_audited = airflow.states().get(("audit", -1)) == "running"
        if exchange.route == "chats" and is_audited and once.acquire(blocking=False):
            loader.world.advance(HOUR_MS)
            late.append(loader.world.add_message(chat_id, "good morning, everybody"))
            loader.world.advance(1_000)  # the world's clock stands still by itself

    loader.sandbox.hooks.append(write)
    assert airflow.run("dags", "test", "linq_messages") == 0, airflow.written()[-3000:]
    assert len(late) == 1
    assert_equal_tables(live_tables(place.rows), loader.world)

    counts = {
        "messages": len(loader.world.messages) - 1,
        "attachments": len(place.rows("chat_messages__attachments")),
        "reactions": len(place.rows("chat_messages__reactions")),
    }
    reports = airflow.results("load")
    assert [(r["shard"], r["exit_code"], r["tries"]) for r in reports] == [
        ("0/3", 0, 1), ("1/3", 0, 1), ("2/3", 0, 1),
    ]  # fmt: skip
    assert {name: sum(report[name] for report in reports) for name in TABLES} == counts
    (audit,) = airflow.results("audit")
    assert audit == {
        "compared": True,
        "chats": 12,
        "messages": counts["messages"] + 1,  # which the audit has read
        "differences": 0,
        "first_different": [],
    }
    assert airflow.events() == [
        ("linq_chat_messages", {"rows": counts["messages"], "exact": True, "deleted": 0}),
        ("linq_chat_messages__attachments", {"rows": counts["attachments"], "exact": True}),
        ("linq_chat_messages__reactions", {"rows": counts["reactions"], "exact": True}),
    ]
    assert_nothing_private(airflow, loader.world)

    with duckdb.connect(str(place.database)) as connection:
        connection.execute(
            "INSERT INTO linq.sync_windows BY NAME SELECT * REPLACE ('gap' AS event,"
            " false AS verified, TIMESTAMPTZ '2026-01-01 00:00:00Z' AS window_start)"
            " FROM linq.sync_windows LIMIT 1"
        )
    assert airflow.run("dags", "test", "linq_messages", "2026-03-03") != 0
    assert airflow.states()["audit", -1] == "failed"
    assert " may lack messages from 2026-01-01T00:00:00+00:00 to " in airflow.written()

    # Airflow's own backfill runs are not counted among the active runs of a DAG, so none may be.
    refused = airflow.run(
        "backfill", "create", "--dag-id", "linq_messages",
        "--from-date", "2026-02-01", "--to-date", "2026-02-02",
    )  # fmt: skip
    assert refused != 0
    assert "does not allow backfill runs" in airflow.written()
    assert airflow.rows("SELECT count(*) FROM dag_run") == [(2,)]


@pytest.mark.timeout(1500)
def test_a_failed_shard_leaves_the_others_settled(serve: Serve, database: Path) -> None:
    """The token is refused for one shard's chats; another shard's deleted message is marked.

    Before that the same run is killed, and keeps another one out.
    """
    loader = serve(seeded_world(chats=12, messages=300))
    place = DuckDB(loader.folder)
    for shard in ("0/2", "1/2"):
        pipelines = str(loader.folder / "pipelines")
        sync(
            open_shard(shard, place.destination(), pipelines_dir=pipelines),
            shard=shard,
            **loader.arguments(),
        )
    gone = {remainder: newest_of_shard(loader.world, remainder) for remainder in (0, 1)}
    loader.world.advance(HOUR_MS)
    for message_id in gone.values():
        loader.world.delete_message(message_id)
    airflow = install(loader, database, LINQ_SHARDS="2", LINQ_LOCATION=str(place.database))
    command = ("dags", "test", "linq_messages", "2026-03-02")
    with held(loader, shard=0) as (reached, _):
        killed = airflow.start(*command)
        assert reached.wait(PATIENCE_S)
        killed.kill()
        killed.wait()
    assert airflow.run("dags", "test", "linq_messages") != 0
    assert airflow.states()["plan", -1] == "failed"
    assert "1 other run(s) of linq_messages are under way" in airflow.written()

    loader.sandbox.faults.append(
        lambda exchange: (
            Fault(status=401)
            if exchange.route == "chat_messages" and (exchange.chat_id or 0) % 2 == 1
            else None
        )
    )
    assert airflow.run(*command) != 0
    assert airflow.states() == {
        ("plan", -1): "success",
        ("load", 0): "success",
        ("load", 1): "failed",
        ("settle", -1): "success",
        ("audit", -1): "upstream_failed",
    }
    marked = {row["id"] for row in place.rows("chat_messages") if row["deleted_at"] is not None}
    # What the killed run loaded of the other shard was marked before that shard read on.
    assert gone[0] in marked
    assert marked <= set(gone.values())
    (settled,) = airflow.results("settle")
    assert (settled["shards"], settled["deleted"]) == (["0/2"], 1)
    assert airflow.events()[0][1]["exact"] is False
    assert_nothing_private(airflow, loader.world)


@pytest.mark.timeout(1500)
def test_a_scheduler_backfills_and_takes_up_a_killed_shard_again(
    serve: Serve, database: Path
) -> None:
    """Three intervals, then what changed with a task killed, then a chat that cannot be read."""
    loader = serve(seeded_world(chats=10, messages=200))
    world, place = loader.world, Lake(loader.folder)
    airflow = install(
        loader, database,
        LINQ_SHARDS="2", LINQ_SCHEDULE="", LINQ_DESTINATION="filesystem",
        LINQ_LOCATION=str(place.bucket),
    )  # fmt: skip
    place.bucket.mkdir()
    with airflow.services():
        wait_until(lambda: airflow.rows("SELECT count(*) FROM serialized_dag") == [(1,)])
        assert airflow.run("dags", "unpause", "linq_messages", "--yes") == 0
        edges = ("2025-01-01", "2026-01-10", "2026-02-05T12:00:00Z", "2027-01-01")
        triggers = [trigger(airflow, start=start, end=end) for start, end in pairwise(edges)]
        assert [process.wait(PATIENCE_S) for process in triggers] == [0, 0, 0]
        wait_until(lambda: finished(airflow) == ["success"] * 3)
        runs = airflow.rows("SELECT start_date, end_date FROM dag_run ORDER BY start_date")
        for (_, end), (start, _) in pairwise(runs):
            assert end <= start
        assert_equal_tables(live_tables(place.rows), world)
        assert sum(event["rows"] for _, event in airflow.events()) == sum(
            len(place.rows(f"chat_{name}"))
            for name in ("messages", "messages__attachments", "messages__reactions")
        )
        assert [audit["compared"] for audit in airflow.results("audit")] == [False]

        grow(world)
        world.delete_message(newest_of_shard(world, 1))
        with held(loader, shard=1) as (reached, released):
            assert trigger(airflow).wait(PATIENCE_S) == 0
            assert reached.wait(PATIENCE_S)
            wait_until(lambda: pid_of_load(airflow, 1))
            os.kill(pid_of_load(airflow, 1), signal.SIGKILL)
            released.set()
        wait_until(lambda: len(finished(airflow)) == 4)
        assert finished(airflow)[-1] == "success", airflow.written()[-3000:]
        assert [report["tries"] for report in airflow.results("load")] == [1, 2]
        assert_equal_tables(live_tables(place.rows), world)
        assert airflow.events()[-3][1]["exact"] is False
        told = len(airflow.events())

        grow(world)
        chat_id = max(world.chats)
        world.add_message(chat_id, "a message that nobody is shown")
        loader.sandbox.faults.append(
            lambda exchange: (
                Fault(status=403)
                if exchange.route == "chat_messages" and exchange.chat_id == chat_id
                else None
            )
        )
        assert trigger(airflow).wait(PATIENCE_S) == 0
        wait_until(lambda: len(finished(airflow)) == 5)
        assert finished(airflow)[-1] == "failed"
        assert {task for (task, _), state in airflow.states().items() if state == "failed"} == {
            "audit"
        }
        assert len(airflow.events()) > told
    written = airflow.written()
    assert f"shard {chat_id % 2}/2 is incomplete (failed chats: 1)" in written
    assert f"chat {chat_id} has " in written
    assert_nothing_private(airflow, world)


@contextmanager
def held(loader: Loader, shard: int) -> Iterator[tuple[Event, Event]]:
    """Hold back answers about messages of a shard; gives when one waits, and its release."""
    reached, released = Event(), Event()

    def hold(exchange: Exchange) -> None:
        if exchange.route == "chat_messages" and (exchange.chat_id or 0) % 2 == shard:
            reached.set()
            released.wait(PATIENCE_S)

    loader.sandbox.hooks.append(hold)
    try:
        yield reached, released
    finally:
        released.set()
        loader.sandbox.hooks.remove(hold)


def trigger(airflow: Airflow, **conf: str) -> subprocess.Popen[str]:
    return airflow.start("dags", "trigger", "linq_messages", "--conf", json.dumps(conf))


def finished(airflow: Airflow) -> list[str]:
    """The states of the runs that have ended, in the order of their end."""
    found = airflow.rows(
        "SELECT state FROM dag_run WHERE state IN ('success', 'failed') ORDER BY end_date"
    )
    return [state for (state,) in found]


def pid_of_load(airflow: Airflow, map_index: int) -> int:
    """The process of a running task; 0: there is none yet."""
    found = airflow.rows(
        "SELECT pid FROM task_instance WHERE task_id = 'load' AND state = 'running'"
        f" AND map_index = {map_index}"
    )
    return int(found[0][0] or 0) if found else 0


def newest_of_shard(world: World, remainder: int) -> int:
    """The newest message of the chats of a shard of two, which the next run reads again."""
    messages = [m for m in world.messages.values() if m.chat_id % 2 == remainder]
    return max(messages, key=lambda message: message.sent_at_ms).id


def assert_nothing_private(airflow: Airflow, world: World) -> None:
    """Neither logs nor XComs hold the token or a text; no needless error, no folder is left."""
    written = airflow.written()
    assert DEFAULT_TOKEN not in written
    # What Airflow logs as an error where reports are read one by one to their end.
    assert "XCom not found" not in written
    texts: set[Any] = {message.text for message in world.messages.values()}
    assert [text for text in texts if text and len(text) > 8 and text in written] == []
    assert list(airflow.temporary.glob("linq-*")) == []


@pytest.mark.timeout(1500)
def test_api_v3_is_loaded_by_the_same_file(serve_v3: Serve, database: Path) -> None:
    loader = serve_v3(seeded_world(chats=6, messages=120))
    airflow = install(
        loader, database, LINQ_API="v3", LINQ_DATASET="linq", LINQ_SHARDS="2",
        LINQ_LOCATION=str(DuckDB(loader.folder).database),
    )  # fmt: skip
    assert airflow.run("dags", "test", "linq_messages") == 0, airflow.written()[-3000:]
    loader.assert_equal_world()
    (audit,) = airflow.results("audit")
    assert (audit["chats"], audit["messages"], audit["differences"]) == (6, 120, 0)
