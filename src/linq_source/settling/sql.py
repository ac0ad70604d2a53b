"""Applying the ledger in a SQL destination: what verified windows prove deleted is marked.

Everything here is idempotent: run again after a crash, it gives the same result. Only windows
newer than the last settled are looked at.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import dlt
from dlt.destinations.exceptions import DatabaseUndefinedRelation

from linq_source import tables
from linq_source.extraction import VANISHED
from linq_source.instants import from_us
from linq_source.settling.memory import remember_settled, settled_us


def settle_sql(pipeline: dlt.Pipeline, client: Any, ledger_retention_days: int) -> int:
    """Mark what the ledger proves deleted; gives the number of messages newly marked."""
    after = from_us(settled_us(pipeline))
    try:
        newest = _scalar(
            client,
            f"SELECT MAX(synced_at) FROM {_name(client, tables.SYNC_WINDOWS)} WHERE synced_at > %s",
            after,
        )
        if newest is None:
            return 0
        marked = _mark_messages(client, after)
        _mark_chats(client, after)
        _prune(client, newest, ledger_retention_days)
    except DatabaseUndefinedRelation:
        return 0
    remember_settled(pipeline, newest)
    return marked


def _mark_messages(client: Any, after: datetime) -> int:
    """A message in a verified window newer than its own last load was deleted upstream.

    A window in which a record could not be typed proves nothing about that record: the message
    it names is left alone, and where none is named, the chat's windows of that run are.
    """
    messages = _name(client, tables.CHAT_MESSAGES)
    windows = _name(client, tables.SYNC_WINDOWS)
    rejected = _name(client, tables.REJECTED_RECORDS)
    gone = f"""
        SELECT m.id AS id, MIN(w.synced_at) AS proved_at
        FROM {windows} AS w JOIN {messages} AS m ON m.chat_id = w.chat_id
        WHERE w.verified AND w.synced_at > %s AND m.deleted_at IS NULL
          AND m.synced_at < w.synced_at
          AND (w.window_start IS NULL OR m.sent_at >= w.window_start)
          AND m.sent_at < w.window_end
          AND NOT EXISTS (
            SELECT 1 FROM {rejected} AS r
            WHERE r.chat_id = w.chat_id AND r.synced_at = w.synced_at
              AND (r.message_id IS NULL OR r.message_id = m.id))
        GROUP BY m.id"""
    marked = int(_scalar(client, f"SELECT COUNT(*) FROM ({gone}) AS g", after) or 0)
    if marked:
        client.execute_sql(
            f"UPDATE {messages} SET deleted_at = gone.proved_at FROM ({gone}) AS gone"
            f" WHERE {messages}.id = gone.id",
            after,
        )
    return marked


def _mark_chats(client: Any, after: datetime) -> None:
    chats = _name(client, tables.CHATS)
    windows = _name(client, tables.SYNC_WINDOWS)
    gone = f"""
        SELECT chat_id, MIN(synced_at) AS proved_at FROM {windows}
        WHERE error = %s AND synced_at > %s GROUP BY chat_id"""
    try:
        client.execute_sql(
            f"UPDATE {chats} SET deleted_at = gone.proved_at FROM ({gone}) AS gone"
            f" WHERE {chats}.id = gone.chat_id AND {chats}.deleted_at IS NULL"
            f" AND {chats}.synced_at < gone.proved_at",
            VANISHED,
            after,
        )
    except DatabaseUndefinedRelation:
        return


def _prune(client: Any, newest: datetime, retention_days: int) -> None:
    oldest_kept = min(newest, datetime.now(UTC)) - timedelta(days=retention_days)
    client.execute_sql(
        f"DELETE FROM {_name(client, tables.SYNC_WINDOWS)} WHERE synced_at < %s", oldest_kept
    )


def _name(client: Any, table: tables.Table) -> str:
    return str(client.make_qualified_table_name(table.name))


def _scalar(client: Any, sql: str, *parameters: Any) -> Any:
    rows = client.execute_sql(sql, *parameters)
    return rows[0][0] if rows else None
