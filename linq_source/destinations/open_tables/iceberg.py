"""Iceberg tables of a pipeline: narrowed scans, and the three changes that settling makes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise, takewhile
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from linq_source.destinations.bucket import Bucket
from linq_source.destinations.open_tables.base import ClientTables
from linq_source.destinations.scan_filters import Condition
from linq_source.errors import ConfigurationError
from linq_source.tables import SYNCED_AT, Table

# Rows rewritten by one transaction.
_BATCH = 20_000
# From how many files on the newest, each smaller than this, are made few.
MOST_FILES = 10
SMALL_BYTES = 4 * 2**20
KEPT_MS = 86_400_000
# What a table gets where nobody said otherwise. A file's size is that of its rows in memory, of
# which it takes a tenth: a changed row has its whole file written again.
_PROPERTIES = {
    "commit.manifest-merge.enabled": "true",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    "write.target-file-size-bytes": str(128 * 2**20),
}
_log = logging.getLogger(__name__)


class IcebergTables(ClientTables):
    """The tables, each change one transaction. A change of nothing writes no snapshot."""

    table_format: ClassVar = "iceberg"

    def scan(
        self, table: Table, columns: Sequence[str], conditions: Sequence[Condition]
    ) -> pa.RecordBatchReader | None:
        """Stream the rows that meet all conditions, with those of the columns that there are.

        None if there is no table.
        """
        iceberg = self._open(table)
        if iceberg is None:
            return None
        stored = set(iceberg.schema().column_names)
        wanted = tuple(name for name in columns if name in stored)
        scan = iceberg.scan(row_filter=_expression(conditions), selected_fields=wanted)
        return scan.to_arrow_batch_reader()

    def every_column(self, table: Table) -> pa.RecordBatchReader | None:
        """Stream all rows as they are stored; None if there is no table."""
        iceberg = self._open(table)
        return None if iceberg is None else iceberg.scan().to_arrow_batch_reader()

    def replace(self, table: Table, rows: pa.RecordBatchReader) -> None:
        """Have these rows and no others."""
        iceberg = self._open(table)
        # A stream can only be written without partitions.
        iceberg.overwrite(rows if iceberg.spec().is_unpartitioned() else rows.read_all())

    def check_history(self, table: Table) -> None:
        """Raise `ConfigurationError` where branches or tags of somebody's keep old snapshots."""
        iceberg = self._open(table)
        others = [] if iceberg is None else sorted(set(iceberg.refs()) - {"main"})
        if others:
            raise ConfigurationError(
                f"table {table.name}: the branches or tags {', '.join(others)} keep its old rows: "
                "remove them, then run again"
            )

    def drop_history(self, table: Table, bucket: Bucket) -> None:
        """Remove all that only old snapshots need: data files, manifests, metadata.

        Manifests have the least and the greatest value of each column of each file.
        """
        iceberg = self._open(table)
        if iceberg is None:
            return
        # A snapshot that adds nothing: it leaves out manifests of files that were removed.
        with iceberg.transaction() as transaction:
            with transaction.update_snapshot().fast_append():
                pass
        newest = iceberg.current_snapshot()
        old = [s.snapshot_id for s in iceberg.snapshots() if s.snapshot_id != newest.snapshot_id]
        if old:
            iceberg.maintenance.expire_snapshots().by_ids(old).commit()
        names = {_name(iceberg.metadata_location), *map(_name, _files(iceberg))}
        for path in self._files(table, bucket):
            if _name(path) not in names:
                bucket.remove(path)

    def maintain(self, table: Table) -> None:
        """Make few files of many small ones, and drop old snapshots with what only they need.

        Old is one whose successor is older than the table's property
        `history.expire.max-snapshot-age-ms` says; without it, than a day: every commit copies what
        is known of all snapshots. The newest `history.expire.min-snapshots-to-keep` stay, and all
        of them where `gc.enabled` is false.
        """
        from pyiceberg.exceptions import CommitFailedException

        iceberg = self._open(table)
        if iceberg is None or iceberg.current_snapshot() is None:
            return
        with suppress(CommitFailedException):  # somebody else writes: another time
            if missing := {k: v for k, v in _PROPERTIES.items() if k not in iceberg.properties}:
                with iceberg.transaction() as transaction:
                    transaction.set_properties(missing)
            _compact(iceberg)
            old = _old_snapshots(iceberg, table)
            if not old:
                return
            known = _files(iceberg)
            iceberg.maintenance.expire_snapshots().by_ids(old).commit()
            iceberg.refresh()
            for path in known - _files(iceberg):
                with suppress(FileNotFoundError):
                    iceberg.io.delete(path)

    def remove_children(self, table: Table, superseded: pa.Table) -> None:
        """Delete children older than `synced_at` of their parent, named by the merge key."""
        from pyiceberg.expressions import And, In, LessThan

        # Parents of one package have one instant, and there are few packages.
        for instant in superseded[SYNCED_AT].unique():
            parents = superseded.filter(pc.equal(superseded[SYNCED_AT], instant))
            for batch in _batches(parents):
                ids = In(table.merge_key, batch[table.merge_key].to_pylist())
                older = LessThan(SYNCED_AT, instant.as_py().isoformat())
                self._open(table).delete(And(ids, older))

    def mark(self, table: Table, gone: pa.Table) -> None:
        """Set `deleted_at` and `expired_at` in the rows with the given ids."""
        from pyiceberg.expressions import In

        for batch in _batches(gone):
            iceberg = self._open(table)
            ids = In("id", batch["id"].to_pylist())
            rows = iceberg.scan(row_filter=ids).to_arrow()
            places = pc.index_in(rows["id"], batch["id"].combine_chunks())
            for name in ("deleted_at", "expired_at"):
                instants = batch[name].combine_chunks().take(places)
                field = rows.schema.field(name)
                place = rows.schema.get_field_index(name)
                rows = rows.set_column(place, field, instants.cast(field.type))
            iceberg.overwrite(rows, overwrite_filter=ids)

    def remove(self, table: Table, conditions: Sequence[Condition]) -> None:
        """Delete the rows that meet all conditions."""
        iceberg = self._open(table)
        if iceberg is not None:
            iceberg.delete(_expression(conditions))


