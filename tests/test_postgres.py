"""Postgres: every text and instant arrives exactly, and what it cannot store is not mixed up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linq_source import ConfigurationError, DestinationError, forget
from linq_source.destinations.storable import with_nul, without_nul
from linq_source.sandbox import DEFAULT_TOKEN
from linq_source.tables import TABLES
from tests import processes
from tests.conftest import DAY_MS, NOW_MS, Loader
from tests.destinations import DuckDB
from tests.postgres import Postgres, postgres_database
from tests.test_cli import assert_one_line
from tests.truth import Row, live_tables, ordered, world_tables

pytestmark = pytest.mark.long

AT_MS = NOW_MS - 2 * DAY_MS
TEXTS = [
    "", " ", "'", "''", '"', "\\", "\\\\", "\\N", "\\n", "\n", "\r\n", "\t", "NULL", "null", "E'x'",
    "$$", "%s", "{}", "a,b;c", "\x01\x1f\x7f", "\u2028", "\ufeff", "é", "e\u0301",
    "😀👩‍👩‍👧", "ب", "\U0010ffff",
]  # fmt: skip
WITH_NUL = ["a\0b", "ab", "a\u2400b", "a\u241b\u2400b", "\0", "\0\0", "\u241b", "\u2400\u241b\0"]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Postgres]:
    with postgres_database(tmp_path) as database:
        yield database


@pytest.fixture
def loader(small: Loader, place: Postgres) -> Loader:
    """A loader of one chat into a database of its own."""
    small.place = place
    return small


def texts_of(loader: Loader) -> dict[int, Any]:
    return {row["id"]: row["text"] for row in loader.place.rows("chat_messages")}  # type: ignore[union-attr]


def test_texts_and_instants_arrive_exactly(loader: Loader) -> None:
    for index, text in enumerate(TEXTS):
        message = loader.world.add_message(1, text, sent_at_ms=AT_MS + index)
        loader.world.add_attachment(message.id, filename=text, url=f"https://f.example/{text}")
    loader.world.add_message(1, None, sent_at_ms=AT_MS - 1)
    precise = loader.world.add_message(1, "precise", sent_at_ms=AT_MS + 999)
    precise.extra["edited_at"] = "2026-01-02T03:04:05.123456+05:30"
    loader.sync()
    found = live_tables(loader.place.rows)  # type: ignore[union-attr]
    expected = world_tables(loader.world)
    (row,) = [row for row in found["chat_messages"] if row["id"] == precise.id]
    assert row["edited_at"].isoformat() == "2026-01-01T21:34:05.123456+00:00"
    row["edited_at"] = None
    assert found == expected


def test_nul_is_written_as_its_symbol_and_nothing_is_mixed_up(loader: Loader) -> None:
    world = loader.world
    for index, text in enumerate(WITH_NUL):
        message = world.add_message(1, text, sent_at_ms=AT_MS + index)
        message.extra["mood"] = text
        world.add_attachment(message.id, filename=text)
        world.add_handle(1, text, joined_at_ms=AT_MS)
    world.chats[1].display_name = "One\0Two"
    assert loader.sync().exit_code == 0
    shown = texts_of(loader)
    assert shown[1] == "a\u2400b"
    assert len(set(shown.values())) == len(WITH_NUL)
    assert loader.place is not None
    found = live_tables(lambda name: [with_nul_in(row) for row in loader.place.rows(name)])  # type: ignore[union-attr]
    moods = {row["id"]: row.pop("mood") for row in found["chat_messages"]}
    assert moods == dict(enumerate(WITH_NUL, 1))
    assert {name: ordered(rows) for name, rows in found.items()} == world_tables(world)
    assert loader.sync().messages == 0


def test_nul_stays_where_it_can_be_stored(small: Loader) -> None:
    for text in WITH_NUL:
        small.world.add_message(1, text, sent_at_ms=AT_MS)
    small.sync()
    rows = DuckDB(small.folder).rows("chat_messages")
    assert [row["text"] for row in ordered(rows)] == WITH_NUL


def with_nul_in(row: Row) -> Row:
    return {k: with_nul(value) if isinstance(value, str) else value for k, value in row.items()}


@given(st.lists(st.none() | st.text(st.sampled_from("ab\0\u2400\u241b\n") | st.characters())))
def test_no_two_texts_become_one(texts: list[str | None]) -> None:
    texts = [text if text is None else text.encode("utf-8", "replace").decode() for text in texts]
    table = pa.table({"text": pa.array(texts, pa.string()), "n": list(range(len(texts)))})
    written = without_nul(table)
    assert written.schema == table.schema
    stored = written["text"].to_pylist()
    assert not any("\0" in text for text in stored if text is not None)
    assert [text if text is None else with_nul(text) for text in stored] == texts


def test_a_person_is_forgotten(loader: Loader) -> None:
    world = loader.world
    ann, bob = "+15550001111", "+15550002222"
    for chat_id, members in ((1, [ann]), (2, [ann, bob]), (3, [bob])):
        if chat_id > 1:
            world.add_chat(chat_id=chat_id, group=len(members) > 1)
        for offset, number in enumerate(members):
            world.add_handle(chat_id, number, joined_at_ms=AT_MS)
            message = world.add_message(chat_id, number, sent_at_ms=AT_MS + offset,
                                        sent_from=number)  # fmt: skip
            world.add_attachment(message.id)
            world.add_reaction(message.id, from_phone=ann, sent_at_ms=AT_MS)
    loader.sync()
    report = forget(loader.pipeline, phone_numbers=[ann])
    assert (report.chats, report.partly) == ((1,), (2,))
    assert report.erased["chat_messages"] == 2
    assert report.erased["chat_messages__reactions"] == 4
    world.add_message(1, "again", sent_from=ann)
    loader.sync()
    found = live_tables(loader.place.rows)  # type: ignore[union-attr]
    assert ann not in repr(found)
    assert [row["text"] for row in found["chat_messages"]] == [bob, bob]


def test_the_command_loads_with_dlts_credentials(loader: Loader, tmp_path: Path) -> None:
    loader.world.add_message(1, "hello", sent_at_ms=AT_MS)
    place = loader.place
    assert isinstance(place, Postgres)
    result = run_into_postgres(loader, tmp_path, place.url)
    assert result.returncode == 0, result.stderr
    assert texts_of(loader) == {1: "hello"}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (None, ["postgres", "credentials", "secrets.toml"]),
        ("postgresql://me:hidden-word@127.0.0.1:1/x", ["postgres", "refused", "credentials"]),
        ("nobody-knows", ["postgres", "credentials"]),
    ],
)
def test_wrong_credentials_are_one_line(
    small: Loader, tmp_path: Path, url: str | None, words: list[str]
) -> None:
    result = run_into_postgres(small, tmp_path, url)
    assert result.returncode in (DestinationError.exit_code, ConfigurationError.exit_code)
    assert_one_line(result, *words)
    assert "hidden-word" not in result.stderr + result.stdout
    assert small.sandbox.requests_log == []


def test_a_database_that_does_not_exist_is_one_line(loader: Loader, tmp_path: Path) -> None:
    place = loader.place
    assert isinstance(place, Postgres)
    result = run_into_postgres(loader, tmp_path, place.url + "_missing")
    assert result.returncode == DestinationError.exit_code
    assert_one_line(result, "postgres", "does not exist", "credentials")


def test_a_missing_extra_is_one_line(small: Loader, tmp_path: Path) -> None:
    url = "postgresql://me:hidden-word@127.0.0.1:1/x"
    result = run_into_postgres(small, tmp_path, url, WITHOUT_PSYCOPG2)
    assert result.returncode == ConfigurationError.exit_code
    assert_one_line(result, "pip install 'linq-source[postgres]'")


WITHOUT_PSYCOPG2 = """
import sys
from linq_source.cli import main
sys.modules["psycopg2"] = None
main()
"""


def run_into_postgres(
    loader: Loader, folder: Path, url: str | None, *code: str
) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "NO_COLOR": "1",
        "HOME": str(folder),
        "DLT_DATA_DIR": str(folder / "dlt"),
        "SOURCES__LINQ__API_TOKEN": DEFAULT_TOKEN,
    }
    if url is not None:
        environment["DESTINATION__POSTGRES__CREDENTIALS"] = url
    command = ["run", "--destination", "postgres", "--base-url", loader.sandbox.url]
    return processes.run(command, folder, environment, *code)


_KILLED = """
import os, signal
from tests.postgres import Server
server = Server()
print(server._folder, server.port, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_server_ends_with_the_tests_however_they_end() -> None:
    result = subprocess.run(
        [sys.executable, "-c", _KILLED], cwd=Path(__file__).parent.parent,
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert result.returncode == -signal.SIGKILL, result.stderr
    folder, _ = result.stdout.split()
    end_s = time.monotonic() + 120
    while Path(folder).exists():
        assert time.monotonic() < end_s
        time.sleep(0.05)


COMMENTS = """
    SELECT c.relname AS name, a.attname AS column, col_description(c.oid, a.attnum) AS comment,
           obj_description(c.oid) AS of_table
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
    WHERE c.relnamespace = 'linq'::regnamespace AND c.relkind = 'r'"""


def test_keys_have_indexes_and_columns_have_comments_in_an_older_dataset_too(
    loader: Loader, place: Postgres
) -> None:
    loader.world.add_message(1, "one", sent_at_ms=AT_MS)
    # What an earlier version left, that made neither.
    loader.pipeline.run(loader.source())
    indexes = "SELECT indexname FROM pg_indexes WHERE schemaname = 'linq' AND indexname LIKE '%id'"
    assert place.query(indexes) == []
    own = "COMMENT ON COLUMN linq.chats.service IS 'ours'; SELECT 1"
    place.query(own)
    for _ in range(2):
        loader.world.add_message(1, "more", sent_at_ms=AT_MS)
        loader.sync()
    loader.assert_equal_world()
    found = {row["indexname"] for row in place.query(indexes)}
    assert {
        "phone_numbers__id", "chats__id", "chats__chat_handles__chat_id__id", "chat_messages__id",
        "chat_messages__reactions__chat_message_id__id",
    } <= found  # fmt: skip
    comments = {(row["name"], row["column"]): row for row in place.query(COMMENTS)}
    for table in TABLES.values():
        for column in table.columns:
            row = comments.get((table.name, column.name))
            if row is not None:
                expected = "ours" if column.name == "service" and table.name == "chats" else None
                assert row["comment"] == (expected or column.description)
                assert row["of_table"] == table.description
    assert len(comments) > 60
