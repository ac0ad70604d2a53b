"""docs/operations.md: its queries find what they say, its commands and metrics exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import typer.main

from linq_source.cli.main import app
from linq_source.operations.metrics import METRICS
from linq_source.sandbox import World
from tests.conftest import Loader
from tests.searching import CONTENT, small_world, told

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "operations.md").read_text()


def queries() -> dict[str, str]:
    """The page's queries by number; one without is the comparison of two datasets."""
    found = {}
    for block in re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL):
        for text in block.split(";\n"):
            if text.strip():
                number = re.match(r"\s*-- (\d+):", text)
                found[number.group(1) if number else "compare"] = text
    return found


def test_every_query_runs_and_finds_what_it_is_for(serve: Callable[[World], Loader]) -> None:
    world = small_world()
    text = CONTENT[0]
    world.messages_of(2)[3].raw = f'{{"id": 5, "text": ["{text}"], "sent_at": "{text}"}}'
    loader = serve(world)
    loader.sync(chat_ids=[1, 2, 99999])
    with duckdb.connect(str(loader.database)) as connection:

        def rows(number: str) -> list[tuple[Any, ...]]:
            return connection.execute(queries()[number]).fetchall()

        assert sorted(queries()) == [*"12345678", "compare"]
        ((last_load, age),) = rows("1")
        assert 0 <= age.total_seconds() < 3600
        ((chat_id, runs, last_time, error),) = rows("2")
        assert (chat_id, runs, last_time) == (99999, 1, last_load)
        assert "404" in error
        assert rows("3") == []
        ((table, _, records, first_time, _),) = rows("4")
        assert (table, records, first_time) == ("chat_messages", 1, last_load)
        assert told({"what is shared": repr([rows(n) for n in "12345"])}, CONTENT) == []
        ((_, runs, messages, *_, chats_failed, unverified),) = rows("5")
        assert (runs, messages, chats_failed, unverified) == (1, 29, 1, 0)
        assert (
            rows("6")
            == connection.execute("SELECT max(sent_at) FROM linq.chat_messages").fetchall()
        )
        assert rows("7") == rows("8") == []
        connection.execute(
            "INSERT INTO linq.sync_windows SELECT * REPLACE (false AS verified, chat_id + 70 AS"
            " chat_id) FROM linq.sync_windows WHERE chat_id = 1"
        )
        assert {row[0] for row in rows("3")} == {71}
        connection.execute("CREATE SCHEMA linq_next")
        connection.execute(
            "CREATE TABLE linq_next.chat_messages AS FROM linq.chat_messages WHERE chat_id = 1"
        )
        connection.execute(
            "INSERT INTO linq.chat_messages FROM linq.chat_messages ORDER BY id LIMIT 1"
        )
        ((twice, copies),) = rows("7")
        assert copies == 2
        ((doubled,),) = connection.execute(
            f"SELECT DISTINCT chat_id FROM linq.chat_messages WHERE id = {twice}"
        ).fetchall()
        assert doubled == 1
        assert sorted(rows("compare")) == [(1, 16, 15), (2, 14, None)]


def test_every_command_named_exists_with_its_options() -> None:
    commands: Any = typer.main.get_command(app)
    named = re.findall(r"linq-source ((?:[a-z]|--)[^`|\n>]*)", PAGE)
    assert len(named) > 15
    for line in named:
        name, *arguments = shlex.split(line.removesuffix(" 2"))
        if name == "--version":
            continue
        command = commands.commands[name]
        if name == "lake":
            command = command.commands[arguments.pop(0)]
        # Parses, and raises for an unknown option or a value of a wrong type; runs nothing.
        command.make_context(name, arguments)


def test_every_metric_named_exists() -> None:
    (table,) = re.findall(r"\| signal \|.*?\n\n", PAGE, flags=re.DOTALL)
    cells = [row.split("|")[2] for row in table.strip().splitlines()[2:]]
    named = {
        word
        for cell in cells
        for code in re.findall(r"`([^`]+)`", cell)
        for word in re.findall(r"[a-z_]{3,}", code)
    } - {"time"}
    assert len(named) > 8
    assert named <= {metric.name for metric in METRICS}
