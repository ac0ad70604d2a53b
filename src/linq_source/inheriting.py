"""Asking a destination what other pipelines loaded into it, and what they remember.

One narrow question per run; the states of others are read only where the answer, or a pipeline
that never ran, calls for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import dlt
from dlt.common.destination.exceptions import DestinationUndefinedEntity

from linq_source import tables
from linq_source.instants import from_us, to_us
from linq_source.lake import Bucket
from linq_source.lake.log import loads_since, rows_since
from linq_source.planning.inheritance import (
    NOTHING_INHERITED,
    Inheritance,
    LoadedWindow,
    Memory,
    inherit,
    since_of,
)
from linq_source.planning.privacy import PLAIN
from linq_source.planning.windows import Window
from linq_source.remote import Remote
from linq_source.settings import Shard
from linq_source.settling.conditions import Condition
from linq_source.settling.open_tables import OpenTables, open_tables
from linq_source.source import CLOCK, FORGOTTEN, PRIVACY, SECTION, STAMPS
from linq_source.table_formats import is_filesystem
from linq_source.tables import Table

Rows = list[tuple[Any, ...]]


class Store(Protocol):
    """The rows of a dataset, as far as they tell what others loaded."""

    def rows(
        self, table: Table, columns: Sequence[str], since_us: int, known: Iterable[int] = ()
    ) -> Rows:
        """Rows stamped after an instant. Those of known stamps may be among them or not."""


def find_inheritance(
    pipeline: dlt.Pipeline, remote: Remote, shard: Shard | None, table_format: str | None = None
) -> Inheritance:
    """What the pipeline has to take into account of what others loaded into its dataset.

    A pipeline that begins in tables of an open format cannot read them before it knows their
    schema: it takes over no cursor, and reads everything.
    """
    own = _memory(pipeline.pipeline_name, pipeline.state)
    if not own.clock_us:
        others = _others(pipeline, remote)
        if not others:
            return NOTHING_INHERITED
        if table_format is not None:
            return inherit(own, [replace(memory, cursors={}) for memory in others], [], shard)
    with _store(pipeline, remote) as store:
        if not own.clock_us:
            loaded = _windows(store, since_of(own, others, shard), shard)
            return inherit(own, others, loaded, shard)
        foreign = [
            row for row in _windows(store, own.since_us, shard, own.stamps)
            if not own.knows(row.stamp_us)
        ]  # fmt: skip
        rewritten = {
            # Where it vanished, a chat's row was marked.
            tables.CHATS.name: _foreign(store, tables.CHATS, own, shard)
            | {row.window.chat_id for row in foreign if row.failed},
            tables.PHONE_NUMBERS.name: _foreign(store, tables.PHONE_NUMBERS, own, None),
        }
        if not foreign:
            return Inheritance(rewritten=rewritten)
        others = _others(pipeline, remote)
        # What others remember has to be judged by what this pipeline loaded, too.
        since_us = min(memory.since_us for memory in (own, *others))
        loaded = _windows(store, since_us, shard) if others else foreign
    touched = frozenset(str(row.window.chat_id) for row in foreign)
    return replace(inherit(own, others, loaded, shard, touched), rewritten=rewritten)


def _windows(
    store: Store, since_us: int, shard: Shard | None, known: Iterable[int] = ()
) -> list[LoadedWindow]:
    """The ledger's windows of the shard's chats."""
    columns = ("chat_id", "window_start", "window_end", "messages", "error", "synced_at")
    rows = store.rows(tables.SYNC_WINDOWS, columns, since_us, known)
    return [
        LoadedWindow(
            Window(chat_id, None if start is None else to_us(start), to_us(end)),
            messages or 0,
            to_us(at),
            error is not None,
        )
        for chat_id, start, end, messages, error, at in rows
        if shard is None or chat_id in shard
    ]


def _foreign(store: Store, table: Table, own: Memory, shard: Shard | None) -> frozenset[int]:
    """Ids of rows that somebody else loaded."""
    rows = store.rows(table, ("id", "synced_at"), own.since_us, own.stamps)
    return frozenset(
        row_id
        for row_id, at in rows
        if not own.knows(to_us(at)) and (shard is None or row_id in shard)
    )


@contextmanager
def _store(pipeline: dlt.Pipeline, remote: Remote) -> Iterator[Store]:
    with open_tables(pipeline) as tables_:
        if tables_ is not None:
            yield _OpenStore(tables_)
        elif is_filesystem(pipeline):
            yield _LakeStore(Bucket.of(remote))
        else:
            yield _SqlStore(remote.sql)


@dataclass(frozen=True)
class _SqlStore:
    client: Any

    def rows(
        self, table: Table, columns: Sequence[str], since_us: int, known: Iterable[int] = ()
    ) -> Rows:
        instants = [from_us(stamp) for stamp in known if stamp > since_us]
        others = f" AND synced_at NOT IN ({', '.join(['%s'] * len(instants))})" if instants else ""
        name = self.client.make_qualified_table_name(table.name)
        try:
            found = self.client.execute_sql(
                f"SELECT {', '.join(columns)} FROM {name} WHERE synced_at > %s{others}",
                from_us(since_us),
                *instants,
            )
        except DestinationUndefinedEntity:
            return []
        return list(found or ())


@dataclass(frozen=True)
class _LakeStore:
    bucket: Bucket

    def rows(
        self, table: Table, columns: Sequence[str], since_us: int, known: Iterable[int] = ()
    ) -> Rows:
        # Its newest version wins whatever lands last, and a file is expensive to open: no older
        # loads than those that began with the pipeline's newest.
        newest_us = max([since_us, *known])
        return rows_since(
            self.bucket, table, columns, since_us, loads_since(self.bucket, newest_us)
        )


@dataclass(frozen=True)
class _OpenStore:
    tables: OpenTables

    def rows(
        self, table: Table, columns: Sequence[str], since_us: int, known: Iterable[int] = ()
    ) -> Rows:
        condition = Condition("synced_at", ">", from_us(since_us))
        reader = self.tables.scan(table, columns, [condition])
        if reader is None:
            return []
        found = reader.read_all().select(columns)
        return list(zip(*(column.to_pylist() for column in found.columns), strict=True))


def pipelines_of(remote: Remote) -> list[str]:
    """Names of all pipelines whose state the dataset holds."""
    client = remote.client
    table = client.schema.state_table_name
    if hasattr(client, "fs_client"):
        files = Bucket.of(remote).list(table)
        names = {path.rpartition("/")[2].rsplit("__", 2)[0] for path in files if "__" in path}
        return sorted(names)
    try:
        column = client.schema.naming.normalize_identifier("pipeline_name")
        found = remote.sql.execute_sql(
            f"SELECT DISTINCT {remote.sql.escape_column_name(column)}"
            f" FROM {remote.sql.make_qualified_table_name(table)}"
        )
    except DestinationUndefinedEntity:
        return []
    return sorted(str(name) for (name,) in found or ())


def _others(pipeline: dlt.Pipeline, remote: Remote) -> list[Memory]:
    found = []
    for name in pipelines_of(remote):
        if name != pipeline.pipeline_name:
            memory = _memory(name, Remote(name, remote.client).state() or {})
            if memory.clock_us:
                found.append(memory)
    return found


def _memory(name: str, state: Mapping[str, Any]) -> Memory:
    source = state.get("sources", {}).get(SECTION, {})
    clock_us = int(source.get(CLOCK, 0))
    return Memory(
        name,
        clock_us,
        frozenset(int(stamp) for stamp in source.get(STAMPS, ())) | {clock_us},
        source.get("resources", {}).get("chat_messages", {}).get("cursors", {}),
        source.get(FORGOTTEN),
        source.get(PRIVACY, PLAIN.fingerprint),
    )
