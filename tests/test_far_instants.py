"""Messages of the future, and both ends of the calendar."""

from __future__ import annotations

import pytest

from tests.conftest import DAY_MS, HOUR_MS, NOW_MS, Loader

FIRST_MS = -62_135_596_800_000
LAST_MS = 253_402_300_799_999
AHEAD_MS = [NOW_MS + 3 * HOUR_MS, NOW_MS + 3 * 365 * DAY_MS, LAST_MS]


def add_days(loader: Loader) -> None:
    for day in range(20, 0, -1):
        loader.world.add_message(1, f"day {day}", sent_at_ms=NOW_MS - day * DAY_MS)


@pytest.mark.parametrize("sent_at_ms", AHEAD_MS)
def test_a_message_ahead_of_the_server_is_loaded_once_and_hides_nothing(
    small: Loader, sent_at_ms: int
) -> None:
    add_days(small)
    ahead = small.world.add_message(1, "ahead", sent_at_ms=sent_at_ms)
    report = small.sync()
    assert (report.exit_code, report.messages) == (0, 21)
    small.assert_equal_world()
    report = small.sync()
    assert (report.exit_code, report.messages, report.windows) == (0, 0, 0)
    for day in (1, 15):
        small.world.advance(day * DAY_MS)
        normal = small.world.add_message(1, "normal", sent_at_ms=small.world.now_ms - HOUR_MS)
        assert small.sync().exit_code == 0
        small.assert_equal_world()
        small.world.edit_message(normal.id, "edited")
        assert small.sync().messages > 0
        small.assert_equal_world()
    small.world.edit_message(ahead.id, "edited")
    small.sync(lookback_days=60)
    small.assert_equal_world()
    small.world.delete_message(ahead.id)
    small.sync(lookback_days=60)
    small.assert_equal_world()
    assert small.query("SELECT id FROM chat_messages WHERE deleted_at IS NOT NULL") == [(ahead.id,)]


def test_a_chat_with_nothing_but_a_message_ahead(small: Loader) -> None:
    small.world.add_message(1, "ahead", sent_at_ms=NOW_MS + 30 * DAY_MS)
    assert small.sync().messages == 1
    assert small.sync().windows == 0
    small.world.advance(100 * DAY_MS)
    assert small.sync().exit_code == 0
    assert small.sync().messages == 0
    small.assert_equal_world()
    assert small.query("SELECT count(*) FROM chat_messages") == [(1,)]


@pytest.mark.parametrize("sent_at_ms", [FIRST_MS, FIRST_MS + 1, LAST_MS])
def test_a_chat_whose_only_message_stands_at_an_end_of_the_calendar(
    small: Loader, sent_at_ms: int
) -> None:
    message = small.world.add_message(1, "end", sent_at_ms=sent_at_ms)
    for lookback_days in (7, 36_500, 0):
        assert small.sync(lookback_days=lookback_days).exit_code == 0
        small.assert_equal_world()
    small.world.add_message(1, "new", sent_at_ms=NOW_MS - HOUR_MS)
    assert small.sync(lookback_days=36_500).exit_code == 0
    small.assert_equal_world()
    small.world.delete_message(message.id)
    assert small.sync().exit_code == 0
    small.assert_equal_world()
    live = "deleted_at IS NULL AND expired_at IS NULL"
    assert small.query(f"SELECT count(*) FROM chat_messages WHERE {live}") == [(1,)]


@pytest.mark.parametrize(
    "interval",
    [
        {"start": "0001-01-01"},
        {"start": "0001-01-01T00:00:00.000500Z"},
        {"start": "9999-12-31T23:59:59.999999Z"},
        {"end": "9999-12-31T23:59:59.999999Z"},
        {"start": "0001-01-01", "end": "9999-12-31T23:59:59.999999Z"},
    ],
)
def test_intervals_may_begin_and_end_where_the_calendar_does(
    small: Loader, interval: dict[str, str]
) -> None:
    add_days(small)
    for _ in range(2):
        assert small.sync(**interval).exit_code == 0
    if not interval.get("start", "").startswith("9999"):
        small.assert_equal_world()


@pytest.mark.parametrize("has_older", [False, True])
def test_a_message_ahead_that_went_before_the_bound_passed_it_is_marked(
    small: Loader, has_older: bool
) -> None:
    if has_older:
        small.world.add_message(1, sent_at_ms=NOW_MS - 2 * DAY_MS)
    ahead = small.world.add_message(1, "ahead", sent_at_ms=NOW_MS + HOUR_MS)
    small.sync()
    small.world.delete_message(ahead.id)
    small.world.advance(2 * DAY_MS)
    small.sync()
    small.assert_equal_world()
