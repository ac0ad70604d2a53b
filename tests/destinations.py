"""Every destination the project promises, and how a test reads back what a run left there.

One entry per destination, in `KINDS`; tests/test_destinations.py runs the same scenario over all.
Libraries that take long to import are imported where they are used.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from pathlib import Path
from time import sleep
from typing import Any, Protocol

import dlt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from deltalake import DeltaTable
from fsspec.implementations.local import LocalFileSystem
from google.oauth2.credentials import Credentials
from s3fs import S3FileSystem

from tests.bigquery import BigQueryDouble
from tests.bigquery.server import PROJECT, TOKEN
from tests.ducklake import DuckLake, catalog_in_a_file, catalog_in_postgres
from tests.postgres import postgres_database
from tests.truth import Row, rows_of_duckdb


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
        return rows_of_duckdb(self.database, table)


@contextmanager
def duckdb_file(folder: Path) -> Iterator[Place]:
    """The default destination."""
    yield DuckDB(folder)


class Lake:
    """The current state of a Parquet lake in a local folder."""

    def __init__(self, folder: Path, name: str = "lake", **settings: Any) -> None:
        """`settings` are dlt's of the destination, such as `layout`."""
        self.bucket = folder / name
        self.settings = settings
        self.options: Mapping[str, Any] = {}

    def destination(self) -> Any:
        return dlt.destinations.filesystem(str(self.bucket), **self.settings)

    def rows(self, table: str) -> list[Row]:
        return _parquet_rows(LocalFileSystem(), f"{self.bucket}/linq", table)


class LakeOnS3:
    """A Parquet lake in a bucket of a server that speaks S3."""

    options: Mapping[str, Any] = {}

    def __init__(self, address: str, bucket: str, folder: str = "deep", **settings: Any) -> None:
        self.address = address
        self.bucket = bucket
        self.folder = folder
        self.settings = settings
        self._client = {"endpoint_url": address, "region_name": "us-east-1"}

    def destination(self) -> Any:
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
        return dlt.destinations.filesystem(
            f"s3://{self.bucket}/{self.folder}",
            credentials=self._client | keys,
            **self.settings,
        )

    def file_system(self) -> S3FileSystem:
        """The bucket's files, as they are now."""
        return S3FileSystem(
            key="key", secret="secret", client_kwargs=self._client, use_listings_cache=False
        )

    def rows(self, table: str) -> list[Row]:
        return _parquet_rows(self.file_system(), f"{self.bucket}/{self.folder}/linq", table)


def _parquet_rows(files: Any, root: str, table: str) -> list[Row]:
    """Rows of a table's current state, or of the log of a table that has none."""
    is_log = table in ("sync_windows", "rejected_records")
    folder = f"{root}/{table}" if is_log else f"{root}/current/{table}"
    tables = [
        pq.read_table(files.open(path), partitioning=None)
        for path in files.find(folder)
        if path.endswith(".parquet")
    ]
    if not tables:
        return []
    rows: list[Row] = pa.concat_tables(tables, promote_options="default").to_pylist()
    return rows


@contextmanager
def parquet_lake(folder: Path) -> Iterator[Place]:
    """Parquet files of dlt as the log, and the current state beside them."""
    yield Lake(folder)


class OpenTables:
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
        from pyiceberg.table import StaticTable

        # A catalog would name the last whole version; one that is being written is none yet.
        for version in sorted(folder.glob("metadata/*.metadata.json"), reverse=True):
            with suppress(ValueError):
                json.loads(version.read_text())
                return StaticTable.from_metadata(str(version))
        return None

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


@cache
def _s3_server() -> str:
    """The address of this process's S3 server; its thread ends with the process."""
    from moto.server import ThreadedMotoServer
    from werkzeug.serving import WSGIRequestHandler

    # A connection, and a thread for it, serves more than one request.
    WSGIRequestHandler.protocol_version = "HTTP/1.1"
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"


_BUCKETS = itertools.count(1)


@contextmanager
def parquet_lake_on_s3(folder: Path) -> Iterator[LakeOnS3]:
    """The same in an object store."""
    place = LakeOnS3(_s3_server(), f"lake-{next(_BUCKETS)}")
    requests.put(f"{place.address}/{place.bucket}", timeout=10).raise_for_status()
    yield place
    place.file_system().rm(place.bucket, recursive=True)


@contextmanager
def delta_tables(folder: Path) -> Iterator[OpenTables]:
    """Delta tables in a folder."""
    yield OpenTables(folder, "delta")


@contextmanager
def iceberg_tables(folder: Path) -> Iterator[OpenTables]:
    """Iceberg tables in a folder."""
    yield OpenTables(folder, "iceberg")


class BigQuery:
    """A project of the test double of BigQuery."""

    options: Mapping[str, Any] = {}

    def __init__(self, double: BigQueryDouble, folder: Path) -> None:
        self.double = double
        self.folder = folder

    def destination(self) -> Any:
        credentials: Any = Credentials(TOKEN, quota_project_id=PROJECT)  # type: ignore[no-untyped-call]
        return dlt.destinations.bigquery(credentials)

    def client(self) -> Any:
        """Google's own client of the project."""
        from google.cloud import bigquery

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


@contextmanager
def ducklake_on_postgres_and_s3(folder: Path) -> Iterator[DuckLake]:
    """A DuckLake with its catalog in a server and its files in an object store."""
    with parquet_lake_on_s3(folder) as store, postgres_database(folder) as database:
        with catalog_in_postgres(
            database, store.file_system(), store.address, store.bucket
        ) as place:
            yield place


KINDS: Mapping[str, Kind] = {
    "duckdb": duckdb_file,
    "bigquery": bigquery_project,
    "parquet": parquet_lake,
    "parquet on s3": parquet_lake_on_s3,
    "postgres": postgres_database,
    "delta": delta_tables,
    "iceberg": iceberg_tables,
    "ducklake": catalog_in_a_file,
    "ducklake on postgres and s3": ducklake_on_postgres_and_s3,
}
# Those that `make test` loads into; the others are for `make test-all`.
FAST = ("duckdb", "parquet")
# An object store has what a folder has: a few tests, which name it, try how it is read and written.
IN_FOLDERS = tuple(name for name in KINDS if "s3" not in name)


V3 = ", v3"


def kinds(*names: str, fast: Collection[str] = FAST) -> list[Any]:
    """Kinds of destination as parameters, all but the fast ones marked `long`.

    Without names all but those in object stores; and a DuckLake, a database as Postgres is, but
    with statements that take twenty times as long, is `deep`.
    """
    slow = () if names else ("ducklake",)
    return [
        pytest.param(
            name,
            marks=() if name in fast else pytest.mark.deep if name in slow else pytest.mark.long,
        )
        for name in names or IN_FOLDERS
    ]


def kinds_of_both(*more: str, fast: Collection[str] = FAST, v3: Collection[str] = ()) -> list[Any]:
    """The same, and `more`, for a dataset of API v2, and of v3: those but for `v3` are `deep`.

    What v3 has its own way of is tried on every kind in test_places_v3.py.
    """
    of_v3 = [
        pytest.param(name + V3, marks=() if name in v3 else pytest.mark.deep) for name in IN_FOLDERS
    ]
    return [*kinds(*IN_FOLDERS, *more, fast=fast), *of_v3]
