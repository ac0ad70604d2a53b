"""Ties, splits and lists that move while they are read."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from linq_source.planning import windows
from linq_source.sandbox import Exchange
from tests.conftest import DAY_MS, NOW_MS, Loader

TIE_MS = NOW_MS - 3 * DAY_MS


def message_requests(loader: Loader, **options: Any) -> list[dict[str, str]]:
    requests = loader.requests_of(lambda: loader.sync(**options))
    return [params for route, params in requests if route == "chat_messages"]


@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize("page_size", [7, 100])
def test_hundreds_of_messages_at_one_millisecond(
    small: Loader, inclusive: bool, page_size: int
) -> None:
    small.sandbox.inclusive = inclusive
    for number in range(300):
        small.world.add_message(1, f"tie {number}", sent_at_ms=TIE_MS)
    for number in range(1, 40):
        small.world.add_message(1, "before", sent_at_ms=TIE_MS - number)
        small.world.add_message(1, "after", sent_at_ms=TIE_MS + number)
    requests = message_requests(small, page_size=page_size)
    small.assert_equal_world()
    assert max(int(params["page"]) for params in requests) <= 5_000 // page_size + 1
    assert small.sync(page_size=page_size).messages == 0


def test_bursts_at_neighbouring_milliseconds_are_read_by_small_pages(small: Loader) -> None:
    for number in range(3 * 230):
        small.world.add_message(1, f"tie {number}", sent_at_ms=TIE_MS + number % 3)
    report = small.sync(page_size=7)
    assert (report.windows_unverified, report.exit_code) == (0, 0)
    small.assert_equal_world()


@pytest.mark.parametrize("max_per_page", [3, 100])
def test_a_window_is_as_deep_whatever_the_page_size(
    small: Loader, max_per_page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "MAX_ROWS", 60)
    small.sandbox.max_per_page = max_per_page
    for number in range(3 * 20):
        small.world.add_message(1, f"tie {number}", sent_at_ms=TIE_MS + number % 3)
    for number in range(1, 100):
        small.world.add_message(1, "around", sent_at_ms=TIE_MS + (-1) ** number * number * 10)
    requests = message_requests(small, page_size=7)
    small.assert_equal_world()
    assert small.query("SELECT DISTINCT verified FROM sync_windows") == [(True,)]
    assert max(int(params["page"]) for params in requests) <= 60 // min(7, max_per_page) + 1


@pytest.mark.parametrize("inclusive", [False, True])
def test_ties_on_midnight_where_days_are_cut(small: Loader, inclusive: bool) -> None:
    small.sandbox.inclusive = inclusive
    midnight_ms = NOW_MS - NOW_MS % DAY_MS
    for day in (0, 3, 7, 8, 20):
        for _ in range(5):
            small.world.add_message(1, f"day {day}", sent_at_ms=midnight_ms - day * DAY_MS)
    small.sync()
    small.assert_equal_world()
    small.world.delete_message(small.world.messages_of(1)[-7].id)
    small.world.add_message(1, "late", sent_at_ms=midnight_ms - 8 * DAY_MS)
    report = small.sync()
    small.assert_equal_world()
    assert report.deleted == 1
    assert small.sync().requests == 3


def test_deep_lists_are_split_by_time_and_no_row_beyond_the_depth_is_asked_for(
    small: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "MAX_ROWS", 250)
    for number in range(1500):
        small.world.add_message(1, str(number), sent_at_ms=NOW_MS - 40 * DAY_MS + number * 900_000)
    requests = message_requests(small, page_size=5)
    small.assert_equal_world()
    assert max(int(params["page"]) for params in requests) <= 50
    found = small.query(
        "SELECT window_start, window_end, total_count, verified FROM sync_windows "
        "ORDER BY window_end"
    )
    assert len(found) > 5
    assert found[0][0] is None
    assert all(earlier[1] == later[0] for earlier, later in pairwise(found))
    assert all(row[3] for row in found)
    assert small.sync(page_size=5).messages == 0


def test_more_at_one_instant_than_may_be_asked_for_are_said_not_hidden(
    small: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "MAX_ROWS", 100)
    small.world.add_message(1, "first", sent_at_ms=TIE_MS - 1)
    for number in range(120):
        small.world.add_message(1, f"tie {number}", sent_at_ms=TIE_MS)
    small.world.add_message(1, "last", sent_at_ms=TIE_MS + 1)
    report = small.sync(page_size=2)
    assert report.windows_unverified == 4
    assert report.exit_code == 3
    loaded = small.query("SELECT count(*) FROM chat_messages")[0][0]
    assert loaded >= 100
    monkeypatch.undo()
    assert small.sync(page_size=100).exit_code == 0
    small.assert_equal_world()


def change_at(loader: Loader, request: int, change: Any) -> None:
    """Change the world just before the n-th request for messages is answered."""
    seen = 0

    def hook(exchange: Exchange) -> None:
        nonlocal seen
        if exchange.route == "chat_messages":
            seen += 1
            if seen == request:
                change()

    loader.sandbox.hooks.append(hook)


@pytest.mark.parametrize("request_number", [1, 2, 4, 6])
@pytest.mark.parametrize("kind", ["insert", "delete", "late"])
def test_a_list_that_moves_in_mid_walk_is_read_again(
    small: Loader, request_number: int, kind: str
) -> None:
    world = small.world
    for number in range(50):
        world.add_message(1, str(number), sent_at_ms=TIE_MS + number * 1000)

    def change() -> None:
        if kind == "insert":
            world.add_message(1, "inserted", sent_at_ms=TIE_MS + 15_500)
        elif kind == "late":
            world.add_message(1, "first of all", sent_at_ms=TIE_MS - 1)
        else:
            world.delete_message(world.messages_of(1)[12].id)

    change_at(small, request_number, change)
    report = small.sync(page_size=9, workers=1)
    assert report.windows_unverified == 0
    loaded = small.query("SELECT id FROM chat_messages ORDER BY id")
    assert loaded == sorted((message.id,) for message in world.messages_of(1))
    attempts = small.query("SELECT attempts, verified FROM sync_windows")
    assert attempts == [(1 if request_number == 1 else 2, True)]


def test_a_list_that_never_stands_still_is_loaded_and_said_to_be_unverified(small: Loader) -> None:
    world = small.world
    for number in range(60):
        world.add_message(1, str(number), sent_at_ms=TIE_MS + number * 1000)

    def hook(exchange: Exchange) -> None:
        if exchange.route == "chat_messages":
            world.add_message(1, "again", sent_at_ms=TIE_MS + 30_000)

    small.sandbox.hooks.append(hook)
    report = small.sync(page_size=9)
    assert (report.windows_unverified, report.exit_code) == (1, 3)
    assert small.query("SELECT verified, attempts FROM sync_windows") == [(False, 4)]
    assert small.query("SELECT count(*) FROM chat_messages")[0][0] >= 60
    small.sandbox.hooks.clear()
    assert small.sync(page_size=9).exit_code == 0
    small.assert_equal_world()


def test_an_unverified_window_proves_nothing_about_deletions(small: Loader) -> None:
    world = small.world
    for number in range(30):
        world.add_message(1, str(number), sent_at_ms=TIE_MS + number * 1000)
    small.sync()
    world.delete_message(world.messages_of(1)[3].id)

    def hook(exchange: Exchange) -> None:
        if exchange.route == "chat_messages":
            world.add_message(1, "again", sent_at_ms=TIE_MS + 30_000)

    small.sandbox.hooks.append(hook)
    assert small.sync(page_size=9).deleted == 0
    small.sandbox.hooks.clear()
    assert small.sync(page_size=9).deleted == 1
    small.assert_equal_world()


def test_requests_in_flight_never_exceed_workers_and_pages_are_fetched_together(
    small: Loader,
) -> None:
    for number in range(200):
        small.world.add_message(1, str(number), sent_at_ms=TIE_MS + number * 1000)
    small.sandbox.latency_s = 0.02
    small.sync(page_size=10, workers=4)
    assert small.sandbox.max_in_flight == 4
    small.assert_equal_world()


def test_a_server_that_lowers_per_page_is_followed(small: Loader) -> None:
    for number in range(120):
        small.world.add_message(1, str(number), sent_at_ms=TIE_MS + number * 1000)
    small.sandbox.max_per_page = 25
    assert small.sync().exit_code == 0
    small.assert_equal_world()


def test_backfill_in_packages_keeps_progress_and_ends(
    small: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "MAX_ROWS", 100)
    for number in range(600):
        small.world.add_message(
            1, str(number), sent_at_ms=NOW_MS - 100 * DAY_MS + number * 3_600_000
        )
    report = small.sync(page_size=2, max_messages=120)
    assert len(report.loads) > 3
    assert report.messages == 600
    small.assert_equal_world()
    assert small.sync(page_size=2).messages == 0


def test_plain_runs_with_max_messages_go_on_where_the_last_one_stopped(
    small: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "MAX_ROWS", 100)
    for number in range(300):
        small.world.add_message(
            1, str(number), sent_at_ms=NOW_MS - 100 * DAY_MS + number * 3_600_000
        )
    counts = []
    for _ in range(8):
        small.pipeline.run(small.source(page_size=2, max_messages=50))
        counts.append(small.query("SELECT count(*) FROM chat_messages")[0][0])
    assert counts == sorted(counts)
    assert counts[-1] == 300
    assert 0 < counts[0] < 300
    small.settle()
    small.assert_equal_world()


def test_many_ties_at_a_cut_leave_no_chat_unverified(small: Loader) -> None:
    for number in range(486):
        small.world.add_message(1, str(number), sent_at_ms=TIE_MS - 486 + number)
    for number in range(41):
        small.world.add_message(1, f"tie {number}", sent_at_ms=TIE_MS)
    for number in range(1, 60):
        small.world.add_message(1, "after", sent_at_ms=TIE_MS + number)
    report = small.sync(page_size=10)
    assert (report.windows_unverified, report.exit_code) == (0, 0)
    small.assert_equal_world()
