"""Reading back how many messages of each chat are live, in each destination's own way."""

from __future__ import annotations

from typing import Any

import dlt
import duckdb
from dlt.common.destination.exceptions import DestinationUndefinedEntity

from linq_source import tables
from linq_source.destinations.conditions import Condition
from linq_source.destinations.lake import Bucket, count_lake
from linq_source.destinations.open_tables.ledger import OpenTables, open_tables
from linq_source.destinations.remote import connected, restore
from linq_source.destinations.table_formats import is_filesystem, schema_of_messages


def live_counts(pipeline: dlt.Pipeline) -> dict[int, int]:
    """Messages not marked deleted, per chat that is not marked deleted."""
    if is_filesystem(pipeline) and schema_of_messages(pipeline) is None:
        restore(pipeline)  # the schema says how the tables are kept
    with open_tables(pipeline) as store:
        if store is not None:
            counts = _counts_in(store)
        elif is_filesystem(pipeline):
            with connected(pipeline) as remote:
                counts = count_lake(Bucket.of(remote))
        else:
            counts = _counts_in_sql(pipeline)
    return {int(chat_id): int(count) for chat_id, count in counts}


def _counts_in(store: OpenTables) -> list[Any]:
    is_live, is_gone = Condition("deleted_at", "is null"), Condition("deleted_at", "is not null")
    messages = store.scan(tables.CHAT_MESSAGES, ("chat_id",), [is_live])
    chats = store.scan(tables.CHATS, ("id",), [is_gone])
    if messages is None:
        return []
    with duckdb.connect() as database:
        database.register("messages", messages)
        database.register("gone", chats or tables.CHATS.schema.empty_table())
        return database.execute(
            "SELECT chat_id, count(*) FROM messages ANTI JOIN gone ON id = chat_id GROUP BY chat_id"
        ).fetchall()


def _counts_in_sql(pipeline: dlt.Pipeline) -> list[Any]:
    try:
        with pipeline.sql_client() as client:
            messages = client.make_qualified_table_name(tables.CHAT_MESSAGES.name)
            chats = client.make_qualified_table_name(tables.CHATS.name)
            rows = client.execute_sql(
                f"SELECT chat_id, COUNT(*) FROM {messages} WHERE deleted_at IS NULL"
                f" AND chat_id NOT IN (SELECT id FROM {chats} WHERE deleted_at IS NOT NULL)"
                " GROUP BY chat_id"
            )
    except DestinationUndefinedEntity:
        return []
    return list(rows or ())
