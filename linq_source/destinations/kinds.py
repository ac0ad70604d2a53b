"""Which kind of destination a pipeline has; what follows from it is asked of the object."""

from __future__ import annotations

from typing import Any

import dlt

from linq_source.destinations.base import Destination
from linq_source.destinations.databases import BigQuery, Database, DuckDB
from linq_source.destinations.ducklake import DuckLake
from linq_source.destinations.remote import restore, stored_schema
from linq_source.destinations.table_formats import format_in, format_of, schema_of_messages
from linq_source.errors import ConfigurationError

_DATABASES = {"duckdb": DuckDB, "bigquery": BigQuery, "ducklake": DuckLake}
_FILES = "filesystem"
# Of dlt, but not for us: SQLite gives instants back as texts, and MySQL and MariaDB have no
# `UPDATE ... FROM`, which marks what is gone.
_UNFIT = "sqlalchemy"


def kind_of(destination: Any) -> str:
    """The kind of a destination of dlt, such as `duckdb`, whatever it is named."""
    return str(destination.destination_type).rpartition(".")[2]


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
    from linq_source.destinations.open_tables.destination import OpenFormat

    return OpenFormat(pipeline)


def restored_destination_of(pipeline: dlt.Pipeline) -> Destination:
    """The same; the schema is asked for first where the pipeline does not know it.

    Where it loaded nothing there itself, any pipeline's tells the format.
    """
    is_unknown = pipeline.destination is not None and schema_of_messages(pipeline) is None
    if is_unknown and kind_of(pipeline.destination) == _FILES:
        restore(pipeline)
        schema = stored_schema(pipeline) if schema_of_messages(pipeline) is None else None
        if schema is not None and format_in(schema) is not None:
            from linq_source.destinations.open_tables.destination import OpenFormat

            return OpenFormat(pipeline, schema)
    return destination_of(pipeline)


def stages_in_a_dataset(destination: Any) -> bool:
    """Whether pipelines that load at the same time need staging datasets of their own.

    DuckDB has one writer at a time, who empties the staging tables first; files have none.
    """
    return kind_of(destination) not in ("duckdb", _FILES)


def configured_kind(name: str) -> tuple[str, str | None]:
    """The setting that gives a named destination its type, and what it is, if it is configured."""
    setting = f"destination.{name}.destination_type"
    return setting, dlt.config.get(setting, str)
