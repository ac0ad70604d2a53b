"""Columns the contract does not know, kept at one type each from run to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa

from linq_source.tables import TABLES

_TYPE_NAMES: Mapping[pa.DataType, str] = {
    pa.int64(): "bigint",
    pa.float64(): "double",
    pa.bool_(): "bool",
    pa.string(): "text",
}
_ARROW_TYPES = {name: type_ for type_, name in _TYPE_NAMES.items()}


class ColumnTypes:
    """The types that unknown columns have in the destination, by table and column.

    A value that its column cannot hold without loss goes to a column of its own, named
    `<column>__v_<type>`, as dlt does for rows (https://dlthub.com/docs/general-usage/schema).
    `normalize` gives a column's name in the destination.
    """

    def __init__(
        self, known: Mapping[str, Mapping[str, str]], normalize: Callable[[str], str]
    ) -> None:
        self._known = {table: dict(columns) for table, columns in known.items()}
        self._normalize = normalize

    def settle(self, table_name: str, rows: pa.Table) -> pa.Table:
        """The rows with every unknown column under a name whose type it has."""
        own = set(TABLES[table_name].column_names)
        for field in list(rows.schema):
            if field.name in own:
                continue
            index = rows.column_names.index(field.name)
            column = rows.column(index)
            rows = rows.remove_column(index)
            if not pa.types.is_null(field.type):
                rows = self._add(table_name, rows, field, column)
        return rows

    def _add(
        self, table_name: str, rows: pa.Table, field: pa.Field, column: pa.ChunkedArray
    ) -> pa.Table:
        known = self._known.setdefault(table_name, {})
        name = self._normalize(field.name)
        if name in TABLES[table_name].column_names:
            name = f"api_{name}"
        while name in rows.column_names:
            name = f"{name}_2"
        type_name = _TYPE_NAMES[field.type]
        wanted = known.setdefault(name, type_name)
        if wanted != type_name:
            cast = _cast_exactly(column, wanted)
            if cast is not None:
                column = cast
            else:
                name = f"{name}__v_{type_name}"
                known.setdefault(name, type_name)
        return rows.append_column(name, column)


def _cast_exactly(column: pa.ChunkedArray, wanted: str) -> pa.ChunkedArray | None:
    """The column as another type if no value changes; none if one would."""
    target = _ARROW_TYPES.get(wanted)
    if target is None or (target != pa.string() and column.type == pa.string()):
        return None
    if target == pa.bool_() or (column.type == pa.bool_() and target != pa.string()):
        return None
    try:
        return column.cast(target, safe=True)
    except pa.ArrowInvalid:
        return None
