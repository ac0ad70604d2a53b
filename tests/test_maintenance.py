"""Delta and Iceberg tables stay fast however often they are loaded, and lose no row by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable

from linq_source.destinations import settled_until
from linq_source.destinations.open_tables import iceberg
from linq_source.sandbox import World
from tests.conftest import DAY_MS, HOUR_MS, NOW_MS, Loader
from tests.destinations import KINDS, OpenTables

pytestmark = pytest.mark.long

RUNS = 8


@pytest.fixture(params=["delta", "iceberg"])
def loader(
    request: pytest.FixtureRequest,
    serve: Callable[[World], Loader],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Loader]:
    """A loader into tables that every run looks after, and each version of which is old."""
    monkeypatch.setattr(settled_until, "MAINTENANCE_US", 1)
    monkeypatch.setattr(iceberg, "MOST_FILES", 4)
    monkeypatch.setattr(iceberg, "KEPT_MS", 0)
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001")
    world.add_chat(chat_id=1)
    loader = serve(world)
    with KINDS[request.param](tmp_path) as place:
        loader.place = place
        run(loader)
        if request.param == "delta":
            # Where its own property says nothing, Delta keeps a week of old files.
            for folder in (tmp_path / "bucket" / "linq").glob("*/_delta_log"):
                DeltaTable(str(folder.parent)).alter.set_table_properties(
                    {"delta.deletedFileRetentionDuration": "interval 0 seconds"}
                )
        yield loader


def run(loader: Loader) -> None:
    """An hour in which one message came, and another was edited."""
    loader.world.advance(HOUR_MS)
    sent_ms = loader.world.now_ms - 1
    message = loader.world.add_message(1, f"sent {sent_ms}", sent_at_ms=sent_ms)
    loader.world.add_reaction(message.id)
    loader.world.edit_message(loader.world.messages_of(1)[0].id, f"edited {sent_ms}")
    loader.sync()


def files_of(loader: Loader) -> int:
    """How many files there are of the messages, old versions included."""
    assert isinstance(loader.place, OpenTables)
    folder = loader.place.bucket / "linq" / "chat_messages"
    return len(list(folder.rglob("*.parquet")))


def test_files_do_not_grow_with_the_number_of_runs(loader: Loader) -> None:
    files = []
    for _ in range(RUNS):
        run(loader)
        files.append(files_of(loader))
    assert max(files) <= 5, files
    loader.assert_equal_world()
    assert loader.audit().exit_code == 0
    loader.world.delete_message(loader.world.messages_of(1)[3].id)
    assert loader.sync().deleted == 1
    loader.assert_equal_world()


@pytest.mark.parametrize("loader", ["iceberg"], indirect=True)
@pytest.mark.parametrize(
    ("properties", "kept"),
    [
        ({"history.expire.max-snapshot-age-ms": "600000"}, True),
        pytest.param({"history.expire.min-snapshots-to-keep": "100"}, True, marks=pytest.mark.deep),
        pytest.param({"gc.enabled": "false"}, True, marks=pytest.mark.deep),
        ({"history.expire.max-snapshot-age-ms": "5 days"}, True),
        pytest.param({"history.expire.min-snapshots-to-keep": "2"}, False, marks=pytest.mark.deep),
        ({}, False),
    ],
)
def test_snapshots_are_kept_for_as_long_as_the_table_says(
    loader: Loader, properties: dict[str, str], kept: bool, caplog: pytest.LogCaptureFixture
) -> None:
    from dlt.common.libs.pyiceberg import get_iceberg_tables

    place = loader.place
    assert isinstance(place, OpenTables)
    first = place.table("chat_messages").current_snapshot()
    table = get_iceberg_tables(loader.pipeline, "chat_messages")["chat_messages"]
    with table.transaction() as transaction:
        transaction.set_properties(properties)
    for _ in range(RUNS // 2):
        run(loader)
    ids = [snapshot.snapshot_id for snapshot in place.table("chat_messages").snapshots()]
    assert (first.snapshot_id in ids) is kept
    if kept:
        then = place.table("chat_messages").scan(snapshot_id=first.snapshot_id).to_arrow()
        assert then.num_rows == 1
    assert ("5 days" in caplog.text) is ("5 days" in properties.values())
    loader.assert_equal_world()


@pytest.mark.parametrize("loader", ["iceberg"], indirect=True)
def test_a_snapshot_stays_for_a_while_after_it_was_replaced(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it is old: who reads it began when it was the newest."""
    place = loader.place
    assert isinstance(place, OpenTables)
    table = place.table("chat_messages")
    monkeypatch.setattr(iceberg, "KEPT_MS", 600_000)
    made_ms = {snapshot.snapshot_id: snapshot.timestamp_ms for snapshot in table.snapshots()}
    with monkeypatch.context() as patch:
        # As if it were made long ago, and replaced today.
        patch.setattr(iceberg, "_made_ms", lambda found: found.timestamp_ms
                      - 10**9 * (found.snapshot_id in made_ms))  # fmt: skip
        run(loader)
    assert table.scan().to_arrow().num_rows == 1


@pytest.mark.parametrize("loader", ["iceberg"], indirect=True)
def test_only_the_newest_files_are_written_again(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However small one before a large one is."""
    place = loader.place
    assert isinstance(place, OpenTables)

    def files() -> dict[str, int]:
        found = place.table("sync_windows").inspect.files()
        return dict(
            zip(found["file_path"].to_pylist(), found["record_count"].to_pylist(), strict=True)
        )

    monkeypatch.setattr(iceberg, "MOST_FILES", 100)
    run(loader)
    oldest = set(files())
    assert len(oldest) == 2
    for number in range(40):
        sent_ms = loader.world.now_ms - 20 * DAY_MS - number
        chat = loader.world.add_chat(chat_id=number + 10)
        loader.world.add_message(chat.id, sent_at_ms=sent_ms)
    run(loader)
    (large,) = set(files()) - oldest
    monkeypatch.setattr(iceberg, "SMALL_BYTES", Path(large.removeprefix("file://")).stat().st_size)
    monkeypatch.setattr(iceberg, "MOST_FILES", 4)
    for _ in range(4):
        run(loader)
    now = files()
    assert oldest | {large} < set(now)
    assert len(now) == 4
    loader.assert_equal_world()
