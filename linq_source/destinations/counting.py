"""Reading back how many messages of each chat are live."""

from __future__ import annotations

import dlt
from dlt.common.destination.exceptions import DestinationUndefinedEntity

from linq_source import tables
from linq_source.destinations.deletion import knows_expiry
from linq_source.destinations.kinds import restored_destination_of


def live_counts(pipeline: dlt.Pipeline) -> dict[int, int]:
    """Messages that are there, as far as anybody knows, by chat."""
    destination = restored_destination_of(pipeline)
    marks = ("deleted_at", "expired_at") if knows_expiry(pipeline) else ("deleted_at",)
    live = " AND ".join(f"{mark} IS NULL" for mark in marks)
    columns = {tables.CHAT_MESSAGES: ("chat_id", *marks), tables.CHATS: ("id", *marks)}
    with destination.reading(columns) as reader:
        try:
            rows = reader.rows(
                f"SELECT chat_id, COUNT(*) FROM {reader.name(tables.CHAT_MESSAGES)}"
                f" WHERE {live} AND chat_id NOT IN (SELECT id FROM"
                f" {reader.name(tables.CHATS)} WHERE NOT ({live})) GROUP BY chat_id"
            )
        except DestinationUndefinedEntity:
            return {}
    return {int(chat_id): int(count) for chat_id, count in rows}
