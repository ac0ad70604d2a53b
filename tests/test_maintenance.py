"""Delta and Iceberg tables stay fast however often they are loaded, and lose no row by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable

from linq_source.destinations import settled
from linq_source.destinations.open_tables import iceberg
from linq_source.sandbox import World
from tests.conftest import HOUR_MS, NOW_MS, Loader
from tests.destinations import KINDS, OpenFormat

pytestmark = pytest.mark.long

RUNS = 12


@pytest.fixture(params=["delta", "iceberg"])
def loader(
    request: pytest.FixtureRequest,
    serve: Callable[[World], Loader],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Loader]:
    """A loader into tables that every run looks after, and each version of which is old."""
    monkeypatch.setattr(settled, "MAINTENANCE_US", 1)
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
    assert isinstance(loader.place, OpenFormat)
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
def test_snapshots_are_kept_for_as_long_as_the_table_says(loader: Loader) -> None:
    assert isinstance(loader.place, OpenFormat)
    first = loader.place.table("chat_messages").current_snapshot().snapshot_id
    from dlt.common.libs.pyiceberg import get_iceberg_tables

    table = get_iceberg_tables(loader.pipeline, "chat_messages")["chat_messages"]
    with table.transaction() as transaction:
        transaction.set_properties({"history.expire.max-snapshot-age-ms": "600000"})
    for _ in range(RUNS):
        run(loader)
    then = loader.place.table("chat_messages").scan(snapshot_id=first).to_arrow()
    assert then.num_rows == 1
    loader.assert_equal_world()
