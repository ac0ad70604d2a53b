"""A DuckDB in memory, by which tables in files are asked and settled."""

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
    """A DuckDB of bounded memory, and its folder, to which it writes what does not fit."""
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
    """Make a table of rows of Arrow's, in place of one that has the name."""
    connection.register("_rows", rows)
    connection.execute(f"CREATE OR REPLACE TABLE {identifier(name)} AS SELECT * FROM _rows")
    connection.unregister("_rows")


def make_view(
    connection: duckdb.DuckDBPyConnection, table: Table, columns: Sequence[str], rows: str
) -> None:
    """Make the view of a table with some columns, of the table's types; null what the rows lack.

    `rows` is what to select from. Of a column that the contract does not know it tells the type.
    """
    known = [column.field for column in table.columns if column.name in columns]
    # A table of DuckDB's: not every filter of a join can be handed to Arrow.
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
