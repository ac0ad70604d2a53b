"""Reading the newest rows of a lake's log, as the loads brought them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from linq_source.destinations.bucket import Bucket, told
from linq_source.destinations.duckdb_in_memory import spilling_duckdb
from linq_source.destinations.lake.naming import Log
from linq_source.destinations.lake.partition_merge import MEMORY_LIMIT
from linq_source.destinations.lake.settling import complete_loads
from linq_source.destinations.quoting import UNION, parquet_files
from linq_source.instants import SECOND_US, from_us
from linq_source.tables import SYNCED_AT, Table

# A load's id is its beginning by the clock of the machine that made it.
_DRIFT_S = 900.0


def loads_since(bucket: Bucket, since_us: int) -> list[str]:
    """Complete loads that may hold rows stamped after an instant."""
    since_s = since_us / SECOND_US - _DRIFT_S
    return [load for load in complete_loads(bucket) if float(load) > since_s]


def rows_since(
    bucket: Bucket, table: Table, columns: Sequence[str], since_us: int, loads: Sequence[str]
) -> list[tuple[Any, ...]]:
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
