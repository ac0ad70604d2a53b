"""Tables that somebody dropped: read again, as if they had never been loaded."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import dlt

from linq_source.destinations.dataset_pipelines import pipelines_of
from linq_source.destinations.kinds import destination_of
from linq_source.destinations.remote import Remote, restore
from linq_source.operations.packages import drop
from linq_source.state import SECTION
from linq_source.tables import ALL_TABLES, RESOURCE_TABLES


def heal_tables(
    pipeline: dlt.Pipeline, remote: Remote, load: Callable[[dlt.Pipeline], list[str]]
) -> list[str]:
    """Make missing tables again, once no pipeline's state says that they were loaded.

    dlt makes a table when the schema changes and at no other time: without one, every load would
    fail. Return the names. Killed in the midst of this, it is done again: a table is made last.
    """
    if not destination_of(pipeline).makes_tables or remote.state() is None:
        return []
    if not pipeline.default_schema_name:
        restore(pipeline)
    missing = _missing_tables(pipeline, remote)
    if not missing:
        return []
    lost = [ALL_TABLES[name] for name in missing if not ALL_TABLES[name].is_appended]
    roots = {table.parent or table.name for table in lost}
    resources = [name for name, found in RESOURCE_TABLES.items() if found[0].name in roots]
    # What is pending was made for the tables as they were.
    schema = pipeline.default_schema
    drop(pipeline)
    for name in pipelines_of(remote) if resources else ():
        _remove_from_state(pipeline, name, resources, load)
    remote.client.schema = schema
    remote.client.update_stored_schema(force=True)
    return missing


def _missing_tables(pipeline: dlt.Pipeline, remote: Remote) -> list[str]:
    if not pipeline.default_schema_name:
        return []
    known = pipeline.default_schema.tables
    names = [name for name in ALL_TABLES if known.get(name, {}).get("x-normalizer")]
    return [name for name, columns in remote.client.get_storage_tables(names) if not columns]


def _remove_from_state(
    pipeline: dlt.Pipeline,
    name: str,
    resources: Sequence[str],
    load: Callable[[dlt.Pipeline], list[str]],
) -> None:
    """Remove what a pipeline of the dataset remembers of resources from its state there."""
    with tempfile.TemporaryDirectory(prefix="linq-lost-tables-") as folder:
        other = dlt.pipeline(
            name,
            destination=pipeline.destination,
            dataset_name=pipeline.dataset_name,
            pipelines_dir=folder,
        )
        restore(other)
        with other.managed_state(extract_state=True) as state:
            source: dict[str, Any] = state.get("sources", {}).get(SECTION, {})
            for resource in resources:
                source.get("resources", {}).pop(resource, None)
        if other.has_pending_data:
            load(other)
    pipeline.activate()
