"""Making the current state anew from the log, and comparing the two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
from fsspec.implementations.local import LocalFileSystem

from linq_source.destinations.bucket import Bucket
from linq_source.destinations.duckdb_in_memory import spilling_duckdb
from linq_source.destinations.lake.columns import LakeColumns
from linq_source.destinations.lake.layout import (
    CURRENT,
    PARTITIONINGS,
    CurrentFile,
    Partitioning,
    current_file,
    parse_current,
)
from linq_source.destinations.lake.locking import locked
from linq_source.destinations.lake.partition_merge import MEMORY_LIMIT, Settler
from linq_source.destinations.lake.settling import (
    Marker,
    complete_loads,
    current_files,
    is_visible,
    read_marker,
)
from linq_source.destinations.quoting import identifier, parquet_files
from linq_source.destinations.scratch import ScratchFolder
from linq_source.errors import DestinationError
from linq_source.tables import TABLES, Table


@dataclass(frozen=True)
class Finding:
    """Something that is not as the log says: a path, and what is wrong with it."""

    path: str
    problem: str


@dataclass(frozen=True)
class LakeReport:
    """What `check_lake` found. `rows` are those of the current state, by table."""

    rows: Mapping[str, int]
    files: int
    unsettled_loads: int
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """0, or 3 when something is wrong."""
        return 3 if self.findings else 0

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "rows": dict(self.rows),
            "files": self.files,
            "unsettled_loads": self.unsettled_loads,
            "findings": [{"path": f.path, "problem": f.problem} for f in self.findings],
        }


def rebuild_lake(
    bucket: Bucket,
    partitioning: Partitioning | None = None,
    stored: Mapping[str, Table] = TABLES,
) -> int:
    """Make every file of the current state from the log alone; gives the number of files.

    `stored` are the dataset's tables.

    Each file is replaced in one step, so readers may go on. Not where the partitioning changes:
    until the old files are removed at the end, readers would see rows twice.
    """
    with locked(bucket) as lock:
        if partitioning is None:
            partitioning = _known_partitioning(bucket)
        others = _files_of_others(bucket, partitioning)
        loads = complete_loads(bucket)
        current = [f for f in _all_ours(bucket, partitioning) if f is not None]
        with Settler(bucket, partitioning, lock, stored=stored) as settler:
            settler.read_log(loads)
            settler.settle(current, from_nothing=True)
            columns = settler.columns.entry()
        for path in others:
            lock.check()
            bucket.remove(path)
        bucket.write_json(*Marker(partitioning, columns=columns).with_loads(loads).entry())
        return len(current_files(bucket, partitioning))


def _known_partitioning(bucket: Bucket) -> Partitioning:
    """That of the marker; where it cannot be read, that of the files."""
    try:
        marker = read_marker(bucket)
    except DestinationError:
        marker = None
    if marker is not None:
        return marker.partitioning
    for each in PARTITIONINGS.values():
        if any(f is not None and f.key for f in _all_ours(bucket, each)):
            return each
    return Marker().partitioning


def _all_ours(bucket: Bucket, partitioning: Partitioning) -> list[CurrentFile | None]:
    return [parse_current(path, partitioning) for path in bucket.list(CURRENT) if is_visible(path)]


def _files_of_others(bucket: Bucket, partitioning: Partitioning) -> list[str]:
    """Files of another partitioning. Raises `DestinationError` for a file of nobody."""
    found = []
    for path in bucket.list(CURRENT):
        if is_visible(path) and parse_current(path, partitioning) is None:
            if not any(parse_current(path, each) for each in PARTITIONINGS.values()):
                current_files(bucket, partitioning)  # says which and what to do
            found.append(path)
    return found


def check_lake(bucket: Bucket, stored: Mapping[str, Table] = TABLES) -> LakeReport:
    """Compare the current state with one made anew from the same loads; changes nothing."""
    marker = read_marker(bucket)
    if marker is None:
        marker = Marker()
    settled = [load for load in complete_loads(bucket) if marker.has(load)]
    unsettled = len(complete_loads(bucket)) - len(settled)
    findings = []
    current = []
    for path in bucket.list(CURRENT):
        if is_visible(path):
            file = parse_current(path, marker.partitioning)
            if file is None:
                findings.append(Finding(path, "is not a file of the lake; readers take it for one"))
            else:
                current.append(file)
    with ScratchFolder() as made_in:
        made = Bucket(LocalFileSystem(), made_in)
        columns = LakeColumns(marker.columns)
        with Settler(
            bucket, marker.partitioning, None, target=made, columns=columns, stored=stored
        ) as settler:
            if marker.columns is None:
                settler.learn_columns(current)
            settler.read_log(settled)
            settler.settle((), from_nothing=True)
        expected = current_files(made, marker.partitioning)
        with spilling_duckdb(MEMORY_LIMIT) as (connection, folder):
            bucket.reading(connection)
            rows: dict[str, int] = {}
            # One file without rows is as good as another.
            tables_there = {file.table for file in current}
            for file in sorted({*current, *expected}, key=lambda f: (f.table.name, f.key or "")):
                path = current_file(file.table, marker.partitioning, file.key)
                if file not in current:
                    if file.table not in tables_there or _rows(connection, made.address(path)):
                        findings.append(Finding(path, "is missing"))
                    continue
                there = made.address(path) if file in expected else None
                key = stored.get(file.table.name, file.table).key
                problem, count = _compare(connection, key, bucket.fetch(path, folder), there)
                rows[file.table.name] = rows.get(file.table.name, 0) + count
                if problem is not None:
                    findings.append(Finding(path, problem))
    return LakeReport(rows, len(current), unsettled, tuple(findings))


def _compare(
    connection: duckdb.DuckDBPyConnection, key: Sequence[str], path: str, expected: str | None
) -> tuple[str | None, int]:
    """What is wrong with a file of rows with a key, and how many it has."""
    try:
        count, keys = _row(
            connection, f"SELECT COUNT(*), COUNT(DISTINCT ({', '.join(key)})) FROM {_file(path)}"
        )
        if count != keys:
            return f"has {count - keys} rows whose key another row has", count
        if expected is None:
            return ("the log has nothing for it" if count else None), count
        names = sorted(_columns(connection, expected))
        if not set(_columns(connection, path)).issubset(names):
            return "has other columns than the log", count
        # A file written before a column was known lacks it, and has none of its values.
        (here,), (there,) = (
            _row(connection, _sum(each, names, expected)) for each in (path, expected)
        )
        if here == there:
            return None, count
        (missing,), (surplus,) = (
            _row(
                connection,
                f"SELECT COUNT(*) FROM {_file(one)} AS a ANTI JOIN {_file(other)} AS b"
                f" USING ({', '.join(key)})",
            )
            for one, other in ((expected, path), (path, expected))
        )
        return (
            f"differs from the log: {missing} rows missing, {surplus} too many, "
            "or values not the same"
        ), count
    except duckdb.Error as error:
        return f"cannot be read: {' '.join(str(error).split())[:200]}", 0


def _rows(connection: duckdb.DuckDBPyConnection, path: str) -> int:
    (count,) = _row(connection, f"SELECT COUNT(*) FROM {_file(path)}")
    return int(count)


def _row(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    (row,) = connection.execute(sql).fetchall()
    return row


def _columns(connection: duckdb.DuckDBPyConnection, path: str) -> list[str]:
    return [
        row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {_file(path)}").fetchall()
    ]


def _sum(path: str, names: Sequence[str], columns_of: str) -> str:
    """A number that is the same for the same rows in any order; null what a file lacks."""
    rows = f"SELECT * FROM {_file(columns_of)} WHERE false UNION ALL BY NAME FROM {_file(path)}"
    return f"SELECT SUM(hash({', '.join(map(identifier, names))})::HUGEINT) FROM ({rows})"


def _file(path: str) -> str:
    return parquet_files([path])
