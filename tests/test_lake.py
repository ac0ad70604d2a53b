"""The Parquet lake: what is special about files that nobody but us keeps consistent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from linq_source import settle
from linq_source.destinations.deletion_rule import NOTHING_MARKED
from linq_source.destinations.lake import check_lake, partition_merge, rebuild_lake, settle_lake
from linq_source.destinations.lake.layout import DAY, MARKER
from linq_source.errors import ConfigurationError, DestinationError
from linq_source.sandbox import World, grow
from tests.conftest import DAY_MS, NOW_MS, Loader
from tests.destinations import Lake, OpenTables
from tests.lakes import bucket_of, contents, current_of, inodes, lake

__all__ = ["lake"]


def test_children_lie_in_their_messages_partition(lake: Loader) -> None:
    lake.sync()
    root = current_of(lake)
    month_of = {
        row[0]: row[1]
        for row in duckdb.connect()
        .sql(f"SELECT id, sent_month FROM read_parquet('{root}/chat_messages/**/*.parquet')")
        .fetchall()
    }
    for table in ("chat_messages__attachments", "chat_messages__reactions"):
        files = f"read_parquet('{root}/{table}/**/*.parquet')"
        rows = duckdb.connect().sql(f"SELECT chat_message_id, sent_month FROM {files}").fetchall()
        assert rows
        assert all(month_of[message] == month for message, month in rows)


def test_a_run_rewrites_only_the_partitions_it_touches(lake: Loader) -> None:
    lake.sync()
    before = inodes(lake)
    world = lake.world
    newest = max(world.messages.values(), key=lambda m: m.sent_at_ms)
    world.edit_message(newest.id, "edited")
    lake.sync()
    lake.assert_equal_world()
    after = inodes(lake)
    changed = {path for path in after if before.get(path) != after[path]}
    month = time.strftime("%Y-%m", time.gmtime(newest.sent_at_ms / 1000))
    partitioned = {path for path in changed if "sent_month" in path}
    assert partitioned
    assert all(f"sent_month={month}" in path for path in partitioned)
    again = inodes(lake)
    lake.sync()
    assert inodes(lake) == again


def test_a_rebuild_gives_the_same_and_a_check_finds_what_differs(lake: Loader) -> None:
    bucket = bucket_of(lake)
    lake.sync()
    for _ in range(2):
        grow(lake.world)
        lake.sync()
    report = check_lake(bucket)
    assert (report.findings, report.unsettled_loads, report.exit_code) == ((), 0, 0)
    assert lake.place is not None
    assert report.rows["chat_messages"] == len(lake.place.rows("chat_messages"))
    before = sorted(map(repr, lake.place.rows("chat_messages")))
    files = sorted((current_of(lake) / "chat_messages").rglob("*.parquet"))
    files[0].write_bytes(files[0].read_bytes()[:-20])
    files[1].unlink()
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT * REPLACE ('x' AS text) FROM read_parquet('{files[2]}', "
            f"hive_partitioning = false)) TO '{files[2]}'"
        )
    findings = {f.path.rpartition("=")[2]: f.problem for f in check_lake(bucket).findings}
    keys = [file.parent.name.partition("=")[2] for file in files[:3]]
    problems = [findings.pop(f"{key}/part-0.parquet") for key in keys]
    assert "cannot be read" in problems[0]
    assert problems[1] == "is missing"
    assert "differs from the log: 0 rows missing, 0 too many" in problems[2]
    assert findings == {}
    assert rebuild_lake(bucket) == len(contents(lake))
    assert check_lake(bucket).findings == ()
    assert sorted(map(repr, lake.place.rows("chat_messages"))) == before
    lake.assert_equal_world()


def test_a_damaged_partition_is_told_and_nothing_is_lost(lake: Loader) -> None:
    lake.sync()
    newest = max((current_of(lake) / "chat_messages").rglob("*.parquet"))
    newest.write_bytes(b"PAR1 this is not")
    grow(lake.world)
    with pytest.raises(DestinationError, match=r"part-0\.parquet.*lake rebuild") as raised:
        lake.sync()
    assert len(str(raised.value).splitlines()) == 1
    rebuild_lake(bucket_of(lake))
    lake.sync()
    lake.assert_equal_world()


def test_a_foreign_file_is_told_and_nothing_is_lost(lake: Loader) -> None:
    lake.sync()
    foreign = current_of(lake) / "chat_messages" / "export.parquet"
    foreign.write_bytes(b"whatever")
    grow(lake.world)
    with pytest.raises(DestinationError, match=r"export\.parquet: is not a file of the lake"):
        lake.sync()
    with pytest.raises(DestinationError, match=r"export\.parquet: is not a file of the lake"):
        rebuild_lake(bucket_of(lake))
    assert [f.path for f in check_lake(bucket_of(lake)).findings] == [
        "current/chat_messages/export.parquet"
    ]
    foreign.unlink()
    lake.sync()
    lake.assert_equal_world()


def test_days_as_partitions(lake: Loader) -> None:
    lake.sync()
    bucket = bucket_of(lake)
    rebuild_lake(bucket, DAY)
    names = {path.parent.name for path in (current_of(lake) / "chat_messages").rglob("*.parquet")}
    assert all(name.startswith("sent_day=20") for name in names)
    days = {m.sent_at_ms // DAY_MS for m in lake.world.messages.values()}
    assert len(names) == len(days)
    grow(lake.world)
    lake.sync()
    assert check_lake(bucket).findings == ()
    assert json.loads(Path(bucket.root, MARKER).read_text())["lake_partition"] == "day"
    rebuild_lake(bucket)
    lake.sync()
    lake.assert_equal_world()


@pytest.mark.parametrize("kind", ["duckdb", "delta"])
def test_where_there_is_no_lake_a_partition_is_refused(
    small: Loader, tmp_path: Path, kind: str
) -> None:
    if kind == "delta":
        small.place = OpenTables(tmp_path, kind)
    small.sync()
    with pytest.raises(ConfigurationError, match=f"lake_partition is day: .* tables of {kind}"):
        settle(small.pipeline, lake_partition="day")


def test_a_large_partition_is_merged_slice_by_slice(
    lake: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_merge, "SLICE_ROWS", 10)
    lake.sync()
    lake.assert_equal_world()
    grow(lake.world)
    lake.sync()
    lake.assert_equal_world()
    assert check_lake(bucket_of(lake)).findings == ()


def test_a_load_that_is_not_complete_is_not_settled(lake: Loader) -> None:
    lake.sync()
    bucket = bucket_of(lake)
    torn = Path(bucket.root, "chat_messages", "9999999999.1.abc.parquet")
    torn.write_bytes(b"PAR1 half a fi")
    before = contents(lake)
    assert settle_lake(bucket) == NOTHING_MARKED
    assert contents(lake) == before
    assert check_lake(bucket).findings == ()


def test_a_message_at_each_edge_of_a_month(
    serve: Callable[[World], Loader], tmp_path: Path
) -> None:
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001")
    world.add_chat(chat_id=1)
    first_ms = 20_454 * DAY_MS  # 2026-01-01T00:00:00Z
    for at_ms in (first_ms - 1, first_ms, first_ms + 31 * DAY_MS - 1, first_ms + 31 * DAY_MS):
        world.add_message(1, str(at_ms), sent_at_ms=at_ms)
    loader = serve(world)
    loader.place = Lake(tmp_path)
    loader.sync()
    loader.assert_equal_world()
    months = {
        path.parent.name: duckdb.connect().sql(f"SELECT id FROM '{path}'").fetchall()
        for path in (current_of(loader) / "chat_messages").rglob("*.parquet")
    }
    assert {name: len(rows) for name, rows in months.items()} == {
        "sent_month=2025-12": 1, "sent_month=2026-01": 2, "sent_month=2026-02": 1,
    }  # fmt: skip
