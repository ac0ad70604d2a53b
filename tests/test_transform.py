"""The marts: built by `linq-source transform`, equal to what the world's own records give."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from linq_source.sandbox import grow
from tests.bigquery.server import PROJECT, TOKEN
from tests.conftest import DAY_MS, Loader
from tests.dbt import PACKAGE, ZONE, run, start, transform
from tests.destinations import BigQuery, Lake, bigquery_project, parquet_lake_on_s3
from tests.marts import Marts, Seen
from tests.postgres import postgres_database
from tests.test_bigquery_cli import private_key, write_account
from tests.truth import Row

__all__ = ["private_key"]
pytestmark = pytest.mark.long

# The instants of our runs, which the world does not know.
OURS = {"synced_at", "deleted_at", "expired_at"}


def assert_marts(loaded: Callable[[str], list[Row]], expected: Marts) -> None:
    for name, rows in expected.items():
        found = [{k: v for k, v in row.items() if k not in OURS} for row in loaded(name)]
        wanted = [{k: _roughly(v) for k, v in row.items()} for row in rows]
        assert sorted(found, key=_order) == sorted(wanted, key=_order), name


def _roughly(value: Any) -> Any:
    """Sums of fractions depend on their order."""
    return pytest.approx(value, abs=1e-5) if isinstance(value, float) else value


def _order(row: Row) -> str:
    """A row without its fractions, by the names of its columns."""
    exact = (str, int, date, type(None))
    return str(sorted((k, v) for k, v in row.items() if isinstance(v, exact)))


def rows_of(database: Path, schema: str = "linq_marts") -> Callable[[str], list[Row]]:
    def rows(table: str) -> list[Row]:
        with duckdb.connect(str(database), read_only=True) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            found = connection.sql(f'SELECT * FROM "{schema}"."{table}"')
            return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]

    return rows


def run_history(loader: Loader, seen: Seen, *, in_one: bool = False) -> Iterator[None]:
    """Load a world that changes in every way: after each load the marts are to be compared.

    Or after the first and the last: another database has to take the same statements.
    """
    world = loader.world
    loader.sync(contacts=True)
    seen.look(world)
    yield
    before = set(world.messages)
    grow(world)  # edits, deliveries, reactions that come and go, a late message, a deletion
    removed = next(c for c in world.chats.values() if len(c.message_keys) > 5 and not c.group)
    seen.deleted_chats.add(removed.id)
    world.remove_chat(removed.id)
    seen.deleted |= before - set(world.messages)
    loader.sync(contacts=True)
    seen.look(world)
    if not in_one:
        yield
    # A line begins to forget.
    before = set(world.messages)
    world.phone_numbers[3].keeps_ms = 10 * DAY_MS
    world.advance(DAY_MS)
    seen.expired |= before - set(world.messages)
    assert seen.expired
    loader.sync(contacts=True)
    seen.look(world)
    yield


@pytest.fixture
def seen() -> Seen:
    return Seen(timezone=ZONE, silence=timedelta(hours=12))


def test_every_mart_equals_the_world_after_every_change(seeded: Loader, seen: Seen) -> None:
    """Incrementally, and again when everything is rebuilt."""
    for _ in run_history(seeded, seen):
        report = transform(seeded, "--database", str(seeded.database))
        assert report["models"] == {"success": 27}
        assert_marts(rows_of(seeded.database), seen.marts())
    transform(seeded, "--database", str(seeded.database), "--full-refresh")
    assert_marts(rows_of(seeded.database), seen.marts())
    (quality,) = rows_of(seeded.database)("data_quality")
    counted = quality["expired_message_count"], quality["deleted_message_count"]
    assert counted == (len(seen.expired), len(seen.deleted))
    live = seen.messages.keys() - seen.expired - seen.deleted
    assert quality["live_message_count"] == quality["api_message_count"] == len(live)
    assert quality["coverage_percent"] == 100.0


def test_a_lake_s_current_state_is_read_where_it_is(seeded: Loader, seen: Seen) -> None:
    lake = Lake(seeded.folder, "it's [a] lake?")
    seeded.place = lake
    database = seeded.folder / "marts.duckdb"
    for _ in run_history(seeded, seen, in_one=True):
        transform(
            seeded, "--destination", "parquet", "--bucket-url", str(lake.bucket),
            "--database", str(database),
        )  # fmt: skip
        assert_marts(rows_of(database), seen.marts())
    with duckdb.connect(str(database), read_only=True) as connection:
        schemas = connection.execute("SELECT DISTINCT schema_name FROM duckdb_tables()").fetchall()
    assert schemas == [("linq_marts",)]
    assert_no_other_marts_replace_them(seeded.folder, lake.bucket, database)


def assert_no_other_marts_replace_them(folder: Path, bucket: Path, database: Path) -> None:
    """Not those of another lake, and not those of a dataset in the same file, nor the other way."""
    copy = shutil.copytree(bucket, folder / "another")
    in_lake = ["--destination", "parquet", "--bucket-url"]
    half = folder / "half.duckdb"
    half.write_bytes(database.read_bytes()[:9000])
    there = f"--database {database}: the file "
    refuse(folder, half, [*in_lake, str(bucket)], f"--database {half}: is not a DuckDB file (IO Er")
    told = f"{there}has the schema linq_marts made from another place, and these marts would be"
    refuse(folder, database, [*in_lake, str(copy)], told)
    with duckdb.connect(str(database)) as connection:
        connection.execute("CREATE SCHEMA linq; CREATE TABLE linq.chat_messages (id BIGINT)")
    told = f"{there}holds the dataset linq, whose marts would be replaced by those of the lake's "
    refuse(folder, database, [*in_lake, str(bucket)], told)
    refuse(
        folder, database, [], f"{there}has the schema linq_marts made from a lake's dataset linq"
    )


def refuse(folder: Path, database: Path, arguments: list[str], told: str) -> None:
    before = database.read_bytes()
    done = run(folder, "--database", str(database), *arguments)
    assert (done.returncode, done.stdout) == (2, ""), done.stdout
    assert done.stderr.startswith(f"error: {told}"), done.stderr
    assert done.stderr.count("\n") == 1
    assert "--database other.duckdb" in done.stderr or "name another one" in done.stderr
    assert database.read_bytes() == before


@pytest.mark.parametrize("phones", ["hash", pytest.param("drop", marks=pytest.mark.deep)])
def test_directions_and_turns_do_not_need_anybody_s_number(
    seeded: Loader, seen: Seen, phones: str
) -> None:
    seeded.sync(phones=phones, text=phones, privacy_key="a key of sixteen characters")
    seen.look(seeded.world)
    transform(seeded, "--database", str(seeded.database))
    expected = seen.marts()
    for table, columns in (
        ("fct_messages", ("message_id", "direction", "conversation_id", "has_attachment")),
        ("fct_responses", ("turn_id", "answer_message_id", "message_count", "response_time_s")),
    ):
        found = rows_of(seeded.database)(table)
        assert sorted(tuple(map(str, map(row.get, columns))) for row in found) == sorted(
            tuple(map(str, map(row.get, columns))) for row in expected[table]
        )
    numbers = {row["contact_number"] for row in rows_of(seeded.database)("dim_contacts")}
    known = {row["contact_number"] for row in expected["dim_contacts"]}
    assert not numbers & known
    assert len(numbers) == (len(known) if phones == "hash" else 0)


@pytest.mark.deep
def test_a_lake_in_an_object_store(seeded: Loader, seen: Seen) -> None:
    database = seeded.folder / "marts.duckdb"
    with parquet_lake_on_s3(seeded.folder) as lake:
        seeded.place = lake
        url = f"s3://{lake.bucket}/{lake.folder}"
        credentials = {
            "DESTINATION__FILESYSTEM__CREDENTIALS__AWS_ACCESS_KEY_ID": "key",
            "DESTINATION__FILESYSTEM__CREDENTIALS__AWS_SECRET_ACCESS_KEY": "secret",
            "DESTINATION__FILESYSTEM__CREDENTIALS__ENDPOINT_URL": lake.address,
            "DESTINATION__FILESYSTEM__CREDENTIALS__REGION_NAME": "us-east-1",
        }
        seeded.sync(contacts=True)
        seen.look(seeded.world)
        there = ["--destination", "parquet", "--bucket-url", url, "--database", str(database)]
        transform(seeded, *there, **credentials)
        # The same lake may build its marts again, had it a model of that name.
        again = run(seeded.folder, *there, "--select", "nothing", **credentials)
    assert again.stderr == "error: --select nothing: there is no such model\n"
    assert_marts(rows_of(database), seen.marts())


@pytest.fixture
def project(tmp_path: Path) -> Iterator[BigQuery]:
    with bigquery_project(tmp_path) as place:
        yield place


def test_bigquery_s_double_takes_every_statement(
    seeded: Loader, seen: Seen, project: BigQuery, private_key: str
) -> None:
    """By dbt's own adapter and a service account; what BigQuery would refuse is refused."""
    seeded.place = project
    account = write_account(seeded.folder, private_key, f"{project.double.url}/token")
    credentials = {
        "GOOGLE_APPLICATION_CREDENTIALS": str(account),
        "BIGQUERY_EMULATOR_HOST": project.double.url,
        "NO_GCE_CHECK": "true",
    }
    for _ in run_history(seeded, seen, in_one=True):
        transform(seeded, "--destination", "bigquery", **credentials)
        assert_marts(lambda name: project.double.warehouse.rows("linq_marts", name), seen.marts())
    merged = [s.affected for s in project.double.statements if s.kind == "MERGE"][-1]
    assert 0 < merged < len(seen.messages) / 2
    run_unit_tests(seeded.folder, project.double.url)
    parted = project.double.warehouse.catalog.table("linq_marts", "fct_messages")
    assert (parted.partition_by, parted.cluster_by) == ("sent_at", ("chat_id",))


