"""Reading back how many messages of each chat are live."""

from __future__ import annotations

import dlt
from dlt.common.destination.exceptions import DestinationUndefinedEntity

from linq_source import tables
from linq_source.destinations.kinds import restored_destination_of


def live_counts(pipeline: dlt.Pipeline) -> dict[int, int]:
    """Messages not marked deleted, per chat that is not marked deleted."""
    columns = {tables.CHAT_MESSAGES: ("chat_id", "deleted_at"), tables.CHATS: ("id", "deleted_at")}
    with restored_destination_of(pipeline).reading(columns) as reader:
        try:
            rows = reader.rows(
                f"SELECT chat_id, COUNT(*) FROM {reader.name(tables.CHAT_MESSAGES)}"
                " WHERE deleted_at IS NULL AND chat_id NOT IN (SELECT id FROM"
                f" {reader.name(tables.CHATS)} WHERE deleted_at IS NOT NULL) GROUP BY chat_id"
            )
        except DestinationUndefinedEntity:
            return {}
    return {int(chat_id): int(count) for chat_id, count in rows}
