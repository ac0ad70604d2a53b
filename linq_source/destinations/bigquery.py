"""Merging into BigQuery so that it reads, and bills, only the days that a package touches.

dlt's own merge deletes by key and inserts, in two statements. BigQuery cannot tell from a key which
partitions it may leave unread, so every run would read the whole history several times; and between
the statements rows are missing. Here each table is merged by one atomic MERGE, whose condition also
says, with a script's variables (constants to BigQuery), which days or keys can be meant. Children
that went are deleted after it, when none of the new rows is older than its message.

A plain `pipeline.run` merges dlt's way: the same rows, at a higher price.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from linq_source.destinations.dataset_tables import tables_of
from linq_source.destinations.dlt_overrides import loading_with, overriding
from linq_source.tables import SYNCED_AT, TOMBSTONE, Table

if TYPE_CHECKING:
    import dlt

# BigQuery lets one statement write 4,000 partitions: a longer history is merged in several.
DAYS_PER_STATEMENT = 3_000
_PARTITION_HINT = "x-bigquery-partition"


def merging_by_day(pipeline: dlt.Pipeline) -> AbstractContextManager[None]:
    """Within it, `pipeline.load()` merges this source's tables into BigQuery day by day."""
    return loading_with(pipeline, partial(_client_class, tables_of(pipeline)))


def merge_script(table: Table, columns: Sequence[str], target: str, staged: str) -> list[str]:
    """The statements that replace rows of `target` by those of `staged`; names are quoted."""
    if table.partition_by:
        return _by_days(table, columns, target, staged)
    if table.merge_key:
        return _by_parents(table, columns, target, staged)
    return [_merge(table, columns, target, _rows(table, columns, staged), ())]


def _by_days(table: Table, columns: Sequence[str], target: str, staged: str) -> list[str]:
    """Messages: one MERGE for every so many days, one in all but very long histories."""
    day = f"DATE({table.partition_by})"
    some = f"{day} >= linq_first AND {day} < linq_next"
    is_meant = (
        f"DATE(d.{table.partition_by}) >= linq_first",
        f"DATE(d.{table.partition_by}) < linq_next",
        f"DATE(d.{table.partition_by}) IN UNNEST(linq_days)",
    )
    span = f"INTERVAL {DAYS_PER_STATEMENT} DAY"
    return [
        f"DECLARE linq_first DATE DEFAULT (SELECT MIN({day}) FROM {staged})",
        "DECLARE linq_next DATE",
        "DECLARE linq_days ARRAY<DATE>",
        f"WHILE linq_first IS NOT NULL DO SET linq_next = DATE_ADD(linq_first, {span})",
        f"SET linq_days = (SELECT ARRAY_AGG(DISTINCT {day}) FROM {staged} WHERE {some})",
        _merge(table, columns, target, _rows(table, columns, staged, some), is_meant),
        f"SET linq_first = (SELECT MIN({day}) FROM {staged} WHERE {day} >= linq_next)",
        "END WHILE",
    ]


def _by_parents(table: Table, columns: Sequence[str], target: str, staged: str) -> list[str]:
    """Children: those of the package written, then what else their parents had deleted.

    A crash between the two leaves children that are older than their message, which are not
    current by the ledger's rules, until the package is loaded again.
    """
    key = table.merge_key
    bounds = (f"d.{key} >= linq_low", f"d.{key} <= linq_high")
    type_ = "INT64" if table.schema.field(key).type == pa.int64() else "STRING"
    return [
        f"DECLARE linq_low {type_} DEFAULT (SELECT MIN({key}) FROM {staged})",
        f"DECLARE linq_high {type_} DEFAULT (SELECT MAX({key}) FROM {staged})",
        f"DECLARE linq_now TIMESTAMP DEFAULT (SELECT MAX({SYNCED_AT}) FROM {staged})",
        _merge(table, columns, target, _rows(table, columns, staged), bounds),
        f"DELETE FROM {target} AS d WHERE {' AND '.join(bounds)}"
        f" AND d.{SYNCED_AT} <> linq_now AND d.{key} IN (SELECT s.{key} FROM {staged} AS s)",
    ]


