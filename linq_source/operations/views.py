"""`views`: messages and responses as views beside the tables, as the dbt package makes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dlt
from dlt.common.destination.exceptions import DestinationUndefinedEntity

from linq_source.destinations.failures import plain_errors
from linq_source.destinations.kinds import destination_of
from linq_source.destinations.remote import connected
from linq_source.errors import ConfigurationError, no_messages_in
from linq_source.operations.models import Models
from linq_source.tables import ALL_TABLES

# The views, and the models that they show.
VIEWS = {"messages": "fct_messages", "responses": "fct_responses"}
# A column by which each is known for ours, in every version.
_OWN_COLUMN = {"messages": "conversation_id", "responses": "response_time_s"}


def make_views(
    pipeline: dlt.Pipeline, variables: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    """Make the views beside a pipeline's tables, or make them again; gives what they are called.

    `variables` are those of the dbt package. Raises `ConfigurationError` where there are no
    messages or no database, and for a table or view of somebody else that has the name of one.
    """
    destination = destination_of(pipeline)
    dialect = destination.views_dialect
    if dialect is None:
        raise ConfigurationError(
            f"the destination {destination.kind} gets no views: those have duckdb, ducklake, "
            "bigquery and postgres; `linq-source transform` makes marts of a Parquet lake, too"
        )
    with plain_errors(pipeline), connected(pipeline) as remote:
        sql = remote.sql
        try:
            there = dict(remote.client.get_storage_tables([*ALL_TABLES, *VIEWS]))
        except DestinationUndefinedEntity:  # of BigQuery, where there is no dataset
            there = {}
        if not there.get("chat_messages"):
            raise no_messages_in(f"the dataset {pipeline.dataset_name}")
        for view, column in _OWN_COLUMN.items():
            columns = there.pop(view)
            if columns and column not in columns:
                raise ConfigurationError(
                    f"{view}: the dataset has a table or view of that name that is not of "
                    "linq-source, which would be replaced: rename it, then run again"
                )
        tables = {n: (sql.make_qualified_table_name(n), [*found]) for n, found in there.items()}
        models = Models(dialect, variables or {}, tables, sql.escape_column_name)
        for view, model in VIEWS.items():
            name = sql.make_qualified_table_name(view)
            sql.execute_sql(f"CREATE OR REPLACE VIEW {name} AS {models.sql_of(model)}")
        return tuple(str(sql.make_qualified_table_name(view, quote=False)) for view in VIEWS)
