"""API v3 into tables: the same promises as of v2, over lists without counts, filters or order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from linq_source import ConfigurationError
from linq_source.errors import AuthenticationError
from linq_source.sandbox import Exchange, Fault, World, grow, seeded_world
from linq_source.sandbox.answers_v3 import answer_to
from linq_source.sandbox.rendering_v3 import number_of, uuid_of
from tests.conftest import DAY_MS, HOUR_MS, NOW_MS, Loader
from tests.test_retention import History, forgetful_world
from tests.truth import assert_equal_rows
from tests.truth_v3 import tables_of, with_json

DATA = Path(__file__).parent / "data"
Serve = Callable[[World], Loader]


@pytest.fixture
def seeded(serve_v3: Serve) -> Loader:
    return serve_v3(seeded_world(chats=12, messages=600))


@pytest.fixture
def small(serve_v3: Serve) -> Loader:
    """One line, two chats: one of 30 messages a day, one of a few."""
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001")
    for _ in range(2):
        world.add_chat()
    for number in range(300):
        world.add_message(1, f"text {number}", sent_at_ms=NOW_MS - HOUR_MS - number * 48 * 60_000)
    for number in range(5):
        world.add_message(2, f"few {number}", sent_at_ms=NOW_MS - HOUR_MS - number * DAY_MS)
    return serve_v3(world)


@pytest.mark.parametrize("cursors", ["keyset", "offset"])
@pytest.mark.parametrize("newest_first", [True, False])
def test_the_tables_equal_the_world_whatever_the_list_is_like(
    seeded: Loader, cursors: Any, newest_first: bool
) -> None:
    seeded.sandbox.cursors, seeded.sandbox.newest_first = cursors, newest_first
    report = seeded.sync(page_size=20)
    assert (report.exit_code, report.rejected, report.windows_unverified) == (0, 0, 0)
    seeded.assert_equal_world()
    again = seeded.sync(page_size=20)
    assert (again.exit_code, again.messages, again.windows) == (0, 0, 0)
    changes = grow(seeded.world)
    assert seeded.sync(page_size=20).deleted == changes.deleted_messages == 1
    seeded.assert_equal_world()
    # Nothing else is asked for: `migrate_to_v3` is a GET that writes.
    asked = {(record.method, record.route) for record in seeded.sandbox.requests_log}
    assert asked == {("GET", route) for route in ("phone_numbers", "chats", "chat_messages")}


def test_the_documented_examples_arrive_value_by_value(serve_v3: Serve) -> None:
    """Chats, messages, parts and reactions as the vendor documents them."""
    lines, chats, messages = (
        json.loads((DATA / f"v3_{name}_example.json").read_text())[name]
        for name in ("phone_numbers", "chats", "messages")
    )
    chats = [chat for chat in chats if chat["id"] == messages[0]["chat_id"]]
    loader = serve_v3(World(now_ms=NOW_MS))
    bodies = {
        "phone_numbers": {"phone_numbers": lines},
        "chats": {"chats": chats, "next_cursor": None},
        "chat_messages": {"messages": messages},
    }

    def answer(exchange: Exchange) -> Fault | None:
        return Fault(status=200, body=json.dumps(bodies[exchange.route]).encode())

    loader.sandbox.faults.append(answer)
    loader.world.now_ms = 1_791_108_000_000 + DAY_MS
    report = loader.sync()
    assert (report.exit_code, report.rejected) == (0, 0)
    expected = tables_of(lines, [(chat, []) for chat in chats], messages)
    del expected["chats__phone_numbers"]
    loaded = loader.live_tables()
    name = "chat_messages__parts"
    assert_equal_rows(loaded | {name: with_json(loaded[name])}, expected)


def test_changes_inside_the_lookback_arrive_and_cost_few_requests(small: Loader) -> None:
    small.sync()
    world = small.world
    old = [m.id for m in world.messages_of(1)]
    world.edit_message(old[-1], "edited")
    world.add_reaction(old[-2], "love", from_phone="+15550000009")
    world.delete_message(old[-3])
    world.add_message(1, "new", sent_at_ms=NOW_MS - 60_000)
    world.advance(HOUR_MS)
    requests = small.requests_of(lambda: small.sync(page_size=50))
    small.assert_equal_world()
    gone = small.query("SELECT id FROM chat_messages WHERE deleted_at IS NOT NULL")
    assert gone == [(uuid_of("message", old[-3]),)]
    # Nine days of 30 a day, fifty on a page; one was lacking, so another walk; the heads again.
    of_messages = [params for route, params in requests if route == "chat_messages"]
    assert len(of_messages) <= 2 * (6 + 1) + 1


def test_quiet_chats_are_left_alone(small: Loader) -> None:
    small.sync()
    small.world.advance(9 * DAY_MS)
    small.sync()
    requests = small.requests_of(lambda: small.sync(recheck_share=0.0))
    assert [route for route, _ in requests] == ["phone_numbers", "chats"]


def test_old_changes_are_found_when_all_is_read_again(small: Loader) -> None:
    small.sync()
    small.world.advance(20 * DAY_MS)
    for message in small.world.messages_of(1)[:3]:
        small.world.edit_message(message.id, "edited long after")
    small.world.delete_message(small.world.messages_of(1)[10].id)
    report = small.sync(recheck_days=1, recheck_share=1.0)
    assert (report.exit_code, report.deleted) == (0, 1)
    small.assert_equal_world()


@pytest.mark.long
def test_what_the_api_forgets_stays(small: Loader) -> None:
    small.sync()
    ids = set(small.world.messages)
    for line in small.world.phone_numbers.values():
        line.keeps_ms = DAY_MS
    small.world.advance(2 * HOUR_MS)
    report = small.sync()
    assert report.exit_code == 0, report
    assert report.deleted == 0
    assert report.expired == len(ids - small.world.messages.keys())
    assert small.query("SELECT count(*) FROM chat_messages") == [(len(ids),)]
    small.assert_equal_world()


def test_a_recovered_message_is_found_and_proves_nothing_of_what_is_kept(small: Loader) -> None:
    for line in small.world.phone_numbers.values():
        line.keeps_ms = 2 * DAY_MS
    small.world.forget_expired()
    small.sync()
    recovered = small.world.add_message(1, "recovered", sent_at_ms=NOW_MS - 40 * HOUR_MS)
    recovered.extra["reconciled_at"] = "2026-02-16T12:30:00Z"
    recovered.extra["created_at"] = "2026-01-01T00:00:00Z"
    small.world.advance(HOUR_MS)
    report = small.sync()
    assert (report.exit_code, report.deleted) == (0, 0)
    rows = small.query("SELECT text FROM chat_messages WHERE reconciled_at IS NOT NULL")
    assert rows == [("recovered",)]


def test_one_version_is_not_loaded_into_the_dataset_of_the_other(small: Loader) -> None:
    small.sync()
    small.api = "v2"
    with pytest.raises(ConfigurationError, match="API v3"):
        small.sync()
    small.name = "another_pipeline"
    with pytest.raises(ConfigurationError, match="API v3"):
        small.sync()
    small.api = "v3"
    small.assert_equal_world()


def test_a_token_of_v2_is_refused_in_one_line(small: Loader) -> None:
    with pytest.raises(AuthenticationError) as caught:
        small.sync(api_token="of another version")
    assert "(401, code 2004, trace_id" in str(caught.value)
    assert "API v3" in str(caught.value)


@pytest.mark.parametrize("status", [400, 410])
def test_a_cursor_refused_in_mid_walk_has_the_chat_walked_again(small: Loader, status: int) -> None:
    refused = iter([True])

    def fault(exchange: Exchange) -> Fault | None:
        if exchange.route == "chat_messages" and "cursor" in exchange.params:
            return Fault(status=status) if next(refused, False) else None
        return None

    small.sandbox.faults.append(fault)
    assert small.sync(page_size=20).exit_code == 0
    small.assert_equal_world()


def endless(of_cursor: Callable[[int], str]) -> Callable[[Exchange], Fault | None]:
    """Pages of chat 1 that never end."""
    numbers: Iterator[int] = iter(range(10**6))

    def fault(exchange: Exchange) -> Fault | None:
        if exchange.route != "chat_messages" or exchange.chat_id != 1:
            return None
        body = {"messages": [], "next_cursor": of_cursor(next(numbers))}
        return Fault(status=200, body=json.dumps(body).encode())

    return fault


@pytest.mark.parametrize("of_cursor", [lambda n: "same", lambda n: f"c{n}"], ids=["same", "new"])
def test_pages_without_end_concern_one_chat(small: Loader, of_cursor: Callable[[int], str]) -> None:
    small.sync()
    before = small.live_tables()
    small.world.advance(HOUR_MS)
    small.sandbox.faults.append(endless(of_cursor))
    report = small.sync()
    assert (report.exit_code, report.windows_unverified, report.deleted) == (3, 1, 0)
    assert small.live_tables() == before
    small.sandbox.faults.clear()
    assert small.sync().exit_code == 0
    small.assert_equal_world()


@pytest.mark.parametrize("status", [403, 409])
def test_a_chat_that_a_line_left_holds_back_nobody(small: Loader, status: int) -> None:
    def fault(exchange: Exchange) -> Fault | None:
        return Fault(status=status) if exchange.chat_id == 1 else None

    small.sandbox.faults.append(fault)
    report = small.sync()
    assert report.exit_code == 3
    failed: list[object] = [failure.chat_id for failure in report.chats_failed]
    assert failed == [uuid_of("chat", 1)]
    assert small.query("SELECT count(*) FROM chat_messages") == [(5,)]


def test_ids_that_are_no_uuids_are_rejected_whole(small: Loader) -> None:
    message = small.world.messages_of(2)[0]
    message.extra["id"] = "msg_1"
    report = small.sync()
    assert (report.exit_code, report.rejected) == (3, 1)
    ((chat_id, payload),) = small.query("SELECT chat_id, payload FROM rejected_records")
    assert (chat_id, json.loads(payload)["id"]) == (uuid_of("chat", 2), "msg_1")
    assert small.query("SELECT count(*) FROM chat_messages") == [(304,)]


def test_an_idle_run_writes_no_state(seeded: Loader) -> None:
    seeded.sync()
    before = seeded.query("SELECT count(*) FROM _dlt_pipeline_state")
    for _ in range(2):
        seeded.sync()
    assert seeded.query("SELECT count(*) FROM _dlt_pipeline_state") == before


def test_audit_reads_the_lists_and_finds_what_differs(small: Loader) -> None:
    small.sync()
    assert small.audit().exit_code == 0
    small.world.advance(20 * DAY_MS)
    small.world.delete_message(small.world.messages_of(1)[5].id)
    report = small.audit()
    assert report.exit_code == 3
    ((chat_id, rows, count),) = [
        (d.chat_id, d.live_rows, d.message_count) for d in report.differences
    ]
    assert (str(chat_id), rows, count) == (uuid_of("chat", 1), 300, 299)
    assert small.audit(deep=True).differences == ()
    small.assert_equal_world()


@pytest.mark.long
def test_shards_together_equal_the_world(seeded: Loader) -> None:
    reports = seeded.sync_shards(3)
    assert all(report.exit_code == 0 and 0 < report.chats < 12 for report in reports)
    seeded.assert_equal_world()
    grow(seeded.world)
    # Another count of shards goes on where the others were.
    reports = seeded.sync_shards(2)
    assert sum(report.messages for report in reports) < 600
    seeded.assert_equal_world()


@pytest.mark.long
def test_plain_pipeline_run_and_settle_give_the_same_tables(seeded: Loader) -> None:
    seeded.pipeline.run(seeded.source())
    seeded.settle()
    seeded.assert_equal_world()
    grow(seeded.world)
    seeded.pipeline.run(seeded.source())
    seeded.settle()
    seeded.assert_equal_world()
    of_v2 = seeded.source(api="v2")
    with pytest.raises(PipelineStepFailed, match="holds data of API v3"):
        seeded.pipeline.run(of_v2)


def test_an_interval_is_read_as_it_is(small: Loader) -> None:
    start_ms, end_ms = NOW_MS - 3 * DAY_MS, NOW_MS - DAY_MS
    instants = [datetime.fromtimestamp(ms / 1000, UTC) for ms in (start_ms, end_ms)]
    report = small.sync(start=instants[0], end=instants[1])
    expected = [m for m in small.world.messages.values() if start_ms <= m.sent_at_ms < end_ms]
    assert (report.exit_code, report.messages) == (0, len(expected))
    assert small.query("SELECT count(*) FROM chat_messages") == [(len(expected),)]


def test_nothing_is_lost_when_the_api_forgets(serve_v3: Serve) -> None:
    """Two days, run every eight hours: as seen stays what was ever seen."""
    loader = serve_v3(forgetful_world())
    history = History(loader.world)
    for _ in range(6):
        history.pass_hours(8)
        report = loader.sync()
        assert (report.exit_code, report.gaps) == (0, 0)
    loader.assert_equal_world()
    rows = {
        number_of("message", id_): (text, deleted, expired)
        for id_, text, deleted, expired in loader.query(
            "SELECT id, text, deleted_at, expired_at FROM chat_messages"
        )
    }
    assert {i: text for i, (text, _, _) in rows.items()} == history.texts
    assert {i for i, (_, deleted, _) in rows.items() if deleted} == history.deleted
    gone = history.texts.keys() - loader.world.messages.keys() - history.deleted
    assert {i for i, (_, _, expired) in rows.items() if expired} == gone
    assert loader.audit().exit_code == 0


@pytest.mark.long
def test_run_too_seldom_it_reports_gaps(serve_v3: Serve) -> None:
    loader = serve_v3(forgetful_world())
    history = History(loader.world)
    history.pass_hours(30)
    assert loader.sync().gaps == 0
    for _ in range(2):
        history.pass_hours(30)
        report = loader.sync()
        # Of the chats of the line that forgets, none has a message left that was known.
        assert (report.exit_code, report.gaps) == (3, 4)


def test_ids_in_upper_case_are_the_same(small: Loader) -> None:
    small.sync()

    def fault(exchange: Exchange) -> Fault | None:
        if exchange.route != "chat_messages" or exchange.chat_id != 2:
            return None
        right = answer_to(
            exchange, small.world, max_per_page=100, cursors="keyset", newest_first=True,
            files_url=None,
        )  # fmt: skip
        page = json.loads(right.body)
        for message in page["messages"]:
            message["id"] = message["id"].replace("-8000-", "-800A-").upper()
        return Fault(status=200, body=json.dumps(page).encode())

    small.sandbox.faults.append(fault)
    small.world.advance(HOUR_MS)
    first = small.sync()
    small.world.advance(HOUR_MS)
    assert (small.sync().messages, first.exit_code) == (0, 0)
    found = small.query("SELECT id FROM chat_messages WHERE id LIKE '%800a%'")
    assert len(found) == 5
    assert all(id_ == id_.lower() for (id_,) in found)
