"""Comparing the current state with one rebuilt from the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
from fsspec.implementations.local import LocalFileSystem

from linq_source.destinations.bucket import Bucket
from linq_source.destinations.duckdb_in_memory import spilling_duckdb
from linq_source.destinations.lake.columns import LakeColumns
from linq_source.destinations.lake.contents import (
    Marker,
    complete_loads,
    current_files,
    is_visible,
    read_marker,
)
from linq_source.destinations.lake.layout import CURRENT, current_file, parse_current
from linq_source.destinations.lake.partition_merge import MEMORY_LIMIT, Settler
from linq_source.destinations.quoting import identifier, parquet_files
from linq_source.destinations.scratch import ScratchFolder
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


def check_lake(bucket: Bucket, stored: Mapping[str, Table] = TABLES) -> LakeReport:
    """Compare the current state with one rebuilt from the same loads; change nothing."""
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
