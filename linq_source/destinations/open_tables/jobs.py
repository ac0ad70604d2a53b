"""dlt's load jobs of Delta and Iceberg tables, each made one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
from dlt.common.destination.exceptions import DestinationUndefinedEntity
from dlt.destinations.impl.filesystem.filesystem import (
    DeltaLoadFilesystemJob,
    IcebergLoadFilesystemJob,
)

from linq_source.tables import TABLES


class _Files:
    """The files of one load job."""

    def __init__(self, paths: list[str], load_table: Any) -> None:
        # A column that came up while reading is in the later files only.
        schemas = [pyarrow.parquet.read_schema(path) for path in paths]
        self.dataset = pyarrow.dataset.dataset(paths, schema=pa.unify_schemas(schemas))
        table = TABLES[load_table["name"]]
        self.is_merged = load_table["write_disposition"] == "merge"
        self.key = table.merge_key or (table.key[0] if table.key else "")
        # The key's other column, where rows are not replaced by parent.
        self.rest = table.key[1] if len(table.key) > 1 and not table.merge_key else None

    def reader(self) -> pa.RecordBatchReader:
        """All rows, as a stream that reads little ahead."""
        scanner = self.dataset.scanner(batch_size=65_536, batch_readahead=2, fragment_readahead=1)
        return scanner.to_reader()

    def key_range(self) -> tuple[int, int] | None:
        """The least and the greatest key; none without rows."""
        with duckdb.connect() as database:
            database.register("files", self.dataset)
            ends = database.execute(f"SELECT min({self.key}), max({self.key}) FROM files")
            least, greatest = ends.fetchone() or (None, None)
        return None if least is None else (least, greatest)

    def keys_in(self, stored: pa.RecordBatchReader) -> list[int]:
        """The keys of the files that a stream of stored keys has, too."""
        with duckdb.connect() as database:
            database.register("files", self.dataset)
            database.register("stored", stored)
            found = database.sql(
                f"SELECT DISTINCT {self.key} FROM stored SEMI JOIN files USING ({self.key})"
            ).to_arrow_table()
        return list(found[self.key].to_pylist())


class DeltaJob(DeltaLoadFilesystemJob):
    """Appends rows whose keys are all new; merges others as dlt does."""

    def run(self) -> None:
        """Write the files."""
        from dlt.common.libs.deltalake import merge_delta_table, write_delta_table

        client: Any = self._job_client
        schema: Any = self._load_table
        try:
            delta = client.load_open_table("delta", self.load_table_name)
        except DestinationUndefinedEntity:
            super().run()
            return
        files = _Files(self.file_paths, self._load_table)
        ends = files.key_range() if files.is_merged else None
        if ends is not None:
            within = f"{files.key} BETWEEN {ends[0]} AND {ends[1]}"
            stored = pa.RecordBatchReader.from_stream(delta.scan([files.key], within))
            if files.keys_in(stored):
                merge_delta_table(
                    table=delta,
                    data=files.reader(),
                    schema=schema,
                    load_table_name=self.load_table_name,
                    streamed_exec=client.config.deltalake_streamed_exec,
                )
                return
        elif files.is_merged:
            return
        write_delta_table(delta, files.reader(), "append", partition_by=self._partition_columns)


class IcebergJob(IcebergLoadFilesystemJob):
    """Replaces rows by id, children by parent, in one transaction."""

    @property
    def arrow_dataset(self) -> Any:
        """The files' rows, with every column that any of them has."""
        return _Files(self.file_paths, self._load_table).dataset

    def run(self) -> None:
        """Write the files."""
        from dlt.common.libs.pyiceberg import ensure_iceberg_compatible_arrow_schema
        from pyiceberg.expressions import And, GreaterThanOrEqual, LessThanOrEqual

        client: Any = self._job_client
        files = _Files(self.file_paths, self._load_table)
        try:
            # With the files' columns: those the table does not have yet are added.
            iceberg = client.load_open_table(
                "iceberg", self.load_table_name, schema=files.dataset.schema
            )
        except DestinationUndefinedEntity:
            super().run()
            return
        ends = files.key_range() if files.is_merged else None
        if files.is_merged and ends is None:
            return
        replaced: Any = None
        if ends is not None:
            within = And(
                GreaterThanOrEqual(files.key, ends[0]), LessThanOrEqual(files.key, ends[1])
            )
            scan = iceberg.scan(row_filter=within, selected_fields=(files.key,))
            keys = files.keys_in(scan.to_arrow_batch_reader())
            replaced = _replaced(files, keys) if keys else None
        rows: Any = files.reader()
        rows = rows.cast(ensure_iceberg_compatible_arrow_schema(rows.schema))
        if not iceberg.spec().is_unpartitioned():
            rows = rows.read_all()  # a stream can only be written without partitions
        with iceberg.transaction() as transaction:
            if replaced is not None:
                transaction.delete(replaced)
            transaction.append(rows)


def _replaced(files: _Files, keys: list[int]) -> Any:
    """The rows that the files replace: by parent or by id, or by all columns of a longer key."""
    from pyiceberg.expressions import And, EqualTo, In, Or

    if files.rest is None:
        return In(files.key, keys)
    with duckdb.connect() as database:
        database.register("files", files.dataset)
        found = database.execute(
            f"SELECT {files.rest}, list(DISTINCT {files.key}) FROM files GROUP BY {files.rest}"
        ).fetchall()
    parts = [And(EqualTo(files.rest, value), In(files.key, ids)) for value, ids in found]
    return parts[0] if len(parts) == 1 else Or(*parts)


JOBS: Mapping[str, Any] = {"delta": DeltaJob, "iceberg": IcebergJob}
