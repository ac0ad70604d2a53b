"""`check`: what a first load takes, told before it, and whether it could be written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pytest

from linq_source.cli.check_output import rate
from linq_source.operations.check import CheckReport, check
from linq_source.planning.forecast import first_requests
from linq_source.sandbox import Fault, World, seeded_world
from tests.conftest import DAY_MS, HOUR_MS, NOW_MS, Loader
from tests.destinations import KINDS, Lake, kinds
from tests.postgres import Postgres, postgres_database
from tests.test_cli import assert_one_line, run_cli
from tests.truth import Row


def checked(loader: Loader, **options: object) -> CheckReport:
    return check(loader.pipeline, **loader.options, **loader.arguments(**options))


@pytest.fixture(params=kinds(fast=["duckdb"]))
def placed(
    request: pytest.FixtureRequest, serve: Callable[[World], Loader], tmp_path: Path
) -> Iterator[Loader]:
    """A loader of a believable world into each destination in turn."""
    loader = serve(seeded_world(chats=6, messages=200))
    folder = tmp_path / "place"
    folder.mkdir()
    with KINDS[request.param](folder) as place:
        loader.place = place
        yield loader


@pytest.mark.parametrize("placed", kinds(fast=["duckdb"]), indirect=True)
def test_a_first_load_asks_what_was_told_and_a_check_leaves_nothing_behind(placed: Loader) -> None:
    report = checked(placed)
    assert (report.lines, report.chats, report.messages) == (3, 6, 200)
    assert (report.error, report.failures, report.exit_code) == (None, (), 0)
    place = placed.place
    assert place is not None
    # Nothing was made: what was not there is not there.
    assert list((placed.folder.parent / "place").rglob("*.duckdb")) == []
    first = placed.sync()
    assert (first.requests, first.messages) == (report.requests, 200)
    assert first.notes == ()
    rows = {table: place.rows(table) for table in ("chats", "chat_messages", "sync_windows")}
    assert checked(placed).exit_code == 0
    assert {table: place.rows(table) for table in rows} == rows
    assert placed.sync().windows == 0
    placed.assert_equal_world()


def test_the_oldest_message_of_each_line_is_told(serve: Callable[[World], Loader]) -> None:
    world = World(now_ms=NOW_MS)
    for number in (1, 2, 3):
        world.add_phone_number(f"+1555000000{number}")
    for line, age_days in ((1, 300), (1, 40), (2, 9)):
        chat = world.add_chat(phone_number_ids=[line])
        world.add_message(chat.id, "old", sent_at_ms=NOW_MS - age_days * DAY_MS)
    report = checked(serve(world))
    found = [(kept.line, round(kept.age_s / 86_400)) for kept in report.kept]
    assert found == [("...0002", 9), ("...0001", 300)]
    assert report.kept[1].oldest == datetime.fromtimestamp(NOW_MS / 1000 - 300 * 86_400, UTC)


def test_long_chats_are_foretold_within_a_twentieth(serve: Callable[[World], Loader]) -> None:
    """Of them only counts are known: they are taken to lie evenly in time, and do not."""
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001")
    for count in (12_000, 7_000, 4_900, 300, 0):
        chat = world.add_chat()
        for number in range(count):
            # Ever denser towards the end.
            age_ms = int((1 - (number / count) ** 0.5) * 200 * DAY_MS) + HOUR_MS
            world.add_message(chat.id, "x", sent_at_ms=NOW_MS - age_ms)
    loader = serve(world)
    report = checked(loader)
    assert report.messages == 24_200
    assert loader.sync().requests == pytest.approx(report.requests, rel=0.05)


@pytest.mark.quick
def test_requests_of_many_chats_are_those_of_each() -> None:
    assert first_requests([], 0, DAY_MS) == 0
    assert first_requests([0, 1, 100, 101, 5_000], 0, 10**15) == 1 + 1 + 1 + 2 + 50
    assert first_requests([1_000], 0, 10**15, per_page=10) == 100


@pytest.mark.parametrize("rate", [2.5, 100_000.0])
def test_the_time_is_that_of_the_rate_or_of_the_latency(small: Loader, rate: float) -> None:
    small.world.add_message(1, "x", sent_at_ms=NOW_MS - HOUR_MS)
    report = checked(small, max_requests_per_second=rate, workers=2)
    assert report.requests == 3
    assert report.requests_per_second == min(rate, 2 / report.latency_s)
    assert report.seconds == pytest.approx(3 / report.requests_per_second)


def test_a_number_that_cannot_be_listed_is_told(serve: Callable[[World], Loader]) -> None:
    loader = serve(seeded_world(chats=6, messages=50))
    loader.sandbox.faults.append(
        lambda e: Fault(status=403) if e.params.get("phone_number", "").endswith("0002") else None
    )
    report = checked(loader)
    assert report.exit_code == 3
    (failure,) = report.failures
    assert "phone number 2 of 3" in failure


def test_the_command(seeded: Loader, tmp_path: Path) -> None:
    told = run_cli(tmp_path, "check", "--base-url", seeded.sandbox.url)
    assert told.returncode == 0, told.stderr
    assert "700, as the API counts them" in told.stdout
    assert "linq_messages.duckdb, dataset linq: can be written" in told.stdout
    assert list(tmp_path.glob("*.duckdb*")) == []
    options = ["--base-url", seeded.sandbox.url, "--max-requests-per-second", "5", "--json"]
    report = json.loads(run_cli(tmp_path, "check", *options).stdout)
    assert (report["chats"], report["messages"], report["error"]) == (16, 700, None)
    assert report["seconds"] == pytest.approx(report["requests"] / 5)
    run = json.loads(run_cli(tmp_path, "run", *options[:2], "--json").stdout)
    assert run["requests"] == report["requests"]


def test_a_refused_token_and_a_missing_one_are_one_line(seeded: Loader, tmp_path: Path) -> None:
    options = ["check", "--base-url", seeded.sandbox.url]
    wrong = run_cli(tmp_path, *options, token="wrong-token-value")
    assert wrong.returncode == 1
    assert_one_line(wrong, "401", "SOURCES__LINQ__API_TOKEN")
    assert "wrong-token-value" not in wrong.stderr + wrong.stdout
    missing = run_cli(tmp_path, *options, token=None)
    assert missing.returncode == 2
    assert_one_line(missing, "SOURCES__LINQ__API_TOKEN")
    assert list(tmp_path.glob("*.duckdb*")) == []


@pytest.mark.long
def test_an_api_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    result = run_cli(tmp_path, "check", "--base-url", "http://127.0.0.1:9")
    assert result.returncode == 1
    assert_one_line(result, "127.0.0.1:9", "no connection", "base_url")


def test_a_destination_that_cannot_be_written_is_one_line(seeded: Loader, tmp_path: Path) -> None:
    (tmp_path / "linq_messages.duckdb").write_text("this is no database " * 1000)
    result = run_cli(tmp_path, "check", "--base-url", seeded.sandbox.url)
    assert result.returncode == 1
    assert_one_line(result, "duckdb")
    # What the API answered is printed all the same.
    assert "700, as the API counts them" in result.stdout
    assert "dataset linq: cannot be written" in result.stdout


@pytest.mark.parametrize("made", [False, True])
def test_a_folder_that_cannot_be_written(small: Loader, made: bool) -> None:
    """The system's own folder takes no new ones, whoever asks."""
    place = Lake(Path("/proc"), "sys" if made else "linq-lake")
    small.place = place
    report = checked(small)
    assert report.exit_code == 1
    assert report.error is not None
    assert report.error.startswith(f"/proc{'/sys' if made else ''} cannot be written (")


