"""Lists that lag behind their counters, for one run or for several: nothing is lost by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from linq_source.extraction import listing
from linq_source.sandbox import Fault, World, lagging
from tests.conftest import DAY_MS, HOUR_MS, NOW_MS, Loader

MESSAGES = 50


def emptied(world: World, loader: Loader) -> None:
    for message in world.messages_of(1):
        world.delete_message(message.id)


def one_short(world: World, loader: Loader) -> None:
    world.delete_message(world.messages_of(1)[7].id)


def newest_missing(world: World, loader: Loader) -> None:
    world.delete_message(world.messages_of(1)[-1].id)


def far_less(world: World, loader: Loader) -> None:
    for message in world.messages_of(1)[3:]:
        world.delete_message(message.id)


LAGS = [emptied, one_short, newest_missing, far_less]


@pytest.fixture
def chat(small: Loader) -> Loader:
    """A chat of fifty messages, one a day; the newest is forty days old."""
    for number in range(MESSAGES):
        age_ms = (40 + MESSAGES - 1 - number) * DAY_MS + 3 * HOUR_MS
        message = small.world.add_message(1, f"m{number}", sent_at_ms=NOW_MS - age_ms)
        small.world.add_reaction(message.id, "love", from_phone="+15559990001")
    return small


def lag(loader: Loader, change: Callable[[World, Loader], None]) -> World:
    """From now on the chat's messages are answered from a copy of the world, changed."""
    copy = loader.world.copy()
    change(copy, loader)
    loader.sandbox.views.append(lagging(copy, "chat_messages", 1))
    return copy


def deleted(loader: Loader) -> list[Any]:
    return loader.query("SELECT id FROM chat_messages WHERE deleted_at IS NOT NULL")


@pytest.mark.parametrize(("change", "runs"), list(zip(LAGS, (1, 3, 2, 1), strict=True)))
def test_a_list_that_lags_in_the_first_runs(
    chat: Loader, change: Callable[[World, Loader], None], runs: int
) -> None:
    lag(chat, change)
    for _ in range(runs):
        report = chat.sync()
        assert (report.exit_code, report.windows_unverified, report.deleted) == (3, 1, 0)
        chat.world.advance(HOUR_MS)
    (error,) = chat.query("SELECT error FROM sync_windows ORDER BY synced_at LIMIT 1")[0]
    assert error.startswith("the listing counts 50 messages, the list gives ")
    chat.sandbox.views.clear()
    assert chat.sync().exit_code == 0
    chat.assert_equal_world()
    assert chat.sync().messages == 0


@pytest.mark.parametrize(("change", "runs"), list(zip(LAGS, (1, 3, 2, 1), strict=True)))
def test_a_list_that_lags_in_later_runs_deletes_nothing(
    chat: Loader, change: Callable[[World, Loader], None], runs: int
) -> None:
    assert chat.sync().exit_code == 0
    lag(chat, change)
    new = chat.world.add_message(1, "new", sent_at_ms=NOW_MS - 60_000)
    for _ in range(runs):
        report = chat.sync()
        assert (report.exit_code, report.deleted) == (3, 0)
        assert deleted(chat) == []
        assert chat.query("SELECT count(*) FROM chat_messages") == [(MESSAGES,)]
        chat.world.advance(HOUR_MS)
    chat.sandbox.views.clear()
    assert chat.sync().exit_code == 0
    chat.assert_equal_world()
    assert chat.query(f"SELECT text FROM chat_messages WHERE id = {new.id}") == [("new",)]
    assert chat.sync().messages == 0


def test_one_late_message_that_is_counted_before_it_is_listed(chat: Loader) -> None:
    chat.sync()
    lag(chat, lambda world, loader: None)
    chat.world.add_message(1, "late", sent_at_ms=NOW_MS - 44 * DAY_MS)
    for _ in range(2):
        report = chat.sync()
        assert (report.exit_code, report.messages, report.deleted) == (3, 0, 0)
    chat.sandbox.views.clear()
    assert chat.sync().exit_code == 0
    chat.assert_equal_world()