def run_unit_tests(folder: Path, url: str) -> None:
    """The logic of turns and conversations in BigQuery's SQL, by plain dbt."""
    output = {
        "type": "bigquery", "method": "oauth-secrets", "token": TOKEN, "project": PROJECT,
        "dataset": "linq_marts", "api_endpoint": url, "threads": 4,
    }  # fmt: skip
    profile = {"linq_source": {"target": "double", "outputs": {"double": output}}}
    (folder / "profiles.yml").write_text(yaml.safe_dump(profile))
    done = start(
        folder, "dbt", "test", "--select", "test_type:unit", "--project-dir", str(PACKAGE),
        "--profiles-dir", str(folder), "--target-path", str(folder / "target"),
        "--log-path", str(folder / "logs"),
    )  # fmt: skip
    assert "PASS=9 WARN=0 ERROR=0 SKIP=0" in done.stdout, done.stdout


def test_postgres(seeded: Loader, seen: Seen) -> None:
    with postgres_database(seeded.folder) as place:
        seeded.place = place
        url = {"DESTINATION__POSTGRES__CREDENTIALS": place.url}
        for _ in run_history(seeded, seen, in_one=True):
            transform(seeded, "--destination", "postgres", **url)
            assert_marts(lambda name: place.query(f"SELECT * FROM linq_marts.{name}"), seen.marts())


def test_a_dataset_of_api_v3(seeded: Loader) -> None:
    seeded.api = "v3"
    for _ in range(2):
        seeded.sync()
        report = transform(seeded, "--database", str(seeded.database))
        assert report["models"] == {"success": 27}
        marts = rows_of(seeded.database)
        live = seeded.query("SELECT id FROM chat_messages WHERE deleted_at IS NULL")
        assert {(row["message_id"],) for row in marts("fct_messages")} == set(live)
        assert {row["chat_id"] for row in marts("dim_chats")} == {
            seeded.id_of("chat", number) for number in seeded.world.chats
        }
        grow(seeded.world)
