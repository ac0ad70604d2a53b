"""Databases that dlt has a SQL client for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dlt.common.destination.exceptions import DestinationUndefinedEntity

from linq_source.destinations.base import Destination
from linq_source.destinations.erasing import Erasure, rows_with, wanted_values
from linq_source.destinations.quoting import literal
from linq_source.destinations.reading import Reader, SqlReader
from linq_source.errors import DestinationError
from linq_source.tables import TABLES, Table


class Database(Destination):
    """Any database: rows are deleted and changed by statements."""

    @contextmanager
    def reading(self, columns: Mapping[Table, Sequence[str]]) -> Iterator[Reader]:
        """Some columns of the current state, to be asked in SQL."""
        with self.pipeline.sql_client() as client:
            yield SqlReader(client, self._columns())

    def erase(self, erasure: Erasure) -> dict[str, int]:
        """Erase rows, and what is staged."""
        columns = self._columns()
        with self.pipeline.sql_client() as client:
            reader = SqlReader(client, columns)
            erased = {
                table.name: _erase_rows(client, reader, erasure, table)
                for table in erasure.tables
                if reader.has(table) or erasure.files_of
            }
            for table in erasure.tables:
                _treat_others(client, reader, erasure, table, columns.get(table.name, {}))
            with client.with_staging_dataset():
                _empty(client, [table.name for table in erasure.tables])
        return erased

    def _columns(self) -> dict[str, dict[str, str]]:
        """The types of every table's columns, as far as the pipeline knows them."""
        pipeline = self.pipeline
        schema: Mapping[str, Any] = (
            pipeline.default_schema.tables if pipeline.default_schema_name else {}
        )
        return {
            name: {
                column: str(hints.get("data_type"))
                for column, hints in table["columns"].items()
                if "data_type" in hints
            }
            for name, table in schema.items()
            if name in TABLES and table.get("x-normalizer")
        }


class DuckDB(Database):
    """A DuckDB file, which is written again: blocks that DELETE frees keep their bytes."""

    beyond_reach = ""

    def erase(self, erasure: Erasure) -> dict[str, int]:
        """Erase rows, what is staged, and the bytes in free blocks."""
        erased = super().erase(erasure)
        if not erasure.files_of:
            self._rewrite_file()
        return erased

    def _rewrite_file(self) -> None:
        import duckdb

        with self.pipeline.destination_client() as destination_client:
            credentials: Any = destination_client.config.credentials
        path = Path(credentials._conn_str())
        fresh = path.with_name(path.name + ".forgetting")
        fresh.unlink(missing_ok=True)
        try:
            with duckdb.connect() as connection:
                connection.execute(f"ATTACH {literal(str(path))} AS old")
                connection.execute(f"ATTACH {literal(str(fresh))} AS fresh")
                connection.execute("CHECKPOINT old")
                connection.execute("COPY FROM DATABASE old TO fresh")
                connection.execute("DETACH fresh")
                connection.execute("DETACH old")
            if path.with_name(path.name + ".wal").exists():
                raise OSError("another program is writing")
            os.replace(fresh, path)
        except (duckdb.Error, OSError) as error:
            fresh.unlink(missing_ok=True)
            raise DestinationError(
                f"{path}: the rows are deleted, but the file could not be written anew to free "
                f"their blocks ({type(error).__name__}); make room or close other programs, then "
                "run again"
            ) from error


def _erase_rows(client: Any, reader: Reader, erasure: Erasure, table: Table) -> int:
    """Delete the rows in which a column has one of the values; gives how many there were."""
    name = reader.name(table)
    deleted = 0
    found: list[tuple[str, Sequence[Any]]] = [*erasure.keys(table)]
    found += [(c, wanted_values(reader, table, c, wanted)) for c, wanted in erasure.texts(table)]
    for column, values in found:
        counts = rows_with(reader, f"SELECT COUNT(*) FROM {name} WHERE {column} IN", values)
        deleted += sum(count for (count,) in counts)
        list(rows_with(reader, f"DELETE FROM {name} WHERE {column} IN", values))
    return deleted


def _treat_others(
    client: Any, reader: Reader, erasure: Erasure, table: Table, types: Mapping[str, str]
) -> None:
    text_columns = [column for column, type_ in types.items() if type_ == "text"]
    for column, treat in erasure.others(table, text_columns):
        quoted = reader.quoted(column)
        for value in wanted_values(reader, table, column, erasure.people.is_named_in):
            treated = treat(value)
            # A parameter cannot be null everywhere: it would have no type.
            place, values = ("NULL", [value]) if treated is None else ("%s", [treated, value])
            client.execute_sql(
                f"UPDATE {reader.name(table)} SET {quoted} = {place} WHERE {quoted} = %s", *values
            )


def _empty(client: Any, names: Sequence[str]) -> None:
    """Empty a dataset's tables: the staging one holds copies of what was loaded last."""
    for name in names:
        try:
            client.execute_sql(f"DELETE FROM {client.make_qualified_table_name(name)} WHERE 1 = 1")
        except DestinationUndefinedEntity:
            continue
