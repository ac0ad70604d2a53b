"""Which kind of destination a pipeline has: asked here and nowhere else."""

from __future__ import annotations

import dlt

from linq_source.destinations.base import Destination
from linq_source.destinations.databases import Database, DuckDB
from linq_source.destinations.table_formats import format_of, is_duckdb, is_filesystem
from linq_source.errors import ConfigurationError


def destination_of(pipeline: dlt.Pipeline) -> Destination:
    """The destination of a pipeline, as the kind that it is.

    A dataset in files is of the table format that the pipeline's schema tells: restore it first.
    """
    if pipeline.destination is None:
        raise ConfigurationError("the pipeline has no destination")
    if is_duckdb(pipeline):
        return DuckDB(pipeline)
    if not is_filesystem(pipeline):
        return Database(pipeline)
    if format_of(pipeline) is None:
        from linq_source.destinations.lake.destination import Lake

        return Lake(pipeline)
    from linq_source.destinations.open_tables.destination import OpenFormat

    return OpenFormat(pipeline)
