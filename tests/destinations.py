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

from tests.postgres import postgres_database
from tests.truth import Row


class Place(Protocol):
    """Somewhere to load to, alone for one test."""

    def destination(self) -> Any:
        """What `dlt.pipeline` takes as its destination."""

    def rows(self, table: str) -> list[Row]:
        """All rows of a table's current state; instants in UTC. Empty where there is no table."""


Kind = Callable[[Path], AbstractContextManager[Place]]


class DuckDB:
    """A DuckDB file."""

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


KINDS: Mapping[str, Kind] = {"duckdb": duckdb_file, "postgres": postgres_database}
