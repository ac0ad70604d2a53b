"""Lists of children within records as flat tables; record by record: `salvaged_children`.

A message of API v3 has one list, `parts`, of which three tables are made: the parts, the files
among them, and the reactions to each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from linq_source.decoding import fields
from linq_source.decoding.fields import Place, Refused
from linq_source.decoding.records import (
    ATTACHMENTS,
    PART_POSITION,
    PARTS,
    POSITION,
    REACTIONS,
    ROW,
    Shape,
)
from linq_source.tables import Table

# The types of parts whose fields are columns; of others the whole is kept as JSON.
TEXT_TYPES, MEDIA_TYPE = ("text", "link"), "media"


def objects_in(lists: pa.ListArray) -> pa.StructArray:
    """The objects of all lists. A null where one belongs is left to the slow path."""
    items = pc.list_flatten(lists)
    if items.null_count:
        raise Refused
    return items


def read_children(lists: pa.ListArray, table: Table, place: Place) -> pa.Table:
    """The rows of a child table."""
    columns = fields.columns_of(objects_in(lists), table)
    columns = fields.with_json_text(columns, table, place)
    row = _parents_of(lists)
    return _placed(fields.typed_columns(columns, table), row, _positions(row))


def read_parts(
    lists: pa.ListArray, shape: Shape, place: Place
) -> tuple[dict[str, pa.Table], pa.Array]:
    """The children of messages, and the text of each message."""
    table, media = shape.children[PARTS], shape.children[ATTACHMENTS]
    row = _parents_of(lists)
    position = _positions(row)
    columns = fields.columns_of(objects_in(lists), table)
    type_ = columns["type"]
    is_text = pc.is_in(type_, value_set=pa.array(TEXT_TYPES))
    is_media = pc.is_in(type_, value_set=pa.array([MEDIA_TYPE]))
    is_known = pc.or_(is_text, is_media)
    of_media = {column.source: columns.pop(column.source) for column in media.source_columns}
    reactions = columns.pop(REACTIONS)
    _refuse_lone_mentions(columns, is_known)

    own = {"type": type_} | _only_of(columns, is_known, except_for="type")
    # What a text or a link has of the fields of media is a field that the contract does not know.
    own |= _only_of(of_media, is_text)
    own = fields.with_json_text(own, table, place)
    parts = fields.typed_columns(
        own,
        table,
        computed={
            "attachment_id": pc.if_else(is_media, of_media["id"], None),
            "payload": place.json_texts(pc.invert(is_known), _without_reactions),
        },
    )
    files = fields.typed_columns(of_media, media)
    children = {
        PARTS: _placed(parts, row, position),
        ATTACHMENTS: _placed(files, row, position).filter(is_media),
        REACTIONS: _reactions(reactions, shape.children[REACTIONS], place, row, position),
    }
    return children, _texts(pc.if_else(is_text, columns["value"], None), row, len(lists))


def _only_of(
    columns: Mapping[str, pa.Array], mask: pa.Array, except_for: str = ""
) -> dict[str, pa.Array]:
    """The columns with nothing but what the parts of some types have."""
    others = pc.invert(mask)
    result = {}
    for name, array in columns.items():
        if name == except_for:
            continue
        has_own, has_others = (pc.any(pc.and_(array.is_valid(), m)).as_py() for m in (mask, others))
        if has_own and has_others and pa.types.is_floating(array.type):
            # The type may come from those others.
            raise Refused
        if not has_others:
            result[name] = array
        elif has_own:
            result[name] = pc.if_else(mask, array, None)
    return result


def _refuse_lone_mentions(columns: Mapping[str, pa.Array], is_known: pa.Array) -> None:
    """Leave a `mention` that `mentions` lacks to the slow path."""
    if "mention" not in columns or pa.types.is_null(columns["mention"].type):
        return
    lone = pc.and_(is_known, columns["mention"].is_valid())
    if "mentions" in columns and pa.types.is_list(columns["mentions"].type):
        has_any = pc.greater(pc.list_value_length(columns["mentions"]), 0)
        lone = pc.and_(lone, pc.invert(pc.fill_null(has_any, False)))
    if pc.any(lone).as_py():
        raise Refused


def _without_reactions(part: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name != REACTIONS}


def _reactions(
    lists: pa.ListArray, table: Table, place: Place, row: pa.Array, position: pa.Array
) -> pa.Table:
    """The reactions to all parts, with the part's place beside their own."""
    columns = fields.columns_of(objects_in(lists), table)
    columns = fields.with_json_text(columns, table, place.within(REACTIONS, lists))
    part = _parents_of(lists)
    computed = {PART_POSITION: position.take(part)}
    rows = fields.typed_columns(columns, table, computed=computed)
    return _placed(rows, row.take(part), _positions(part))


def _texts(values: pa.Array, row: pa.Array, messages: int) -> pa.Array:
    """What was written in all parts of a message, a line each."""
    written = pa.table({"row": row, "value": values}).filter(values.is_valid())
    lines = written.group_by("row", use_threads=False).aggregate([("value", "list")])
    texts = pc.binary_join(lines["value_list"].combine_chunks(), "\n")
    places = pc.index_in(pa.arange(0, messages), value_set=lines["row"].combine_chunks())
    return texts.take(places)


def _placed(rows: pa.Table, row: pa.Array, position: pa.Array) -> pa.Table:
    return rows.add_column(0, POSITION, position).add_column(0, ROW, row)


def _parents_of(lists: pa.ListArray) -> pa.Array:
    return pc.list_parent_indices(lists).cast(pa.int64())


def _positions(row: pa.Array) -> pa.Array:
    """Place of each item within its parent's list, from 0; `row` is ascending."""
    if len(row) == 0:
        return pa.array([], pa.int64())
    runs = pc.run_end_encode(row, run_end_type=pa.int64())
    first = pa.array([0], pa.int64())
    starts = pa.concat_arrays([first, runs.run_ends.slice(0, len(runs.values) - 1)])
    start_of_row = pc.run_end_decode(pa.RunEndEncodedArray.from_arrays(runs.run_ends, starts))
    return pc.subtract(pa.arange(0, len(row)), start_of_row)
