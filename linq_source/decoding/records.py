"""Decoded records as flat Arrow tables: a root table and one table per list of children.

Rows stay in Arrow from here to the destination. Children point to their parent's row by number,
so that a selection of parents (`Records.take`) carries its children along.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from linq_source import tables, tables_v3
from linq_source.instants import format_iso, to_us
from linq_source.tables import Table

ROW = "_row"
POSITION = "position"
# Of a reaction to a part of a message: the part's place.
PART_POSITION = "part_position"
# The list of a message of API v3 that its children come from.
PARTS, ATTACHMENTS, REACTIONS = "parts", "attachments", "reactions"


@dataclass(frozen=True)
class Shape:
    """What a kind of record looks like: its table, and the tables of its lists by API field.

    Where one of the lists is `parts`, the other children come from the same list.
    `required` are the root columns without which a record cannot be placed, `id` the first;
    `child_required` are those that tell children of one list apart, by API field. `instant` is the
    root column that windows go by, `mark` the one that tells that a record has changed, and
    `arrival` the one that tells when a record that arrived late did; "" where there are none.
    `id_pattern` is what an id looks like, where it is a text of a form of its own.
    """

    root: Table
    children: Mapping[str, Table]
    required: tuple[str, ...]
    child_required: Mapping[str, tuple[str, ...]]
    instant: str = ""
    mark: str = ""
    arrival: str = ""
    id_pattern: re.Pattern[str] | None = None

    @property
    def lists(self) -> frozenset[str]:
        """The API fields of a record that hold lists of children."""
        return frozenset({PARTS} if PARTS in self.children else self.children)


MESSAGE = Shape(
    root=tables.CHAT_MESSAGES,
    children={"attachments": tables.ATTACHMENTS, "reactions": tables.REACTIONS},
    required=("id", "sent_at"),
    child_required={"reactions": ("id",)},
    instant="sent_at",
)
CHAT = Shape(
    root=tables.CHATS,
    children={"chat_handles": tables.CHAT_HANDLES},
    required=("id",),
    child_required={"chat_handles": ("id",)},
    mark="message_count",
)
PHONE_NUMBER = Shape(
    root=tables.PHONE_NUMBERS,
    children={},
    # A number is asked for its chats by what it is, not by its id.
    required=("id", "phone_number"),
    child_required={},
)
CONTACT = Shape(root=tables.CONTACTS, children={}, required=("id",), child_required={})

MESSAGE_V3 = Shape(
    root=tables_v3.CHAT_MESSAGES,
    children={
        PARTS: tables_v3.MESSAGE_PARTS,
        ATTACHMENTS: tables_v3.ATTACHMENTS,
        REACTIONS: tables_v3.REACTIONS,
    },
    required=("id", "created_at"),
    child_required={},
    instant="created_at",
    arrival="reconciled_at",
    id_pattern=tables_v3.UUID,
)
CHAT_V3 = Shape(
    root=tables_v3.CHATS,
    children={"handles": tables_v3.CHAT_HANDLES},
    required=("id",),
    child_required={"handles": ("id",)},
    mark="updated_at",
    id_pattern=tables_v3.UUID,
)
PHONE_NUMBER_V3 = Shape(
    root=tables_v3.PHONE_NUMBERS,
    children={},
    required=("id", "phone_number"),
    child_required={},
    id_pattern=tables_v3.UUID,
)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that could not be loaded exactly as it came.

    `id` is that of the record, a number or (of a contact) a text; None where it has no usable one.
    `repaired` tells that it was loaded all the same, with what `reason` says changed.
    `near_us` is the instant it stands at: its own, or that of a neighbour in the list.
    `repeat` counts the equal records before it in the same answer.
    """

    id: Any
    reason: str
    payload: str
    near_us: int | None
    repaired: bool
    repeat: int = 0


@dataclass(frozen=True)
class Records:
    """Records of one shape.

    `root` has the shape's columns by our names, then columns the contract does not know yet.
    Tables in `children` have in addition `_row`, the parent's row number in `root`, ascending,
    and `position`, the place in the API's list.
    """

    shape: Shape
    root: pa.Table
    children: Mapping[str, pa.Table]
    rejected: tuple[Rejected, ...] = ()

    def __len__(self) -> int:
        return int(self.root.num_rows)

    @property
    def instants(self) -> pa.Array:
        """The instants that windows go by, in microseconds."""
        return self.root[self.shape.instant].cast(pa.int64()).combine_chunks()

    @property
    def received(self) -> int:
        """How many records the server sent: those loaded and those it was impossible to type."""
        return len(self) + sum(not rejected.repaired for rejected in self.rejected)

    @property
    def identities(self) -> set[object]:
        """What tells the received records apart, those included that are not loaded."""
        lost = {(r.payload, r.repeat) for r in self.rejected if not r.repaired}
        return lost | set(self.root["id"].to_pylist())

    def take(self, rows: pa.Array) -> Records:
        """The records at these row numbers, in this order, children along; rejected unchanged."""
        children = {}
        for name, child in self.children.items():
            new_row = pc.index_in(child[ROW], value_set=rows).cast(pa.int64())
            child = child.set_column(0, ROW, new_row).filter(pc.is_valid(new_row))
            keys = (key for key in (ROW, PART_POSITION, POSITION) if key in child.column_names)
            order = pc.sort_indices(child, sort_keys=[(key, "ascending") for key in keys])
            children[name] = child.take(order)
        return replace(self, root=self.root.take(rows), children=children)

    def where(self, mask: pa.ChunkedArray) -> Records:
        """The records of which the mask is true; rejected unchanged."""
        return self.take(pc.indices_nonzero(mask).cast(pa.int64()))

    def slice(self, start: int, stop: int) -> Records:
        """Rows `start` to `stop` (exclusive) without copying; rejected left out."""
        children = {}
        for name, child in self.children.items():
            low = count_below(child[ROW], start)
            high = count_below(child[ROW], stop)
            part = child.slice(low, high - low)
            shifted = pc.subtract(part[ROW], pa.scalar(start, pa.int64()))
            children[name] = part.set_column(0, ROW, shifted)
        return Records(self.shape, self.root.slice(start, stop - start), children)


