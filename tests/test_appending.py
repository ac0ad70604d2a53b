"""New messages are appended instead of merged only where the tables come out the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import pytest

from linq_source.destinations import appending, databases
from tests.conftest import DAY_MS, NOW_MS, Loader
from tests.truth import loaded_tables

MESSAGES, ATTACHMENTS, REACTIONS = (
    "chat_messages", "chat_messages__attachments", "chat_messages__reactions",
)  # fmt: skip


@pytest.fixture
def appended(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The tables appended to, load by load."""
    seen: list[set[str]] = []
    decide = appending._appendable

    def spy(pipeline: Any, client: Any) -> frozenset[str]:
        names = decide(pipeline, client)
        seen.append(set(names))
        return names

    monkeypatch.setattr(appending, "_appendable", spy)
    return seen


def test_a_first_load_appends_and_stages_nothing(seeded: Loader, appended: list[set[str]]) -> None:
    seeded.sync()
    assert appended == [{MESSAGES, ATTACHMENTS, REACTIONS}]
    seeded.assert_equal_world()
    hints = seeded.pipeline.default_schema.tables
    assert {hints[name]["write_disposition"] for name in appended[0]} == {"merge"}
    assert seeded.query("SELECT count(*) FROM chat_messages__attachments WHERE _tombstone") == [
        (0,)
    ]


def test_a_changed_day_is_merged(seeded: Loader, appended: list[set[str]]) -> None:
    seeded.sync()
    message = seeded.world.messages_of(1)[-1]
    seeded.world.edit_message(message.id, "edited", edited_at_ms=seeded.world.now_ms)
    seeded.sync()
    assert MESSAGES not in appended[1]
    seeded.assert_equal_world()


def test_a_new_day_alone_is_appended(small: Loader, appended: list[set[str]]) -> None:
    small.world.add_message(1, "one", sent_at_ms=NOW_MS - 3 * DAY_MS)
    small.sync()
    small.world.add_message(1, "two", sent_at_ms=NOW_MS - DAY_MS)
    small.sync()
    assert MESSAGES in appended[1]
    # Its children come with tombstones, which only a merge understands.
    assert ATTACHMENTS not in appended[1]
    small.assert_equal_world()


def test_packages_of_a_first_load_that_repeat_a_day_are_merged(
    small: Loader, appended: list[set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = small.world
    for number in range(60):
        message = world.add_message(1, str(number), sent_at_ms=NOW_MS - DAY_MS * (60 - number))
        world.add_reaction(message.id, "like", sent_at_ms=NOW_MS - 1000)
    monkeypatch.setattr("linq_source.planning.walking.MAX_PAGES", 2)
    edited = world.messages_of(1)[8]

    @contextmanager
    def while_reading(pipeline: Any, remote: Any) -> Iterator[None]:
        """After the first package its last message changes and loses its only child."""
        for reaction in list(edited.reactions):
            world.remove_reaction(edited.id, reaction.id)
            world.edit_message(edited.id, "changed", edited_at_ms=NOW_MS)
        with decide(pipeline, remote):
            yield

    decide: Callable[[Any, Any], Any] = appending.appending
    monkeypatch.setattr(databases, "appending", while_reading)
    report = small.sync(page_size=5, max_messages=5)
    assert len(report.loads) > 2
    assert MESSAGES in appended[0]
    small.assert_equal_world()


def test_rows_that_are_there_already_are_never_doubled(
    seeded: Loader, appended: list[set[str]]
) -> None:
    seeded.sync()
    before = loaded_tables(seeded.database)
    # Another pipeline, and no state left that knows what the destination holds.
    with duckdb.connect(str(seeded.database)) as connection:
        connection.execute("DELETE FROM linq._dlt_pipeline_state")
    other = Loader(seeded.sandbox, seeded.folder, name="another_name")
    report = other.sync()
    assert report.messages == 700
    assert appended[1] == set()
    assert loaded_tables(seeded.database) == before