def _rows(table: Table, columns: Sequence[str], staged: str, condition: str = "TRUE") -> str:
    """The staged rows that are to stand, each key once: dlt may repeat a job after a crash."""
    names = ", ".join(columns)
    if table.is_child:
        condition += f" AND {TOMBSTONE} IS NOT TRUE"
    return (
        f"(SELECT {names} FROM (SELECT {names}, ROW_NUMBER() OVER (PARTITION BY"
        f" {', '.join(table.key)} ORDER BY {SYNCED_AT} DESC) AS linq_copy FROM {staged}"
        f" WHERE {condition}) AS n WHERE linq_copy = 1)"
    )


def _merge(
    table: Table, columns: Sequence[str], target: str, rows: str, bounds: Sequence[str]
) -> str:
    on = [*(f"d.{name} = s.{name}" for name in table.key), *bounds]
    return (
        f"MERGE INTO {target} AS d USING {rows} AS s ON {' AND '.join(on)}"
        f" WHEN MATCHED THEN UPDATE SET {', '.join(f'{name} = s.{name}' for name in columns)}"
        f" WHEN NOT MATCHED THEN INSERT ({', '.join(columns)})"
        f" VALUES ({', '.join(f's.{name}' for name in columns)})"
    )


def _client_class(stored: Mapping[str, Table], base: Any) -> Any:
    """The client that dlt has for BigQuery, merging this source's tables its own way.

    Made when it is needed: Google's client is an extra.
    """
    from dlt.common.schema.utils import get_columns_names_with_prop
    from dlt.destinations.exceptions import DatabaseTerminalException
    from dlt.destinations.impl.bigquery.bigquery import BigQueryMergeJob

    @overriding
    class MergeJob(BigQueryMergeJob):
        @classmethod
        def gen_merge_sql(cls, table_chain: Sequence[Any], sql_client: Any) -> list[str]:
            name = table_chain[0]["name"]
            table = stored.get(name)
            if table is None or len(table_chain) > 1:
                return list(super().gen_merge_sql(table_chain, sql_client))
            target, staged = sql_client.get_qualified_table_names(name)
            names = get_columns_names_with_prop(table_chain[0], "name")
            columns = [sql_client.escape_column_name(column) for column in names]
            return merge_script(table, columns, target, staged)

    @overriding
    class Client(base):  # type: ignore[misc]
        def _create_merge_followup_jobs(self, table_chain: Sequence[Any]) -> Any:
            return [MergeJob.from_table_chain(table_chain, self.sql_client)]

        def initialize_storage(self, truncate_tables: Any = None) -> None:
            try:
                super().initialize_storage(truncate_tables)
            except DatabaseTerminalException:
                # Another shard made the dataset in the same moment.
                if not self.is_storage_initialized():
                    raise

        def _get_table_update_sql(
            self, table_name: str, new_columns: Sequence[Any], generate_alter: bool
        ) -> Any:
            if self.in_staging_dataset_mode:
                # A staged package may hold more days than a load job may write partitions.
                new_columns = [
                    {key: value for key, value in column.items() if key != _PARTITION_HINT}
                    for column in new_columns
                ]
            return super()._get_table_update_sql(table_name, new_columns, generate_alter)

        def _make_create_table(self, qualified_name: str, table: Any) -> str:
            # Two shards that begin together make the same tables and columns.
            return f"CREATE TABLE IF NOT EXISTS {qualified_name}"

        def _make_add_column_sql(self, new_columns: Sequence[Any], table: Any = None) -> list[str]:
            return [
                f"ADD COLUMN IF NOT EXISTS {self._get_column_def_sql(column, table)}"
                for column in new_columns
            ]

    return Client
