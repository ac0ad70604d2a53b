"""BigQuery: partitions, prices, crashes and shards, on the double of its REST API."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from threading import Event
from typing import Any

import dlt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from linq_source import ConfigurationError, forget, sync
from linq_source.sandbox import DEFAULT_TOKEN, World, grow, seeded_world
from linq_source.tables import TABLES
from tests.bigquery.server import PROJECT
from tests.bigquery.warehouse import Statement
from tests.conftest import DAY_MS, HOUR_MS, NOW_MS, Loader
from tests.destinations import BigQuery, bigquery_project
from tests.truth import assert_equal_tables, live_tables


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
    loader.sync()
    client = project.client()
    for table in TABLES.values():
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
    client.close()  # type: ignore[no-untyped-call]


def test_messages_and_the_ledger_are_kept_by_day() -> None:
    layout = {t.name: (t.partition_by, t.cluster_by) for t in TABLES.values() if t.cluster_by}
    assert layout == {
        "chats__chat_handles": ("", ("chat_id",)),
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


def test_a_killed_load_is_taken_up_again(
    serve: Callable[[World], Loader], project: BigQuery, service_account: Path
) -> None:
    """Killed with a load job done but not heard of, then with a merge sent but not answered."""
    loader = serve(seeded_world(chats=3, messages=40))
    arguments = cli_arguments(loader)
    kill_at(project, service_account, arguments, "loaded", "chat_messages_")
    grow(loader.world)
    kill_at(project, service_account, arguments, "query", "MERGE INTO")
    loader.world.advance(HOUR_MS)
    done = run_cli(project, service_account, arguments)
    assert done.returncode == 0, done.stderr
    assert any(job.startswith("chat_messages_") for job in project.double.repeated_jobs)
    assert_equal_tables(live_tables(project.rows), loader.world)


def test_shards_load_at_the_same_time(
    serve: Callable[[World], Loader], project: BigQuery, service_account: Path
) -> None:
    loader = serve(seeded_world(chats=6, messages=90))
    running = [
        start_cli(
            project,
            service_account,
            [*cli_arguments(loader), "--shard", f"{n}/2", "--pipeline-name", f"shard_{n}"],
        )
        for n in range(2)
    ]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert_equal_tables(live_tables(project.rows), loader.world)
    assert set(project.double.warehouse.catalog.datasets) == {
        "linq",
        "linq_staging_shard_0",
        "linq_staging_shard_1",
    }


# The command line


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


@pytest.fixture
def service_account(project: BigQuery, private_key: str, tmp_path: Path) -> Path:
    """A service account's file, whose tokens the double gives out."""
    return write_account(tmp_path, private_key, f"{project.double.url}/token")


def write_account(folder: Path, private_key: str, token_uri: str, name: str = PROJECT) -> Path:
    path = folder / "account.json"
    account = {
        "type": "service_account", "project_id": name, "private_key_id": "1",
        "private_key": private_key, "client_email": "loader@example.test", "client_id": "1",
        "token_uri": token_uri,
    }  # fmt: skip
    path.write_text(json.dumps(account))
    return path


def cli_arguments(loader: Loader) -> list[str]:
    return ["--base-url", loader.sandbox.url, "--pipelines-dir", str(loader.folder / "pipelines")]


def start_cli(
    project: BigQuery, account: Path | None, arguments: list[str], **variables: str
) -> subprocess.Popen[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SOURCES__", "GOOGLE_"))}
    environment = kept | {
        "NO_COLOR": "1",
        "NO_GCE_CHECK": "true",
        "HOME": str(project.folder),
        "DLT_DATA_DIR": str(project.folder / "dlt"),
        "SOURCES__LINQ__API_TOKEN": DEFAULT_TOKEN,
    }
    if account is not None:
        environment["GOOGLE_APPLICATION_CREDENTIALS"] = str(account)
    return subprocess.Popen(
        [sys.executable, "-m", "linq_source", "run", "--destination", "bigquery", *arguments],
        cwd=project.folder, env=environment | variables, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run_cli(
    project: BigQuery, account: Path | None, arguments: list[str], **variables: str
) -> subprocess.CompletedProcess[str]:
    process = start_cli(project, account, arguments, **variables)
    output, errors = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def kill_at(project: BigQuery, account: Path, arguments: list[str], what: str, text: str) -> None:
    """Run the command and kill it while BigQuery holds back its answer to a certain request."""
    reached, released = Event(), Event()

    def hold(event: str, content: str) -> None:
        if event == what and text in content:
            reached.set()
            released.wait(60)

    project.double.hooks.append(hold)
    process = start_cli(project, account, arguments)
    try:
        assert reached.wait(60)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        project.double.hooks.remove(hold)
        released.set()


def assert_one_line(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 2, result.stderr
    (line,) = result.stderr.splitlines()
    for word in words:
        assert word in line


def test_missing_credentials_are_named(serve: Callable[[World], Loader], project: BigQuery) -> None:
    arguments = cli_arguments(serve(World(NOW_MS)))
    result = run_cli(project, None, arguments)
    assert_one_line(result, "missing configuration: credentials", "GOOGLE_APPLICATION_CREDENTIALS")


@pytest.mark.parametrize("fault", ["refused", "project", "key", "text"])
def test_wrong_credentials_are_told_in_one_line(
    fault: str,
    serve: Callable[[World], Loader],
    project: BigQuery,
    private_key: str,
    tmp_path: Path,
) -> None:
    url = project.double.url
    account = {
        "refused": lambda: write_account(tmp_path, private_key, f"{url}/nowhere"),
        "project": lambda: write_account(tmp_path, private_key, f"{url}/token", "another"),
        "key": lambda: write_account(tmp_path, "no key", f"{url}/token"),
        "text": lambda: Path("no JSON"),
    }[fault]()
    text: Any = account.read_text() if account.is_file() else str(account)
    loader = into(project, serve(World(NOW_MS)))
    pipeline = dlt.pipeline(
        "test_wrong",
        destination=dlt.destinations.bigquery(text),
        dataset_name="linq",
        pipelines_dir=str(tmp_path / "pipelines"),
    )
    with pytest.raises(ConfigurationError, match="the credentials cannot be used") as caught:
        sync(pipeline, **loader.arguments())
    assert "docs/bigquery.md" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert private_key not in str(caught.value)
    # A project that is not there is refused; the double notes that as it does every refusal.
    assert ["accessDenied" in failure for failure in project.double.failures] == (
        [True] if fault == "project" else []
    )
    project.double.failures.clear()


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['google.cloud.bigquery'] = None; "
        "sys.argv[1:] = ['run', '--destination', 'bigquery']; "
        "from linq_source.cli import main; main()"
    )
    environment = os.environ | {"SOURCES__LINQ__API_TOKEN": "t", "NO_COLOR": "1"}
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert_one_line(result, "pip install 'linq-source[bigquery]'")


def test_the_check_of_a_real_project_compares_and_cleans_up(
    project: BigQuery, service_account: Path
) -> None:
    script = Path(__file__).parent.parent / "pipelines" / "check_bigquery.py"
    environment = os.environ | {
        "GOOGLE_APPLICATION_CREDENTIALS": str(service_account),
        "PYTHONWARNINGS": "ignore",
    }
    result = subprocess.run(
        [sys.executable, str(script), "--messages", "60"], cwd=project.folder, env=environment,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr + result.stdout
    first, second, last = result.stdout.splitlines()
    assert first.startswith("first load: 60 messages loaded, 0 marked deleted")
    assert second.endswith(" 0 differences")
    assert last == "every row agrees"
    assert project.double.warehouse.catalog.datasets == {}
