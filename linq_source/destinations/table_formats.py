"""Open table formats: which one a dataset is kept in, and whether it can be.

dlt's filesystem destination keeps tables as Delta or Iceberg tables when it is told a table format;
every other destination has its own tables and none of this applies.
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from urllib.parse import quote

import dlt

from linq_source import tables
from linq_source.destinations.pipeline_facts import is_filesystem, kind_of, schema_of_messages
from linq_source.errors import ConfigurationError

FORMATS = {"delta": "deltalake", "iceberg": "pyiceberg"}


def check_table_format(pipeline: dlt.Pipeline, table_format: str | None) -> None:
    """Raise `ConfigurationError` where a table format cannot be used with a pipeline."""
    if table_format is None:
        return
    if table_format not in FORMATS:
        raise ConfigurationError(
            f"table format {table_format!r} is not known; use one of {', '.join(FORMATS)}"
        )
    if not is_filesystem(pipeline):
        name = pipeline.destination.destination_name if pipeline.destination else "none"
        raise ConfigurationError(
            f"table format {table_format}: the destination {name} keeps tables its own way; leave "
            "the format out, or load to the destination filesystem"
        )
    if find_spec(FORMATS[table_format]) is None:
        raise ConfigurationError(
            f"table format {table_format} needs an extra: pip install 'linq-source[{table_format}]'"
        )


def check_is_lake(pipeline: dlt.Pipeline, table_format: str | None, lake_partition: str) -> None:
    """Raise `ConfigurationError` where a pipeline's tables are no lake, which has partitions."""
    kept_as = table_format or format_of(pipeline)
    if kept_as is not None or not is_filesystem(pipeline):
        where = kept_as or kind_of(pipeline.destination)
        raise ConfigurationError(
            f"lake_partition is {lake_partition}: that is for a Parquet lake alone, and these are "
            f"tables of {where}: leave it out"
        )


def check_folder(table_format: str | None, folder: str, *, is_local: bool) -> None:
    """Raise `ConfigurationError` for a folder whose name the format's library cannot take.

    Both make an address of it: delta-rs (1.6) then panics, or looks for another folder; pyiceberg
    (0.12) writes into a folder that is called like the address, with `%20` for a blank.
    """
    if table_format == "delta" and re.search(r"[\[\]^|\\]|%[0-9A-Fa-f]{2}", folder):
        raise ConfigurationError(
            f"{folder}: Delta tables cannot be in a folder whose name has one of [ ] ^ | \\ or a "
            "percent sign before two digits: choose another bucket or dataset name"
        )
    if table_format == "iceberg" and is_local:
        encoded = quote(folder)
        # Where an earlier run began so, it is found there.
        if encoded != folder and not os.path.isdir(encoded):
            raise ConfigurationError(
                f"{folder}: Iceberg tables can only be in a folder whose name is of letters, "
                "digits and . _ - ~ without accents: choose another bucket or dataset name"
            )


def format_of(pipeline: dlt.Pipeline) -> str | None:
    """The table format that the pipeline's messages are kept in; none: the destination's own."""
    name = schema_of_messages(pipeline) if is_filesystem(pipeline) else None
    return None if name is None else format_in(pipeline.schemas[name])


def format_in(schema: dlt.Schema) -> str | None:
    """The table format that a schema with our tables tells; none: the destination's own."""
    return schema.tables[tables.SYNC_WINDOWS.name].get("table_format")
