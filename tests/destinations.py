"""Every destination the project promises, and how a test reads back what a run left there.

One entry per destination, in `KINDS`; tests/test_destinations.py runs the same scenario over all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import dlt
import duckdb
import pyarrow as pa
from deltalake import DeltaTable
from pyiceberg.table import StaticTable

from tests.postgres import postgres_database
from tests.truth import Row


class Place(Protocol):
    """Somewhere to load to, alone for one test. `options` are for `sync` and `pipeline.run`."""

    options: Mapping[str, Any]

    def destination(self) -> Any:
        """What `dlt.pipeline` takes as its destination."""

    def rows(self, table: str) -> list[Row]:
        """All rows of a table's current state; instants in UTC. Empty where there is no table."""


Kind = Callable[[Path], AbstractContextManager[Place]]


class DuckDB:
    """A DuckDB file."""

    options: Mapping[str, Any] = {}

    def __init__(self, folder: Path) -> None:
        self.database = folder / "messages.duckdb"

    def destination(self) -> Any:
        return dlt.destinations.duckdb(str(self.database))

    def rows(self, table: str) -> list[Row]:
        with duckdb.connect(str(self.database), read_only=True) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            try:
                relation = connection.sql(f"SELECT * FROM linq.{table}")
            except duckdb.CatalogException:
                return []
            names = relation.columns
            return [dict(zip(names, row, strict=True)) for row in relation.fetchall()]


@contextmanager
def duckdb_file(folder: Path) -> Iterator[Place]:
    """The default destination."""
    yield DuckDB(folder)


class Lake:
    """The current state of a Parquet lake in a local folder."""

    def __init__(self, folder: Path) -> None:
        self.bucket = folder / "lake"
        self.options: Mapping[str, Any] = {}

    def destination(self) -> Any:
        return dlt.destinations.filesystem(str(self.bucket))

    def rows(self, table: str) -> list[Row]:
        folder = self.bucket / "linq" / "current" / table
        if table in ("sync_windows", "rejected_records"):
            folder = self.bucket / "linq" / table
        files = sorted(map(str, folder.rglob("*.parquet")))
        if not files:
            return []
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            relation = connection.sql(
                "SELECT * FROM read_parquet($files, union_by_name = true)", params={"files": files}
            )
            names = [name for name in relation.columns if name not in ("sent_month", "sent_day")]
            rows = relation.select(*[f'"{name}"' for name in names]).fetchall()
        return [dict(zip(names, row, strict=True)) for row in rows]


@contextmanager
def parquet_lake(folder: Path) -> Iterator[Place]:
    """Parquet files of dlt as the log, and the current state beside them."""
    yield Lake(folder)


class OpenFormat:
    """A local folder of Delta or Iceberg tables, read with the format's own library."""

    def __init__(self, folder: Path, table_format: str) -> None:
        self.bucket = folder / "bucket"
        self.options: Mapping[str, Any] = {"table_format": table_format}

    def destination(self) -> Any:
        return dlt.destinations.filesystem(str(self.bucket))

    def table(self, name: str) -> Any:
        """The table as a `deltalake.DeltaTable` or a pyiceberg `StaticTable`; none: no such."""
        folder = self.bucket / "linq" / name
        if self.options["table_format"] == "delta":
            return DeltaTable(str(folder)) if DeltaTable.is_deltatable(str(folder)) else None
        versions = sorted(folder.glob("metadata/*.metadata.json"))
        return StaticTable.from_metadata(str(versions[-1])) if versions else None

    def version(self, name: str) -> int:
        """How many times the table was written."""
        table = self.table(name)
        return table.version() if isinstance(table, DeltaTable) else len(table.history())

    def rows(self, table: str) -> list[Row]:
        found = self.table(table)
        if found is None:
            return []
        stream = found.scan()
        if isinstance(found, DeltaTable):
            rows: list[Row] = pa.RecordBatchReader.from_stream(stream).read_all().to_pylist()
        else:
            rows = stream.to_arrow().to_pylist()
        return rows


@contextmanager
def delta_tables(folder: Path) -> Iterator[OpenFormat]:
    """Delta tables in a folder."""
    yield OpenFormat(folder, "delta")


@contextmanager
def iceberg_tables(folder: Path) -> Iterator[OpenFormat]:
    """Iceberg tables in a folder."""
    yield OpenFormat(folder, "iceberg")


KINDS: Mapping[str, Kind] = {
    "duckdb": duckdb_file,
    "parquet": parquet_lake,
    "postgres": postgres_database,
    "delta": delta_tables,
    "iceberg": iceberg_tables,
}
