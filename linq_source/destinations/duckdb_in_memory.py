"""An in-memory DuckDB for querying and settling tables that lie in files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa

from linq_source.destinations.quoting import identifier, literal
from linq_source.destinations.scratch import ScratchFolder
from linq_source.tables import Table


@contextmanager
def spilling_duckdb(memory: str) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
    """Yield a connection with bounded memory, and the folder it spills to."""
    with ScratchFolder() as folder, duckdb.connect() as connection:
        for setting in (
            f"memory_limit = '{memory}'",
            "threads = 2",
            f"temp_directory = {literal(folder)}",
            "preserve_insertion_order = false",
            "TimeZone = 'UTC'",
        ):
            connection.execute(f"SET {setting}")
        yield connection, folder


def make_table(connection: duckdb.DuckDBPyConnection, name: str, rows: Any) -> None:
    """Create a table from Arrow rows, replacing one of that name."""
    connection.register("_rows", rows)
    connection.execute(f"CREATE OR REPLACE TABLE {identifier(name)} AS SELECT * FROM _rows")
    connection.unregister("_rows")


def make_view(
    connection: duckdb.DuckDBPyConnection, table: Table, columns: Sequence[str], rows: str
) -> None:
    """Create a view of some columns of a table, with its types; what the rows lack is null.

    `rows` is what to select from; it gives the types of columns that the contract does not know.
    """
    known = [column.field for column in table.columns if column.name in columns]
    # A DuckDB table, for DuckDB cannot push every join filter down to Arrow.
    make_table(connection, f"empty_{table.name}", pa.schema(known).empty_table())
    there = set(table.column_names)
    if not there.issuperset(columns):
        there.update(connection.sql(f"FROM {rows}").columns)
    names = ", ".join(f"{'' if n in there else 'NULL AS '}{identifier(n)}" for n in columns)
    connection.execute(
        f"CREATE VIEW {identifier(table.name)} AS SELECT {names} FROM"
        # By name: files of earlier versions may lack a column.
        f" (SELECT * FROM empty_{table.name} UNION ALL BY NAME SELECT * FROM {rows})"
    )