def test_a_list_that_catches_up_step_by_step_never_closes_too_early(chat: Loader) -> None:
    for shown in range(0, MESSAGES, 10):

        def hide(world: World, loader: Loader, shown: int = shown) -> None:
            for message in world.messages_of(1)[shown:]:
                world.delete_message(message.id)

        chat.sandbox.views.clear()
        lag(chat, hide)
        assert chat.sync().exit_code == 3
        assert chat.query("SELECT count(*) FROM chat_messages") == [(shown,)]
        chat.world.advance(5 * HOUR_MS)
    chat.sandbox.views.clear()
    assert chat.sync().exit_code == 0
    chat.assert_equal_world()


@pytest.mark.parametrize("change", [emptied, one_short])
def test_a_lag_longer_than_is_believed_is_looked_at_again(
    chat: Loader, change: Callable[[World, Loader], None]
) -> None:
    lag(chat, change)
    assert chat.sync().exit_code == 3
    chat.world.advance(8 * HOUR_MS)
    assert chat.sync().exit_code == 0
    chat.sandbox.views.clear()
    chat.world.advance(DAY_MS)
    chat.sync()
    chat.assert_equal_world()
    chat.world.advance(7 * HOUR_MS)
    assert chat.sync().exit_code == 0
    # A lag just like it is not excused by the belief of then.
    chat.world.advance(7 * HOUR_MS)
    lag(chat, change)
    chat.world.add_message(1, "new", sent_at_ms=chat.world.now_ms - HOUR_MS)
    report = chat.sync()
    assert (report.exit_code, report.deleted) == (3, 0)


def test_a_deletion_of_which_the_counter_does_not_know_is_settled_after_hours(
    chat: Loader,
) -> None:
    chat.sync()
    chat.world.delete_message(chat.world.messages_of(1)[5].id)
    chat.world.delete_message(chat.world.messages_of(1)[-2].id)
    chat.world.add_message(1, "new", sent_at_ms=NOW_MS - 60_000)
    chat.world.chats[1].count_offset = 2
    assert (chat.sync().exit_code, deleted(chat)) == (3, [])
    chat.world.advance(7 * HOUR_MS)
    assert chat.sync().exit_code == 0
    assert len(deleted(chat)) == 2
    chat.assert_equal_world()


def test_a_deletion_between_listing_and_reading_is_settled(chat: Loader) -> None:
    chat.sync()
    chat.world.add_message(1, "new", sent_at_ms=NOW_MS - 60_000)
    gone = chat.world.messages_of(1)[-2].id

    def hook(exchange: Any) -> None:
        if exchange.route == "chat_messages" and gone in chat.world.messages:
            chat.world.delete_message(gone)

    chat.sandbox.hooks.append(hook)
    assert chat.sync().exit_code == 0
    assert deleted(chat) == [(gone,)]
    chat.sync()
    chat.assert_equal_world()


def test_a_chat_whose_own_record_cannot_be_had_is_judged_by_the_listing(chat: Loader) -> None:
    lag(chat, one_short)
    chat.sandbox.faults.append(lambda e: Fault(status=404) if e.route == "chat" else None)
    report = chat.sync()
    assert (report.exit_code, report.messages, report.chats_failed) == (3, MESSAGES - 1, ())
    chat.sandbox.views.clear()
    assert chat.sync().exit_code == 0
    chat.assert_equal_world()


@pytest.mark.parametrize("change", LAGS)
def test_one_stale_answer_among_right_ones_deletes_nothing(
    chat: Loader, change: Callable[[World, Loader], None]
) -> None:
    chat.sync()
    chat.world.add_message(1, "new", sent_at_ms=NOW_MS - 60_000)
    copy = chat.world.copy()
    change(copy, chat)
    seen = 0

    def view(exchange: Any) -> World | None:
        nonlocal seen
        seen += exchange.route == "chat_messages"
        return copy if seen == 1 and exchange.route == "chat_messages" else None

    chat.sandbox.views.append(view)
    chat.sync()
    assert deleted(chat) == []
    chat.sync()
    chat.assert_equal_world()


