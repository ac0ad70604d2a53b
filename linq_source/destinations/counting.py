"""Reading back what is live of each chat, and what may have been lost."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

import dlt
from dlt.common.destination.exceptions import DestinationUndefinedEntity

from linq_source import tables
from linq_source.destinations.base import Wanted
from linq_source.destinations.deletion import knows_expiry
from linq_source.destinations.kinds import restored_destination_of
from linq_source.destinations.remote import connected
from linq_source.instants import to_us
from linq_source.settings import Shard
from linq_source.tables import GAP


class Live(NamedTuple):
    """How many messages of a chat are live, and the `sent_at` of the oldest."""

    messages: int
    oldest: datetime


class Gap(NamedTuple):
    """An interval of a chat of which the API may have forgotten messages before they were read."""

    chat_id: int
    start: datetime
    end: datetime


def live_messages(pipeline: dlt.Pipeline) -> dict[int, Live]:
    """Messages that are there, as far as anybody knows, by chat."""
    destination = restored_destination_of(pipeline)
    marks = ("deleted_at", "expired_at") if knows_expiry(pipeline) else ("deleted_at",)
    live = " AND ".join(f"{mark} IS NULL" for mark in marks)
    columns = {
        tables.CHAT_MESSAGES: ("chat_id", "sent_at", *marks),
        tables.CHATS: ("id", *marks),
    }
    with destination.reading(columns) as reader:
        try:
            rows = reader.rows(
                "SELECT chat_id, COUNT(*), MIN(sent_at) FROM"
                f" {reader.name(tables.CHAT_MESSAGES)}"
                f" WHERE {live} AND chat_id NOT IN (SELECT id FROM"
                f" {reader.name(tables.CHATS)} WHERE NOT ({live})) GROUP BY chat_id"
            )
        except DestinationUndefinedEntity:
            return {}
    return {int(chat_id): Live(int(count), oldest) for chat_id, count, oldest in rows}


def gaps_since(pipeline: dlt.Pipeline, since: datetime, shard: Shard | None) -> list[Gap]:
    """The gaps that were entered in the ledger after an instant, in the order of chats."""
    destination = restored_destination_of(pipeline)
    if not knows_expiry(pipeline):
        return []
    columns = ("chat_id", "window_start", "window_end", "event", "synced_at")
    wanted = Wanted(tables.SYNC_WINDOWS, columns, to_us(since), shard)
    with connected(pipeline) as remote:
        (rows,) = destination.rows_since(remote, [wanted])
    return sorted(
        Gap(int(chat_id), start.astimezone(UTC), end.astimezone(UTC))
        for chat_id, start, end, event, _ in rows
        if event == GAP and (shard is None or chat_id in shard)
    )
