"""Fields as typed columns; those that the contract does not know are typed by what they hold.

A scalar becomes a column of its inferred type. A string that merely looks like a date stays text
(an inferred timestamp would not give the text back). Objects and lists become JSON text: pages that
have any are parsed a second time, by the standard library. Members of an object that are columns
go by `<object>.<member>`, as in `tables`.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from math import isfinite
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from linq_source.decoding.records import ATTACHMENTS, PARTS, REACTIONS, Shape
from linq_source.tables import Column, Table

_Object = dict[str, Any]
LONGEST_NUMBER = 400
_SCALARS = {pa.int64(), pa.float64(), pa.bool_(), pa.string()}
# Fractions that a double may not hold as they are written: of 16 digits, or with an exponent.
# Texts that look like one cost time only.
_LONG_FRACTION = re.compile(rb"[:,\[\s]-?(?:(?=[0-9.]{17})[0-9]+\.|[0-9.]+[eE][-+0-9])")
# Arrow reads up to nine digits of a second only as nanoseconds.
READ_TIMESTAMP = pa.timestamp("ns", tz="UTC")
# In JSON text: a link up to its query string, which may be another in every answer, and that.
LINK_QUERY = r'("https?://[^"?]*)\?[^"]*'


class Refused(Exception):
    """The fast path cannot take this block; the slow path will."""


@dataclass(frozen=True)
class Place:
    """Where rows were read: the bodies, and the lists from the outermost to the rows' own.

    `ends` are the numbers of rows up to the end of each body.
    """

    bodies: Sequence[bytes]
    lists: tuple[str, ...]
    ends: Sequence[int]

    def within(self, name: str, lists: pa.ListArray) -> Place:
        """Where the rows of a list stand that is a field of these rows."""
        offsets = pc.subtract(lists.offsets, lists.offsets[0])
        ends = offsets.take(pa.array(self.ends, pa.int64())).to_pylist()
        return Place(self.bodies, (*self.lists, name), ends)

    def json_texts(self, is_wanted: pa.Array, value_of: Callable[[_Object], Any]) -> pa.Array:
        """JSON text of what `value_of` finds in the wanted rows; null in others and for None."""
        wanted = pc.indices_nonzero(is_wanted).to_pylist()
        texts = []
        for body, start, end in zip(self.bodies, [0, *self.ends], self.ends, strict=False):
            numbers = wanted[bisect_left(wanted, start) : bisect_left(wanted, end)]
            rows = self._rows_of(body) if numbers else []
            texts += [_json_text(value_of(rows[number - start])) for number in numbers]
        places = pc.index_in(pa.arange(0, len(is_wanted)), value_set=pa.array(wanted, pa.int64()))
        return pa.array(texts, pa.string()).take(places)

    def _rows_of(self, body: bytes) -> list[_Object]:
        try:
            rows = [json.loads(body.decode(), strict=False, parse_float=_double_of)]
        except ValueError as error:
            raise Refused from error
        for name in self.lists:
            rows = [item for row in rows for item in row.get(name) or ()]
        return rows


def _double_of(text: str) -> float:
    value = exact_double(text)
    if value is None:
        raise Refused
    return value


def _json_text(value: Any) -> str | None:
    if value is None:
        return None
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def expected_record(shape: Shape) -> pa.DataType:
    """Return the Arrow type of one record as the contract describes it."""
    lists = {name: _expected_fields(shape.children[name].source_columns) for name in shape.lists}
    if PARTS in lists:
        parts, media = shape.children[PARTS], shape.children[ATTACHMENTS]
        reaction = pa.struct(_expected_fields(shape.children[REACTIONS].source_columns))
        lists[PARTS] = [
            *_expected_fields((*parts.source_columns, *media.source_columns)),
            (REACTIONS, pa.list_(reaction)),
        ]
    root = _expected_fields(shape.root.source_columns)
    return pa.struct([*root, *((name, pa.list_(pa.struct(f))) for name, f in lists.items())])


def _expected_fields(columns: Iterable[Column]) -> list[tuple[str, pa.DataType]]:
    found: dict[str, pa.DataType] = {}
    objects: dict[str, list[tuple[str, pa.DataType]]] = {}
    for column in columns:
        type_ = READ_TIMESTAMP if column.type == "timestamp" else column.field.type
        name, _, member = column.source.partition(".")
        if member:
            objects.setdefault(name, []).append((member, type_))
        elif not column.is_json:
            found[name] = type_
        if column.fallback:
            found[column.fallback] = type_
    return [*found.items(), *((name, pa.struct(members)) for name, members in objects.items())]


def columns_of(rows: pa.StructArray, table: Table) -> dict[str, pa.Array]:
    """The fields of records by name, members of the table's objects as `<object>.<member>`."""
    columns: dict[str, pa.Array] = {}
    for field, array in zip(rows.type, rows.flatten(), strict=True):
        if field.name in table.objects:
            members = zip(array.type, array.flatten(), strict=True)
            found = {f"{field.name}.{member.name}": values for member, values in members}
        else:
            found = {field.name: array}
        if columns.keys() & found.keys():
            raise Refused
        columns |= found
    for column in table.source_columns:
        if column.fallback:
            fallback = columns[column.fallback]
            columns[column.source] = pc.coalesce(columns[column.source], fallback)
    return columns


