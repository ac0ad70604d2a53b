"""Settling a lake: the log's new rows merged into the current state, partition by partition.

A partition is rewritten whole into a file of its own and then put in the old one's place; its
children come first and its messages last, because the messages tell whether there is anything
left to do. Killed anywhere, the same settling is repeated by the next run, with the same result.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from linq_source import tables
from linq_source.errors import ConfigurationError, DestinationError
from linq_source.lake import merging
from linq_source.lake.bucket import Bucket
from linq_source.lake.layout import (
    CURRENT,
    FAMILIES,
    LOADS,
    MARKER,
    MONTH,
    SETTLED_TABLES,
    CurrentFile,
    Partitioning,
    current_file,
    is_partitioned,
    parse_current,
    parse_load,
    partitioning_of,
)
from linq_source.lake.locking import Lock, locked
from linq_source.tables import Table

MEMORY_LIMIT = "512MB"
# Rows merged at once, and rows of a row group.
SLICE_ROWS = 1_000_000
BATCH_ROWS = 100_000
# Loads are settled one after the other, so old ones need not be remembered one by one. Clocks of
# shards may differ, and a load may take long: this much later nothing comes before any more.
HORIZON_DAYS = 30.0

_LEDGER = (tables.SYNC_WINDOWS, tables.REJECTED_RECORDS)
_EPILOGUE = "restore it, or run: linq-source lake rebuild"


@dataclass
class Marker:
    """Which loads the current state has, and how it is partitioned."""

    partitioning: Partitioning = MONTH
    loads: set[str] = field(default_factory=set)
    before: float = 0.0

    def has(self, load: str) -> bool:
        """Whether a load is settled."""
        return load in self.loads or float(load) < self.before

    def with_loads(self, loads: Sequence[str]) -> Marker:
        """The marker once these are settled as well."""
        known = self.loads | set(loads)
        newest = max((float(load) for load in known), default=0.0)
        before = max(self.before, newest - HORIZON_DAYS * 86_400)
        return Marker(self.partitioning, {i for i in known if float(i) >= before}, before)

    def entry(self) -> tuple[str, dict[str, Any]]:
        """Where it stands in the bucket, and what."""
        return MARKER, {
            "lake_partition": self.partitioning.name,
            "settled_before": self.before,
            "settled_loads": sorted(self.loads),
        }


def read_marker(bucket: Bucket) -> Marker | None:
    """The bucket's marker; none where nothing was settled yet. Raises `DestinationError`."""
    try:
        found = bucket.read_json(MARKER)
        if found is None:
            return None
        loads = {load for load in found["settled_loads"] if float(load) >= 0}
        partitioning = partitioning_of(found["lake_partition"])
        return Marker(partitioning, loads, float(found["settled_before"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DestinationError(f"{bucket.root}/{MARKER}: cannot be read: {_EPILOGUE}") from error


def settle_lake(bucket: Bucket, lake_partition: str | None = None) -> int:
    """Bring the current state up to the log; gives the number of messages newly marked deleted.

    `lake_partition` is `month` (the default of a new lake) or `day`. Raises `ConfigurationError`
    where the lake is partitioned otherwise.

    Raises `DestinationError` for a file that cannot be read, is not ours or cannot be written.
    """
    asked = None if lake_partition is None else partitioning_of(lake_partition)
    marker = read_marker(bucket)
    if asked is not None and marker is not None and marker.partitioning is not asked:
        raise ConfigurationError(
            f"lake_partition is {asked.name}, but {bucket.root} is partitioned by "
            f"{marker.partitioning.name}: leave it out, or run: linq-source lake rebuild "
            f"--lake-partition {asked.name}"
        )
    if not _unsettled(bucket, marker):
        return 0
    with locked(bucket) as lock:
        # Read again: another may have settled while we waited.
        marker = read_marker(bucket) or Marker(asked or MONTH)
        loads = _unsettled(bucket, marker)
        if not loads:
            return 0
        with Settler(bucket, marker.partitioning, lock) as settler:
            settler.read_log(loads)
            marked = settler.settle(current_files(bucket, marker.partitioning))
        lock.check()
        bucket.write_json(*marker.with_loads(loads).entry())
    return marked


def complete_loads(bucket: Bucket) -> list[str]:
    """Ids of the loads that dlt completed; files of others are not to be believed yet."""
    found = [parse_load(path) for path in bucket.list(LOADS)]
    return sorted({load for load in found if load is not None}, key=float)


def _unsettled(bucket: Bucket, marker: Marker | None) -> list[str]:
    return [load for load in complete_loads(bucket) if marker is None or not marker.has(load)]


def is_visible(path: str) -> bool:
    """Whether a path in `current/` is one that readers see: not hidden, and no note of ours."""
    return not path.rpartition("/")[2].startswith((".", "_"))


def current_files(bucket: Bucket, partitioning: Partitioning) -> list[CurrentFile]:
    """The files of the current state. Raises `DestinationError` for one that is not ours.

    Readers take whatever Parquet file lies there for rows, so one from elsewhere is not ignored.
    """
    found = []
    for path in filter(is_visible, bucket.list(CURRENT)):
        file = parse_current(path, partitioning)
        if file is None:
            raise DestinationError(
                f"{bucket.root}/{path}: is not a file of the lake, and readers would take it for "
                f"rows: move it out of {CURRENT}/, then run again"
            )
        found.append(file)
    return found


@dataclass(frozen=True)
class _Part:
    """A table's file of a partition, and whether it is there."""

    table: Table
    path: str
    exists: bool


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
    ) -> None:
        """`target` is where partitions are written, if not in the bucket itself."""
        self._bucket = bucket
        self._target = target or bucket
        self._partitioning = partitioning
        self._lock = lock
        self._log: dict[str, list[str]] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="linq-lake-")
        self._connection = connect(self._folder.name)
        bucket.reading(self._connection)
        for table in (*SETTLED_TABLES, *_LEDGER):
            self._connection.register(f"empty_{table.name}", table.schema.empty_table())

    def __enter__(self) -> Settler:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._folder.cleanup()

    def read_log(self, loads: Sequence[str]) -> None:
        """Settle these loads: every table's files of theirs."""
        for table in (*SETTLED_TABLES, *_LEDGER):
            self._log[table.name] = files_of(self._bucket, table, loads)
        for view, table in (("windows", tables.SYNC_WINDOWS), ("rejects", tables.REJECTED_RECORDS)):
            with self._reading("the log"):
                self._run(merging.log_view(table, self._log[table.name], "true"))
                self._run(f"CREATE OR REPLACE TEMP TABLE {view} AS SELECT * FROM new_{table.name}")

    def settle(self, current: Sequence[CurrentFile], *, from_nothing: bool = False) -> int:
        """Rewrite the partitions that change; gives the number of messages newly marked.

        With `from_nothing` every partition is made from the log alone, and those that it has
        nothing for are removed.
        """
        known = {(file.table.name, file.key) for file in current}
        written = set()
        marked = 0
        for root, children in FAMILIES:
            for key in self._keys(root, current, from_nothing=from_nothing):
                files, gone = self._settle_family(
                    root, children, key, set() if from_nothing else known
                )
                written |= files
                marked += gone if root is tables.CHAT_MESSAGES else 0
        if from_nothing:
            for name, key in sorted(known - written, key=str):
                self._check_lock()
                self._target.remove(current_file(tables.TABLES[name], self._partitioning, key))
        return marked

    def _check_lock(self) -> None:
        if self._lock is not None:
            self._lock.check()

    def _keys(
        self, root: Table, current: Sequence[CurrentFile], *, from_nothing: bool
    ) -> list[str | None]:
        """The partitions of a root table that the log or its windows may change."""
        if not is_partitioned(root):
            return [None]
        with self._reading("the log"):
            self._run(merging.log_view(root, self._log[root.name], "true"))
            key = self._partitioning.key_sql("sent_at")
            keys = {row[0] for row in self._rows(f"SELECT DISTINCT {key} FROM new_{root.name}")}
        if not from_nothing:
            there = {file.key for file in current if file.table is root and file.key is not None}
            keys |= {key for key in there if self._has_windows(key)}
        return sorted(keys)

    def _has_windows(self, key: str) -> bool:
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
    ) -> tuple[set[tuple[str, str | None]], int]:
        """Settle a root table's partition with its children; gives what was written."""
        family = [
            _Part(table, current_file(table, self._partitioning, key), (table.name, key) in known)
            for table in (root, *children)
        ]
        slices = self._slices(family, key)
        won = gone = 0
        for condition in slices:
            counts = self._merge(family, key, condition)
            won, gone = won + counts[0], gone + counts[1]
        if not won and not gone:
            return set(), 0
        changing = family if won else family[:1]
        with _Files(Path(self._folder.name)) as files:
            for condition in slices:
                # One slice is merged already.
                any_gone = self._merge(family, key, condition)[1] > 0 if len(slices) > 1 else gone
                for part in changing:
                    rows = (
                        merging.root_rows(root, any_gone=bool(any_gone))
                        if part.table is root
                        else merging.child_rows(root, part.table)
                    )
                    with self._reading(part.path):
                        files.write(part, _batches(self._connection.execute(rows)))
            # Messages last: once they are there, nothing is left to do.
            written = [part for part in reversed(changing) if part.exists or files.rows(part)]
            for part in written:
                self._check_lock()
                self._target.publish(files.finish(part), part.path)
        return {(part.table.name, key) for part in written}, gone

    def _slices(self, family: Sequence[_Part], key: str | None) -> list[str]:
        """Conditions that cut a partition into slices of whole chats, in their order.

        Memory is bounded by a slice and by the largest chat, whatever the partition has.
        """
        root = family[0].table
        if key is None:
            return ["true"]
        self._show(family, key, "true")
        with self._reading(family[0].path):
            starts = [row[0] for row in self._rows(merging.slices(root, SLICE_ROWS))]
        if len(starts) < 2:
            return ["true"]
        ends = [*(f"chat_id < {start}" for start in starts[1:]), "true"]
        return [f"chat_id >= {start} AND {end}" for start, end in zip(starts, ends, strict=True)]

    def _show(self, family: Sequence[_Part], key: str | None, condition: str) -> None:
        """Make the views of a slice."""
        of_key = "true"
        if key is not None:
            start, end = self._partitioning.bounds(key)
            of_key = (
                f"sent_at >= TIMESTAMPTZ '{start.isoformat()}'"
                f" AND sent_at < TIMESTAMPTZ '{end.isoformat()}'"
            )
        for part in family:
            address = self._bucket.address(part.path) if part.exists else None
            with self._reading(part.path):
                self._run(merging.old_view(part.table, address, condition))
            of_table = f"{condition} AND {of_key}" if part is family[0] else condition
            with self._reading("the log"):
                self._run(merging.log_view(part.table, self._log[part.table.name], of_table))

    def _merge(self, family: Sequence[_Part], key: str | None, condition: str) -> tuple[int, int]:
        """Find what wins and what is gone in a slice; gives how many of both."""
        root = family[0]
        self._show(family, key, condition)
        with self._reading(root.path):
            for statement in (*merging.winners(root.table), merging.gone(root.table)):
                self._run(statement)
            won, gone = self._rows("SELECT (SELECT COUNT(*) FROM winners), COUNT(*) FROM gone")[0]
        return int(won), int(gone)

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
                f"of disk in {self._folder.name}: set TMPDIR to a place with more, or settle by "
                "day (lake_partition = day)"
            ) from error
        except duckdb.Error as error:
            text = " ".join(str(error).split())[:300]
            raise DestinationError(f"{self._bucket.root}/{what}: {text}; {_EPILOGUE}") from error


