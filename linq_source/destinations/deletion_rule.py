"""The rule of deletion, written once: what the ledger proves gone, and whether it was deleted.

A message inside a verified window that is newer than its own last load is gone. It was deleted
where the API was shown to keep older ones in that same reading (`kept_since`); otherwise it
expired. A window in which a record could not be typed proves nothing about that record: the message
that it names is left alone, and where none is named, the chat's windows of that run are.

The statements run on every database and on DuckDB over files. Windows, messages and so on are names
of tables, or queries in parentheses, with the columns named here. `instant` is the column of
messages that windows go by: `partition_by` of their table.
"""

from __future__ import annotations

from typing import NamedTuple

import dlt

from linq_source.destinations.pipeline_facts import schema_of_messages
from linq_source.tables import CHAT_MESSAGES, VANISHED, VANISHED_TEXT

WINDOW_COLUMNS = (
    "chat_id", "window_start", "window_end", "verified", "error", "event", "kept_since",
    "synced_at",
)  # fmt: skip
CHAT_COLUMNS = ("id", "deleted_at", "expired_at", "synced_at")
REJECTED_COLUMNS = ("chat_id", "message_id", "synced_at")

# Before rows told an event, what was gone counted as deleted.
_IS_EARLIER = "w.event IS NULL"


class Marked(NamedTuple):
    """How many messages were newly marked."""

    deleted: int = 0
    expired: int = 0


NOTHING_MARKED = Marked()


def message_columns(instant: str) -> tuple[str, ...]:
    """Return the columns of messages that the rule asks for."""
    return ("id", "chat_id", instant, "deleted_at", "expired_at", "synced_at")


def knows_expiry(pipeline: dlt.Pipeline) -> bool:
    """Return whether the pipeline's tables are of this version.

    In those of an earlier one nothing expired; the next load adds the columns.
    """
    name = schema_of_messages(pipeline)
    if name is None:
        return False
    return "expired_at" in pipeline.schemas[name].tables[CHAT_MESSAGES.name]["columns"]


def gone_messages(windows: str, messages: str, rejected: str, instant: str) -> str:
    """Return the SELECT of messages that are gone: `id`, `instant`, and one of two instants."""
    return _with_instants(
        f"m.id AS id, m.{instant} AS {instant}",
        f"""{windows} AS w JOIN {messages} AS m ON m.chat_id = w.chat_id
        WHERE w.verified AND m.deleted_at IS NULL AND m.expired_at IS NULL
          AND m.synced_at < w.synced_at
          AND (w.window_start IS NULL OR m.{instant} >= w.window_start)
          AND m.{instant} < w.window_end
          AND NOT EXISTS (
            SELECT 1 FROM {rejected} AS r
            WHERE r.chat_id = w.chat_id AND r.synced_at = w.synced_at
              AND (r.message_id IS NULL OR r.message_id = m.id))
        GROUP BY m.id, m.{instant}""",
        f"{_IS_EARLIER} OR w.kept_since <= m.{instant}",
    )


def gone_chats(windows: str, chats: str) -> str:
    """Return the SELECT of chats that vanished: `id`, and one of two instants."""
    return _with_instants(
        "c.id AS id",
        f"""{windows} AS w JOIN {chats} AS c ON c.id = w.chat_id
        WHERE (w.event = '{VANISHED}' OR w.error = '{VANISHED_TEXT}')
          AND c.deleted_at IS NULL AND c.expired_at IS NULL AND c.synced_at < w.synced_at
        GROUP BY c.id""",
        # The ledger tells of a vanished chat what is kept only if that is older than its newest.
        f"{_IS_EARLIER} OR w.kept_since IS NOT NULL",
    )


def _with_instants(columns: str, of: str, is_deleted: str) -> str:
    names = [column.rpartition(" ")[2] for column in columns.split(", ")]
    return f"""
      SELECT {", ".join(names)}, deleted_at, gone_at,
        CASE WHEN deleted_at IS NULL THEN gone_at END AS expired_at
      FROM (
        SELECT {columns}, MIN(w.synced_at) AS gone_at,
          MIN(CASE WHEN {is_deleted} THEN w.synced_at END) AS deleted_at
        FROM {of}) AS found"""
