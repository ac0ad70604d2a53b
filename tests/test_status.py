"""`status`: how old and how complete the data is, by what the destination tells alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pytest
from rich.console import Console

from linq_source import sync
from linq_source.cli.status_output import print_status
from linq_source.errors import ConfigurationError
from linq_source.operations.status import status
from linq_source.operations.status_report import (
    Status,
    Trouble,
    facts,
    in_words,
    read_until,
    still_open,
    verdict,
)
from linq_source.sandbox import Exchange, Fault, World
from linq_source.sandbox.lagging import lagging
from linq_source.settings import Id
from tests.conftest import HOUR_MS, NOW_MS, Loader
from tests.destinations import KINDS, DuckDB, kinds
from tests.test_cli import assert_one_line, run_cli

FAILS, LAGS, BREAKS = 2, 3, 4


@pytest.fixture(params=kinds())
def troubled(
    request: pytest.FixtureRequest, serve: Callable[[World], Loader], tmp_path: Path
) -> Iterator[Loader]:
    """A loader of chat 1, of a line that forgets after a day, and of three of another line."""
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001", keeps_ms=24 * HOUR_MS)
    world.add_phone_number("+15550000002")
    for number in (1, 2, 2, 2):
        world.add_chat(phone_number_ids=[number])
    loader = serve(world)
    write_in_all(loader)
    folder = tmp_path / "place"
    folder.mkdir()
    with KINDS[request.param](folder) as place:
        loader.place = place
        yield loader


def write_in_all(loader: Loader) -> None:
    for chat_id in loader.world.chats:
        for number in range(3):
            at_ms = loader.world.now_ms - (number + 1) * HOUR_MS
            loader.world.add_message(chat_id, f"{chat_id}", sent_at_ms=at_ms)


def now_of(loader: Loader) -> datetime:
    return datetime.fromtimestamp(loader.world.now_ms / 1000, UTC)


def status_of(loader: Loader, **options: Any) -> Status:
    return status(loader.pipeline, **options)


def events(found: Status) -> list[tuple[Id, str, int]]:
    return [(t.chat_id, t.event, t.windows) for t in found.troubles]


@pytest.mark.parametrize("troubled", kinds("duckdb", "ducklake"), indirect=True)
def test_to_look_makes_no_file(troubled: Loader, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no run has loaded anything there"):
        status_of(troubled)
    assert [*(tmp_path / "place").rglob("*")] == []


@pytest.mark.parametrize("troubled", kinds(), indirect=True)
def test_what_a_run_could_not_do_is_told_until_a_later_one_did_it(troubled: Loader) -> None:
    with pytest.raises(ConfigurationError, match="load"):
        status_of(troubled)
    troubled.sync()
    first_bound = now_of(troubled)
    found = status_of(troubled)
    assert (found.chats, found.messages, found.read_until) == (4, 12, first_bound)
    today = first_bound.replace(hour=0, minute=0, second=0, microsecond=0)
    assert (found.troubles, found.rejected, found.oldest_check) == ((), (), today)
    before = datetime.now(UTC)
    troubled.world.advance(30 * HOUR_MS)
    write_in_all(troubled)
    troubled.sandbox.faults.append(lambda e: Fault(status=403) if e.chat_id == FAILS else None)
    copy = troubled.world.copy()
    copy.delete_message(copy.messages_of(LAGS)[-1].id)
    troubled.sandbox.views.append(lagging(copy, "chat_messages", LAGS))
    troubled.world.add_message(BREAKS, raw='{"id": 900, "text": "secret text"}')
    assert troubled.sync().exit_code == 3
    found = status_of(troubled)
    assert events(found) == [(FAILS, "failed", 1), (1, "gap", 1), (LAGS, "read", 1)]
    assert [(r.table_name, r.records) for r in found.rejected] == [("chat_messages", 1)]
    assert str(found.failed[0].error).startswith(f"chat {FAILS}: HTTP 403;")
    assert str(found.unverified[0].error).startswith("the listing counts 6 messages, the list")
    assert (found.read_until, found.messages) == (now_of(troubled), 8)
    assert before < found.last_run == found.failed[0].newest == found.rejected[0].newest
    assert found.exit_code == 0
    assert "secret" not in json.dumps(found.to_dict())
    # Nothing new is said, and all is read: what failed is taken back, what is lost is not.
    troubled.sandbox.faults.clear()
    troubled.sandbox.views.clear()
    troubled.sync()
    found = status_of(troubled)
    assert events(found) == [(1, "gap", 1)]
    assert [r.records for r in found.rejected] == [1]


@pytest.mark.parametrize("troubled", ["duckdb"], indirect=True)
def test_a_run_that_did_not_get_through_or_was_about_some_chats_does_not_count(
    troubled: Loader,
) -> None:
    troubled.sync()
    first = now_of(troubled)
    troubled.world.advance(HOUR_MS)
    write_in_all(troubled)
    asked: list[int] = []

    def breaks(exchange: Exchange) -> Fault | None:
        asked.append(exchange.count)
        return None if len(asked) < 4 else Fault(action="close")

    troubled.sandbox.faults.append(breaks)
    report = troubled.sync(request_deadline_s=0.2, workers=1)
    assert report.error is not None
    found = status_of(troubled)
    assert (found.bound, found.read_until) == (now_of(troubled), first)
    troubled.sandbox.faults.clear()
    checked = status_of(troubled).oldest_check
    for some in ({"chat_ids": [1]}, {"end": "2030-01-01"}, {"phone_numbers": ["+15550000001"]}):
        assert troubled.sync(**some).exit_code == 0
        found = status_of(troubled)
        assert (found.read_until, found.oldest_check) == (first, checked)
    assert checked is not None
    troubled.sync()
    assert status_of(troubled).read_until == now_of(troubled)


@pytest.mark.parametrize("troubled", ["duckdb"], indirect=True)
def test_of_shards_the_one_that_lags_most_counts(troubled: Loader) -> None:
    troubled.sync_shards(2)
    first = now_of(troubled)
    assert status_of(troubled).read_until == first
    troubled.world.advance(HOUR_MS)
    with TemporaryDirectory(dir=troubled.folder) as folder:
        pipeline = troubled.open_shard("0/2", Path(folder))
        sync(pipeline, **troubled.arguments(shard="0/2"))
    assert status_of(troubled).read_until == first
    assert status_of(troubled).bound == now_of(troubled)


@pytest.mark.parametrize("troubled", ["duckdb"], indirect=True)
def test_chats_that_were_not_listed_are_a_doubt_until_a_run_of_all_lists_them(
    troubled: Loader,
) -> None:
    troubled.sync()
    change(troubled, "chats_unlisted = NULL")
    assert status_of(troubled).unlisted == 0
    change(troubled, "chats_unlisted = 2")
    assert troubled.sync(chat_ids=[1]).exit_code == 0
    found = status_of(troubled)
    assert (found.unlisted, found.to_dict()["chats_unlisted"]) == (2, 2)
    assert dict(facts(found))["unlisted chats"] == "2"
    assert verdict(found) == "in doubt: known chats were not listed"
    troubled.sync()
    assert status_of(troubled).unlisted == 0


@pytest.mark.parametrize("troubled", ["duckdb"], indirect=True)
def test_of_shards_each_counts_those_that_were_not_listed(troubled: Loader) -> None:
    troubled.sync()
    change(troubled, "chats_unlisted = 8")
    troubled.sync_shards(2)
    change(troubled, "chats_unlisted = 1, oldest_check = TIMESTAMPTZ '2026-01-02 00:00:00Z'"
           " WHERE covered = '0/2'")  # fmt: skip
    found = status_of(troubled)
    assert (found.unlisted, found.oldest_check) == (1, datetime(2026, 1, 2, tzinfo=UTC))


@pytest.mark.parametrize("troubled", ["duckdb"], indirect=True)
def test_a_bound_in_the_future_is_a_doubt_and_counts_as_when_its_rows_arrived(
    troubled: Loader,
) -> None:
    troubled.sync()
    change(troubled, "bound = TIMESTAMPTZ '2127-03-01 00:00:00Z'")
    found = status_of(troubled)
    assert found.read_until == found.bound == found.last_run
    assert (found.is_bound_ahead, found.to_dict()["is_bound_ahead"]) == (True, True)
    assert verdict(found) == "in doubt: a run read into the future (a clock is wrong)"
    later = found.last_run + timedelta(hours=4)
    assert status_of(troubled, now=later, max_age_hours=3).exit_code == 3
    troubled.sync()
    assert not status_of(troubled).is_bound_ahead


def change(loader: Loader, values: str) -> None:
    """Have other values in `sync_runs`."""
    assert isinstance(loader.place, DuckDB)
    with duckdb.connect(str(loader.place.database)) as connection:
        connection.execute(f"UPDATE linq.sync_runs SET {values}")


@pytest.mark.quick
def test_up_to_where_every_chat_was_read() -> None:
    day = {number: datetime(2026, 1, number, tzinfo=UTC) for number in range(1, 9)}
    assert read_until({}) is None
    assert read_until({"all": day[3]}) == day[3]
    assert read_until({"0/2": day[8]}) is None
    assert read_until({"0/2": day[8], "1/2": day[4], "all": day[3]}) == day[4]
    # Of an earlier division one shard is not run any more.
    assert read_until({"0/3": day[8], "1/3": day[8], "0/2": day[2], "1/2": day[1]}) == day[1]


@pytest.mark.quick
def test_what_takes_a_trouble_back() -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    failed = Trouble(5, "failed", 1, at, "HTTP 403")
    gap = Trouble(5, "gap", 1, at, None)
    later = at + timedelta(hours=1)
    assert still_open([failed], {}) == (failed,)
    assert still_open([failed, gap], {"failed": {"all": later}}) == (gap,)
    assert still_open([failed], {"failed": {"all": at}}) == (failed,)
    assert still_open([failed], {"failed": {"1/2": later}}) == ()
    assert still_open([failed], {"failed": {"0/2": later}, "read": {"all": later}}) == (failed,)


@pytest.mark.parametrize("troubled", ["duckdb"], indirect=True)
def test_a_run_of_all_chats_without_a_failure_takes_back_those_that_had_not_changed(
    troubled: Loader,
) -> None:
    troubled.sync()
    troubled.sandbox.faults.append(lambda e: Fault(status=403) if e.chat_id == FAILS else None)
    assert len(troubled.sync(chat_ids=[FAILS, 1]).chats_failed) == 1
    troubled.sandbox.faults.clear()
    # Of one chat alone: that says nothing of the others.
    assert troubled.sync(chat_ids=[1]).exit_code == 0
    assert events(status_of(troubled)) == [(FAILS, "failed", 1)]
    assert troubled.sync().windows == 0
    assert events(status_of(troubled)) == []


@pytest.mark.parametrize("troubled", ["duckdb"], indirect=True)
def test_the_age_is_told_from_the_api_s_clock_and_compared(troubled: Loader) -> None:
    troubled.sync()
    now = now_of(troubled) + timedelta(hours=3)
    assert status_of(troubled, now=now, max_age_hours=3).exit_code == 0
    later = now + timedelta(seconds=1)
    found = status_of(troubled, now=later, max_age_hours=3)
    assert (found.exit_code, found.lag_s, found.to_dict()["is_too_old"]) == (3, 10_801.0, True)
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ConfigurationError, match="max_age"):
            status_of(troubled, max_age_hours=wrong)


@pytest.mark.parametrize("troubled", kinds(), indirect=True)
def test_tables_that_somebody_left_out_are_empty(troubled: Loader) -> None:
    source = troubled.source().with_resources("chat_messages")
    troubled.pipeline.run(source, **troubled.options)
    found = status_of(troubled)
    assert (found.messages, found.troubles, found.rejected) == (12, (), ())


@pytest.mark.parametrize("name", [pytest.param("test_linq", marks=pytest.mark.deep), "another"])
@pytest.mark.parametrize("troubled", kinds(), indirect=True)
def test_another_pipeline_or_an_empty_disk_tells_the_same(troubled: Loader, name: str) -> None:
    troubled.sync()
    expected = status_of(troubled).to_dict()
    # Of another name: dlt knows no schema for it.
    other = Loader(troubled.sandbox, troubled.folder / "elsewhere", name, troubled.place)
    found = status_of(other).to_dict()
    assert {**found, "lag_s": 0} == {**expected, "lag_s": 0}


def test_the_command(seeded: Loader, tmp_path: Path) -> None:
    missing = run_cli(tmp_path, "status", token=None)
    assert missing.returncode == 2
    assert_one_line(missing, "linq_messages.duckdb", "no such file")
    duckdb.connect(str(tmp_path / "linq_messages.duckdb")).close()
    empty = run_cli(tmp_path, "status", token=None)
    assert empty.returncode == 2
    assert_one_line(empty, "dataset linq", "no run has loaded", "--dataset")
    run_cli(tmp_path, "run", "--base-url", seeded.sandbox.url)
    asked = len(seeded.sandbox.requests_log)
    old = run_cli(tmp_path, "status", "--max-age", "3", token=None)
    assert old.returncode == 3
    assert "in doubt: older than 3 hours" in old.stdout
    facts = dict(line.strip().split("  ", 1) for line in old.stdout.splitlines()[2:-2])
    assert facts["failed chats"].strip() == "none"
    fresh = run_cli(tmp_path, "status", "--json", token=None)
    assert fresh.returncode == 0, fresh.stderr
    report = json.loads(fresh.stdout)
    assert (report["chats"], report["messages"], report["gaps"]) == (16, 700, [])
    assert report["destination"] == f"{tmp_path / 'linq_messages.duckdb'}, dataset linq"
    assert len(seeded.sandbox.requests_log) == asked


@pytest.mark.quick
def test_the_table_says_at_a_glance_whether_to_trust_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    bound = now - timedelta(minutes=12)
    found = Status(now, now - timedelta(minutes=10), bound, bound, 40, 3_000, None)
    print_status(Console(width=100), found, "here")
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert printed == [
        " last run            2026-01-31 11:50 UTC, 10 minutes ago",
        "                     3,000 messages loaded, 40 chats",
        " lag                 12 minutes (read up to 2026-01-31 11:48 UTC)",
        " oldest check        not every chat was checked yet",
        " gaps                none",
        " unverified windows  none",
        " failed chats        none",
        " unlisted chats      none",
        " rejected records    none",
        "complete up to 12 minutes ago",
        "read from here",
    ]


@pytest.mark.quick
@pytest.mark.parametrize(("hours", "words"), [(1, "1 hour"), (1.5, "1.5 hours"), (3, "3 hours")])
def test_what_is_too_old_is_told_in_hours(hours: float, words: str) -> None:
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    bound = now - timedelta(hours=4)
    found = Status(now, bound, bound, bound, 1, 1, None, max_age_hours=hours)
    assert verdict(found) == f"in doubt: older than {words}"


@pytest.mark.quick
@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "a moment"), (1, "a second"), (119, "119 seconds"), (120, "2 minutes"),
     (3 * 3600, "3 hours"), (47 * 3600, "47 hours"), (90 * 86_400, "90 days")],
)  # fmt: skip
def test_an_age_is_told_in_its_largest_unit(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