def distinct_rejected(rejected: Iterable[Rejected]) -> tuple[Rejected, ...]:
    """Return each record once, however many answers had it."""
    return tuple({(record.payload, record.repeat): record for record in rejected}.values())


def count_below(ascending: pa.Array, value: int) -> int:
    """Return how many values of an ascending column lie below `value`."""
    return bisect_left(ascending, value, key=pa.Int64Scalar.as_py)


def concat_records(shape: Shape, parts: Sequence[Records]) -> Records:
    """One after the other; columns that only some parts have are null in the others."""
    if not parts:
        return empty_records(shape)
    if len(parts) == 1:
        return parts[0]
    children: dict[str, list[pa.Table]] = {name: [] for name in shape.children}
    offset = 0
    for part in parts:
        for name, child in part.children.items():
            moved = pc.add(child[ROW], pa.scalar(offset, pa.int64()))
            children[name].append(child.set_column(0, ROW, moved))
        offset += len(part)
    return Records(
        shape,
        concat_tables([part.root for part in parts]),
        {name: concat_tables(found) for name, found in children.items()},
        tuple(rejected for part in parts for rejected in part.rejected),
    )


def concat_tables(parts: Sequence[pa.Table]) -> pa.Table:
    """Concatenate; a column of two types becomes text, one that is missing becomes null."""
    if len(parts) == 1:
        return parts[0]
    found: dict[str, list[pa.ChunkedArray]] = {}
    for part in parts:
        for name in part.column_names:
            found.setdefault(name, []).append(part[name])
    types = {name: _common_type(columns) for name, columns in found.items()}
    return pa.concat_tables(
        [_cast(part, types) for part in parts], promote_options="default"
    ).combine_chunks()


def _common_type(columns: Sequence[pa.ChunkedArray]) -> pa.DataType:
    """Return a type that holds every value exactly: text, if no other does."""
    types = {column.type for column in columns if not pa.types.is_null(column.type)}
    if len(types) < 2:
        return next(iter(types), pa.null())
    if types == {pa.int64(), pa.float64()} and all(map(_are_doubles, columns)):
        return pa.float64()
    return pa.string()


def _are_doubles(column: pa.ChunkedArray) -> bool:
    """Return whether every number is one that a double holds."""
    if column.type != pa.int64():
        return True
    ends = pc.min_max(column).as_py()
    return ends["min"] is None or -(2**53) <= ends["min"] <= ends["max"] <= 2**53


def _cast(part: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    for index, field in enumerate(part.schema):
        if field.type != types[field.name]:
            column = part.column(index).cast(types[field.name], safe=False)
            part = part.set_column(index, pa.field(field.name, types[field.name]), column)
    return part


def root_schema(shape: Shape) -> pa.Schema:
    """Return the Arrow schema of `Records.root`, without columns the contract does not know."""
    return pa.schema([pa.field(c.name, c.field.type) for c in shape.root.decoded_columns])


def child_schema(table: Table) -> pa.Schema:
    """Return the Arrow schema of a table in `Records.children`."""
    fields = [pa.field(ROW, pa.int64()), pa.field(POSITION, pa.int64())]
    return pa.schema(fields + [pa.field(c.name, c.field.type) for c in table.decoded_columns])


def empty_records(shape: Shape) -> Records:
    """No records, with every column of the shape."""
    return Records(
        shape,
        root_schema(shape).empty_table(),
        {name: child_schema(table).empty_table() for name, table in shape.children.items()},
    )


def record_text(records: Records, row: int) -> str:
    """Return a record as JSON, by the API's names: what it says, though not how it was written."""
    shape = records.shape
    record = _by_source(records.root.slice(row, 1).to_pylist()[0], shape.root)
    children = {
        name: child.filter(pc.equal(child[ROW], row)).to_pylist()
        for name, child in records.children.items()
    }
    if PARTS in children:
        record[PARTS] = _parts(children, shape)
    else:
        for name, items in children.items():
            record[name] = [_by_source(item, shape.children[name]) for item in items]
    return json.dumps(record, ensure_ascii=False)


def _parts(children: Mapping[str, list[dict[str, Any]]], shape: Shape) -> list[dict[str, Any]]:
    """The parts of a message with the files and reactions that belong to them."""
    parts = {item[POSITION]: _by_source(item, shape.children[PARTS]) for item in children[PARTS]}
    for item in children[ATTACHMENTS]:
        parts[item[POSITION]] |= _by_source(item, shape.children[ATTACHMENTS])
    for item in children[REACTIONS]:
        reactions = parts[item[PART_POSITION]].setdefault(REACTIONS, [])
        reactions.append(_by_source(item, shape.children[REACTIONS]))
    return list(parts.values())


def _by_source(values: Mapping[str, Any], table: Table) -> dict[str, Any]:
    """A row by the names of the API's fields, members within their objects."""
    sources = {column.name: column.source for column in table.decoded_columns}
    record: dict[str, Any] = {}
    for name, value in values.items():
        source = sources.get(name, name)
        if name in (ROW, POSITION, PART_POSITION) or (not source and value is None):
            continue
        if isinstance(value, datetime):
            value = format_iso(to_us(value))
        object_, dot, member = source.partition(".")
        if dot and object_ in table.objects:
            record.setdefault(object_, {})[member] = value
        else:
            record[source or name] = value
    return record
