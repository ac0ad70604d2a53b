"""Whose pipelines a dataset is of."""

from __future__ import annotations

from pathlib import Path

import duckdb
from dlt.common.destination.exceptions import DestinationUndefinedEntity

from linq_source.destinations.bucket import Bucket
from linq_source.destinations.remote import Remote


def pipelines_of(remote: Remote) -> list[str]:
    """Names of all pipelines whose state the dataset holds."""
    client = remote.client
    table = client.schema.state_table_name
    if remote.is_in_files:
        files = Bucket.of(remote).list(table)
        names = {path.rpartition("/")[2].rsplit("__", 2)[0] for path in files if "__" in path}
        return sorted(names)
    try:
        column = client.schema.naming.normalize_identifier("pipeline_name")
        found = remote.sql.execute_sql(
            f"SELECT DISTINCT {remote.sql.escape_column_name(column)}"
            f" FROM {remote.sql.make_qualified_table_name(table)}"
        )
    except DestinationUndefinedEntity:
        return []
    return sorted(str(name) for (name,) in found or ())


def pipelines_in(path: Path) -> set[str]:
    """Names of the pipelines that loaded into a DuckDB file; empty where that cannot be told."""
    if not path.exists():
        return set()
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            sql = "SELECT DISTINCT pipeline_name FROM linq._dlt_pipeline_state"
            return {name for (name,) in connection.execute(sql).fetchall()}
    except duckdb.Error:
        return set()
