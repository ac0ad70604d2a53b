"""From records to the rows of the tables: keys, `synced_at` and tombstones added, in Arrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from linq_source import tables
from linq_source.decoding.records import (
    POSITION,
    ROW,
    Records,
    Rejected,
    concat_records,
)
from linq_source.instants import from_us
from linq_source.planning.changes import Part
from linq_source.planning.readings import LedgerWindow
from linq_source.settings import Id
from linq_source.tables import SYNCED_AT, TOMBSTONE, Table

_TIMESTAMP = tables.ARROW_TYPES["timestamp"]
# Where a column that is never null has nothing to say: no record has this id.
_NO_ID = -1
_IDS = {"chat_id", "message_id"}


def message_rows(
    parts: Sequence[Part], synced_at_us: int, catalog: Mapping[str, Table]
) -> dict[str, pa.Table]:
    """Return the rows of messages, their children and rejected records of several parts."""
    shape = parts[0].records.shape
    records = concat_records(shape, [part.records for part in parts])
    chat_ids = _repeat_each(
        [part.window.chat_id for part in parts],
        [len(part.records) for part in parts],
        shape.root.schema.field("chat_id").type,
    )
    added = {"chat_id": chat_ids}
    rows = {shape.root.name: _conform(records.root, shape.root, added, synced_at_us)}
    for field, table in shape.children.items():
        rows[table.name] = _child_rows(
            records,
            field,
            table,
            {"chat_message_id": records.root["id"]} | added,
            synced_at_us,
        )
    rejected = [
        _rejected_row(record, shape.root, part.window.chat_id, record.id)
        for part in parts
        for record in part.records.rejected
    ]
    name = tables.REJECTED_RECORDS.name
    rows[name] = _from_dicts(rejected, catalog[name], synced_at_us)
    return rows


def list_rows(
    records: Records, synced_at_us: int, catalog: Mapping[str, Table]
) -> dict[str, pa.Table]:
    """Return the rows of a list (phone numbers, chats with their participants, contacts)."""
    root = records.shape.root
    rows = {root.name: _conform(records.root, root, {}, synced_at_us)}
    for field, table in records.shape.children.items():
        keys = {table.merge_key: records.root["id"]}
        rows[table.name] = _child_rows(records, field, table, keys, synced_at_us)
    return rows | _rejected_of_list(records, synced_at_us, catalog)


def marked_rows(rows: pa.Table, synced_at_us: int) -> pa.Table:
    """Return rows as they are, marked as deleted."""
    at = pa.repeat(pa.scalar(synced_at_us, pa.int64()).cast(_TIMESTAMP), rows.num_rows)
    for name in ("deleted_at", SYNCED_AT):
        rows = rows.set_column(rows.column_names.index(name), name, at)
    return rows


def ledger_rows(
    windows: Sequence[LedgerWindow], synced_at_us: int, catalog: Mapping[str, Table]
) -> dict[str, pa.Table]:
    """Return the rows of the ledger."""
    rows = [
        {
            "chat_id": row.window.chat_id,
            "window_start": _instant(row.window.start_us),
            "window_end": from_us(row.window.end_us),
            "total_count": row.total_count,
            "messages": row.messages,
            "pages": row.pages,
            "requests": row.requests,
            "attempts": row.attempts,
            "verified": row.verified,
            "error": row.error,
            "event": row.event,
            "kept_since": _instant(row.kept_since_us),
        }
        for row in windows
    ]
    name = tables.SYNC_WINDOWS.name
    return {name: _from_dicts(rows, catalog[name], synced_at_us)}


def run_row(
    values: Mapping[str, Any], synced_at_us: int, catalog: Mapping[str, Table]
) -> dict[str, pa.Table]:
    """Return the one row a run adds to `sync_runs`."""
    name = tables.SYNC_RUNS.name
    return {name: _from_dicts([dict(values)], catalog[name], synced_at_us)}


def _rejected_of_list(
    records: Records, synced_at_us: int, catalog: Mapping[str, Table]
) -> dict[str, pa.Table]:
    """Return the rejected records of a listing; no table where everything was loaded as it came."""
    table = records.shape.root
    rows = [
        _rejected_row(record, table, record.id if table.name == tables.CHATS.name else None, _NO_ID)
        for record in records.rejected
    ]
    name = tables.REJECTED_RECORDS.name
    return {name: _from_dicts(rows, catalog[name], synced_at_us)} if rows else {}


def _rejected_row(
    record: Rejected, table: Table, chat_id: Id | None, message_id: Id | None
) -> dict[str, Any]:
    return {
        "chat_id": _NO_ID if chat_id is None else chat_id,
        "message_id": message_id,
        "reason": record.reason,
        "payload": record.payload,
        "table_name": table.name,
    }


def _from_dicts(rows: list[dict[str, Any]], table: Table, synced_at_us: int) -> pa.Table:
    for row in rows:
        row[SYNCED_AT] = from_us(synced_at_us)
        for name in _IDS & row.keys():
            # The ids of API v3 are texts, and so is what stands for none.
            is_text = table.schema.field(name).type == pa.string()
            row[name] = str(row[name]) if is_text and row[name] is not None else row[name]
    return pa.Table.from_pylist(rows, schema=table.schema)


def _child_rows(
    records: Records,
    field: str,
    table: Table,
    parent_columns: Mapping[str, pa.ChunkedArray],
    synced_at_us: int,
) -> pa.Table:
    """Children with their parent's columns, then a tombstone for every parent without any.

    A merge by parent replaces the children of the parents that are named; without a tombstone a
    parent that lost its last child would not be named.
    """
    child = records.children[field]
    added = {name: column.take(child[ROW]) for name, column in parent_columns.items()}
    if "position" in table.column_names:
        added["position"] = child[POSITION]
    rows = _conform(child.drop_columns([ROW, POSITION]), table, added, synced_at_us)
    parents = pa.arange(0, len(records))
    childless = parents.filter(pc.invert(pc.is_in(parents, value_set=child[ROW].combine_chunks())))
    if len(childless) == 0:
        return rows
    marks = {name: column.take(childless) for name, column in parent_columns.items()}
    for name in table.key:
        # A key is never null; no child has this one.
        none = pa.scalar(_NO_ID, pa.int64()).cast(table.schema.field(name).type)
        marks.setdefault(name, pa.chunked_array([pa.repeat(none, len(childless))]))
    marks[TOMBSTONE] = pa.chunked_array([pa.repeat(pa.scalar(True), len(childless))])
    marked = _conform(table.schema.empty_table().select([]), table, marks, synced_at_us)
    return pa.concat_tables([rows, marked], promote_options="default")


def _conform(
    source: pa.Table,
    table: Table,
    added: Mapping[str, pa.ChunkedArray],
    synced_at_us: int,
) -> pa.Table:
    """Return the table's columns in order, missing ones null; then columns it does not know."""
    length = len(next(iter(added.values()))) if added else source.num_rows
    fields = []
    columns = []
    for column in table.columns:
        field = column.field
        if column.name == SYNCED_AT:
            value = pa.scalar(synced_at_us, pa.int64()).cast(_TIMESTAMP)
            data: Any = pa.repeat(value, length)
        elif column.name in added:
            data = added[column.name]
        elif column.name in source.column_names:
            data = source[column.name]
        else:
            data = pa.nulls(length, field.type)
        fields.append(field)
        columns.append(data)
    known = set(table.column_names)
    for field in source.schema:
        if field.name not in known:
            fields.append(field)
            columns.append(source[field.name])
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _repeat_each(
    values: Sequence[Id], counts: Sequence[int], type_: pa.DataType
) -> pa.ChunkedArray:
    """Return every value as often as its count says."""
    chunks = [
        pa.repeat(pa.scalar(value, type_), count)
        for value, count in zip(values, counts, strict=True)
        if count
    ]
    return pa.chunked_array(chunks, type_).combine_chunks()


def _instant(instant_us: int | None) -> Any:
    return None if instant_us is None else from_us(instant_us)
