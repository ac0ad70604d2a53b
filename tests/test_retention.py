"""An API that forgets: expired messages stay, deletions are marked as such, gaps are reported."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from rich.console import Console

from linq_source.cli.output import print_audit, print_report
from linq_source.sandbox import World
from linq_source.sandbox.records import Message
from tests.conftest import DAY_MS, HOUR_MS, NOW_MS, Loader
from tests.destinations import KINDS, kinds
from tests.truth import Row

Seen = dict[int, str | None]


def forgetful_world(*, keeps_ms: int = DAY_MS, chats: int = 4) -> World:
    """A world of two lines with some chats each, one of which forgets."""
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001", keeps_ms=keeps_ms)
    world.add_phone_number("+15550000002")
    for number in (1, 2):
        for _ in range(chats):
            world.add_chat(phone_number_ids=[number])
    return world


class History:
    """What people do in a world, hour by hour; what was ever to be seen, and who deleted what."""

    def __init__(self, world: World, seed: int = 1) -> None:
        self.world = world
        self.random = Random(seed)
        self.texts: Seen = {}
        self.deleted: set[int] = set()

    def pass_hours(self, hours: int) -> None:
        """People write, edit, react and delete; at last a look at all that is there."""
        for _ in range(hours):
            self.world.advance(HOUR_MS)
            for chat_id in self.world.chats:
                for _ in range(self.random.randrange(3)):
                    sent_ms = self.world.now_ms - self.random.randrange(HOUR_MS)
                    self.world.add_message(chat_id, f"at {sent_ms}", sent_at_ms=sent_ms)
        for chat_id in self.world.chats:
            self._change(self.world.messages_of(chat_id))
        self.texts |= {message.id: message.text for message in self.world.messages.values()}

    def _change(self, messages: list[Message]) -> None:
        # The oldest of a line stays: it is what proves that a younger one was deleted.
        if len(messages) < 4:
            return
        message = self.random.choice(messages[2:])
        what = self.random.randrange(6)
        if what == 0 and message.id in self.texts:
            self.world.delete_message(message.id)
            self.deleted.add(message.id)
        elif what == 1:
            self.world.edit_message(message.id, f"edited at {self.world.now_ms}")
        elif what == 2:
            self.world.add_reaction(message.id)


def rows_of(loader: Loader, table: str) -> list[Row]:
    return loader._place.rows(table)


def assert_nothing_is_lost(loader: Loader, history: History) -> None:
    """Every message ever seen is there, as last seen; deleted ones are marked, and no others."""
    loader.assert_equal_world()
    rows = {row["id"]: row for row in rows_of(loader, "chat_messages")}
    assert {i: row["text"] for i, row in rows.items()} == history.texts
    assert {i for i, row in rows.items() if row["deleted_at"]} == history.deleted
    gone = history.texts.keys() - loader.world.messages.keys() - history.deleted
    assert {i for i, row in rows.items() if row["expired_at"]} == gone


@pytest.fixture(params=kinds(fast=["duckdb"]))
def forgetful(
    request: pytest.FixtureRequest, serve: Callable[[World], Loader], tmp_path: Path
) -> Iterator[Loader]:
    """A loader of a world that forgets, into each destination in turn."""
    loader = serve(forgetful_world())
    folder = tmp_path / "place"
    folder.mkdir()
    with KINDS[request.param](folder) as place:
        loader.place = place
        yield loader


def test_nothing_is_lost_when_the_api_forgets(forgetful: Loader) -> None:
    """Two days, run every eight hours."""
    history = History(forgetful.world)
    for _ in range(6):
        history.pass_hours(8)
        report = forgetful.sync()
        assert (report.exit_code, report.gaps) == (0, 0)
    assert_nothing_is_lost(forgetful, history)
    assert forgetful.audit().exit_code == 0
    # Nor does a machine that never loaded anything count what expired.
    shutil.rmtree(forgetful.folder / "pipelines")
    assert forgetful.audit().exit_code == 0
    assert not [row for row in rows_of(forgetful, "sync_windows") if row["event"] == "gap"]


@pytest.mark.deep
def test_nothing_is_lost_by_hourly_runs(
    serve: Callable[[World], Loader],
) -> None:
    loader = serve(forgetful_world())
    history = History(loader.world, seed=2)
    for _ in range(2 * 24):
        history.pass_hours(1)
        report = loader.sync()
        assert (report.exit_code, report.gaps) == (0, 0)
    assert_nothing_is_lost(loader, history)


def test_run_too_seldom_it_reports_gaps(serve: Callable[[World], Loader]) -> None:
    loader = serve(forgetful_world())
    history = History(loader.world)
    history.pass_hours(30)
    assert loader.sync().gaps == 0
    for _ in range(3):
        before_ms = loader.world.now_ms
        history.pass_hours(30)
        report = loader.sync()
        assert (report.exit_code, report.gaps) == (3, 4)
        newest = loader.query("SELECT max(synced_at) FROM sync_windows")[0][0]
        found = loader.query(
            "SELECT chat_id, epoch_ms(window_start), epoch_ms(window_end), verified"
            f" FROM sync_windows WHERE event = 'gap' AND synced_at = '{newest}' ORDER BY 1"
        )
        listed = [
            min(m.sent_at_ms for m in loader.world.messages_of(chat_id)) for chat_id in (1, 2, 3, 4)
        ]
        assert found == [(i, before_ms, min(listed), False) for i in (1, 2, 3, 4)]
    loader.assert_equal_world()
    audit = loader.audit()
    assert (len(audit.gaps), audit.differences, audit.exit_code) == (12, (), 3)
    assert [kept.line for kept in audit.kept] == ["...0001", "...0002"]
    oldest = min(m.sent_at_ms for m in loader.world.messages.values() if m.chat_id < 5)
    assert audit.kept[0].age_s == pytest.approx((loader.world.now_ms - oldest) / 1000, abs=1)
    assert audit.kept[0] == report.kept[0]


def test_a_gap_is_repeated_for_a_week(
    serve: Callable[[World], Loader], monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = serve(forgetful_world())
    history = History(loader.world)
    for _ in range(2):
        history.pass_hours(30)
        loader.sync()
    assert loader.sync().exit_code == 0
    assert (len(loader.audit().gaps), loader.audit().exit_code) == (4, 3)
    shutil.rmtree(loader.folder / "pipelines")
    assert (len(loader.audit().gaps), loader.audit().exit_code) == (4, 3)
    monkeypatch.setattr("linq_source.operations.audit.GAPS_REPEATED", timedelta(0))
    assert (loader.audit().gaps, loader.audit().exit_code) == ((), 0)


def test_the_commands_say_how_often_to_run(
    serve: Callable[[World], Loader], capsys: pytest.CaptureFixture[str]
) -> None:
    loader = serve(forgetful_world(chats=1))
    history = History(loader.world)
    for _ in range(2):
        history.pass_hours(30)
        report = loader.sync()
    print_report(Console(width=200), report)
    printed = capsys.readouterr().out
    assert "1 chats (see sync_windows)" in printed
    assert (
        "line ...0001: oldest message listed is 23 hours old; run at least every 11 hours"
        in printed
    )
    print_audit(Console(width=200), loader.audit())
    printed = capsys.readouterr().out
    assert (
        "line ...0001: oldest message listed is 23 hours old; run at least every 11 hours"
        in printed
    )
    assert "gap: chat 1: what was sent from" in printed


def test_a_quiet_line_has_no_gap(serve: Callable[[World], Loader]) -> None:
    """Three messages in three days, run often: nothing can have been missed."""
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001", keeps_ms=DAY_MS)
    world.add_chat()
    loader = serve(world)
    for hour in range(0, 72, 9):
        if hour in (0, 27, 36):
            world.add_message(1)
        report = loader.sync()
        assert (report.exit_code, report.gaps, report.deleted) == (0, 0, 0)
        world.advance(9 * HOUR_MS)
    expired = loader.query(
        "SELECT count(*), count(expired_at), count(deleted_at) FROM chat_messages"
    )
    assert expired == [(3, 3, 0)]


def marks(loader: Loader) -> list[tuple[int, str | None]]:
    """What each message is marked as."""
    return loader.query(
        "SELECT id, CASE WHEN deleted_at IS NOT NULL THEN 'deleted'"
        " WHEN expired_at IS NOT NULL THEN 'expired' END FROM chat_messages ORDER BY id"
    )


@pytest.fixture
def two(serve: Callable[[World], Loader]) -> Loader:
    """One line with two chats: old messages in the first, three of today in the second."""
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001")
    for chat_id in (1, 2):
        world.add_chat(chat_id=chat_id)
    for days in (40, 30):
        world.add_message(1, sent_at_ms=NOW_MS - days * DAY_MS)
    for hours in (5, 4, 3):
        world.add_message(2, sent_at_ms=NOW_MS - hours * HOUR_MS)
    loader = serve(world)
    loader.sync()
    return loader


def test_the_oldest_of_a_chat_was_deleted_if_its_line_keeps_older_ones(two: Loader) -> None:
    two.world.delete_message(3)
    requests = two.requests_of(two.sync)
    assert marks(two) == [(1, None), (2, None), (3, "deleted"), (4, None), (5, None)]
    # The chat of that line with the oldest messages is asked for its oldest one.
    asked = [params for route, params in requests if route == "chat_messages"]
    assert asked[-1] == {"page": "1", "per_page": "100", "sort": "asc"}
    kept = two.query(
        "SELECT epoch_ms(kept_since) FROM sync_windows ORDER BY synced_at DESC LIMIT 1"
    )
    assert kept == [(NOW_MS - 40 * DAY_MS,)]


def test_it_expired_if_nothing_older_is_listed(two: Loader) -> None:
    two.world.delete_message(1)
    two.world.delete_message(2)
    two.world.delete_message(3)
    report = two.sync()
    assert (report.deleted, report.expired) == (0, 3)
    assert marks(two) == [(1, "expired"), (2, "expired"), (3, "expired"), (4, None), (5, None)]
    assert two.audit().exit_code == 0


def test_another_line_proves_nothing(two: Loader) -> None:
    two.world.add_phone_number("+15550000002")
    two.world.add_chat(chat_id=3, phone_number_ids=[2])
    two.world.add_message(3, sent_at_ms=NOW_MS - DAY_MS)
    two.world.add_message(3, sent_at_ms=NOW_MS - HOUR_MS)
    two.sync()
    two.world.delete_message(6)
    two.sync()
    assert marks(two)[5] == (6, "expired")
    columns = "chat_id, phone_number_id, phone_number"
    assert two.query(f"SELECT {columns} FROM chats__phone_numbers ORDER BY 1") == [
        (1, 1, "+15550000001"), (2, 1, "+15550000001"), (3, 2, "+15550000002"),
    ]  # fmt: skip


def test_a_line_proves_nothing_of_a_chat_that_another_line_sees_too(two: Loader) -> None:
    two.world.add_phone_number("+15550000002")
    two.world.chats[2].phone_number_ids.append(2)
    two.sync()
    assert two.query("SELECT phone_number_id FROM chats__phone_numbers WHERE chat_id = 2") == [
        (1,), (2,),
    ]  # fmt: skip
    two.world.delete_message(3)
    two.sync()
    assert marks(two)[2] == (3, "expired")
    two.world.chats[2].phone_number_ids.remove(1)
    two.sync()
    two.assert_equal_world()


@pytest.mark.parametrize("alone", [False, True])
def test_a_message_that_arrived_late_is_no_proof(
    serve: Callable[[World], Loader], alone: bool
) -> None:
    """The API keeps a message for a day from its arrival, whenever it was sent."""
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001")
    for chat_id in (1, 2):
        world.add_chat(chat_id=chat_id)
        for hour in [24] if alone and chat_id == 1 else range(24, 0, -1):
            world.add_message(chat_id, sent_at_ms=NOW_MS - hour * HOUR_MS)
    loader = serve(world)
    assert loader.sync().exit_code == 0
    for hour in range(4):
        for message in list(world.messages.values()):
            if message.sent_at_ms < world.now_ms - DAY_MS and message.text != "late":
                world.delete_message(message.id)
        if hour == 1:
            world.add_message(1, "late", sent_at_ms=NOW_MS - 3 * DAY_MS)
        loader.sync()
        loader.assert_equal_world()
        assert "deleted" not in {mark for _, mark in marks(loader)}
        world.advance(HOUR_MS)


def test_what_expired_and_is_listed_again_is_live_again(two: Loader) -> None:
    before = two.world.copy()
    for message_id in (1, 2, 3):
        two.world.delete_message(message_id)
    two.sync()
    assert marks(two)[2] == (3, "expired")
    for message_id in (1, 2, 3):
        was = before.messages[message_id]
        two.world.add_message(
            was.chat_id, was.text, sent_at_ms=was.sent_at_ms, message_id=message_id
        )
    two.sync()
    two.assert_equal_world()
    assert {mark for _, mark in marks(two)} == {None}


def test_with_retention_forever_all_that_is_gone_was_deleted(two: Loader) -> None:
    two.world.delete_message(1)
    two.world.delete_message(3)
    report = two.sync(retention="forever")
    assert (report.deleted, report.expired) == (2, 0)
    kept = two.query("SELECT DISTINCT year(kept_since) FROM sync_windows WHERE verified")
    assert (1,) in kept


def test_a_chat_that_vanished_was_deleted_if_the_lines_keep_older_messages(two: Loader) -> None:
    two.world.remove_chat(2)
    two.sync()
    chats = "SELECT id, deleted_at IS NOT NULL, expired_at IS NOT NULL FROM chats ORDER BY 1"
    assert two.query(chats) == [(1, False, False), (2, True, False)]
    two.world.add_chat(chat_id=2)
    two.world.add_message(2, sent_at_ms=NOW_MS - 50 * DAY_MS, message_id=9)
    two.sync()
    two.world.remove_chat(2)
    two.sync()
    assert two.query(chats) == [(1, False, False), (2, False, True)]
    rows = two.query("SELECT event, kept_since IS NULL FROM sync_windows WHERE event = 'vanished'")
    assert sorted(rows) == [("vanished", False), ("vanished", True)]


def test_an_idle_run_asks_no_more_where_the_api_forgets(serve: Callable[[World], Loader]) -> None:
    """Chats whose messages have all expired, and have left the lookback, are not asked for."""
    loader = serve(forgetful_world())
    History(loader.world).pass_hours(20)
    loader.sync()
    for days in (2, 8):
        loader.world.advance(days * DAY_MS)
        loader.sync(retention="auto")
    requests = loader.requests_of(loader.sync)
    assert [route for route, _ in requests] == ["phone_numbers", "chats", "chats"]


@pytest.fixture
def month(serve: Callable[[World], Loader]) -> Loader:
    """A line that keeps thirty days: two chats with ten messages a day."""
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001", keeps_ms=30 * DAY_MS)
    for chat_id in (1, 2):
        world.add_chat(chat_id=chat_id)
        for tenth in range(299, 0, -1):
            world.add_message(chat_id, sent_at_ms=NOW_MS - tenth * DAY_MS // 10)
    loader = serve(world)
    assert loader.sync().messages == 598
    return loader


def test_expiry_alone_reads_no_chat_again(month: Loader) -> None:
    """Once the oldest message before the lookback is known, small requests show that it went."""
    world = month.world
    for hours in (3, 3, 24):
        world.advance(hours * HOUR_MS)
        month.sandbox.requests_log.clear()
        report = month.sync(recheck_share=0.0)
        asked = [r.params["page"] for r in month.sandbox.requests_log if r.route == "chat_messages"]
        # Of each chat: the lookback, the count, the oldest message, what lies before that.
        assert asked == ["1"] * 8
        assert (report.messages, report.deleted, report.exit_code) == (0, 0, 0)
        assert report.expired == 2 * (hours * 10 // 24)
        month.assert_equal_world()
        assert month.audit().exit_code == 0


def test_what_was_deleted_while_others_expired_is_found_by_a_check(month: Loader) -> None:
    month.world.advance(3 * HOUR_MS)
    month.world.delete_message(150)
    report = month.sync(recheck_share=0.0)
    assert (report.deleted, report.expired) == (0, 2)
    assert [difference.chat_id for difference in month.audit().differences] == [1]
    month.world.advance(15 * DAY_MS)
    month.sync(recheck_share=1.0)
    month.assert_equal_world()


def test_a_deletion_alone_is_found_at_once_though_the_api_forgets(month: Loader) -> None:
    month.world.delete_message(150)
    assert month.sync().deleted == 1
    month.assert_equal_world()
