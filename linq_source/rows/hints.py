"""dlt hints made from the table definitions."""

from __future__ import annotations

from typing import Any, Literal

from linq_source.tables import TOMBSTONE, Table

# How a destination takes in rows, in dlt's words. By `delete-insert` it replaces root rows by key
# and children by parent; by `upsert` all by their own keys, and settling removes children that are
# no longer there (Delta and Iceberg); by `append` it only adds rows, and settling keeps the current
# state apart (the Parquet lake).
WriteStrategy = Literal["delete-insert", "upsert", "append"]

# The hint of a column the contract does not know: the field of the API that it holds.
FIELD = "x-linq-field"


def table_hints(table: Table, *, write_strategy: WriteStrategy = "delete-insert") -> dict[str, Any]:
    """Arguments for `dlt.mark.make_hints` or a resource: columns, keys, disposition, reference.

    Partitions and clusters are hints that only BigQuery reads: dlt's general ones would give other
    destinations partitions, too. Source: https://dlthub.com/docs/general-usage/merge-loading
    """
    columns: dict[str, Any] = {}
    for column in table.columns:
        columns[column.name] = {
            "data_type": column.type,
            "nullable": column.nullable,
            "description": column.description,
        }
        if column.name == TOMBSTONE:
            # Explicitly, for a hint that is left away would stay as it was.
            columns[column.name]["hard_delete"] = write_strategy != "append"
    hints: dict[str, Any] = {"table_name": table.name, "columns": columns}
    hints["additional_table_hints"] = {"description": table.description, **_bigquery(table)}
    if table.partition_by:
        columns[table.partition_by]["x-bigquery-partition"] = True
    if write_strategy == "append":
        # Settling reads nothing else, whatever format a run is asked for.
        hints["file_format"] = "parquet"
    if table.is_appended:
        hints["write_disposition"] = "append"
        return hints
    if write_strategy == "append":
        hints["write_disposition"] = "append"
    else:
        hints["write_disposition"] = {"disposition": "merge", "strategy": write_strategy}
    if table.is_child:
        hints["merge_key"] = table.merge_key if write_strategy == "delete-insert" else []
        # dlt may repeat a staging job after a crash: the key lets the merge drop the copies.
        hints["primary_key"] = list(table.key)
        hints["references"] = [
            {
                "referenced_table": table.parent,
                "columns": [table.merge_key],
                "referenced_columns": ["id"],
            }
        ]
    else:
        hints["primary_key"] = list(table.key)
    return hints


def _bigquery(table: Table) -> dict[str, Any]:
    hints: dict[str, Any] = {"x-bigquery-table-description": table.description}
    if table.cluster_by:
        hints["x-bigquery-cluster-columns"] = list(table.cluster_by)
    return hints
