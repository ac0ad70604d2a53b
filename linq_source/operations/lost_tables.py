"""Tables that somebody dropped: read again, as if they had never been loaded."""

from __future__ import annotations

import dlt

from linq_source.destinations.dataset_pipelines import pipelines_of
from linq_source.destinations.kinds import destination_of
from linq_source.destinations.remote import Remote, restore
from linq_source.operations.loading import changed_state
from linq_source.operations.packages import drop
from linq_source.tables import ALL_TABLES, RESOURCE_TABLES


def heal_tables(pipeline: dlt.Pipeline, remote: Remote) -> list[str]:
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
        with changed_state(pipeline, name) as state:
            for resource in resources:
                state.get("resources", {}).pop(resource, None)
    remote.client.schema = schema
    remote.client.update_stored_schema(force=True)
    return missing


def _missing_tables(pipeline: dlt.Pipeline, remote: Remote) -> list[str]:
    if not pipeline.default_schema_name:
        return []
    known = pipeline.default_schema.tables
    names = [name for name in ALL_TABLES if known.get(name, {}).get("x-normalizer")]
    return [name for name, columns in remote.client.get_storage_tables(names) if not columns]
