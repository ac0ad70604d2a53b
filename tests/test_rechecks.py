"""Everything is looked at again: what no count shows is found within the period."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from linq_source.instants import DAY_US
from linq_source.planning import windows
from linq_source.planning.rechecks import Budget, Check
from linq_source.sandbox import Fault, World, lagging
from tests.conftest import DAY_MS, HOUR_MS, NOW_MS, Loader

DAY = NOW_MS // DAY_MS


@pytest.mark.quick
def test_those_checked_longest_ago_come_first_within_the_budget() -> None:
    budget = Budget(pages=5, period_us=30 * DAY_US)
    bound_us = 100 * DAY_US
    checks = [Check(80, 1, 2), Check(-1, 2, 2), Check(70, 3, 2), Check(90, 4, 2), Check(85, 5, 9)]
    assert budget.choose(checks, bound_us) == {1, 2, 3}
    assert Budget(0, 30 * DAY_US).choose(checks, bound_us) == {2}
    assert Budget(9, 30 * DAY_US).choose([Check(86, 1, 2)], bound_us) == set()
    assert Budget(9, DAY_US).choose([Check(99, 1, 2), Check(100, 2, 2)], bound_us + DAY_US - 1) == {
        1
    }
    # Of a long chat a run reads one window.
    assert Budget(60, 30 * DAY_US).choose([Check(1, 1, 700), Check(2, 2, 7)], bound_us) == {1, 2}


@pytest.fixture
def year(serve: Callable[[World], Loader]) -> Loader:
    """Three chats with a message a month, a year long; nothing new since a month."""
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001")
    for chat_id in (1, 2, 3):
        world.add_chat(chat_id=chat_id)
        for month in range(13, 1, -1):
            world.add_message(chat_id, f"{month}", sent_at_ms=NOW_MS - month * 30 * DAY_MS)
    loader = serve(world)
    assert loader.sync().oldest_check_days == 0
    return loader


def change_what_no_count_shows(world: World) -> None:
    """An edit, a reaction, an addition and a deletion that cancel each other."""
    first, second, third, *_ = world.messages_of(1)
    world.edit_message(first.id, "edited")
    world.add_reaction(second.id, "love", from_phone="+15550000009")
    world.delete_message(third.id)
    world.add_message(1, "late", sent_at_ms=third.sent_at_ms + HOUR_MS)


def test_an_old_change_that_no_count_shows_is_found_within_the_period(year: Loader) -> None:
    change_what_no_count_shows(year.world)
    assert year.sync().messages == 0
    checked = []
    for days in (7, 7, 1):
        year.world.advance(days * DAY_MS)
        checked.append(year.sync().chats_rechecked)
    assert checked == [0, 0, 1]
    year.assert_equal_world()
    rows = year.query("SELECT deleted_at IS NOT NULL FROM chat_messages WHERE id = 3")
    assert rows == [(True,)]
    # What did not change is not written again.
    assert year.query("SELECT count(DISTINCT synced_at) FROM chat_messages WHERE chat_id = 2") == [
        (1,)
    ]


def test_one_chat_a_run_at_the_least_and_no_more_than_the_budget(year: Loader) -> None:
    year.world.advance(20 * DAY_MS)
    found = []
    for _ in range(4):
        requests = year.requests_of(lambda: found.append(year.sync()))
        asked = [route for route, _ in requests if route == "chat_messages"]
        assert len(asked) == 2 * found[-1].chats_rechecked
    assert [report.chats_rechecked for report in found] == [1, 1, 1, 0]
    assert [report.oldest_check_days for report in found] == [20, 20, 0, 0]
    assert [report.messages for report in found] == [0, 0, 0, 0]
    runs = "SELECT chats_rechecked, epoch_ms(oldest_check) FROM sync_runs ORDER BY synced_at"
    found_days = [(n, at_ms // DAY_MS - DAY) for n, at_ms in year.query(runs)[1:]]
    assert found_days == [(1, 0), (1, 0), (1, 20), (0, 20)]
    assert year.sync(recheck_share=1.0).chats_rechecked == 0


def test_all_at_once_with_a_larger_share_and_none_without_one(year: Loader) -> None:
    year.world.advance(20 * DAY_MS)
    assert year.sync(recheck_share=0.0).chats_rechecked == 0
    assert year.sync(recheck_days=60).chats_rechecked == 0
    assert year.sync(recheck_share=1.0).chats_rechecked >= 1
    year.world.advance(60 * DAY_MS)
    (note,) = year.sync(recheck_share=0.001).notes
    assert "was 80 days ago, more than recheck_days (30)" in note


def test_a_long_chat_is_read_again_in_several_runs(
    year: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "MAX_ROWS", 4)
    change_what_no_count_shows(year.world)
    year.world.advance(20 * DAY_MS)
    year.sync(chat_ids=[2, 3], recheck_share=1.0)
    checked = []
    for _ in range(10):
        report = year.sync(page_size=2)
        assert report.exit_code == 0
        checked.append(report.messages)
    assert [count for count in checked if count] == [2, 2, 2, 2, 3]
    year.assert_equal_world()
    assert year.sync(page_size=2).messages == 0


def test_what_others_loaded_in_between_is_written_again(year: Loader) -> None:
    """A digest of the history says nothing of rows that somebody else loaded."""
    change_what_no_count_shows(year.world)
    year.sync(chat_ids=[1], start="2020-01-01", end="2030-01-01")
    year.assert_equal_world()
    first = year.world.messages_of(1)[0]
    year.world.edit_message(first.id, "1")
    year.world.advance(20 * DAY_MS)
    year.sync()
    year.assert_equal_world()


def test_a_chat_that_fails_does_not_keep_the_others_from_their_turn(year: Loader) -> None:
    year.sandbox.faults.append(
        lambda exchange: (
            Fault(status=404)
            if exchange.route == "chat_messages" and exchange.chat_id == 1
            else None
        )
    )
    year.world.advance(20 * DAY_MS)
    year.world.edit_message(year.world.messages_of(3)[0].id, "edited")
    for _ in range(5):
        year.sync()
        year.world.advance(DAY_MS)
    assert year.query("SELECT count(*) FROM chat_messages WHERE text = 'edited'") == [(1,)]


@pytest.mark.parametrize("rows", [5_000, 4])
def test_an_old_answer_to_a_check_deletes_nothing(
    year: Loader, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list lacks a message for one run; a long chat is believed when two runs saw the same."""
    monkeypatch.setattr(windows, "MAX_ROWS", rows)
    year.world.advance(20 * DAY_MS)
    copy = year.world.copy()
    copy.delete_message(year.world.messages_of(1)[3].id)
    year.sandbox.views.append(lagging(copy, "chat_messages", 1))
    assert year.sync(page_size=2 if rows == 4 else 100, recheck_share=1.0).deleted == 0
    year.sandbox.views.clear()
    for _ in range(2):
        assert year.sync(page_size=2 if rows == 4 else 100).deleted == 0
    year.assert_equal_world()


def test_rows_that_others_loaded_where_nothing_is_listed_are_marked(year: Loader) -> None:
    year.world.add_chat(chat_id=4)
    late = year.world.add_message(4, sent_at_ms=NOW_MS - 40 * DAY_MS)
    year.world.add_message(4, sent_at_ms=NOW_MS - HOUR_MS)
    year.sync(start="2025-12-25")
    year.sync(start="2020-01-01", end="2030-01-01", chat_ids=[4])
    year.world.delete_message(late.id)
    year.world.advance(20 * DAY_MS)
    year.sync(recheck_share=1.0)
    year.assert_equal_world()


def test_a_larger_lookback_for_one_run_hides_nothing(year: Loader) -> None:
    message = year.world.messages_of(1)[-2]
    year.world.edit_message(message.id, "edited")
    year.sync(lookback_days=90)
    message.text, message.edited_at_ms = "3", None
    year.sync()
    year.world.advance(20 * DAY_MS)
    year.sync(recheck_share=1.0)
    year.assert_equal_world()
