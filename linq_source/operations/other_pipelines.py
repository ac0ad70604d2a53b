"""Asking a destination what other pipelines loaded into it, and what they remember.

One narrow question per run; the states of others are read only where the answer, or a pipeline
that never ran, calls for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import dlt

from linq_source import tables
from linq_source.destinations.base import Rows, RowsQuery
from linq_source.destinations.dataset_pipelines import pipelines_of
from linq_source.destinations.kinds import destination_of, restored_destination_of
from linq_source.destinations.remote import Remote
from linq_source.instants import to_us
from linq_source.planning.takeover import (
    NOTHING_INHERITED,
    Inheritance,
    LoadedWindow,
    PipelineMemory,
    inherit,
    since_of,
)
from linq_source.planning.windows import Window
from linq_source.privacy.hashing import PLAIN
from linq_source.settings import Shard
from linq_source.source.last_read import knows_last_read
from linq_source.state_keys import (
    FORGOTTEN,
    KNOWN_PACKAGES,
    LINES,
    LOOKED_US,
    PRIVACY,
    SYNCED_AT_US,
    cursors_of,
    source_state,
)

_RowsSince = Callable[[Sequence[RowsQuery]], list[Rows]]

_WINDOW_COLUMNS = ("chat_id", "window_start", "window_end", "messages", "error", "synced_at")


def _unknown_rows(
    own: PipelineMemory, shard: Shard | None
) -> tuple[RowsQuery, RowsQuery, RowsQuery]:
    """Windows, chats and phone numbers that a pipeline may not know of."""
    since_us, known = own.since_us, own.known_packages_us
    return (
        RowsQuery(tables.SYNC_WINDOWS, _WINDOW_COLUMNS, since_us, shard, known),
        RowsQuery(tables.CHATS, ("id", "synced_at"), since_us, shard, known),
        RowsQuery(tables.PHONE_NUMBERS, ("id", "synced_at"), since_us, None, known),
    )


def find_inheritance(pipeline: dlt.Pipeline, remote: Remote, shard: Shard | None) -> Inheritance:
    """Return what the pipeline has to take into account of what others loaded into its dataset."""
    own = _memory(pipeline.pipeline_name, pipeline.state)
    if own.synced_at_us:
        rows_since = partial(destination_of(pipeline).rows_since, remote)
        found = _find_changes_by_others(rows_since, own, shard, lambda: _others(pipeline, remote))
        return replace(found, rewritten={**found.rewritten, **_contacts(pipeline, rows_since, own)})
    others = _others(pipeline, remote)
    if not others:
        return NOTHING_INHERITED
    destination = restored_destination_of(pipeline)
    if not destination.has_ledger(remote):
        # Cursors that no ledger confirms are not trusted: everything is read from the beginning.
        others = [replace(memory, cursors={}) for memory in others]
    rows_since = partial(destination.rows_since, remote)
    since_us = since_of([own, *others], shard)
    return inherit(own, others, _all_windows(rows_since, since_us, shard), shard)


def _contacts(
    pipeline: dlt.Pipeline, rows_since: _RowsSince, own: PipelineMemory
) -> dict[str, frozenset[Any]]:
    """Contacts that somebody else loaded, where there are any: not every dataset has the table."""
    table = tables.CONTACTS
    if not pipeline.default_schema_name or table.name not in pipeline.default_schema.tables:
        return {}
    query = RowsQuery(table, ("id", "synced_at"), own.since_us, None, own.known_packages_us)
    (rows,) = rows_since([query])
    return {table.name: _unknown(rows, own, None)}


def find_last_bound(pipeline: dlt.Pipeline, remote: Remote) -> int | None:
    """The bound of the newest run, where this machine does not know it; None where there was none.

    That may be another shard's, which ran at the same time.
    """
    since_us = int(source_state(pipeline.state).get(SYNCED_AT_US, 0))
    if not since_us or knows_last_read(pipeline):
        return None
    query = RowsQuery(tables.SYNC_RUNS, ("bound", "synced_at"), since_us - 1, None)
    (rows,) = destination_of(pipeline).rows_since(remote, [query])
    return max((to_us(bound) for bound, _ in rows), default=None)


def _find_changes_by_others(
    rows_since: _RowsSince,
    own: PipelineMemory,
    shard: Shard | None,
    others: Callable[[], list[PipelineMemory]],
) -> Inheritance:
    """What others loaded since this pipeline's newest package."""
    windows, chats, numbers = rows_since(_unknown_rows(own, shard))
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
    loaded = _all_windows(rows_since, since_us, shard) if memories else []
    found = inherit(own, memories, [*loaded, *foreign], shard, touched)
    return replace(found, rewritten=rewritten)


def _all_windows(rows_since: _RowsSince, since_us: int, shard: Shard | None) -> list[LoadedWindow]:
    (rows,) = rows_since([RowsQuery(tables.SYNC_WINDOWS, _WINDOW_COLUMNS, since_us, shard)])
    return _windows(rows, shard)


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


def _unknown(rows: Rows, own: PipelineMemory, shard: Shard | None) -> frozenset[Any]:
    """Ids of rows that somebody else loaded."""
    return frozenset(
        row[0]
        for row in rows
        if not own.knows(to_us(row[-1])) and (shard is None or row[0] in shard)
    )


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
        int(source.get(LOOKED_US, 0)),
        frozenset(int(at_us) for at_us in source.get(KNOWN_PACKAGES, ())) | {synced_at_us},
        cursors_of(source),
        source.get(FORGOTTEN),
        source.get(PRIVACY, PLAIN.fingerprint),
        frozenset(source.get(LINES, ())),
    )
