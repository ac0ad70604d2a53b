"""`synced_at` grows whatever a machine's clock does, and one wrong clock does not stay in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest

from linq_source.instants import to_us
from linq_source.source import session
from tests.conftest import DAY_MS, NOW_MS, Loader
from tests.test_operations import queries


class Clock:
    """This machine's clock, so much ahead."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = timedelta(0)
        monkeypatch.setattr(session, "_now_us", lambda: to_us(datetime.now(UTC) + self.ahead))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def load(loader: Loader, **options: Any) -> tuple[Any, datetime]:
    """Load one more message; gives the report and the newest `synced_at`."""
    loader.world.add_message(1, "more", sent_at_ms=loader.world.now_ms - 1_000)
    report = loader.sync(**options)
    ((newest,),) = loader.query("SELECT max(synced_at) FROM sync_runs")
    return report, newest


def test_a_clock_that_is_ahead_for_one_run_is_not_followed(small: Loader, clock: Clock) -> None:
    before, first = load(small)
    clock.ahead = timedelta(days=400)
    small.world.advance(5_000)
    report, second = load(small)
    assert report.exit_code == 0
    assert timedelta(0) < second - first < timedelta(hours=1)
    (note,) = report.notes
    assert "went 57 weeks" in note
    clock.ahead = timedelta(0)
    small.world.advance(5_000)
    report, third = load(small)
    assert (before.notes, report.notes) == ((), ())
    # The API's clock went ten seconds, this machine's perhaps fewer.
    assert second < third < datetime.now(UTC) + timedelta(minutes=1)
    small.assert_equal_world()


def test_a_clock_that_went_as_far_as_the_api_s_is_believed(small: Loader, clock: Clock) -> None:
    """Runs a month apart."""
    _, first = load(small)
    clock.ahead = timedelta(days=30)
    small.world.advance(30 * DAY_MS)
    report, second = load(small)
    assert report.notes == ()
    assert timedelta(days=30) <= second - first < timedelta(days=30, hours=1)


def test_packages_of_one_run_have_one_correction(small: Loader, clock: Clock) -> None:
    _, first = load(small)
    for chat_id in (2, 3, 4):
        small.world.add_chat(chat_id=chat_id)
        small.world.add_message(chat_id, "first", sent_at_ms=NOW_MS - DAY_MS)
    clock.ahead = timedelta(days=400)
    report, last = load(small, max_messages=1, workers=1)
    assert len(report.loads) > 2
    assert timedelta(0) < last - first < timedelta(hours=1)
    assert len(report.notes) == 1


def test_rows_from_the_future_are_said_and_keep_no_alert_quiet(small: Loader, clock: Clock) -> None:
    """The first run of all has nothing to compare its clock with."""
    clock.ahead = timedelta(days=400)
    _, first = load(small)
    clock.ahead = timedelta(0)
    report, second = load(small)
    assert second > first > datetime.now(UTC) + timedelta(days=399)
    (note,) = report.notes
    assert note.startswith(f"the newest synced_at, {first:%Y-%m-%d %H:%M}, is ahead")
    small.assert_equal_world()
    with duckdb.connect(str(small.database)) as connection:
        ((last_load, age),) = connection.execute(queries()["1"]).fetchall()
        ((bound,),) = connection.execute("SELECT max(bound) FROM linq.sync_runs").fetchall()
    assert last_load == bound
    assert age > timedelta(0)
