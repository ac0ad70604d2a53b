"""What a database can say of its own tables: comments in DuckDB and Postgres, indexes in Postgres.

dlt makes neither. Each is made where it is missing, also in a dataset that is older; a comment
that somebody changed stays. A database that refuses is not worth a failed run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import dlt
from dlt.destinations.exceptions import DatabaseException

from linq_source import tables
from linq_source.destinations.dataset_tables import tables_of
from linq_source.destinations.pipeline_facts import kind_of
from linq_source.destinations.quoting import literal
from linq_source.tables import Table

_log = logging.getLogger(__name__)

# Table, column, the column's comment, the table's comment.
_COMMENTS = {
    "duckdb": """
        SELECT c.table_name, c.column_name, c.comment, t.comment
        FROM duckdb_columns() AS c
        JOIN duckdb_tables() AS t USING (database_oid, schema_oid, table_oid)
        WHERE c.schema_name = %s""",
    "postgres": """
        SELECT c.relname, a.attname, col_description(c.oid, a.attnum), obj_description(c.oid)
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
        WHERE c.relnamespace = to_regnamespace(quote_ident(%s)) AND c.relkind IN ('r', 'p')
          AND a.attnum > 0 AND NOT a.attisdropped""",
}
_INDEXES = {"postgres": "SELECT indexname FROM pg_indexes WHERE schemaname = %s"}


def describe(pipeline: dlt.Pipeline, client: Any) -> None:
    """Give tables and columns the comments and indexes that they lack."""
    kind = kind_of(pipeline.destination)
    if kind not in _COMMENTS:
        return
    stored = tables_of(pipeline)
    try:
        for statement in [*_comments(client, kind, stored), *_indexes(client, kind, stored)]:
            client.execute_sql(statement)
    except DatabaseException as error:
        text = " ".join(str(error).split())[:200]
        _log.warning("%s: comments and indexes were not all made: %s", kind, text)


def _comments(client: Any, kind: str, stored: Mapping[str, Table]) -> Iterator[str]:
    known: dict[str, Any] = {}
    for table_name, column_name, comment, of_table in _rows(client, _COMMENTS[kind]):
        if table_name not in stored:
            continue
        known[table_name] = of_table
        name = client.make_qualified_table_name(table_name)
        for column in stored[table_name].columns:
            if column.name == column_name and comment is None:
                path = f"{name}.{client.escape_column_name(column_name)}"
                yield f"COMMENT ON COLUMN {path} IS {literal(column.description)}"
    for table_name, comment in known.items():
        if comment is None:
            name = client.make_qualified_table_name(table_name)
            yield f"COMMENT ON TABLE {name} IS {literal(stored[table_name].description)}"


def _indexes(client: Any, kind: str, stored: Mapping[str, Table]) -> Iterator[str]:
    """Of keys, which merges look for, and of what settling and most questions narrow by.

    They are not unique: a destination's index is not what keeps keys apart, and would turn what it
    finds into a load that fails.
    """
    if kind not in _INDEXES:
        return
    known = {name for (name,) in _rows(client, _INDEXES[kind])}
    there = {row[0] for row in _rows(client, _COMMENTS[kind])}
    for table in stored.values():
        for columns in _indexed(table) if table.name in there else ():
            index = "__".join((table.name, *columns))
            if index not in known:
                name = client.make_qualified_table_name(table.name)
                yield f"CREATE INDEX IF NOT EXISTS {index} ON {name} ({', '.join(columns)})"


def _indexed(table: Table) -> Iterator[tuple[str, ...]]:
    if table.key:
        yield table.key
    if table.name == tables.CHAT_MESSAGES.name:
        yield ("chat_id", table.partition_by)
    if table.name == tables.SYNC_WINDOWS.name:
        yield (tables.SYNCED_AT,)


def _rows(client: Any, sql: str) -> list[tuple[Any, ...]]:
    return list(client.execute_sql(sql, client.dataset_name) or ())
