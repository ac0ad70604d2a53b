"""Reading back what is live of each chat, and what may have been lost."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

import dlt
from dlt.common.destination.exceptions import DestinationUndefinedEntity

from linq_source import tables
from linq_source.destinations.kinds import restored_destination_of
from linq_source.settings import Id, Shard
from linq_source.tables import GAP


class Live(NamedTuple):
    """How many messages of a chat are live, and the instant of the oldest."""

    messages: int
    oldest: datetime


class Gap(NamedTuple):
    """An interval of a chat of which the API may have forgotten messages before they were read."""

    chat_id: Id
    start: datetime
    end: datetime


def live_messages(pipeline: dlt.Pipeline) -> dict[Id, Live]:
    """Messages that are there, as far as anybody knows, by chat."""
    marks = ("deleted_at", "expired_at")
    destination = restored_destination_of(pipeline)
    instant = destination.tables[tables.CHAT_MESSAGES.name].partition_by
    columns = {
        tables.CHAT_MESSAGES: ("chat_id", instant, *marks),
        tables.CHATS: ("id", *marks),
    }
    with destination.reading(columns) as reader:
        try:
            # The destination tells: this machine may not know what version loaded it.
            stored = reader.columns(tables.CHAT_MESSAGES) & reader.columns(tables.CHATS)
        except DestinationUndefinedEntity:
            return {}
        live = " AND ".join(f"{mark} IS NULL" for mark in marks if mark in stored)
        rows = reader.ask(
            f"SELECT chat_id, COUNT(*), MIN({instant}) FROM {{chat_messages}}"
            f" WHERE {live} AND chat_id NOT IN (SELECT id FROM {{chats}} WHERE NOT ({live}))"
            " GROUP BY chat_id"
        )
    return {chat_id: Live(int(count), oldest) for chat_id, count, oldest in rows}


def gaps_since(pipeline: dlt.Pipeline, since: datetime, shard: Shard | None) -> list[Gap]:
    """The gaps that were entered in the ledger after an instant, in the order of chats."""
    columns = ("chat_id", "window_start", "window_end", "event", "synced_at")
    with restored_destination_of(pipeline).reading({tables.SYNC_WINDOWS: columns}) as reader:
        try:
            if "event" not in reader.columns(tables.SYNC_WINDOWS):
                return []
        except DestinationUndefinedEntity:
            return []
        rows = reader.ask(
            "SELECT chat_id, window_start, window_end FROM {sync_windows}"
            f" WHERE event = '{GAP}' AND synced_at > %s",
            since,
        )
    return sorted(
        Gap(chat_id, start.astimezone(UTC), end.astimezone(UTC))
        for chat_id, start, end in rows
        if shard is None or chat_id in shard
    )
