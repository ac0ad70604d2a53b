"""Applying the ledger to Delta and Iceberg tables: what is gone is marked, and children that went.

Which rows are concerned is computed by DuckDB from narrowed streams of a few columns; only their
keys are kept. Every change is one transaction of one table and idempotent: whatever is left
undone by a crash is found again, because the instant up to which all is settled is noted last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import dlt
import pyarrow as pa

from linq_source import tables
from linq_source.destinations.dataset_tables import in_shard, tables_of
from linq_source.destinations.deletion_rule import (
    CHAT_COLUMNS,
    NOTHING_MARKED,
    REJECTED_COLUMNS,
    WINDOW_COLUMNS,
    Marked,
    gone_chats,
    gone_messages,
    knows_expiry,
    message_columns,
)
from linq_source.destinations.duckdb_in_memory import make_table, spilling_duckdb
from linq_source.destinations.open_tables.delta import DeltaTables
from linq_source.destinations.open_tables.iceberg import IcebergTables
from linq_source.destinations.scan_filters import Condition, one_of
from linq_source.destinations.settled_until import remember_settled, settled_us
from linq_source.instants import from_us
from linq_source.settings import Id, Shard
from linq_source.tables import Table

MEMORY_LIMIT = "1GB"
_LIVE = (Condition("deleted_at", "is null"), Condition("expired_at", "is null"))

OpenTableStore = DeltaTables | IcebergTables


def settle_open_tables(
    store: OpenTableStore,
    pipeline: dlt.Pipeline,
    ledger_retention_days: int,
    shard: Shard | None = None,
) -> Marked:
    """Apply what the ledger proves; gives how many messages are newly marked.

    With a shard only its chats are looked at; the ledger is pruned whole.
    """
    if not knows_expiry(pipeline):
        return NOTHING_MARKED
    after = from_us(settled_us(pipeline, shard))
    with spilling_duckdb(MEMORY_LIMIT) as (connection, _):
        work = _Work(store, connection, after, shard, tables_of(pipeline))
        newest = work.newest()
        if newest is None:
            return NOTHING_MARKED
        work.remove_superseded_children()
        marked = work.mark_messages()
        work.mark_chats()
        work.prune(min(newest, datetime.now(UTC)) - timedelta(days=ledger_retention_days))
    remember_settled(pipeline, newest, shard)
    return marked


class _Work:
    """One settling: of what was loaded after an instant."""

    def __init__(
        self,
        store: OpenTableStore,
        database: Any,
        after: datetime,
        shard: Shard | None,
        stored: Mapping[str, Table],
    ) -> None:
        self._store = store
        self._database = database
        self._is_new = Condition("synced_at", ">", after)
        self._newest = after
        self._shard = shard
        self._tables = stored
        self._instant = stored[tables.CHAT_MESSAGES.name].partition_by

    def newest(self) -> datetime | None:
        """The instant of the newest package not settled yet; none if all are.

        A package may have changed nothing but chats, which are in no window.
        """
        self._read(
            "windows",
            tables.SYNC_WINDOWS,
            WINDOW_COLUMNS,
            self._is_new,
        )
        self._read("new_chats", tables.CHATS, ("id", "synced_at"), self._is_new)
        if self._shard is not None:
            chats = self._tables[tables.CHATS.name]
            ledger = self._tables[tables.SYNC_WINDOWS.name]
            for name, table, key in (("windows", ledger, "chat_id"), ("new_chats", chats, "id")):
                is_meant = in_shard(table, key, self._shard)
                self._database.execute(f"DELETE FROM {name} WHERE NOT {is_meant}")
        row = self._database.execute(
            "SELECT max(synced_at) FROM (SELECT synced_at FROM windows"
            " UNION ALL SELECT synced_at FROM new_chats)"
        ).fetchone()
        newest: datetime | None = row[0]
        self._newest = newest or self._newest
        return newest

    def remove_superseded_children(self) -> None:
        """Remove children that their parent, loaded since, came without.

        A chat comes without its lines where not all of them were asked: then others of these tell.
        """
        is_older = Condition("synced_at", "<", self._newest)
        for table in self._tables.values():
            if not table.is_child:
                continue
            parents = self._tables[table.parent]
            key = table.merge_key
            if parents.name == tables.CHATS.name:
                chats = self._ids("SELECT id FROM new_chats")
                changed = "new_chats"
            else:
                chats = self._ids("SELECT DISTINCT chat_id FROM windows")
                changed = "new_messages"
            narrowed = (is_older, *one_of("chat_id", chats))
            with self._stream("children", table, (key, "synced_at"), *narrowed) as is_any:
                if not is_any:
                    continue
                if table.name == tables.CHAT_PHONE_NUMBERS.name:
                    self._read("new_lines", table, (key, "synced_at"), self._is_new)
                    changed = f"(SELECT {key} AS id, synced_at FROM new_lines)"
                elif changed == "new_messages":
                    self._read(changed, parents, ("id", "synced_at"), self._is_new)
                superseded = self._database.sql(
                    f"SELECT c.{key} AS {key}, max(p.synced_at) AS synced_at"
                    f" FROM children AS c JOIN {changed} AS p ON p.id = c.{key}"
                    " WHERE c.synced_at < p.synced_at GROUP BY ALL"
                ).to_arrow_table()
            if superseded.num_rows:
                self._store.remove_children(table, superseded)

    def mark_messages(self) -> Marked:
        """Mark the messages that are gone."""
        ends = self._database.execute(
            "SELECT count(*), bool_or(window_start IS NULL), min(window_start), max(window_end)"
            " FROM windows WHERE verified"
        ).fetchone()
        if not ends[0]:
            return NOTHING_MARKED
        self._read("rejected", tables.REJECTED_RECORDS, REJECTED_COLUMNS, self._is_new)
        narrowed = [
            *_LIVE,
            Condition("synced_at", "<", self._newest),
            Condition(self._instant, "<", ends[3]),
            *one_of("chat_id", self._ids("SELECT DISTINCT chat_id FROM windows WHERE verified")),
        ]
        if not ends[1]:
            narrowed.append(Condition(self._instant, ">=", ends[2]))
        columns = message_columns(self._instant)
        with self._stream("messages", tables.CHAT_MESSAGES, columns, *narrowed) as is_any:
            if not is_any:
                return NOTHING_MARKED
            gone = gone_messages("windows", "messages", "rejected", self._instant)
            return self._mark(tables.CHAT_MESSAGES, gone)

    def mark_chats(self) -> None:
        """Mark the chats that vanished."""
        chats = self._ids("SELECT DISTINCT chat_id FROM windows WHERE NOT verified")
        if chats:
            self._read("chats", tables.CHATS, CHAT_COLUMNS, *_LIVE, *one_of("id", chats))
            self._mark(tables.CHATS, gone_chats("windows", "chats"))

    def _mark(self, table: Table, select: str) -> Marked:
        gone = self._database.sql(select).to_arrow_table()
        if gone.num_rows:
            self._store.mark(table, gone)
        instants = gone["deleted_at"], gone["expired_at"]
        return Marked(*(len(column) - column.null_count for column in instants))

    def prune(self, oldest_kept: datetime) -> None:
        """Remove ledger rows that are settled and older than they need be kept."""
        is_old = Condition("synced_at", "<", oldest_kept)
        with self._stream("old_windows", tables.SYNC_WINDOWS, ("synced_at",), is_old) as is_any:
            pass
        if is_any:
            self._store.remove(tables.SYNC_WINDOWS, [is_old])

    def _read(
        self, name: str, table: Table, columns: Sequence[str], *conditions: Condition
    ) -> None:
        """Keep narrowed rows as a table of the database."""
        make_table(self._database, name, self._reader(table, columns, conditions))

    @contextmanager
    def _stream(
        self, name: str, table: Table, columns: Sequence[str], *conditions: Condition
    ) -> Iterator[bool]:
        """Narrowed rows as a view that can be read once; gives whether there are any."""
        reader = self._reader(table, columns, conditions)
        first = next((batch for batch in reader if batch.num_rows), None)
        if first is None:
            yield False
            return
        whole = pa.RecordBatchReader.from_batches(reader.schema, _chained(first, reader))
        self._database.register(name, whole)
        try:
            yield True
        finally:
            self._database.unregister(name)

    def _reader(
        self, table: Table, columns: Sequence[str], conditions: Sequence[Condition]
    ) -> pa.RecordBatchReader:
        reader = self._store.scan(table, columns, conditions)
        if reader is None:
            schema = self._tables[table.name].schema
            schema = pa.schema([schema.field(name) for name in columns])
            return pa.RecordBatchReader.from_batches(schema, [])
        return reader

    def _ids(self, sql: str) -> set[Id]:
        return {row[0] for row in self._database.execute(sql).fetchall()}


def _chained(first: pa.RecordBatch, rest: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest
