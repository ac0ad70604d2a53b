"""dlt hints made from the table definitions."""

from __future__ import annotations

from typing import Any

from linq_source.tables import TOMBSTONE, Table


def table_hints(table: Table, *, replaces_children: bool = True) -> dict[str, Any]:
    """Arguments for `dlt.mark.make_hints` or a resource: columns, keys, disposition, reference.

    A merge replaces root rows by key and child rows by parent
    (https://dlthub.com/docs/general-usage/merge-loading). Where the destination cannot
    (`replaces_children` false: Delta and Iceberg tables), children are replaced by their own key,
    too, and settling removes those that are no longer there.
    """
    columns: dict[str, Any] = {}
    for column in table.columns:
        columns[column.name] = {
            "data_type": column.type,
            "nullable": column.nullable,
            "description": column.description,
        }
        if column.name == TOMBSTONE:
            columns[column.name]["hard_delete"] = True
    hints: dict[str, Any] = {"table_name": table.name, "columns": columns}
    hints["additional_table_hints"] = {"description": table.description}
    if table.is_appended:
        hints["write_disposition"] = "append"
        return hints
    strategy = "delete-insert" if replaces_children else "upsert"
    hints["write_disposition"] = {"disposition": "merge", "strategy": strategy}
    if table.is_child:
        hints["merge_key"] = table.merge_key if replaces_children else []
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
