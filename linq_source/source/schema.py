"""Hints of the tables for dlt's schema, and what it knows of columns beyond the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import dlt
import pyarrow as pa
import pyarrow.compute as pc
from dlt.common.configuration.container import Container
from dlt.common.destination import DestinationCapabilitiesContext
from dlt.extract import DltResource

from linq_source.destinations.new_columns import NewColumns, first_field
from linq_source.errors import ConfigurationError
from linq_source.rows.column_names import LONGEST_NAME
from linq_source.rows.hints import FIELD, table_hints
from linq_source.rows.unknown_columns import UnknownColumns
from linq_source.tables import TOMBSTONE, Table


def unknown_columns(
    schema: dlt.Schema, names: Iterable[str], there: NewColumns, tables: Mapping[str, Table]
) -> UnknownColumns:
    """Return what schema and destination say of columns the contract does not know."""
    types: dict[str, dict[str, str]] = {}
    fields: dict[str, dict[str, str]] = {}
    for name in names:
        columns = schema.tables.get(name, {}).get("columns", {})
        types[name] = _hints(columns, "data_type") | dict(there.types.get(name, {}))
        fields[name] = _hints(columns, FIELD)
        for column, owner in there.fields.get(name, {}).items():
            fields[name][column] = first_field(column, fields[name].get(column), owner)
    naming = schema.naming
    return UnknownColumns(
        types,
        type(naming)().normalize_identifier,
        fields,
        naming.normalize_identifier,
        naming.max_length or LONGEST_NAME,
        tables,
    )


def _hints(columns: Mapping[str, Mapping[str, Any]], hint: str) -> dict[str, Any]:
    return {name: column[hint] for name, column in columns.items() if hint in column}


def note_fields(table: str, fields: Mapping[str, str], columns: Iterable[str]) -> None:
    """Have the schema say which field of the API a column holds."""
    hints: Any = {name: {"name": name, FIELD: fields[name]} for name in columns if name in fields}
    if hints:
        dlt.current.resource().apply_hints(table, columns=hints, create_table_variant=True)


def apply_table_format(tables: Sequence[Table]) -> str | None:
    """Give the resource's tables hints that match their open table format; return the format.

    It comes with the run (`pipeline.run(..., table_format=...)`); a dataset stays with the one it
    began with. Raises `ConfigurationError` for another.
    """
    resource = dlt.current.resource()
    asked = resource.table_format
    known = dlt.current.source_schema().tables
    for table in tables:
        stored = known.get(table.name, {})
        if not stored.get("x-normalizer"):
            continue
        kept = stored.get("table_format")
        if asked and asked != kept:
            raise ConfigurationError(
                f"table format {asked}: the dataset is kept as {kept or 'files of no format'}; "
                "leave the format out, or load into a new dataset with a new pipeline name"
            )
        asked = kept
    if _replaces_children():
        return None
    for table in tables:
        hints = table_hints(table, write_strategy="append" if asked is None else "upsert")
        resource.apply_hints(create_table_variant=True, table_format=asked, **hints)
    return None if asked is None else str(asked)


def is_known(schema: dlt.Schema, table: Table) -> bool:
    """Return whether the destination has the table, with every column of this version."""
    stored = schema.tables.get(table.name, {})
    if not stored.get("x-normalizer"):
        return False
    normalize = schema.naming.normalize_identifier
    names = (normalize(name) for name in table.column_names if name != TOMBSTONE)
    return all(name in stored["columns"] for name in names)


def _replaces_children() -> bool:
    """Return whether the destination can replace all rows of a parent at once."""
    container = Container()
    if DestinationCapabilitiesContext not in container:
        return True
    strategies = container[DestinationCapabilitiesContext].supported_merge_strategies
    return "delete-insert" in (strategies or ())


def without_tombstones(table: pa.Table) -> pa.Table:
    """Return the rows without those that only remove others."""
    if TOMBSTONE not in table.column_names:
        return table
    return table.filter(pc.is_null(table[TOMBSTONE]))


def make_resource(
    name: str, tables: Sequence[Table], generator: Callable[[], Iterator[Any]]
) -> DltResource:
    """Return a resource of all its tables, each with its own hints."""

    def generate() -> Iterator[Any]:  # dlt marks its functions, which a method does not allow
        yield from generator()

    resource = dlt.resource(generate, name=name)
    # A variant would inherit the columns of the resource itself, so every table is a variant.
    for table in tables:
        resource.apply_hints(create_table_variant=True, **table_hints(table))
    return resource