def files_of(bucket: Bucket, table: Table, loads: Sequence[str]) -> list[str]:
    """Addresses of a table's log files of some loads."""
    if len(loads) <= 20:
        paths = [path for load in loads for path in bucket.list(table.name, f"{load}.")]
    else:
        wanted = set(loads)
        # <load id>.<file id>.parquet, and a load id has one dot of its own.
        paths = [
            path
            for path in bucket.list(table.name)
            if ".".join(path.rpartition("/")[2].split(".")[:2]) in wanted
        ]
    return [bucket.address(path) for path in paths if path.endswith(".parquet")]


def _batches(result: duckdb.DuckDBPyConnection) -> pa.RecordBatchReader:
    # Older DuckDBs know it by its former name only.
    read: Any = getattr(result, "to_arrow_reader", None) or result.fetch_record_batch
    return read(BATCH_ROWS)


def connect(folder: str) -> duckdb.DuckDBPyConnection:
    """A DuckDB of bounded memory that spills into a folder."""
    connection = duckdb.connect(":memory:")
    for setting in (
        f"memory_limit = '{MEMORY_LIMIT}'",
        "threads = 2",
        f"temp_directory = '{folder}'",
        "preserve_insertion_order = false",
        "TimeZone = 'UTC'",
    ):
        connection.execute(f"SET {setting}")
    return connection
