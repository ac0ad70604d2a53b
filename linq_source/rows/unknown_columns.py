"""Columns the contract does not know: each keeps its field and its type from run to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from linq_source.rows.column_names import LONGEST_NAME, column_name, identifier, other_name
from linq_source.tables import TABLES, Table

_TYPE_NAMES: Mapping[pa.DataType, str] = {
    pa.int64(): "bigint",
    pa.float64(): "double",
    pa.bool_(): "bool",
    pa.string(): "text",
}
# Up to here every whole number is a double.
_EXACT = 2**53


class UnknownColumns:
    """The fields and types that unknown columns have in the destination, by table and column.

    The field that came first keeps a column, whatever else is spelled like it; a column whose field
    is not noted belongs to the first that would have its name. A value that its column cannot hold
    without loss goes to a column of its own, named `<column>__v_<type>`, as dlt does for rows
    (https://dlthub.com/docs/general-usage/schema).

    `known` are the types, `fields` the fields as far as they are noted. `normalize` gives a
    name's identifier in the destination, `shortened` the same with the length it used to have.
    `tables` have the columns that the contract knows.
    """

    def __init__(
        self,
        known: Mapping[str, Mapping[str, str]],
        normalize: Callable[[str], str],
        fields: Mapping[str, Mapping[str, str]] | None = None,
        shortened: Callable[[str], str] | None = None,
        longest: int = LONGEST_NAME,
        tables: Mapping[str, Table] = TABLES,
    ) -> None:
        self._known = {table: dict(columns) for table, columns in known.items()}
        self._fields = {table: dict(columns) for table, columns in (fields or {}).items()}
        self._normalize = normalize
        self._shortened = shortened or normalize
        self._longest = min(longest, LONGEST_NAME)
        self._tables = tables

    def fields(self, table_name: str) -> Mapping[str, str]:
        """Return the fields of a table's columns, by column, as far as they are known by now."""
        return self._fields.get(table_name, {})

    def fit(self, table_name: str, rows: pa.Table) -> pa.Table:
        """Return the rows with every unknown column under a name whose type it has."""
        own = set(self._tables[table_name].column_names)
        unknown = [name for name in rows.column_names if name not in own]
        found = {name: rows[name] for name in unknown if not pa.types.is_null(rows[name].type)}
        rows = rows.drop_columns(unknown)
        # The field that is spelled like its column comes before others that are new with it.
        for field in sorted(
            found, key=lambda field: (self._plain(table_name, field) != field, field)
        ):
            rows = self._add(table_name, rows, self._column(table_name, field), found[field])
        return rows

    def _plain(self, table_name: str, field: str) -> str:
        return column_name(field, self._tables[table_name], self._normalize, self._longest)

    def _column(self, table_name: str, field: str) -> str:
        """Return the field's column, from now on its own."""
        fields = self._fields.setdefault(table_name, {})
        self._known.setdefault(table_name, {})
        name = next((name for name, owner in fields.items() if owner == field), None)
        if name is None:
            name = self._former(table_name, field) or self._plain(table_name, field)
            if name in fields:
                name = other_name(field, name, self._longest)
            fields[name] = field
        return name

    def _former(self, table_name: str, field: str) -> str | None:
        """Return the column that holds the field since before fields were noted, or None."""
        name = identifier(field, self._shortened)
        if (
            name is None
            or name in self._tables[table_name].column_names
            or name.startswith("_dlt_")
        ):
            return None
        is_unnoted = name in self._known[table_name] and name not in self._fields[table_name]
        return name if is_unnoted else None

    def _add(self, table_name: str, rows: pa.Table, name: str, column: pa.ChunkedArray) -> pa.Table:
        known = self._known[table_name]
        type_name = _TYPE_NAMES[column.type]
        fitting, rest = divide(column, known.setdefault(name, type_name))
        if fitting is not None:
            rows = rows.append_column(name, fitting)
        if rest is not None:
            variant = variant_of(name, type_name)
            known.setdefault(variant, type_name)
            rows = rows.append_column(variant, rest)
        return rows


def variant_of(column: str, type_name: str) -> str:
    """Return the column for values of another type than a column has."""
    return f"{column}__v_{type_name}"


def divide(
    column: pa.ChunkedArray, wanted: str
) -> tuple[pa.ChunkedArray | None, pa.ChunkedArray | None]:
    """Return the values that another type holds exactly, in that type, and those it does not.

    None where there would be no value at all.
    """
    type_name = _TYPE_NAMES[column.type]
    if wanted == type_name:
        return column, None
    if wanted == "text":
        return column.cast(pa.string()), None
    if (type_name, wanted) == ("bigint", "double"):
        fits = _within(column, pa.scalar(_EXACT, pa.int64()))
        target: pa.DataType = pa.float64()
    elif (type_name, wanted) == ("double", "bigint"):
        # A whole number has no negative zero.
        is_whole = pc.and_(
            pc.equal(pc.floor(column), column), _within(column, pa.scalar(_EXACT - 1.0))
        )
        fits = pc.and_(is_whole, pc.not_equal(column.cast(pa.string()), "-0"))
        target = pa.int64()
    else:
        return None, column
    none = pa.scalar(None, column.type)
    fitting, rest = pc.if_else(fits, column, none), pc.if_else(fits, none, column)
    return (
        None if fitting.null_count == len(column) else fitting.cast(target),
        None if rest.null_count == len(column) else rest,
    )


def _within(column: pa.ChunkedArray, bound: pa.Scalar) -> pa.ChunkedArray:
    return pc.and_(pc.less_equal(column, bound), pc.greater_equal(column, pc.negate(bound)))
