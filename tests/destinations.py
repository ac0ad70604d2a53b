"""Every destination the project promises, and how a test reads back what a run left there.

One entry per destination, in `KINDS`; tests/test_destinations.py runs the same scenario over all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from time import sleep
from typing import Any, Protocol

import dlt
import duckdb
import pytest
from google.cloud import bigquery
from google.oauth2.credentials import Credentials

from tests.bigquery import BigQueryDouble
from tests.bigquery.server import PROJECT, TOKEN
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


class BigQuery:
    """A project of the test double of BigQuery."""

    def __init__(self, double: BigQueryDouble, folder: Path) -> None:
        self.double = double
        self.folder = folder

    def destination(self) -> Any:
        credentials: Any = Credentials(TOKEN, quota_project_id=PROJECT)  # type: ignore[no-untyped-call]
        return dlt.destinations.bigquery(credentials)

    def client(self) -> bigquery.Client:
        """Google's own client of the project."""
        credentials = Credentials(TOKEN)  # type: ignore[no-untyped-call]
        return bigquery.Client(PROJECT, credentials)

    def rows(self, table: str) -> list[Row]:
        if table not in self.double.warehouse.catalog.datasets.get("linq", {}):
            return []
        return self.double.warehouse.rows("linq", table)


@contextmanager
def bigquery_project(folder: Path) -> Iterator[BigQuery]:
    """BigQuery's REST API on this machine, where Google's client looks for it."""
    with BigQueryDouble() as double, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIGQUERY_EMULATOR_HOST", double.url)
        # dlt asks after a load job once a second; the double has finished it by then.
        patch.setattr("dlt.destinations.impl.bigquery.bigquery.sleep", lambda _: sleep(0.01))
        yield BigQuery(double, folder)
        assert double.failures == []


KINDS: Mapping[str, Kind] = {"duckdb": duckdb_file, "bigquery": bigquery_project}
