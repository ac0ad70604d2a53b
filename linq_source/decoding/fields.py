"""Fields as typed columns; those that the contract does not know are typed by what they hold.

A scalar becomes a column of its inferred type. A string that merely looks like a date stays text
(an inferred timestamp would not give the text back). Objects and lists become JSON text through
DuckDB's JSON functions, in C++ like everything else on this path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set

import duckdb
import pyarrow as pa

from linq_source.decoding.records import Shape
from linq_source.tables import Table

_SCALARS = {pa.int64(), pa.float64(), pa.bool_(), pa.string()}
# Fractions that a double may not hold as they are written: of 16 digits, or with an exponent.
# Texts that look like one cost time only.
_LONG_FRACTION = re.compile(rb"[:,\[\s]-?(?:(?=[0-9.]{17})[0-9]+\.|[0-9.]+[eE][-+0-9])")


def expected_record(shape: Shape) -> pa.DataType:
    """Return the Arrow type of one record as the contract describes it."""
    fields = _expected_fields(shape.root)
    for name, table in shape.children.items():
        fields.append((name, pa.list_(pa.struct(_expected_fields(table)))))
    return pa.struct(fields)


def _expected_fields(table: Table) -> list[tuple[str, pa.DataType]]:
    return [(column.source, column.field.type) for column in table.source_columns]


def fields_to_read_as_text(inferred: pa.DataType, expected: pa.DataType) -> pa.DataType | None:
    """`expected` with the unknown fields that look like instants as text; None if there are none.

    Looks at the record and at the records in its lists.
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
        if pa.types.is_list(type_) and pa.types.is_struct(type_.value_type):
            inner = fields_to_read_as_text(type_.value_type, known[field.name].value_type)
            if inner is not None:
                changed = True
                fields.append((field.name, pa.list_(inner)))
                continue
        fields.append((field.name, known[field.name]))
    return pa.struct(fields) if changed else None


def has_inexact(inferred: pa.DataType, expected: pa.DataType, bodies: Sequence[bytes]) -> bool:
    """Return whether unknown fields may hold numbers that a double would change."""
    return any(map(_may_hold_doubles, _unknown_types(inferred, expected))) and any(
        _LONG_FRACTION.search(body) for body in bodies
    )


def _unknown_types(inferred: pa.DataType, expected: pa.DataType) -> Iterator[pa.DataType]:
    """The types of the fields the contract does not know, of a record and those in its lists."""
    known = {field.name: field.type for field in expected}
    for field in inferred:
        if field.name not in known:
            yield field.type
        elif pa.types.is_list(field.type) and pa.types.is_struct(field.type.value_type):
            yield from _unknown_types(field.type.value_type, known[field.name].value_type)


def _may_hold_doubles(type_: pa.DataType) -> bool:
    return bool(pa.types.is_floating(type_) or pa.types.is_nested(type_))


def typed_columns(columns: Mapping[str, pa.Array], table: Table, skip: Set[str]) -> pa.Table:
    """Return the contract's columns by our names, then unknown scalar fields by theirs."""
    names = []
    arrays = []
    for column in table.source_columns:
        names.append(column.name)
        arrays.append(columns[column.source])
    known = {column.source for column in table.source_columns} | table.repeated
    for name, array in columns.items():
        if name not in known and name not in skip and array.type in _SCALARS:
            names.append(column_name(name, table))
            arrays.append(array)
    return pa.table(arrays, names=names)


def add_nested(
    rows: pa.Table,
    columns: Mapping[str, pa.Array],
    table: Table,
    skip: Set[str],
    bodies: Sequence[bytes],
    key: str,
    child: str,
) -> pa.Table:
    """Append unknown objects and lists as columns of JSON text, read again from the bodies.

    `child` names the list the rows come from, "" for the records themselves.
    """
    known = {column.source for column in table.source_columns} | skip | table.repeated
    for name, array in columns.items():
        if name in known or array.type in _SCALARS or pa.types.is_null(array.type):
            continue
        rows = rows.append_column(column_name(name, table), _json_text(bodies, key, child, name))
    return rows


def column_name(field: str, table: Table) -> str:
    """An unknown field's name among the records; `api_` before it where it is a technical one.

    No two fields have one.
    """
    ours = {column.name for column in table.columns} | {"position"}
    bare = field
    while bare.startswith("api_"):
        bare = bare.removeprefix("api_")
    return f"api_{field}" if bare in ours or bare.startswith("_") else field


def _json_text(bodies: Sequence[bytes], key: str, child: str, field: str) -> pa.ChunkedArray:
    """The JSON text of `field` in every record, in order; null where it is absent or null."""
    list_of = "json_extract(body, $list)::JSON[]"
    record = (
        f"SELECT position, generate_subscripts({list_of}, 1) AS row, unnest({list_of}) AS item "
        "FROM pages"
    )
    parameters = {"list": _pointer(key), "field": _pointer(field)}
    if child:
        parameters["child"] = _pointer(child)
        record = (
            "SELECT position, row, generate_subscripts(list, 1) AS place, unnest(list) AS item "
            "FROM (SELECT position, row, json_extract(item, $child)::JSON[] AS list "
            f"FROM ({record}))"
        )
    order = "position, row, place" if child else "position, row"
    pages = pa.table({"position": list(range(len(bodies))), "body": [b.decode() for b in bodies]})
    with duckdb.connect() as connection:
        connection.register("pages", pages)
        result = connection.sql(
            f"SELECT nullif(json_extract(item, $field)::VARCHAR, 'null') AS value "
            f"FROM ({record}) ORDER BY {order}",
            params=parameters,
        ).to_arrow_table()
    return result["value"].cast(pa.string())


def _pointer(name: str) -> str:
    """Return a JSON Pointer to a member (RFC 6901), in which no character is a wildcard."""
    return "/" + name.replace("~", "~0").replace("/", "~1")
