"""What a pipeline itself tells: the kind of its destination, the schema that has our tables."""

from __future__ import annotations

from typing import Any

import dlt

from linq_source import tables


def kind_of(destination: Any) -> str:
    """The kind of a destination of dlt, such as `duckdb`, whatever it is named; empty for none."""
    return "" if destination is None else str(destination.destination_type).rpartition(".")[2]


def is_filesystem(pipeline: dlt.Pipeline) -> bool:
    """Whether the destination is a folder or a bucket."""
    return kind_of(pipeline.destination) == "filesystem"


def schema_of_messages(pipeline: dlt.Pipeline) -> str | None:
    """The pipeline's schema that has our tables: in anybody's pipeline there may be others."""
    for name in pipeline.schema_names:
        if tables.SYNC_WINDOWS.name in pipeline.schemas[name].tables:
            return str(name)
    return None
