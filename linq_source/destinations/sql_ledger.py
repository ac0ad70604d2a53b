"""Applying the ledger in a SQL destination: what verified windows prove gone is marked.

Everything here is idempotent: run again after a crash, it gives the same result. Only windows
newer than the last settled are looked at.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import dlt
from dlt.common.schema.typing import LOADS_TABLE_NAME, PIPELINE_STATE_TABLE_NAME
from dlt.destinations.exceptions import DatabaseTransientException, DatabaseUndefinedRelation
from tenacity import (
    retry,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from linq_source import tables
from linq_source.destinations.dataset_tables import in_shard, tables_of
from linq_source.destinations.deletion_rule import (
    NOTHING_MARKED,
    WINDOW_COLUMNS,
    Marked,
    gone_chats,
    gone_messages,
    knows_expiry,
    message_columns,
)
from linq_source.destinations.settled_until import remember_settled, settled_us
from linq_source.instants import from_us, to_us
from linq_source.settings import Shard

# States of a pipeline that are kept when there are more than twice as many.
STATES_KEPT = 10
# Before every message.
_EARLIEST = datetime(1, 1, 1, tzinfo=UTC)


def settle_sql(
    pipeline: dlt.Pipeline, client: Any, ledger_retention_days: int, shard: Shard | None = None
) -> Marked:
    """Mark what the ledger proves gone; gives how many messages are newly marked.

    With a shard only windows of its chats are looked at, and pruned.
    """
    if not knows_expiry(pipeline):
        return NOTHING_MARKED
    after = from_us(settled_us(pipeline, shard))
    stored = tables_of(pipeline)
    ledger = stored[tables.SYNC_WINDOWS.name]
    of_shard = "" if shard is None else f" AND {in_shard(ledger, 'chat_id', shard)}"
    instant = stored[tables.CHAT_MESSAGES.name].partition_by
    try:
        newest, first, last = _reach(client, after, of_shard)
        if newest is None:
            return NOTHING_MARKED
        marked = _mark_messages(client, after, first, last, of_shard, instant)
        _mark_chats(client, after, of_shard)
        _prune(client, newest, ledger_retention_days, of_shard)
    except DatabaseUndefinedRelation:
        return NOTHING_MARKED
    _prune_states(client, pipeline.pipeline_name)
    remember_settled(pipeline, newest, shard)
    return marked


def _reach(client: Any, after: datetime, of_shard: str) -> tuple[Any, datetime, datetime]:
    """The newest window not yet settled, and the interval of instants that all of them cover."""
    rows = client.execute_sql(
        "SELECT MAX(synced_at), MIN(window_start), MAX(window_end),"
        " SUM(CASE WHEN verified AND window_start IS NULL THEN 1 ELSE 0 END)"
        f" FROM {_name(client, tables.SYNC_WINDOWS)} WHERE synced_at > %s{of_shard}",
        after,
    )
    newest, first, last, from_the_beginning = rows[0]
    return newest, _EARLIEST if from_the_beginning or first is None else first, last or _EARLIEST


def _mark_messages(
    client: Any, after: datetime, first: datetime, last: datetime, of_shard: str, instant: str
) -> Marked:
    """Mark the messages that are gone.

    That no message outside [`first`, `last`) can be meant is said with constants: they are what
    lets a partitioned table leave the rest unread.
    """
    messages = _name(client, tables.CHAT_MESSAGES)
    gone = gone_messages(
        _windows(client, of_shard),
        f"(SELECT {', '.join(message_columns(instant))} FROM {messages}"
        f" WHERE {instant} >= %s AND {instant} < %s)",
        _name(client, tables.REJECTED_RECORDS),
        instant,
    )
    found = client.execute_sql(
        "SELECT COUNT(g.deleted_at), COUNT(g.expired_at),"
        f" MIN(g.{instant}), MAX(g.{instant})"
        f" FROM ({gone}) AS g",
        *(after, first, last),
    )
    deleted, expired, earliest, latest = found[0]
    if deleted or expired:
        # An alias, because BigQuery cannot qualify a column with a table's path.
        _change(
            client,
            f"UPDATE {messages} AS t SET deleted_at = gone.deleted_at,"
            f" expired_at = gone.expired_at FROM ({gone}) AS gone"
            f" WHERE t.id = gone.id AND t.{instant} = gone.{instant}"
            f" AND t.{instant} >= %s AND t.{instant} <= %s",
            *(after, earliest, from_us(to_us(latest) + 1)),
            *(earliest, latest),
        )
    return Marked(int(deleted), int(expired))


def _mark_chats(client: Any, after: datetime, of_shard: str) -> None:
    chats = _name(client, tables.CHATS)
    try:
        _change(
            client,
            f"UPDATE {chats} AS t SET deleted_at = gone.deleted_at, expired_at = gone.expired_at"
            f" FROM ({gone_chats(_windows(client, of_shard), chats)}) AS gone WHERE t.id = gone.id",
            after,
        )
    except DatabaseUndefinedRelation:
        return


def _windows(client: Any, of_shard: str) -> str:
    """The shard's windows after an instant."""
    return (
        f"(SELECT {', '.join(WINDOW_COLUMNS)} FROM {_name(client, tables.SYNC_WINDOWS)}"
        f" WHERE synced_at > %s{of_shard})"
    )


def _prune(client: Any, newest: datetime, retention_days: int, of_shard: str) -> None:
    oldest_kept = min(newest, datetime.now(UTC)) - timedelta(days=retention_days)
    _change(
        client,
        f"DELETE FROM {_name(client, tables.SYNC_WINDOWS)} WHERE synced_at < %s{of_shard}",
        oldest_kept,
    )


def _prune_states(client: Any, pipeline_name: str) -> None:
    """Keep the newest states of a pipeline: dlt adds one with every run that changes it.

    dlt goes on from the newest whose load is complete (`get_stored_state`), so states are counted
    from there, and all that is newer stays as well. Buckets prune theirs (`max_state_files`).
    """
    states = client.make_qualified_table_name(PIPELINE_STATE_TABLE_NAME)
    loads = client.make_qualified_table_name(LOADS_TABLE_NAME)
    found = client.execute_sql(
        f"SELECT DISTINCT s._dlt_load_id FROM {states} AS s"
        f" JOIN {loads} AS l ON l.load_id = s._dlt_load_id"
        " WHERE s.pipeline_name = %s AND l.status = 0",
        pipeline_name,
    )
    complete = sorted((str(load_id) for (load_id,) in found), reverse=True)
    if len(complete) > 2 * STATES_KEPT:
        _change(
            client,
            f"DELETE FROM {states} WHERE pipeline_name = %s AND _dlt_load_id < %s",
            pipeline_name,
            complete[STATES_KEPT - 1],
        )


@retry(
    retry=retry_if_exception_type(DatabaseTransientException),
    stop=stop_after_attempt(6),
    wait=wait_random_exponential(multiplier=0.5, max=20.0),
    reraise=True,
)
def _change(client: Any, sql: str, *parameters: Any) -> None:
    """Run a statement that may be run again.

    Two shards that change one table at once: a warehouse may refuse one of them and expects it
    to try again (https://cloud.google.com/bigquery/docs/data-manipulation-language).
    """
    client.execute_sql(sql, *parameters)


def _name(client: Any, table: tables.Table) -> str:
    return str(client.make_qualified_table_name(table.name))