def test_a_user_who_may_only_read_is_told(small: Loader, tmp_path: Path) -> None:
    with postgres_database(tmp_path) as place:
        user = f"reader_of_{place.database}"
        place.query(f"CREATE ROLE {user} LOGIN; SELECT 1")
        small.place = OnlyReading(place, user)
        report = checked(small)
        place.query(f"DROP ROLE {user}; SELECT 1")
    assert report.exit_code == 1
    assert str(report.error).startswith("postgres: reading or writing is not permitted there")


class OnlyReading:
    """A database of Postgres for a user who may make nothing in it."""

    options: Mapping[str, Any] = {}

    def __init__(self, place: Postgres, user: str) -> None:
        self.place, self.user = place, user

    def destination(self) -> Any:
        return dlt.destinations.postgres(self.place.url.replace("//postgres:", f"//{self.user}:"))

    def rows(self, table: str) -> list[Row]:
        return self.place.rows(table)


def test_a_database_of_others_is_left_as_it_is(small: Loader) -> None:
    with duckdb.connect(str(small.database)) as connection:
        connection.execute("CREATE SCHEMA linq; CREATE TABLE linq.chats AS SELECT 1 AS id")
    assert checked(small).error is None
    with duckdb.connect(str(small.database)) as connection:
        found = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables"
        ).fetchall()
        schemas = connection.execute(
            "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE '%check%'"
        ).fetchall()
    assert (found, schemas) == ([("linq", "chats")], [])


@pytest.mark.quick
def test_a_rate_is_told_without_an_exponent() -> None:
    assert [rate(a_second) for a_second in (0.125, 9.5, 99.4, 1_350, 12_345)] == [
        "0.125", "9.5", "99.4", "1,350", "12,345",
    ]  # fmt: skip
