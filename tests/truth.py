"""What the tables must hold, computed from the sandbox's world, and what they do hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from linq_source.sandbox import World

Row = dict[str, Any]
Tables = dict[str, list[Row]]

LIVE_TABLES = (
    "phone_numbers",
    "chats",
    "chats__chat_handles",
    "chats__phone_numbers",
    "chat_messages",
    "chat_messages__attachments",
    "chat_messages__reactions",
)
_OURS = ("synced_at", "deleted_at", "expired_at")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else _EPOCH + timedelta(milliseconds=at_ms)


def world_tables(world: World) -> Tables:
    """The rows that live in the world, by table, without `synced_at`."""
    snapshot = world.snapshot()
    tables: Tables = {
        "phone_numbers": [
            _pick(n, "id", "phone_number", "forwarding_number", "response_rate")
            for n in snapshot["phone_numbers"]
        ],
        "chats": [],
        "chats__chat_handles": [],
        "chats__phone_numbers": [],
        "chat_messages": [],
        "chat_messages__attachments": [],
        "chat_messages__reactions": [],
    }
    for chat in snapshot["chats"]:
        tables["chats"].append(
            _pick(chat, "id", "display_name", "service", "message_count")
            | {"is_group": chat["group"]}
        )
        tables["chats__chat_handles"] += [
            {"chat_id": chat["id"], "joined_at": instant(handle["joined_at_ms"])}
            | _pick(handle, "id", "phone_number", "service")
            for handle in chat["handles"]
        ]
        tables["chats__phone_numbers"] += [
            {"chat_id": chat["id"], "phone_number_id": number["id"]} | _pick(number, "phone_number")
            for number in snapshot["phone_numbers"]
            if number["id"] in chat["phone_number_ids"]
        ]
    for message in snapshot["messages"]:
        _add_message(tables, message)
    return {name: ordered(rows) for name, rows in tables.items()}


def _add_message(tables: Tables, message: Row) -> None:
    parent = {"chat_message_id": message["id"], "chat_id": message["chat_id"]}
    tables["chat_messages"].append(
        _pick(message, "id", "chat_id", "text", "delivery_status", "is_read", "sent_from")
        | {"chat_handle_id": message["chat_handle_id"]}
        | {
            name: instant(message[f"{name}_ms"])
            for name in ("sent_at", "delivered_at", "edited_at")
        }
    )
    tables["chat_messages__attachments"] += [
        parent
        | {"position": position}
        | _pick(item, "id", "url", "filename", "mime_type", "file_size")
        for position, item in enumerate(message["attachments"])
    ]
    tables["chat_messages__reactions"] += [
        parent
        | _pick(item, "id", "reaction", "is_from_me", "from_phone")
        | {name: instant(item[f"{name}_ms"]) for name in ("sent_at", "created_at", "updated_at")}
        for item in message["reactions"]
    ]


def live_tables(rows_of: Callable[[str], list[Row]], names: Sequence[str] = LIVE_TABLES) -> Tables:
    """The live rows of a destination, by table, without `synced_at` and technical columns.

    A row is live when neither it, nor its message, nor its chat is marked deleted or expired.
    """
    tables = {name: rows_of(name) for name in names}
    gone_chats, gone = (
        {row["id"] for row in tables[name] if row["deleted_at"] or row.get("expired_at")}
        for name in ("chats", "chat_messages")
    )
    result: Tables = {}
    for name, rows in tables.items():
        key = "id" if name == "chats" else "chat_id"
        live = [
            {n: value for n, value in row.items() if n not in _OURS and not n.startswith("_")}
            for row in rows
            if row.get(key) not in gone_chats
            and row.get("id" if name == "chat_messages" else "chat_message_id") not in gone
        ]
        result[name] = ordered(live)
    return result


def loaded_tables(
    database: Path, dataset: str = "linq", names: Sequence[str] = LIVE_TABLES
) -> Tables:
    """The live rows in a DuckDB file."""
    with _opened(database, dataset) as connection:
        return live_tables(lambda name: _rows(connection, name), names)


def rows_of_duckdb(database: Path, table: str) -> list[Row]:
    """All rows of a table in a DuckDB file; empty if the table does not exist."""
    with _opened(database) as connection:
        return _rows(connection, table)


def query(database: Path, sql: str) -> list[tuple[Any, ...]]:
    """Rows of one query against a DuckDB file."""
    with _opened(database) as connection:
        return connection.execute(sql).fetchall()


@contextmanager
def _opened(database: Path, dataset: str = "linq") -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(database), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        with suppress(duckdb.CatalogException):  # nothing was loaded
            connection.execute(f"SET search_path = '{dataset}'")
        yield connection


def _rows(connection: duckdb.DuckDBPyConnection, table: str) -> list[Row]:
    try:
        relation = connection.sql(f"SELECT * FROM {table}")
    except duckdb.CatalogException:
        return []
    names = relation.columns
    return [dict(zip(names, row, strict=True)) for row in relation.fetchall()]


def assert_equal_world(database: Path, world: World) -> None:
    """Every live row of every table in a DuckDB file equals the world, value by value."""
    assert_equal_tables(loaded_tables(database), world)


def assert_equal_tables(loaded: Tables, world: World) -> None:
    """Every live row of every table equals the world, value by value."""
    assert_equal_rows(loaded, world_tables(world))


def assert_equal_rows(loaded: Tables, expected: Tables) -> None:
    """Every live row of every table is the one that is expected, value by value."""
    for name, rows in expected.items():
        missing = [row for row in rows if row not in loaded[name]] if rows != loaded[name] else []
        surplus = [row for row in loaded[name] if row not in rows] if rows != loaded[name] else []
        assert loaded[name] == rows, (
            f"{name}: missing {missing[:3]}, not in the world {surplus[:3]}"
        )


def ordered(rows: list[Row]) -> list[Row]:
    keys = ("chat_message_id", "chat_id", "part_position", "position", "id", "phone_number_id")
    return sorted(
        ({name: row[name] for name in sorted(row)} for row in rows),
        key=lambda row: tuple(str(row.get(key, "")) for key in keys),
    )


def _pick(row: Row, *names: str) -> Row:
    return {name: row[name] for name in names}
