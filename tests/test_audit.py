"""An audit that looks again: what people write in between is no difference."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from linq_source import AuditReport, Report, audit, sync
from linq_source.destinations.live_counts import Gap
from linq_source.operations.audit import Difference
from linq_source.operations.report import ChatFailure
from tests.conftest import Loader
from tests.destinations import Lake, OpenTables


def test_what_was_written_since_the_load_is_read_again(seeded: Loader) -> None:
    seeded.sync()
    chat_id = max(seeded.world.chats)
    rows = len(seeded.world.messages_of(chat_id))
    seeded.world.add_message(chat_id, "good morning")
    seeded.world.advance(1_000)
    found = seeded.audit()
    assert found.differences == (Difference(chat_id, rows, rows + 1),)
    assert found.problems() == [
        f"chat {chat_id} has {rows} live rows where the API counts {rows + 1}"
    ]
    assert seeded.audit().differences == found.differences  # it changes nothing
    asked = [route for route, _ in seeded.requests_of(lambda: seeded.audit(looks=3))]
    assert asked.count("phone_numbers") == 3  # compared, read again, compared
    assert seeded.audit().exit_code == 0
    seeded.assert_equal_world()


def test_a_chat_that_vanished_since_the_load_is_marked(seeded: Loader) -> None:
    seeded.sync()
    chat_id = max(chat for chat in seeded.world.chats if seeded.world.messages_of(chat))
    rows = len(seeded.world.messages_of(chat_id))
    seeded.world.remove_chat(chat_id)
    seeded.world.advance(1_000)
    found = seeded.audit()
    assert found.differences == (Difference(chat_id, rows, None),)
    assert found.problems() == [
        f"chat {chat_id} has {rows} live rows where the API lists no such chat"
    ]
    assert seeded.audit(looks=1).exit_code == 0
    seeded.assert_equal_world()


def test_what_is_missing_without_the_pipeline_s_knowing_differs_still(seeded: Loader) -> None:
    seeded.sync()
    chat_id = max(chat for chat in seeded.world.chats if seeded.world.messages_of(chat))
    rows = len(seeded.world.messages_of(chat_id))
    with duckdb.connect(str(seeded.database)) as database:
        database.execute(f"DELETE FROM linq.chat_messages WHERE chat_id = {chat_id}")
    report = seeded.audit(looks=2)
    assert (report.differences, report.repair) == ((Difference(chat_id, 0, rows),), None)
    report = seeded.audit(looks=1, deep=True)
    assert report.differences == ()
    assert report.repair is not None
    assert report.repair.messages == rows
    seeded.assert_equal_world()


@pytest.mark.long
@pytest.mark.parametrize("kind", ["lake", "delta"])
def test_shards_on_an_empty_disk_look_again(small: Loader, tmp_path: Path, kind: str) -> None:
    """As an orchestrator's tasks do: the destination says how its tables are kept."""
    small.place = Lake(tmp_path) if kind == "lake" else OpenTables(tmp_path, kind)
    shards = ("0/2", "1/2")
    for shard in shards:
        pipeline = small.open_shard(shard, tmp_path / f"load_{shard[0]}")
        sync(pipeline, **small.options, **small.arguments(shard=shard))
    small.world.add_message(max(small.world.chats), "good morning")
    small.world.advance(1_000)
    for shard in shards:
        pipeline = small.open_shard(shard, tmp_path / f"audit_{shard[0]}")
        assert audit(pipeline, looks=3, **small.arguments(shard=shard)).exit_code == 0
    small.assert_equal_world()


@pytest.mark.quick
def test_doubts_and_problems_are_told_in_words() -> None:
    failed = (ChatFailure(7, "chat 7: HTTP 403"), ChatFailure(8, "chat 8: HTTP 403"))
    report = Report(chats_failed=failed, gaps=1, rejected=1000, error="HTTP 503")
    assert report.doubts() == ["failed chats: 2", "rejected records: 1,000", "gaps: 1", "HTTP 503"]
    assert (Report().doubts(), Report().is_complete) == ([], True)
    start, end = (datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2))
    audited = AuditReport(2, 9, (), failures=("chat 7: HTTP 403",), gaps=(Gap(8, start, end),))
    assert audited.problems() == [
        "not compared: chat 7: HTTP 403",
        "chat 8 may lack messages from 2026-01-01T00:00:00+00:00 to 2026-01-02T00:00:00+00:00: "
        "run more often",
    ]
