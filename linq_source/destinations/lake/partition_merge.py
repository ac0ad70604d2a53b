"""Merging rows of the log into partitions of the current state, in a DuckDB of bounded memory.

A partition is rewritten whole into a file of its own and then put in the old one's place; its
children come first and its messages last, because the messages tell whether there is anything
left to do. Killed anywhere, the same settling is repeated by the next run, with the same result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from linq_source import tables
from linq_source.destinations.bucket import Bucket
from linq_source.destinations.deletion_rule import NOTHING_MARKED, Marked
from linq_source.destinations.duckdb_in_memory import spilling_duckdb
from linq_source.destinations.lake import merge_sql
from linq_source.destinations.lake.columns import FileColumn, LakeColumns, LogFiles
from linq_source.destinations.lake.contents import EPILOGUE
from linq_source.destinations.lake.layout import (
    CurrentFile,
    Partitioning,
    current_file,
    families_of,
    is_partitioned,
)
from linq_source.destinations.lake.locking import Lock
from linq_source.destinations.lake.log import FEW_LOADS, Log
from linq_source.destinations.quoting import literal, parquet_columns
from linq_source.errors import DestinationError
from linq_source.tables import TOMBSTONE, Table

MEMORY_LIMIT = "512MB"
# Rows merged at once, and rows of a row group.
SLICE_ROWS = 1_000_000
BATCH_ROWS = 100_000


@dataclass(frozen=True)
class _Part:
    """A table's file of a partition, and what DuckDB reads it by; nothing if it is not there."""

    table: Table
    path: str
    address: str | None


