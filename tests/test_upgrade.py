"""A database, a lake and a state that version 0.1.0 wrote go on with this one."""

from __future__ import annotations

import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from linq_source import ConfigurationError, Report
from linq_source.destinations.remote import connected
from linq_source.operations.status import status
from linq_source.sandbox import World
from tests.conftest import DAY_MS, Loader
from tests.destinations import DuckDB, Lake, Place
from tests.fixtures.write_0_1_0 import ARCHIVE, history
from tests.truth import LIVE_TABLES, Row, Tables, assert_equal_tables

PLACES: dict[str, Callable[[Path], Place]] = {"duckdb": DuckDB, "parquet": Lake}


@pytest.fixture(params=PLACES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["with its disk", "on an empty disk"])
def upgraded(
    serve: Callable[[World], Loader], tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> Loader:
    """A loader of what 0.1.0 left, whose pipeline is where it was or has only the destination."""
    *_, world = history()
    loader = serve(world)
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    loader.folder = tmp_path / kind
    loader.place = PLACES[kind](loader.folder)
    if request.param == "on an empty disk":
        shutil.rmtree(loader.folder / "pipelines")
    else:
        pipeline = loader.pipeline
        with connected(pipeline) as remote:
            # As if it had always been in this folder.
            pipeline.set_local_state_val("linq_place", remote.dataset_key)
    return loader


def rows_of(loader: Loader) -> dict[str, list[Row]]:
    assert loader.place is not None
    return {
        name: sorted(loader.place.rows(name), key=lambda row: str(sorted(row.items(), key=str)))
        for name in LIVE_TABLES
    }


def messages_of(loader: Loader) -> dict[str, list[Row]]:
    """Messages and their children, without the column that came with this version."""
    found = rows_of(loader)
    for row in found["chat_messages"]:
        row.pop("expired_at", None)
    return {name: rows for name, rows in found.items() if name.startswith("chat_messages")}


def assert_equal_world(loader: Loader) -> None:
    """As the world is, but for columns that the contract does not know."""
    found: Tables = {
        name: [{c: v for c, v in row.items() if c not in ("mood", "tone")} for row in rows]
        for name, rows in loader.live_tables().items()
    }
    assert_equal_tables(found, loader.world)


def values_of(loader: Loader, column: str) -> list[tuple[int, Any]]:
    rows = loader.live_tables()["chat_messages"]
    return [(row["id"], row[column]) for row in rows if row.get(column) is not None]


def test_what_was_loaded_is_known(upgraded: Loader) -> None:
    before = messages_of(upgraded)
    upgraded.world.advance(DAY_MS)
    reports: list[Report] = []
    requests = upgraded.requests_of(lambda: reports.append(upgraded.sync(recheck_share=0.0)))
    # The lookback of chats 1 and 2; chat 4 is older than any.
    assert Counter(route for route, _ in requests) == {
        "phone_numbers": 1, "chats": 2, "chat_messages": 2,
    }  # fmt: skip
    (report,) = reports
    assert (report.messages, report.windows, report.deleted, report.exit_code) == (0, 0, 0, 0)
    assert messages_of(upgraded) == before
    assert_equal_world(upgraded)


@pytest.mark.parametrize("name", ["test_linq", "another"])
def test_what_an_earlier_version_loaded_is_told(upgraded: Loader, name: str) -> None:
    upgraded.name = name
    with pytest.raises(ConfigurationError, match="was last loaded by an earlier version"):
        status(upgraded.pipeline)


def test_changes_after_the_upgrade_arrive(upgraded: Loader) -> None:
    world = upgraded.world
    world.advance(DAY_MS)
    _, second, *_, last = world.messages_of(1)
    world.edit_message(last.id, "edited again")
    world.remove_reaction(last.id, last.reactions[0].id)
    world.delete_message(second.id)
    world.delete_message(world.messages_of(2)[-3].id)
    world.add_message(2, "newer", sent_at_ms=world.now_ms - 1_000).extra["tone"] = "kind"
    world.add_chat(chat_id=9)
    world.add_message(9, "first of a new chat", sent_at_ms=world.now_ms - 1_000)
    report = upgraded.sync()
    # Chat 1 but for the days of its lookback that are as they were: an old message of it went.
    assert (report.messages, report.deleted, report.exit_code) == (58, 2, 0)
    assert_equal_world(upgraded)
    assert [value for _, value in values_of(upgraded, "mood")] == ["calm"]
    assert [value for _, value in values_of(upgraded, "tone")] == ["kind"]
    # Chats that 0.1.0 read are checked, one a run at the least.
    found = [upgraded.sync() for _ in range(5)]
    assert [report.chats_rechecked for report in found] == [1, 1, 0, 0, 0]
    assert [report.chats_never_checked for report in found] == [1, 0, 0, 0, 0]
    assert_equal_world(upgraded)
    rows = rows_of(upgraded)
    assert upgraded.sync().windows == 0
    assert upgraded.settle() == 0
    assert rows_of(upgraded) == rows
    assert upgraded.audit().differences == ()
