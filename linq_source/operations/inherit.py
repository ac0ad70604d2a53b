"""Asking a destination what other pipelines loaded into it, and what they remember.

One narrow question per run; the states of others are read only where the answer, or a pipeline
that never ran, calls for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import dlt
from dlt.common.destination.exceptions import DestinationUndefinedEntity

from linq_source import tables
from linq_source.destinations.conditions import Condition
from linq_source.destinations.lake import Bucket
from linq_source.destinations.lake.log import loads_since, rows_since
from linq_source.destinations.open_tables.ledger import OpenTables, open_tables
from linq_source.destinations.remote import Remote
from linq_source.destinations.table_formats import is_filesystem
from linq_source.instants import from_us, to_us
from linq_source.planning.takeover import (
    NOTHING_INHERITED,
    Inheritance,
    LoadedWindow,
    PipelineMemory,
    inherit,
    since_of,
)
from linq_source.planning.windows import Window
from linq_source.privacy.treatment import PLAIN
from linq_source.settings import Shard
from linq_source.state import FORGOTTEN, KNOWN_PACKAGES, LINES, PRIVACY, SYNCED_AT_US, source_state
from linq_source.tables import Table

Rows = list[tuple[Any, ...]]


_WINDOW_COLUMNS = ("chat_id", "window_start", "window_end", "messages", "error", "synced_at")


@dataclass(frozen=True)
class _Wanted:
    """Rows of a table loaded after an instant; the first column is the id, the last `synced_at`.

    Those of other shards, or of known packages, need not be among them.
    """

    table: Table
    columns: tuple[str, ...]
    since_us: int
    shard: Shard | None
    known: frozenset[int] = frozenset()


def _unknown_rows(own: PipelineMemory, shard: Shard | None) -> tuple[_Wanted, _Wanted, _Wanted]:
    """Windows, chats and phone numbers that a pipeline may not know of."""
    since_us, known = own.since_us, own.known_packages_us
    return (
        _Wanted(tables.SYNC_WINDOWS, _WINDOW_COLUMNS, since_us, shard, known),
        _Wanted(tables.CHATS, ("id", "synced_at"), since_us, shard, known),
        _Wanted(tables.PHONE_NUMBERS, ("id", "synced_at"), since_us, None, known),
    )


class _Store(ABC):
    """The rows of a dataset, as far as they tell what others loaded."""

    @abstractmethod
    def rows(self, wanted: _Wanted) -> Rows:
        """The rows, and maybe others."""

    def all_rows(self, wanted: Sequence[_Wanted]) -> list[Rows]:
        """The rows of several tables."""
        return [self.rows(part) for part in wanted]


def find_inheritance(
    pipeline: dlt.Pipeline, remote: Remote, shard: Shard | None, table_format: str | None = None
) -> Inheritance:
    """What the pipeline has to take into account of what others loaded into its dataset.

    A pipeline that begins in tables of an open format cannot read their ledger before it knows
    their schema: it loads every lookback once more.
    """
    own = _memory(pipeline.pipeline_name, pipeline.state)
    if own.synced_at_us:
        with _opened(pipeline, remote) as store:
            return _find_changes_by_others(store, own, shard, lambda: _others(pipeline, remote))
    others = _others(pipeline, remote)
    if not others:
        return NOTHING_INHERITED
    if table_format is not None:
        return inherit(own, others, [], shard, is_ledger_known=False)
    with _opened(pipeline, remote) as store:
        since_us = since_of([own, *others], shard)
        return inherit(own, others, _all_windows(store, since_us, shard), shard)


def _find_changes_by_others(
    store: _Store,
    own: PipelineMemory,
    shard: Shard | None,
    others: Callable[[], list[PipelineMemory]],
) -> Inheritance:
    """What others loaded since this pipeline's newest package."""
    windows, chats, numbers = store.all_rows(_unknown_rows(own, shard))
    foreign = [row for row in _windows(windows, shard) if not own.knows(row.synced_at_us)]
    rewritten = {
        # Where it vanished, a chat's row was marked.
        tables.CHATS.name: _unknown(chats, own, shard)
        | {row.window.chat_id for row in foreign if row.failed},
        tables.PHONE_NUMBERS.name: _unknown(numbers, own, None),
    }
    if not foreign:
        return Inheritance(rewritten=rewritten)
    touched = frozenset(str(row.window.chat_id) for row in foreign)
    memories = others()
    # What others remember has to be judged by what this pipeline loaded, too.
    since_us = since_of([own, *memories], shard, touched)
    loaded = _all_windows(store, since_us, shard) if memories else []
    found = inherit(own, memories, [*loaded, *foreign], shard, touched)
    return replace(found, rewritten=rewritten)


