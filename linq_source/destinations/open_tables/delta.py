"""Delta tables of a pipeline: narrowed scans, and the three changes that settling makes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, ClassVar

import pyarrow as pa

from linq_source.destinations.bucket import Bucket
from linq_source.destinations.open_tables.base import ClientTables
from linq_source.destinations.quoting import literal
from linq_source.destinations.scan_filters import Condition
from linq_source.tables import Table


class DeltaTables(ClientTables):
    """The tables, each change one transaction. A change of nothing writes no version."""

    table_format: ClassVar = "delta"

    def scan(
        self, table: Table, columns: Sequence[str], conditions: Sequence[Condition]
    ) -> pa.RecordBatchReader | None:
        """Stream the rows that meet all conditions, with those of the columns that there are.

        None if there is no table.
        """
        delta = self._open(table)
        if delta is None:
            return None
        predicate = " AND ".join(map(_sql, conditions)) or None
        stored = {field.name for field in delta.schema().fields}
        wanted = [name for name in columns if name in stored]
        return _read(delta.scan(wanted, predicate))

    def every_column(self, table: Table) -> pa.RecordBatchReader | None:
        """Stream all rows as they are stored; None if there is no table."""
        delta = self._open(table)
        return None if delta is None else _read(delta.scan())

    def replace(self, table: Table, rows: pa.RecordBatchReader) -> None:
        """Have these rows and no others."""
        from deltalake import write_deltalake

        write_deltalake(self._open(table), rows, mode="overwrite")

    def check_history(self, table: Table) -> None:
        """Nothing keeps old versions but the log, which `drop_history` cuts."""

    def drop_history(self, table: Table, bucket: Bucket) -> None:
        """Remove all that only old versions need: their files, and the log that tells of them.

        The log has the least and the greatest value of each column of each file.
        """
        delta = self._open(table)
        if delta is None:
            return
        delta.vacuum(0, dry_run=False, enforce_retention_duration=False, full=True)
        delta.update_incremental()
        delta.create_checkpoint()
        for path in self._files(table, bucket, "/_delta_log"):
            version = path.rpartition("/")[2].partition(".")[0]
            if version.isdigit() and int(version) < delta.version():
                bucket.remove(path)

    def maintain(self, table: Table) -> None:
        """Make few files of many small ones, and remove those that only old versions need.

        Old is what the table's property `delta.deletedFileRetentionDuration` says; without it, a
        week.
        """
        from deltalake.exceptions import CommitFailedError

        delta = self._open(table)
        if delta is not None:
            with suppress(CommitFailedError):  # somebody else writes: another time
                delta.optimize.compact()
                delta.vacuum(dry_run=False)

    def remove_children(self, table: Table, superseded: pa.Table) -> None:
        """Delete children older than `synced_at` of their parent, named by the merge key."""
        key = table.merge_key
        self._merge(
            table, superseded, f"target.{key} = source.{key}", _range(superseded, key)
        ).when_matched_delete("target.synced_at < source.synced_at").execute()

    def mark(self, table: Table, gone: pa.Table) -> None:
        """Set `deleted_at` and `expired_at` in the rows with the given ids."""
        self._merge(table, gone, "target.id = source.id", _range(gone, "id")).when_matched_update(
            {name: f"source.{name}" for name in ("deleted_at", "expired_at")},
            predicate="target.deleted_at IS NULL AND target.synced_at < source.gone_at",
        ).execute()

    def remove(self, table: Table, conditions: Sequence[Condition]) -> None:
        """Delete the rows that meet all conditions."""
        delta = self._open(table)
        if delta is not None:
            delta.delete(" AND ".join(map(_sql, conditions)))

    def _merge(self, table: Table, source: pa.Table, match: str, narrowed: str) -> Any:
        return self._open(table).merge(
            source,
            predicate=f"{match} AND {narrowed}",
            source_alias="source",
            target_alias="target",
            # Only then are files that cannot match left unread.
            streamed_exec=False,
        )


def _read(stream: Any) -> pa.RecordBatchReader:
    reader = pa.RecordBatchReader.from_stream(stream)
    # Arrow computes little with the views that delta-rs makes.
    fields = [
        field.with_type(pa.string()) if pa.types.is_string_view(field.type) else field
        for field in reader.schema
    ]
    return reader.cast(pa.schema(fields))


def _range(source: pa.Table, column: str) -> str:
    import pyarrow.compute as pc

    ends = pc.min_max(source[column]).as_py()
    low, high = (_literal(ends[end]) for end in ("min", "max"))
    return f"target.{column} BETWEEN {low} AND {high}"


def _sql(condition: Condition) -> str:
    column, operator, value = condition.column, condition.operator, condition.value
    if value is None:
        return f"{column} {operator.upper()}"
    if isinstance(value, tuple):
        return f"{column} IN ({', '.join(map(_literal, value))})"
    return f"{column} {operator} {_literal(value)}"


def _literal(value: int | str | datetime) -> str:
    if isinstance(value, datetime):
        # The column's exact type: deletions compare nothing else with it.
        text = value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return f"arrow_cast('{text}', 'Timestamp(Microsecond, Some(\"UTC\"))')"
    if isinstance(value, str):
        return literal(value)
    return str(value)
