"""What every contender's command line and report have in common."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb

API = "/api/partner/v2"
PER_PAGE = 100
TOKEN = "benchmark-token"
TOKEN_HEADER = "X-LINQ-INTEGRATION-TOKEN"

_TABLES = {
    "messages": "chat_messages",
    "attachments": "chat_messages__attachments",
    "reactions": "chat_messages__reactions",
}


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options all contenders take."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--base-url", required=True)
    result.add_argument("--database", type=Path, required=True, help="DuckDB file to fill")
    return result


def report_counts(database: Path, schema: str, *, peak_kb: int | None = None) -> None:
    """Print what the database holds as one line of JSON.

    `peak_kb` is the peak memory of a contender that is several processes at once.
    """
    with duckdb.connect(str(database), read_only=True) as connection:
        counts = {name: _count(connection, schema, table) for name, table in _TABLES.items()}
        for name in ("attachments", "reactions"):
            counts[name] += _count_nested(connection, schema, name)
    if peak_kb is not None:
        counts["peak_kb"] = peak_kb
    print(json.dumps(counts), flush=True)


def _count(connection: Any, schema: str, table: str) -> int:
    try:
        row = connection.execute(f"SELECT COUNT(*) FROM {schema}.{table}").fetchone()
    except duckdb.CatalogException:
        return 0
    return int(row[0])


def _count_nested(connection: Any, schema: str, column: str) -> int:
    """Children kept as JSON in their message's row."""
    try:
        row = connection.execute(
            f"SELECT SUM(json_array_length({column}::JSON)) FROM {schema}.chat_messages"
        ).fetchone()
    except (duckdb.BinderException, duckdb.CatalogException):
        return 0
    return int(row[0] or 0)


def list_chats(get: Callable[[str, dict[str, str]], bytes]) -> list[int]:
    """Ids of the chats that the organisation's numbers see. `get` takes a path and parameters."""
    chat_ids: list[int] = []
    numbers = json.loads(get(f"{API}/phone_numbers", {}))["phone_numbers"]
    for number in numbers:
        page = total_pages = 1
        while page <= total_pages:
            parameters = {
                "phone_number": number["phone_number"],
                "page": str(page),
                "per_page": str(PER_PAGE),
            }
            answer = json.loads(get(f"{API}/chats", parameters))
            chat_ids += [chat["id"] for chat in answer["data"]]
            total_pages = answer["meta"]["total_pages"]
            page += 1
    return list(dict.fromkeys(chat_ids))