def _compact(iceberg: Any) -> None:
    """Write the rows of the newest files to few, where many of these are small.

    Of older files none is touched, however small: what is left of one would have all rows written
    again that came since.
    """
    if not iceberg.spec().is_unpartitioned() or not iceberg.current_snapshot().manifests(
        iceberg.io
    ):
        return
    files = iceberg.inspect.files()
    lowest = pc.struct_field(files["readable_metrics"], [SYNCED_AT, "lower_bound"]).combine_chunks()
    newest_first = pc.array_sort_indices(lowest, order="descending", null_placement="at_end")
    sizes = files["file_size_in_bytes"].take(newest_first).to_pylist()
    small = list(takewhile(lambda size: size < SMALL_BYTES, sizes))
    since = lowest[newest_first[len(small) - 1].as_py()].as_py() if small else None
    if len(small) < MOST_FILES or since is None:
        return
    is_recent = _expression([Condition(SYNCED_AT, ">=", since)])
    rows = iceberg.scan(row_filter=is_recent).to_arrow_batch_reader()
    with iceberg.transaction() as transaction:
        transaction.overwrite(rows, overwrite_filter=is_recent)


def _old_snapshots(iceberg: Any, table: Table) -> list[int]:
    """The snapshots that nobody wants any more: neither a branch or tag, nor the table itself."""
    properties = iceberg.properties
    if properties.get("gc.enabled", "true").lower() == "false":
        return []
    try:
        kept_ms = int(properties.get("history.expire.max-snapshot-age-ms", KEPT_MS))
        at_least = int(properties.get("history.expire.min-snapshots-to-keep", 1))
    except ValueError as error:
        text = "table %s: a property is no whole number, and all snapshots are kept: %s"
        _log.warning(text, table.name, error)
        return []
    oldest_ms = datetime.now(UTC).timestamp() * 1000 - kept_ms
    named = {reference.snapshot_id for reference in iceberg.refs().values()}
    in_order = sorted(iceberg.snapshots(), key=_made_ms)
    return [
        snapshot.snapshot_id
        for snapshot, successor in pairwise(in_order[: max(len(in_order) - at_least + 1, 0)])
        if _made_ms(successor) < oldest_ms and snapshot.snapshot_id not in named
    ]


def _made_ms(snapshot: Any) -> int:
    return int(snapshot.timestamp_ms)


def _files(iceberg: Any) -> set[str]:
    """The data files, manifests and lists of manifests of all snapshots."""
    found: set[str] = set()
    for snapshot in iceberg.snapshots():
        found.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(iceberg.io):
            if manifest.manifest_path not in found:
                entries = manifest.fetch_manifest_entry(iceberg.io)
                found |= {manifest.manifest_path, *(e.data_file.file_path for e in entries)}
    return found


def _name(path: str) -> str:
    """A file's name, which has an id: it is the same in every way to write its address."""
    return path.rpartition("/")[2]


def _batches(rows: pa.Table) -> list[pa.Table]:
    return [rows.slice(start, _BATCH) for start in range(0, rows.num_rows, _BATCH)]


def _expression(conditions: Sequence[Condition]) -> Any:
    from pyiceberg import expressions

    kinds = {
        "<": expressions.LessThan,
        ">": expressions.GreaterThan,
        ">=": expressions.GreaterThanOrEqual,
        "in": expressions.In,
        "is null": expressions.IsNull,
    }
    result: Any = expressions.AlwaysTrue()
    for condition in conditions:
        kind = kinds[condition.operator]
        value: Any = condition.value
        if value is None:
            one = kind(condition.column)
        else:
            one = kind(
                condition.column, value.isoformat() if hasattr(value, "isoformat") else value
            )
        result = expressions.And(result, one)
    return result