def _all_windows(store: _Store, since_us: int, shard: Shard | None) -> list[LoadedWindow]:
    return _windows(
        store.rows(_Wanted(tables.SYNC_WINDOWS, _WINDOW_COLUMNS, since_us, shard)), shard
    )


def _windows(rows: Rows, shard: Shard | None) -> list[LoadedWindow]:
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


def _unknown(rows: Rows, own: PipelineMemory, shard: Shard | None) -> frozenset[int]:
    """Ids of rows that somebody else loaded."""
    return frozenset(
        row[0]
        for row in rows
        if not own.knows(to_us(row[-1])) and (shard is None or row[0] in shard)
    )


@contextmanager
def _opened(pipeline: dlt.Pipeline, remote: Remote) -> Iterator[_Store]:
    with open_tables(pipeline) as found:
        if found is not None:
            yield _OpenStore(found)
        elif is_filesystem(pipeline):
            yield _LakeStore(Bucket.of(remote))
        else:
            yield _SqlStore(remote.sql)


@dataclass(frozen=True)
class _SqlStore(_Store):
    client: Any

    def all_rows(self, wanted: Sequence[_Wanted]) -> list[Rows]:
        """All in one statement: to ask a warehouse takes a second."""
        parts = [self._select(part, str(number)) for number, part in enumerate(wanted)]
        sql = " UNION ALL ".join(sql for sql, _ in parts)
        try:
            found = self.client.execute_sql(
                sql, *(value for _, values in parts for value in values)
            )
        except DestinationUndefinedEntity:  # somebody chose among the resources
            return super().all_rows(wanted)
        rows: list[Rows] = [[] for _ in wanted]
        for number, *row in found or ():
            rows[int(number)].append(tuple(row))
        return rows

    def rows(self, wanted: _Wanted) -> Rows:
        sql, values = self._select(wanted)
        try:
            return list(self.client.execute_sql(sql, *values) or ())
        except DestinationUndefinedEntity:
            return []

    def _select(self, wanted: _Wanted, number: str | None = None) -> tuple[str, list[datetime]]:
        """The statement and its values; numbered, with as many columns as a window has."""
        columns: Sequence[str] = wanted.columns
        if number is not None:
            missing = ["NULL"] * (len(_WINDOW_COLUMNS) - len(columns))
            columns = [number, columns[0], *columns[1:-1], *missing, columns[-1]]
        name = self.client.make_qualified_table_name(wanted.table.name)
        known = [from_us(at_us) for at_us in sorted(wanted.known) if at_us > wanted.since_us]
        sql = f"SELECT {', '.join(columns)} FROM {name} WHERE synced_at > %s"
        if wanted.shard is not None:
            sql += f" AND MOD({wanted.columns[0]}, {wanted.shard.count}) = {wanted.shard.index}"
        if known:
            sql += f" AND synced_at NOT IN ({', '.join(['%s'] * len(known))})"
        return sql, [from_us(wanted.since_us), *known]


@dataclass(frozen=True)
class _LakeStore(_Store):
    bucket: Bucket

    def rows(self, wanted: _Wanted) -> Rows:
        # Its newest version wins whatever lands last, and a file is expensive to open: no older
        # loads than those that began with the pipeline's newest.
        loads = loads_since(self.bucket, max([wanted.since_us, *wanted.known]))
        return rows_since(self.bucket, wanted.table, wanted.columns, wanted.since_us, loads)


@dataclass(frozen=True)
class _OpenStore(_Store):
    tables: OpenTables

    def rows(self, wanted: _Wanted) -> Rows:
        condition = Condition("synced_at", ">", from_us(wanted.since_us))
        reader = self.tables.scan(wanted.table, wanted.columns, [condition])
        if reader is None:
            return []
        found = reader.read_all().select(wanted.columns)
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


def _others(pipeline: dlt.Pipeline, remote: Remote) -> list[PipelineMemory]:
    found = []
    for name in pipelines_of(remote):
        if name != pipeline.pipeline_name:
            memory = _memory(name, Remote(name, remote.client).state() or {})
            if memory.synced_at_us:
                found.append(memory)
    return found


def _memory(name: str, state: Mapping[str, Any]) -> PipelineMemory:
    source = source_state(state)
    synced_at_us = int(source.get(SYNCED_AT_US, 0))
    return PipelineMemory(
        name,
        synced_at_us,
        frozenset(int(at_us) for at_us in source.get(KNOWN_PACKAGES, ())) | {synced_at_us},
        source.get("resources", {}).get("chat_messages", {}).get("cursors", {}),
        source.get(FORGOTTEN),
        source.get(PRIVACY, PLAIN.fingerprint),
        frozenset(source.get(LINES, ())),
    )