class _Files:
    """Local Parquet files that grow batch by batch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._rows: dict[str, int] = {}

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *_: object) -> None:
        for name, writer in self._writers.items():
            writer.close()
            self._file(name).unlink(missing_ok=True)

    def write(self, part: _Part, batches: pa.RecordBatchReader) -> None:
        """Add rows."""
        name = part.table.name
        if name not in self._writers:
            self._writers[name] = pq.ParquetWriter(
                self._file(name), batches.schema, compression="zstd"
            )
        for batch in batches:
            self._rows[name] = self.rows(part) + batch.num_rows
            self._writers[name].write_batch(batch)

    def rows(self, part: _Part) -> int:
        """How many rows were added."""
        return self._rows.get(part.table.name, 0)

    def finish(self, part: _Part) -> Path:
        """The file, complete."""
        self._writers[part.table.name].close()
        return self._file(part.table.name)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.parquet"


class Settler:
    """A DuckDB connection in which a lake is settled, with disk to spill to."""

    def __init__(
        self,
        bucket: Bucket,
        partitioning: Partitioning,
        lock: Lock | None,
        *,
        target: Bucket | None = None,
        columns: LakeColumns | None = None,
        stored: Mapping[str, Table] = tables.TABLES,
    ) -> None:
        """`target` is where partitions are written, if not in the bucket itself.

        Without `columns`, they are those of the log. `stored` are the dataset's tables.
        """
        self._bucket = bucket
        self._target = target or bucket
        self._partitioning = partitioning
        self._lock = lock
        self._families = families_of(stored)
        self._settled = [table for root, children in self._families for table in (root, *children)]
        self._ledger = [stored[t.name] for t in (tables.SYNC_WINDOWS, tables.REJECTED_RECORDS)]
        self._log: dict[str, list[LogFiles]] = {}
        # Of each root table the partitions that the log has rows for.
        self._with_rows: dict[str, frozenset[str | None]] = {}
        self._stack = ExitStack()
        database = spilling_duckdb(MEMORY_LIMIT)
        self._connection, self._folder = self._stack.enter_context(database)
        self.columns = columns or LakeColumns()
        bucket.reading(self._connection)

    def __enter__(self) -> Settler:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read_log(self, loads: Sequence[str]) -> None:
        """Settle these loads: every table's files of theirs.

        Raises `ConfigurationError` where files of theirs lie elsewhere than expected.
        """
        log = Log(self._bucket)
        if self._lock is not None:
            log.remember_layout()
        missing = set(loads)
        for table in (*self._settled, *self._ledger):
            files = log.files_of(table, loads)
            missing -= set(files.values())
            # The log of a run or two is small and read several times; that of years is neither.
            addresses = [
                self._fetch(path) if len(loads) <= FEW_LOADS else self._bucket.address(path)
                for path in files
            ]
            found = self._columns_of(addresses)
            self._log[table.name] = self.columns.read(table, addresses, found)
            empty = self.columns.schema(table).empty_table()
            self._connection.register(f"empty_{table.name}", empty)
        # A run that found nothing new leaves but a note of itself.
        missing -= set(log.files_of(tables.SYNC_RUNS, loads).values()) if missing else set()
        log.check_found(missing)
        for view, table in zip(("windows", "rejects"), self._ledger, strict=True):
            with self._reading("the log"):
                self._run(merge_sql.log_view(table, self._log[table.name], "true"))
                self._run(f"CREATE OR REPLACE TEMP TABLE {view} AS SELECT * FROM new_{table.name}")

    def learn_columns(self, current: Sequence[CurrentFile]) -> None:
        """Take the columns from the current state: one from before they were remembered."""
        for table in self._settled:
            keys = sorted((f.key for f in current if f.table.name == table.name), key=str)
            paths = [current_file(table, self._partitioning, key) for key in keys]
            addresses = [self._bucket.address(path) for path in paths]
            self.columns.learn(table, addresses, self._columns_of(addresses))

    def _columns_of(self, addresses: Sequence[str]) -> list[FileColumn]:
        if not addresses:
            return []
        with self._reading("the files' columns"):
            rows = self._rows(parquet_columns(addresses))
        return [(str(path), str(name), str(type_name)) for path, name, type_name in rows]

    def _fetch(self, path: str) -> str:
        return self._bucket.fetch(path, self._folder)

    def settle(self, current: Sequence[CurrentFile], *, from_nothing: bool = False) -> Marked:
        """Rewrite the partitions that change; gives how many messages are newly marked.

        With `from_nothing` every partition is made from the log alone, and those that it has
        nothing for are removed.
        """
        known = {(file.table.name, file.key) for file in current}
        written = set()
        deleted = expired = 0
        for root, children in self._families:
            for key in self._keys(root, current, from_nothing=from_nothing):
                files, gone = self._settle_family(
                    root, children, key, set() if from_nothing else known
                )
                written |= files
                if root.name == tables.CHAT_MESSAGES.name:
                    deleted, expired = deleted + gone.deleted, expired + gone.expired
            family = () if from_nothing else (root, *children)
            for key in self._keys_to_widen(family, known | written, written):
                files, _ = self._settle_family(root, children, key, known, is_widened=True)
                written |= files
        if from_nothing:
            for name, key in sorted(known - written, key=str):
                self._check_lock()
                self._target.remove(current_file(tables.ALL_TABLES[name], self._partitioning, key))
        there = {name for name, _ in (written if from_nothing else known | written)}
        for table in self._settled:
            # Records of files are there once files are fetched.
            if table.name not in there and table.name != tables.ATTACHMENT_FILES.name:
                self._write_empty(table)
        return Marked(deleted, expired)

    def _write_empty(self, table: Table) -> None:
        """A file without rows, so that readers find the columns of a table that never had any."""
        key = self._partitioning.first_key if is_partitioned(table) else None
        local = Path(self._folder, "empty.parquet")
        schema = self.columns.schema(table)
        if TOMBSTONE in schema.names:
            schema = schema.remove(schema.get_field_index(TOMBSTONE))
        pq.write_table(schema.empty_table(), local)
        self._check_lock()
        self._target.publish(local, current_file(table, self._partitioning, key))
        # It may have become the published one: the next is another file.
        local.unlink()

    def _keys_to_widen(
        self,
        family: Sequence[Table],
        there: set[tuple[str, str | None]],
        written: set[tuple[str, str | None]],
    ) -> list[str | None]:
        """First partitions that lack a new column: many readers look at no other for columns."""
        firsts = {
            min((file for file in there if file[0] == table.name), key=str, default=None)
            for table in family
            if table.name in self.columns.widened
        }
        keys = {file[1] for file in firsts if file is not None and file not in written}
        return sorted(keys, key=str)

    def _check_lock(self) -> None:
        if self._lock is not None:
            self._lock.check()

    def _keys(
        self, root: Table, current: Sequence[CurrentFile], *, from_nothing: bool
    ) -> list[str | None]:
        """The partitions of a root table that the log or its windows may change."""
        with self._reading("the log"):
            self._run(merge_sql.log_view(root, self._log[root.name], "true"))
            key = self._partitioning.key_sql(root.partition_by) if is_partitioned(root) else "NULL"
            keys = {row[0] for row in self._rows(f"SELECT DISTINCT {key} FROM new_{root.name}")}
        self._with_rows[root.name] = frozenset(keys)
        if not from_nothing:
            there = {file.key for file in current if file.table.name == root.name}
            keys |= {key for key in there if self._may_be_gone(root, key)}
        return sorted(keys)

    def _may_be_gone(self, root: Table, key: str | None) -> bool:
        """Whether the windows may prove rows of a partition gone."""
        if root.name == tables.CHATS.name:
            return bool(self._rows("SELECT 1 FROM windows LIMIT 1"))
        if key is None:
            return False
        start, end = self._partitioning.bounds(key)
        return bool(
            self._rows(
                "SELECT 1 FROM windows WHERE verified AND window_end > ?"
                " AND (window_start IS NULL OR window_start < ?) LIMIT 1",
                [start, end],
            )
        )

    def _settle_family(
        self,
        root: Table,
        children: Sequence[Table],
        key: str | None,
        known: set[tuple[str, str | None]],
        *,
        is_widened: bool = False,
    ) -> tuple[set[tuple[str, str | None]], Marked]:
        """Settle a root table's partition with its children; gives what was written.

        One that `is_widened` is written though no row changes.
        """
        family = [
            _Part(
                table,
                path := current_file(table, self._partitioning, key),
                self._bucket.address(path) if (table.name, key) in known else None,
            )
            for table in (root, *children)
        ]
        has_new = is_widened or key in self._with_rows[root.name]
        if not has_new:
            # A few columns tell whether something is gone.
            _, *gone = self._merge(family[0], key, "true")
            if not any(gone):
                return set(), NOTHING_MARKED
        with self._fetched(family if has_new else family[:1]) as parts:
            slices = self._slices(parts[0], key)
            counts = [self._merge(parts[0], key, condition) for condition in slices]
            won, deleted, expired = map(sum, zip(*counts, strict=True))
            if won or deleted or expired or is_widened:
                changing = parts if won or is_widened else parts[:1]
                written = self._write(changing, key, dict(zip(slices, counts, strict=True)))
            else:
                written = []
        return {(part.table.name, key) for part in written}, Marked(deleted, expired)

    @contextmanager
    def _fetched(self, parts: Sequence[_Part]) -> Iterator[list[_Part]]:
        """The parts as files of this machine, which go at the end if they were not before."""
        found = [replace(p, address=self._fetch(p.path)) if p.address else p for p in parts]
        try:
            yield found
        finally:
            for part in found:
                if part.address and not self._bucket.is_local:
                    Path(part.address).unlink()

    def _write(
        self, parts: Sequence[_Part], key: str | None, slices: Mapping[str, tuple[int, int, int]]
    ) -> list[_Part]:
        """Write parts of a partition, its root first; gives what was written.

        `slices` has what `_merge` gave for each; the last was merged just now.
        """
        root = parts[0].table
        with _Files(Path(self._folder)) as files:
            for condition, (_, *gone) in slices.items():
                if len(slices) > 1:
                    self._merge(parts[0], key, condition)
                self._show(parts[1:], root, key, condition)
                for part in parts:
                    rows = (
                        merge_sql.root_rows(root, any_gone=any(gone))
                        if part.table is root
                        else merge_sql.child_rows(root, part.table)
                    )
                    with self._reading(part.path):
                        files.write(part, _batches(self._connection.sql(rows)))
            # Messages last: once they are there, nothing is left to do.
            written = [part for part in reversed(parts) if part.address or files.rows(part)]
            for part in written:
                self._check_lock()
                self._target.publish(files.finish(part), part.path)
        return written

    def _slices(self, root: _Part, key: str | None) -> list[str]:
        """Conditions that cut a partition into slices of whole chats, in their order.

        Memory is bounded by a slice and by the largest chat, whatever the partition has.
        """
        if key is None:
            return ["true"]
        self._show([root], root.table, key, "true")
        with self._reading(root.path):
            starts = [row[0] for row in self._rows(merge_sql.slices(root.table, SLICE_ROWS))]
        if len(starts) < 2:
            return ["true"]
        starts = [literal(start) if isinstance(start, str) else start for start in starts]
        ends = [*(f"chat_id < {start}" for start in starts[1:]), "true"]
        return [f"chat_id >= {start} AND {end}" for start, end in zip(starts, ends, strict=True)]

    def _show(self, parts: Sequence[_Part], root: Table, key: str | None, condition: str) -> None:
        """Make the views of a slice, of some tables of a root's family."""
        of_key = "true"
        if key is not None:
            start, end = self._partitioning.bounds(key)
            instant = root.partition_by
            of_key = (
                f"{instant} >= TIMESTAMPTZ '{start.isoformat()}'"
                f" AND {instant} < TIMESTAMPTZ '{end.isoformat()}'"
            )
        for part in parts:
            with self._reading(part.path):
                self._run(merge_sql.old_view(part.table, part.address, condition))
            of_table = f"{condition} AND {of_key}" if part.table is root else condition
            with self._reading("the log"):
                self._run(merge_sql.log_view(part.table, self._log[part.table.name], of_table))

    def _merge(self, root: _Part, key: str | None, condition: str) -> tuple[int, int, int]:
        """Find what wins and what is gone in a slice; gives how many won, are deleted, expired."""
        self._show([root], root.table, key, condition)
        with self._reading(root.path):
            for statement in (*merge_sql.winners(root.table), merge_sql.gone(root.table)):
                self._run(statement)
            counts = "(SELECT COUNT(*) FROM winners), COUNT(deleted_at), COUNT(expired_at)"
            won, deleted, expired = self._rows(f"SELECT {counts} FROM gone")[0]
        return int(won), int(deleted), int(expired)

    def _run(self, sql: str) -> None:
        self._connection.execute(sql)

    def _rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, parameters).fetchall()

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """An error of DuckDB in one line; its own text names the file."""
        try:
            yield
        except duckdb.OutOfMemoryException as error:
            raise DestinationError(
                f"{self._bucket.root}/{what}: settling ran out of its {MEMORY_LIMIT} of memory and "
                f"of disk in {self._folder}: set TMPDIR to a place with more, or settle by "
                "day (lake_partition = day)"
            ) from error
        except duckdb.Error as error:
            text = " ".join(str(error).split())[:300]
            raise DestinationError(f"{self._bucket.root}/{what}: {text}; {EPILOGUE}") from error


def _batches(result: duckdb.DuckDBPyRelation) -> pa.RecordBatchReader:
    # Older DuckDBs know it by its former name only.
    read: Any = getattr(result, "to_arrow_reader", None) or result.fetch_arrow_reader
    return read(BATCH_ROWS)