def fields_to_read_as_text(inferred: pa.DataType, expected: pa.DataType) -> pa.DataType | None:
    """`expected` with the unknown fields that look like instants as text; None if there are none.

    Looks at the record, and at the objects and the records in its lists that the contract knows.
    """
    changed = False
    known = {field.name: field.type for field in expected}
    fields = []
    for field in inferred:
        type_ = field.type
        if field.name not in known:
            if pa.types.is_timestamp(type_) or pa.types.is_date(type_) or pa.types.is_time(type_):
                changed = True
                fields.append((field.name, pa.string()))
            continue
        fields.append((field.name, known[field.name]))
        if (members := _members_of(type_)) is not None:
            inner = fields_to_read_as_text(members, _members_of(known[field.name]))
            if inner is not None:
                changed = True
                is_list = pa.types.is_list(type_)
                fields[-1] = (field.name, pa.list_(inner) if is_list else inner)
    return pa.struct(fields) if changed else None


def _members_of(type_: pa.DataType) -> pa.DataType | None:
    """The type of an object, or of the objects in a list; None for anything else."""
    inner = type_.value_type if pa.types.is_list(type_) else type_
    return inner if pa.types.is_struct(inner) else None


def has_inexact(inferred: pa.DataType, expected: pa.DataType, bodies: Sequence[bytes]) -> bool:
    """Return whether columns of unknown fields may hold numbers that a double would change."""
    return any(map(pa.types.is_floating, _unknown_types(inferred, expected))) and any(
        _LONG_FRACTION.search(body) for body in bodies
    )


def _unknown_types(inferred: pa.DataType, expected: pa.DataType) -> Iterator[pa.DataType]:
    """The types of the fields the contract does not know, of a record and those in it."""
    known = {field.name: field.type for field in expected}
    for field in inferred:
        if field.name not in known:
            yield field.type
        elif (members := _members_of(field.type)) is not None:
            yield from _unknown_types(members, _members_of(known[field.name]))


def exact_double(text: str) -> float | None:
    """Return a number as a double, if that is the number that is written."""
    value = float(text)
    if len(text) <= LONGEST_NUMBER and isfinite(value):
        with suppress(ArithmeticError):
            if Decimal(text) == Decimal(repr(value)):
                return value
    return None


def with_json_text(
    columns: Mapping[str, pa.Array], table: Table, place: Place, skip: Set[str] = frozenset()
) -> dict[str, pa.Array]:
    """Return the columns, objects and lists that are kept among them as JSON text."""
    result = dict(columns)
    known = {column.source: column for column in table.source_columns}
    for name, array in columns.items():
        is_json = known[name].is_json if name in known else array.type not in _SCALARS
        if is_json and name not in skip and not table.is_repeated(name):
            result[name] = place.json_texts(array.is_valid(), partial(_member, name, table))
    return result


def _member(name: str, table: Table, row: _Object) -> Any:
    object_, dot, member = name.partition(".")
    if dot and object_ in table.objects:
        return (row[object_] or {}).get(member)
    return row.get(name)


def typed_columns(
    columns: Mapping[str, pa.Array],
    table: Table,
    skip: Set[str] = frozenset(),
    computed: Mapping[str, pa.Array] | None = None,
) -> pa.Table:
    """Return the contract's columns by our names, then unknown fields by theirs."""
    length = len(next(iter(columns.values())))
    names = []
    arrays = []
    for column in table.decoded_columns:
        names.append(column.name)
        if column.is_computed and computed is not None:
            arrays.append(computed[column.name])
        elif column.source in columns:
            arrays.append(_as_column(columns[column.source], column))
        else:
            arrays.append(pa.nulls(length, column.field.type))
    known = {column.source for column in table.source_columns} | skip
    for name, array in columns.items():
        is_kept = name not in known and not table.is_repeated(name)
        if is_kept and array.type in _SCALARS and array.null_count < length:
            names.append(column_name(name, table))
            arrays.append(array)
    return pa.table(arrays, names=names)


def _as_column(array: pa.Array, column: Column) -> pa.Array:
    if column.type != "timestamp":
        return array
    return pc.floor_temporal(array, unit="microsecond").cast(column.field.type)


def column_name(field: str, table: Table) -> str:
    """An unknown field's name among the records; `api_` before it where it is a technical one.

    No two fields have one.
    """
    ours = {column.name for column in table.columns} | {"position"}
    bare = field
    while bare.startswith("api_"):
        bare = bare.removeprefix("api_")
    return f"api_{field}" if bare in ours or bare.startswith("_") else field
