"""The floor: `http.client` on one connection, `pyarrow.json` for many pages at once, DuckDB.

What remains when everything else is left away; no program that keeps types is much faster on
one connection.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from benchmarks.contenders.common import (
    API,
    PER_PAGE,
    TOKEN,
    TOKEN_HEADER,
    list_chats,
    parser,
    report_counts,
)

_PAGES_AT_ONCE = 200
_INSTANT = pa.timestamp("ms", tz="UTC")
_ATTACHMENT = pa.struct(
    {
        "id": pa.string(),
        "url": pa.string(),
        "filename": pa.string(),
        "mime_type": pa.string(),
        "file_size": pa.int64(),
    }
)
_REACTION = pa.struct(
    {
        "id": pa.int64(),
        "chat_message_id": pa.int64(),
        "reaction": pa.string(),
        "is_from_me": pa.bool_(),
        "from_phone": pa.string(),
        "sent_at": pa.string(),
        "created_at": pa.string(),
        "updated_at": pa.string(),
    }
)
_MESSAGE = pa.struct(
    {
        "id": pa.int64(),
        "text": pa.string(),
        "sent_at": pa.string(),
        "delivered_at": pa.string(),
        "delivery_status": pa.string(),
        "edited_at": pa.string(),
        "is_read": pa.bool_(),
        "sent_from": pa.string(),
        "chat_handle_id": pa.int64(),
        "attachments": pa.list_(_ATTACHMENT),
        "reactions": pa.list_(_REACTION),
    }
)
_PAGE = pa.schema({"data": pa.list_(_MESSAGE)})
_INSTANTS = ("sent_at", "delivered_at", "edited_at", "created_at", "updated_at")


class Api:
    """One connection."""

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        self._connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)

    def get(self, path: str, parameters: dict[str, str]) -> bytes:
        """The body of a successful answer."""
        target = f"{path}?{urlencode(parameters)}" if parameters else path
        self._connection.request("GET", target, headers={TOKEN_HEADER: TOKEN})
        response = self._connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError(f"HTTP {response.status} for {path}")
        return body


def pages(api: Api) -> Iterator[tuple[int, bytes]]:
    """Every page of every chat, with the chat's id."""
    for chat_id in list_chats(api.get):
        page = total_pages = 1
        while page <= total_pages:
            parameters = {"page": str(page), "per_page": str(PER_PAGE)}
            body = api.get(f"{API}/chats/{chat_id}/chat_messages", parameters)
            if page == 1:
                total_pages = json.loads(body)["meta"]["total_pages"]
            yield chat_id, body
            page += 1


def tables(chat_ids: list[int], bodies: list[bytes]) -> dict[str, pa.Table]:
    """Rows of several pages, by table."""
    buffer = b"\n".join(bodies)
    block = pj.read_json(
        pa.BufferReader(buffer),
        read_options=pj.ReadOptions(use_threads=False, block_size=len(buffer) + 1),
        parse_options=pj.ParseOptions(explicit_schema=_PAGE, unexpected_field_behavior="ignore"),
    )
    data = block["data"].chunk(0)
    messages = _typed(pc.list_flatten(data))
    chat_id = pa.array(chat_ids, pa.int64()).take(pc.list_parent_indices(data))
    found = {"chat_messages": messages.drop_columns(["attachments", "reactions"])}
    found["chat_messages"] = found["chat_messages"].add_column(0, "chat_id", chat_id)
    for child in ("attachments", "reactions"):
        lists = messages[child].chunk(0)
        message_id = messages["id"].take(pc.list_parent_indices(lists))
        rows = _typed(pc.list_flatten(lists))
        found[f"chat_messages__{child}"] = rows.add_column(0, "message_id", message_id)
    return found


def _typed(structs: Any) -> pa.Table:
    names = [field.name for field in structs.type]
    columns = [
        pc.cast(column, _INSTANT) if name in _INSTANTS else column
        for name, column in zip(names, structs.flatten(), strict=True)
    ]
    return pa.table(dict(zip(names, columns, strict=True)))


def write(connection: Any, found: dict[str, pa.Table]) -> None:
    """Append rows, creating the tables with the first ones."""
    for name, table in found.items():
        connection.register("arriving", table)
        connection.execute(f"CREATE TABLE IF NOT EXISTS {name} AS FROM arriving LIMIT 0")
        connection.execute(f"INSERT INTO {name} FROM arriving")
        connection.unregister("arriving")


def main() -> None:
    """Read everything into the database."""
    arguments = parser(__doc__).parse_args()
    arguments.database.unlink(missing_ok=True)
    with duckdb.connect(str(arguments.database)) as connection:
        chat_ids: list[int] = []
        bodies: list[bytes] = []
        for chat_id, body in pages(Api(arguments.base_url)):
            chat_ids.append(chat_id)
            bodies.append(body)
            if len(bodies) == _PAGES_AT_ONCE:
                write(connection, tables(chat_ids, bodies))
                chat_ids, bodies = [], []
        if bodies:
            write(connection, tables(chat_ids, bodies))
    report_counts(arguments.database, "main")


if __name__ == "__main__":
    main()
