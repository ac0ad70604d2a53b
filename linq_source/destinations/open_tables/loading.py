"""Loading a package into Iceberg tables: each table in one transaction.

dlt merges a thousand rows at a time, each a snapshot of its own, and fails where rows change in the
load that also brings a new column. Here a table's files are one change: the keys that are there
already are replaced, and where there are none, rows are only added. What a load that was killed
leaves behind is a whole table or nothing of it, so repeating it gives the same.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import dlt
import duckdb
import pyarrow as pa
from dlt.common.destination.exceptions import DestinationUndefinedEntity

from linq_source.destinations.dlt_overrides import loading_with, overriding
from linq_source.tables import ALL_TABLES, Table


def merging_whole(pipeline: dlt.Pipeline) -> AbstractContextManager[None]:
    """Within it, `pipeline.load()` writes each Iceberg table in one transaction."""
    return loading_with(pipeline, _client_class)


def _client_class(base: Any) -> Any:
    """Return a subclass of dlt's filesystem client that writes a table in one transaction."""
    from dlt.common.libs.pyiceberg import ensure_iceberg_compatible_arrow_schema
    from dlt.destinations.impl.filesystem.filesystem import IcebergLoadFilesystemJob

    @overriding
    class Job(IcebergLoadFilesystemJob):
        def run(self) -> None:
            table = ALL_TABLES[self.load_table_name]
            rows = self.arrow_dataset
            try:
                # With the files' columns: those the table does not have yet are added.
                iceberg: Any = self._job_client.load_open_table(
                    "iceberg", table.name, schema=rows.schema
                )
            except DestinationUndefinedEntity:
                super().run()
                return
            if not rows.count_rows():
                return
            is_merged = self._load_table["write_disposition"] == "merge"
            replaced = _replaced(iceberg, table, rows) if is_merged else None
            # Read little ahead.
            stream: Any = rows.scanner(
                batch_size=65_536, batch_readahead=2, fragment_readahead=1
            ).to_reader()
            stream = stream.cast(ensure_iceberg_compatible_arrow_schema(stream.schema))
            if not iceberg.spec().is_unpartitioned():
                stream = stream.read_all()  # a stream can only be written without partitions
            with iceberg.transaction() as transaction:
                if replaced is not None:
                    transaction.delete(replaced)
                transaction.append(stream)

    @overriding
    class Client(base):  # type: ignore[misc]
        @staticmethod
        def get_reference_followup_job_class(table: Any) -> Any:
            is_ours = table["name"] in ALL_TABLES and table.get("table_format") == "iceberg"
            return Job if is_ours else base.get_reference_followup_job_class(table)

    return Client


def _replaced(iceberg: Any, table: Table, rows: Any) -> Any:
    """What of the table the rows replace: by parent or by id, or by all columns of a longer key.

    None where nothing of theirs is there.
    """
    from pyiceberg.expressions import And, EqualTo, GreaterThanOrEqual, In, LessThanOrEqual, Or

    key, *rest = (table.merge_key,) if table.merge_key else table.key
    with duckdb.connect() as database:
        database.register("rows", rows)
        ends = database.execute(f"SELECT min({key}), max({key}) FROM rows").fetchone()
        if ends is None or ends[0] is None:
            return None
        within = And(GreaterThanOrEqual(key, ends[0]), LessThanOrEqual(key, ends[1]))
        stored: pa.RecordBatchReader = iceberg.scan(
            row_filter=within, selected_fields=(key,)
        ).to_arrow_batch_reader()
        database.register("stored", stored)
        keys = database.execute(f"SELECT DISTINCT {key} FROM stored SEMI JOIN rows USING ({key})")
        there = [value for (value,) in keys.fetchall()]
        if not there:
            return None
        if not rest:
            return In(key, there)
        found = database.execute(
            f"SELECT {rest[0]}, list(DISTINCT {key}) FROM rows GROUP BY {rest[0]}"
        ).fetchall()
    parts = [And(EqualTo(rest[0], value), In(key, ids)) for value, ids in found]
    return parts[0] if len(parts) == 1 else Or(*parts)
