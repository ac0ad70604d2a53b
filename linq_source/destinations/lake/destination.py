"""A Parquet lake as a destination."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import dlt

from linq_source import tables
from linq_source.destinations.base import Rows, RowsQuery
from linq_source.destinations.bucket import Bucket, told
from linq_source.destinations.dbt_profiles import Profile, lake_profile
from linq_source.destinations.deletion_rule import Marked
from linq_source.destinations.duckdb_in_memory import make_view, spilling_duckdb
from linq_source.destinations.erasing import SEARCHED, Erasure
from linq_source.destinations.files import Files
from linq_source.destinations.lake.contents import (
    Marker,
    complete_loads,
    current_files,
    read_marker,
)
from linq_source.destinations.lake.erasing import erase_lake, readable_files
from linq_source.destinations.lake.layout import current_file
from linq_source.destinations.lake.log import Log
from linq_source.destinations.lake.partition_merge import MEMORY_LIMIT
from linq_source.destinations.lake.settling import settle_lake
from linq_source.destinations.quoting import UNION, parquet_files
from linq_source.destinations.reading import FilesReader, Reader
from linq_source.destinations.remote import Remote, connected
from linq_source.instants import SECOND_US, from_us
from linq_source.settings import Shard
from linq_source.tables import SYNCED_AT, Table

# A load's id is its beginning by the clock of the machine that made it.
_DRIFT_S = 900.0


class Lake(Files):
    """A log of Parquet files and the current state beside it."""

    write_strategy = "append"
    knows_settled = True

    def __init__(self, pipeline: dlt.Pipeline, partition: str | None = None) -> None:
        """`partition` is `month` or `day`, for a new lake."""
        super().__init__(pipeline)
        self._partition = partition

    def dbt_profile(self, database: str) -> Profile:
        """The files are read, and the marts made in a DuckDB file."""
        return lake_profile(self.pipeline, database)

    @contextmanager
    def reading(self, columns: Mapping[Table, Sequence[str]]) -> Iterator[Reader]:
        """Some columns of the current state, to be asked in SQL; of logs, every row."""
        with connected(self.pipeline) as remote:
            bucket = Bucket.of(remote)
            paths: dict[Table, Sequence[str]] = {**_current(bucket)}
            appended = [table for table in columns if table.is_appended]
            loads = complete_loads(bucket) if appended else []
            paths |= {table: list(Log(bucket).files_of(table, loads)) for table in appended}
            with reading_files(bucket, columns, paths, self.tables) as reader:
                yield reader

    def apply_ledger(
        self, remote: Remote, ledger_retention_days: int, shard: Shard | None = None
    ) -> Marked:
        """Bring the current state up to the log."""
        return settle_lake(Bucket.of(remote), self._partition, self.tables)

    def has_ledger(self, remote: Remote) -> bool:
        """Without a stored schema, tables of Delta or Iceberg look like a lake without files."""
        return bool(Log(Bucket.of(remote)).files_of(tables.SYNC_WINDOWS))

    def rows_since(self, remote: Remote, queries: Sequence[RowsQuery]) -> list[Rows]:
        """Its newest version wins whatever lands last, and a file is expensive to open.

        So no older loads than those that began with the pipeline's newest.
        """
        bucket = Bucket.of(remote)
        return [
            _rows_since(
                bucket, query.table, query.columns, query.since_us,
                _loads_since(bucket, max([query.since_us, *query.known])),
            )
            for query in queries
        ]  # fmt: skip

    def merge_log(self) -> None:
        """Settle."""
        with connected(self.pipeline) as remote:
            settle_lake(Bucket.of(remote), stored=self.tables)

    @contextmanager
    def searching(self) -> Iterator[Reader]:
        """Of messages every version is searched: the log keeps those that were replaced."""
        with connected(self.pipeline) as remote:
            bucket = Bucket.of(remote)
            settle_lake(bucket, stored=self.tables)
            paths = _current(bucket)
            versions = readable_files(bucket, Log(bucket).files_of(tables.CHAT_MESSAGES))
            paths[tables.CHAT_MESSAGES] = [*paths.get(tables.CHAT_MESSAGES, ()), *versions]
            with reading_files(bucket, SEARCHED, paths, self.tables) as reader:
                yield reader

    def check_erasable(self, tables: Sequence[Table]) -> None:
        """Raise `ConfigurationError` where the log has files that no known layout explains."""
        with connected(self.pipeline) as remote:
            Log(Bucket.of(remote)).check_all_found()

    def erase(self, erasure: Erasure) -> dict[str, int]:
        """Erase rows from log and current state; gives how many were current, by table."""
        with connected(self.pipeline) as remote:
            return erase_lake(Bucket.of(remote), erasure)


def _loads_since(bucket: Bucket, since_us: int) -> list[str]:
    """Complete loads that may hold rows stamped after an instant."""
    since_s = since_us / SECOND_US - _DRIFT_S
    return [load for load in complete_loads(bucket) if float(load) > since_s]


def _rows_since(
    bucket: Bucket, table: Table, columns: Sequence[str], since_us: int, loads: Sequence[str]
) -> Rows:
    """Rows of some loads that are stamped after an instant; only the columns named."""
    paths = Log(bucket).files_of(table, loads)
    if not paths:
        return []
    with spilling_duckdb(MEMORY_LIMIT) as (database, folder):
        files = [bucket.fetch(path, folder) for path in paths]
        with told(f"{bucket.root}/{table.name}"):
            return database.execute(
                f"SELECT {', '.join(columns)} FROM {parquet_files(files, UNION)}"
                f" WHERE {SYNCED_AT} > ?",
                [from_us(since_us)],
            ).fetchall()


def _current(bucket: Bucket) -> dict[Table, list[str]]:
    """The paths of the current state's files."""
    partitioning = (read_marker(bucket) or Marker()).partitioning
    found: dict[Table, list[str]] = {}
    for file in current_files(bucket, partitioning):
        path = current_file(file.table, partitioning, file.key)
        found.setdefault(file.table, []).append(path)
    return found


@contextmanager
def reading_files(
    bucket: Bucket,
    columns: Mapping[Table, Sequence[str]],
    paths: Mapping[Table, Sequence[str]],
    stored: Mapping[str, Table],
) -> Iterator[Reader]:
    """Files of a bucket as tables with some columns, of the types that the dataset's have."""
    with spilling_duckdb(MEMORY_LIMIT) as (connection, _):
        bucket.reading(connection)
        there = {}
        for table, names in columns.items():
            if files := [bucket.address(path) for path in paths.get(table, ())]:
                there[table] = parquet_files(files, UNION)
                with told(f"{bucket.root}/{table.name}"):
                    make_view(connection, stored.get(table.name, table), names, there[table])
        yield FilesReader(connection, there)
