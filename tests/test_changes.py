"""What changes upstream is settled by the next run, and nothing else is written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from linq_source.planning.chat_cursors import Cursor, decode
from linq_source.sandbox import Fault, World
from tests.conftest import DAY_MS, HOUR_MS, NOW_MS, Loader


def add_days(world: World, chat_id: int, days: int, per_day: int = 10) -> None:
    """Messages of the past days, none of them today."""
    for day in range(days, 0, -1):
        for number in range(per_day):
            world.add_message(
                chat_id, f"{day}-{number}", sent_at_ms=NOW_MS - day * DAY_MS + number * 60_000
            )


@pytest.fixture
def week(small: Loader) -> Loader:
    """One chat with ten messages a day for twenty days, loaded once."""
    add_days(small.world, 1, 20)
    small.sync()
    small.assert_equal_world()
    return small


def newest(loader: Loader, back: int = 0) -> Any:
    return loader.world.messages_of(1)[-1 - back]


def test_edits_statuses_and_flags_inside_the_lookback(week: Loader) -> None:
    week.world.edit_message(newest(week, 3).id, "changed")
    week.world.set_delivery(newest(week, 15).id, "service_unavailable")
    week.world.mark_read(newest(week, 30).id)
    report = week.sync()
    week.assert_equal_world()
    assert (report.messages, report.windows) == (30, 3)


def test_reactions_and_attachments_come_and_go_down_to_none(week: Loader) -> None:
    message = newest(week, 5)
    reaction = week.world.add_reaction(message.id, "love", from_phone="+15559990001")
    week.world.add_reaction(message.id, "laugh", from_phone="+15559990002")
    week.world.add_attachment(message.id, filename="a.pdf", mime_type="a/b", file_size=3)
    week.sync()
    week.assert_equal_world()
    week.world.remove_reaction(message.id, reaction.id)
    week.sync()
    week.assert_equal_world()
    for rest in list(message.reactions):
        week.world.remove_reaction(message.id, rest.id)
    message.attachments.clear()
    week.sync()
    week.assert_equal_world()
    assert week.query("SELECT count(*) FROM chat_messages__reactions") == [(0,)]
    assert week.query("SELECT count(*) FROM chat_messages__attachments") == [(0,)]


def test_signed_links_that_change_at_every_answer_change_nothing(week: Loader) -> None:
    message = newest(week)
    attachment = week.world.add_attachment(
        message.id, filename="a", mime_type="a/b", file_size=1, url="https://x/a?sig=1"
    )
    week.sync()
    attachment.url = "https://x/a?sig=2"
    assert week.sync().messages == 0
    attachment.url = "https://x/b?sig=2"
    assert week.sync().messages == 10


def test_a_message_that_arrives_late_inside_the_lookback(week: Loader) -> None:
    week.world.add_message(1, "late", sent_at_ms=NOW_MS - 4 * DAY_MS + 1)
    report = week.sync()
    week.assert_equal_world()
    assert report.messages == 11


def test_an_unchanged_lookback_loads_not_one_message(week: Loader) -> None:
    for _ in range(2):
        report = week.sync()
        assert (report.messages, report.windows, report.windows_unchanged) == (0, 0, 8)
    assert week.query("SELECT count(*) FROM sync_windows") == [(1,)]
    assert week.query("SELECT messages FROM sync_runs ORDER BY synced_at") == [
        (200,), (0,), (0,),
    ]  # fmt: skip


def test_one_edit_loads_the_messages_of_its_day_and_no_more(week: Loader) -> None:
    week.world.edit_message(newest(week, 25).id, "changed")
    report = week.sync()
    assert (report.messages, report.windows, report.requests) == (10, 1, 3)
    rows = week.query(
        "SELECT window_start::VARCHAR, window_end - window_start, messages, total_count, verified "
        "FROM sync_windows ORDER BY synced_at DESC LIMIT 1"
    )
    assert [row[2:] for row in rows] == [(10, 10, True)]
    assert str(rows[0][1]) == "1 day, 0:00:00"
    assert rows[0][0].endswith("00:00:00+00")


def test_a_whole_day_deleted_is_noticed(week: Loader) -> None:
    for message in week.world.messages_of(1)[-20:-10]:
        week.world.delete_message(message.id)
    report = week.sync()
    week.assert_equal_world()
    assert (report.messages, report.deleted, report.windows) == (0, 10, 1)


def test_a_message_that_reappears_is_live_again(week: Loader) -> None:
    message = newest(week, 2)
    week.world.delete_message(message.id)
    assert week.sync().deleted == 1
    deleted = week.query("SELECT id FROM chat_messages WHERE deleted_at IS NOT NULL")
    assert deleted == [(message.id,)]
    week.world.add_message(1, message.text, sent_at_ms=message.sent_at_ms, message_id=message.id)
    assert week.sync().deleted == 0
    week.assert_equal_world()
    assert week.query("SELECT count(*) FROM chat_messages WHERE deleted_at IS NOT NULL") == [(0,)]


def test_deleted_at_is_the_instant_of_the_window_that_proved_it(week: Loader) -> None:
    week.world.delete_message(newest(week).id)
    week.sync()
    assert week.query(
        "SELECT m.deleted_at = w.synced_at FROM chat_messages m, "
        "(SELECT max(synced_at) AS synced_at FROM sync_windows) w WHERE m.deleted_at IS NOT NULL"
    ) == [(True,)]


def test_older_edits_are_settled_by_an_explicit_interval(week: Loader) -> None:
    old = week.world.messages_of(1)[4]
    week.world.edit_message(old.id, "changed long after")
    week.sync()
    with pytest.raises(AssertionError):
        week.assert_equal_world()
    before = cursor_of(week)
    report = week.sync(start="1970-01-01", end="2100-01-01")
    week.assert_equal_world()
    assert report.messages == 200
    after = cursor_of(week)
    # What lies before the lookback was loaded by somebody who keeps no cursor.
    before = replace(before, history=None)
    assert replace(after, days={}) == replace(before, days={})
    assert week.sync().messages == 80
    assert cursor_of(week) == before
    assert week.sync().messages == 0


def cursor_of(loader: Loader) -> Cursor:
    state = loader.pipeline.state["sources"]["linq"]["resources"]["chat_messages"]
    return decode(state["cursors"]["1"])


def test_what_an_interval_loaded_is_compared_again_by_the_next_run(week: Loader) -> None:
    message = newest(week, 12)
    reaction = week.world.add_reaction(message.id, "love", from_phone="+15559990001")
    week.sync(start="1970-01-01", end="2100-01-01")
    week.assert_equal_world()
    week.world.remove_reaction(message.id, reaction.id)
    week.sync()
    week.assert_equal_world()


def test_older_edits_are_settled_by_a_larger_lookback(week: Loader) -> None:
    old = week.world.messages_of(1)[4]
    week.world.edit_message(old.id, "changed long after")
    week.sync(lookback_days=30)
    week.assert_equal_world()
    assert week.sync(lookback_days=30).messages == 0
    assert week.sync(lookback_days=2).messages == 0
    assert week.sync(lookback_days=2).messages == 0
    week.assert_equal_world()


def test_a_chat_added_later_starts_at_its_own_beginning(week: Loader) -> None:
    week.world.add_chat(display_name="Two", chat_id=2)
    add_days(week.world, 2, 40, per_day=3)
    report = week.sync()
    week.assert_equal_world()
    assert report.messages == 120


def test_start_is_where_history_begins(small: Loader) -> None:
    add_days(small.world, 1, 20)
    start_ms = NOW_MS - 10 * DAY_MS
    small.sync(start="2026-02-06T12:00:00Z")
    expected = [m.id for m in small.world.messages_of(1) if m.sent_at_ms >= start_ms]
    assert len(expected) == 100
    assert small.query("SELECT id FROM chat_messages ORDER BY id") == [(i,) for i in expected]
    second = small.requests_of(lambda: small.sync(start="2026-02-06T12:00:00Z"))
    assert len([route for route, _ in second if route == "chat_messages"]) == 1
    small.sync()
    small.assert_equal_world()


def test_a_chat_that_vanished_is_marked_and_live_again_when_it_returns(week: Loader) -> None:
    week.world.add_chat(display_name="Two", chat_id=2)
    week.world.add_message(2, "hello")
    week.sync()
    week.world.remove_chat(2)
    week.sync()
    assert week.query("SELECT id FROM chats WHERE deleted_at IS NOT NULL") == [(2,)]
    week.assert_equal_world()
    week.sync()
    week.world.add_chat(display_name="Two", chat_id=2)
    week.world.add_message(2, "hello again")
    week.sync()
    assert week.query("SELECT id FROM chats WHERE deleted_at IS NOT NULL") == []


def test_a_chat_that_vanished_while_only_messages_were_read_is_live_again(week: Loader) -> None:
    week.world.add_chat(display_name="Two", chat_id=2)
    week.world.add_message(2, "hello")
    week.sync()
    week.world.remove_chat(2)
    pipeline = week.pipeline
    pipeline.run(week.source().with_resources("chat_messages"))
    week.settle()
    assert week.query("SELECT id FROM chats WHERE deleted_at IS NOT NULL") == [(2,)]
    week.world.add_chat(display_name="Two", chat_id=2)
    week.world.add_message(2, "hello again")
    week.sync()
    assert week.query("SELECT id FROM chats WHERE deleted_at IS NOT NULL") == []


def test_participants_who_left_leave(week: Loader) -> None:
    handle = week.world.add_handle(1, "+15557770001")
    week.world.add_handle(1, "+15557770002")
    week.sync()
    week.assert_equal_world()
    week.world.remove_handle(1, handle.id)
    week.sync()
    week.assert_equal_world()
    for rest in list(week.world.chats[1].handles):
        week.world.remove_handle(1, rest.id)
    week.sync()
    week.assert_equal_world()
    assert week.query("SELECT count(*) FROM chats__chat_handles") == [(0,)]


def test_a_clock_that_goes_back_hides_nothing_and_synced_at_still_grows(week: Loader) -> None:
    week.world.now_ms -= 3 * DAY_MS
    week.world.edit_message(newest(week).id, "changed")
    week.sync()
    week.assert_equal_world()
    week.world.now_ms += 3 * DAY_MS + HOUR_MS
    week.world.add_message(1, "after", sent_at_ms=NOW_MS + 60_000)
    week.sync()
    week.assert_equal_world()
    runs = week.query("SELECT synced_at FROM sync_runs")
    assert runs == sorted(set(runs))


def test_settling_again_changes_nothing(week: Loader) -> None:
    week.world.delete_message(newest(week).id)
    week.sync()
    rows = week.query("SELECT * FROM chat_messages ORDER BY id")
    pipeline = week.pipeline
    pipeline.set_local_state_val("linq_settled_us", 0)
    assert week.settle() == 0
    assert week.query("SELECT * FROM chat_messages ORDER BY id") == rows


def test_an_edit_after_the_last_read_of_a_chat_that_fell_silent(week: Loader) -> None:
    week.world.advance(5 * DAY_MS)
    week.world.edit_message(newest(week).id, "changed while inside the lookback")
    week.world.advance(4 * DAY_MS)
    week.sync()
    week.assert_equal_world()
    requests = week.requests_of(week.sync)
    assert [route for route, _ in requests] == ["phone_numbers", "chats"]


def test_a_message_seen_only_in_an_unverified_read_does_not_stay(week: Loader) -> None:
    passing = None

    def hook(exchange: Any) -> None:
        nonlocal passing
        if exchange.route == "chat_messages":
            passing = week.world.add_message(1, "passing", sent_at_ms=NOW_MS - 3 * DAY_MS)

    week.sandbox.hooks.append(hook)
    assert week.sync(page_size=9).windows_unverified == 1
    week.sandbox.hooks.clear()
    for message in [m for m in week.world.messages_of(1) if m.text == "passing"]:
        week.world.delete_message(message.id)
    week.sync()
    week.assert_equal_world()


def test_a_chat_that_failed_before_its_first_read_and_vanished_is_marked(week: Loader) -> None:
    week.world.add_chat(display_name="Two", chat_id=2)
    week.sandbox.faults.append(
        lambda exchange: Fault(status=404) if "/chats/2/" in exchange.path else None
    )
    assert [failure.chat_id for failure in week.sync().chats_failed] == [2]
    week.sandbox.faults.clear()
    week.world.remove_chat(2)
    week.sync()
    assert week.query("SELECT id FROM chats WHERE expired_at IS NOT NULL") == [(2,)]
