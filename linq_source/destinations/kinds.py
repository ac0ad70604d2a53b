"""Which kind of destination a pipeline has; what follows from it is asked of the object."""

from __future__ import annotations

from typing import Any

import dlt

from linq_source.destinations.base import Destination
from linq_source.destinations.databases import BigQuery, Database, DuckDB, Postgres
from linq_source.destinations.ducklake import DuckLake
from linq_source.destinations.pipeline_facts import is_filesystem, kind_of, schema_of_messages
from linq_source.destinations.remote import restore, stored_schema
from linq_source.destinations.table_formats import format_in, format_of
from linq_source.errors import ConfigurationError

_DATABASES = {
    "duckdb": DuckDB,
    "bigquery": BigQuery,
    "ducklake": DuckLake,
    "postgres": Postgres,
}
_FILES = "filesystem"
# Of dlt, but not for us: SQLite gives instants back as texts, and MySQL and MariaDB have no
# `UPDATE ... FROM`, which marks what is gone.
_UNFIT = "sqlalchemy"


def destination_of(pipeline: dlt.Pipeline, lake_partition: str | None = None) -> Destination:
    """The destination of a pipeline, as the kind that it is.

    Files are of the table format that the pipeline's schema tells, as far as it knows one; a new
    Parquet lake is divided by `lake_partition`, `month` or `day`.
    """
    if pipeline.destination is None:
        raise ConfigurationError("the pipeline has no destination")
    kind = kind_of(pipeline.destination)
    if kind == _UNFIT:
        raise ConfigurationError(
            f"the destination {kind} (SQLite, MySQL, MariaDB) cannot follow edits and deletions: "
            "use another, such as duckdb or postgres (README.md lists them)"
        )
    if kind != _FILES:
        return _DATABASES.get(kind, Database)(pipeline)
    # Here, because only they need the libraries.
    if format_of(pipeline) is None:
        from linq_source.destinations.lake.destination import Lake

        return Lake(pipeline, lake_partition)
    from linq_source.destinations.open_tables.destination import OpenTables

    return OpenTables(pipeline)


def restored_destination_of(pipeline: dlt.Pipeline) -> Destination:
    """The same; the schema is asked for first where the pipeline does not know it.

    Where it loaded nothing there itself, any pipeline's tells the format.
    """
    if is_filesystem(pipeline) and schema_of_messages(pipeline) is None:
        restore(pipeline)
        schema = stored_schema(pipeline) if schema_of_messages(pipeline) is None else None
        if schema is not None and format_in(schema) is not None:
            from linq_source.destinations.open_tables.destination import OpenTables

            return OpenTables(pipeline, schema)
    return destination_of(pipeline)


def stage_separately(destination: Any, pipeline_name: str) -> None:
    """Give a destination a staging dataset named after the pipeline, unless one is configured.

    Pipelines that load at the same time need their own. DuckDB has one writer at a time, who
    empties the staging tables first; files have none. Changes the destination: it must be one
    that no other pipeline uses.
    """
    if kind_of(destination) in ("duckdb", _FILES):
        return
    key = "staging_dataset_name_layout"
    for section in (f"destination.{destination.destination_name}", "destination"):
        if dlt.config.get(f"{section}.{key}") is not None:
            return
    destination.config_params.setdefault(key, f"%s_staging_{pipeline_name}")
