"""Rows that a complete list no longer has, as the destination holds them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import dlt
import pyarrow as pa

from linq_source.destinations.erasing import rows_with
from linq_source.destinations.kinds import destination_of
from linq_source.tables import ARROW_TYPES, Table


def unlisted_rows(
    pipeline: dlt.Pipeline,
    table: Table,
    columns: Mapping[str, Any],
    listed: Collection[str],
) -> pa.Table:
    """The rows that are not marked deleted and whose ids are not listed.

    `columns` are those to give, with the type of each as dlt names it.
    """
    destination = destination_of(pipeline)
    destination.merge_log()
    found: list[tuple[Any, ...]] = []
    with destination.reading({table: list(columns)}) as reader:
        if reader.knows(table):
            name = reader.name(table)
            live = reader.rows(f"SELECT id FROM {name} WHERE deleted_at IS NULL")
            gone = sorted({str(id_) for (id_,) in live} - set(listed))
            names = ", ".join(map(reader.quoted, columns))
            found = list(rows_with(reader, f"SELECT {names} FROM {name} WHERE id IN", gone))
    values = list(zip(*found, strict=True)) or [()] * len(columns)
    return pa.table(
        {
            name: pa.array(part, ARROW_TYPES[type_])
            for (name, type_), part in zip(columns.items(), values, strict=True)
        }
    )