@pytest.mark.parametrize("change", [emptied, one_short])
def test_an_interval_read_while_the_list_lags_deletes_nothing(
    chat: Loader, change: Callable[[World, Loader], None]
) -> None:
    chat.sync()
    lag(chat, change)
    for interval in ({"start": "2020-01-01", "end": "2030-01-01"}, {"end": "9999-01-01"}):
        report = chat.sync(**interval)
        assert (report.exit_code, report.deleted) == (3, 0)
    assert deleted(chat) == []
    chat.sandbox.views.clear()
    chat.sync()
    chat.assert_equal_world()


@pytest.mark.parametrize("change", [emptied, one_short])
def test_a_chat_known_to_nobody_that_lags_over_rows_that_are_there(
    chat: Loader, change: Callable[[World, Loader], None]
) -> None:
    """History that now begins earlier is read from its beginning, over rows of before."""
    chat.sync(start="2025-01-01")
    gone = chat.world.messages_of(1)[2].id
    chat.world.delete_message(gone)
    lag(chat, change)
    report = chat.sync()
    assert (report.exit_code, deleted(chat)) == (3, [])
    chat.sandbox.views.clear()
    assert chat.sync().exit_code == 0
    assert deleted(chat) == [(gone,)]
    chat.assert_equal_world()


def test_another_division_into_shards_goes_on_with_what_was_seen(small: Loader) -> None:
    for number in range(MESSAGES):
        small.world.add_message(1, f"m{number}", sent_at_ms=NOW_MS - number * DAY_MS - HOUR_MS)
    small.sync_shards(2)
    small.world.add_message(1, "new", sent_at_ms=NOW_MS - 60_000)
    lag(small, emptied)
    assert max(report.exit_code for report in small.sync_shards(3)) == 3
    small.world.advance(HOUR_MS)
    assert max(report.exit_code for report in small.sync_shards(2)) == 3
    assert deleted(small) == []
    small.sandbox.views.clear()
    assert max(report.exit_code for report in small.sync_shards(1)) == 0
    small.assert_equal_world()


def lagging_listing(loader: Loader, *gone: int) -> None:
    """From now on the listing of chats lacks some that are there."""
    copy = loader.world.copy()
    for chat_id in gone:
        copy.remove_chat(chat_id)
    loader.sandbox.views.append(lagging(copy, "chats"))


@pytest.mark.parametrize("gone", [(2,), (1, 2, 3)], ids=["short", "empty"])
def test_a_listing_that_lags_marks_no_chat(chat: Loader, gone: tuple[int, ...]) -> None:
    for chat_id in (2, 3):
        chat.world.add_chat(display_name="Other", chat_id=chat_id)
        chat.world.add_message(chat_id, "hello", sent_at_ms=NOW_MS - 20 * DAY_MS)
    chat.sync()
    lagging_listing(chat, *gone)
    chat.world.add_message(2, "while the listing lags", sent_at_ms=NOW_MS - HOUR_MS)
    for messages in (1, 0):
        report = chat.sync()
        assert (report.exit_code, report.chats_unlisted, report.messages) == (
            3,
            len(gone),
            messages,
        )
    unlisted = chat.query("SELECT chats_unlisted FROM sync_runs ORDER BY synced_at")
    assert unlisted == [(0,), (len(gone),), (len(gone),)]
    assert chat.query("SELECT id FROM chats WHERE deleted_at IS NOT NULL") == []
    chat.sandbox.views.clear()
    chat.world.remove_chat(3)
    report = chat.sync()
    assert (report.exit_code, report.chats_unlisted) == (0, 0)
    assert chat.query("SELECT id FROM chats WHERE deleted_at IS NOT NULL") == [(3,)]
    chat.assert_equal_world()


def test_more_unlisted_chats_than_are_asked_for_in_a_run_wait_for_the_next(
    chat: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_ASKED", 2)
    for chat_id in range(2, 7):
        chat.world.add_chat(display_name="Other", chat_id=chat_id)
    chat.sync()
    for chat_id in range(2, 7):
        chat.world.remove_chat(chat_id)
    left = [chat.sync().chats_unlisted for _ in range(4)]
    assert left == [3, 1, 0, 0]
    chat.assert_equal_world()
