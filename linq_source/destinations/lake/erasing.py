"""Erasing from a lake: every file that holds something of it is written again, or removed.

The log has all versions of a row, so they are looked for there, too. Files are replaced one after
the other, each in one step: after a kill, the same call does the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from linq_source.destinations.bucket import Bucket
from linq_source.destinations.erasing import Erasure, TableErasure
from linq_source.destinations.lake.contents import (
    Marker,
    complete_loads,
    current_files,
    is_visible,
    read_marker,
)
from linq_source.destinations.lake.layout import CURRENT, SETTLED_TABLES, current_file
from linq_source.destinations.lake.locking import Lock, locked
from linq_source.destinations.lake.log import Log
from linq_source.destinations.lake.partition_merge import BATCH_ROWS
from linq_source.destinations.scratch import ScratchFolder
from linq_source.errors import DestinationError
from linq_source.tables import Table


def erase_lake(bucket: Bucket, erasure: Erasure) -> dict[str, int]:
    """Erase rows from log and current state; gives how many were current, by table."""
    erased = {}
    with locked(bucket) as lock, ScratchFolder() as folder:
        log = Log(bucket)
        partitioning = (read_marker(bucket) or Marker()).partitioning
        current = current_files(bucket, partitioning)
        complete = set(complete_loads(bucket))
        _remove_leftovers(bucket)
        settled = {table.name for table in SETTLED_TABLES}
        eraser = _Eraser(bucket, lock, Path(folder), erasure)
        for table in erasure.tables:
            rows = 0
            for path, load in log.files_of(table).items():
                rows += eraser.erase(table, path, is_whole=load in complete)
            paths = [
                current_file(table, partitioning, f.key)
                for f in current
                if f.table.name == table.name
            ]
            if table.name in settled:
                # Without rows it stays: readers find the columns of the table in it.
                rows = sum(eraser.erase(table, path, is_kept=True) for path in paths)
            erased[table.name] = rows
    return erased


def readable_files(bucket: Bucket, files: Mapping[str, str]) -> list[str]:
    """Paths of files of the log but for those that a load never wrote to their end."""
    complete = set(complete_loads(bucket))
    return [path for path, load in files.items() if load in complete or _is_parquet(bucket, path)]


def _is_parquet(bucket: Bucket, path: str) -> bool:
    with bucket.fs.open(f"{bucket.root}/{path}", "rb") as file:
        try:
            pq.read_metadata(file)
        except pa.ArrowInvalid:
            return False
    return True


class _Eraser:
    """Goes through files one by one."""

    def __init__(self, bucket: Bucket, lock: Lock, folder: Path, erasure: Erasure) -> None:
        self._bucket = bucket
        self._lock = lock
        self._folder = folder
        self._erasure = erasure

    def erase(
        self, table: Table, path: str, *, is_whole: bool = True, is_kept: bool = False
    ) -> int:
        """Write a file again without what is erased; gives the rows that went.

        One that loses all its rows is removed, unless it `is_kept`. One that cannot be read and
        need not be `is_whole`, because its load was never completed, is removed as well.
        """
        local = Path(self._bucket.fetch(path, str(self._folder)))
        try:
            return self._erase(table, path, local, is_kept=is_kept)
        except pa.ArrowInvalid as error:
            if is_whole:
                raise DestinationError(
                    f"{self._bucket.root}/{path}: cannot be read, and may name somebody to forget: "
                    "restore or remove it, then run again"
                ) from error
            self._lock.check()
            self._bucket.remove(path)
            return 0
        finally:
            if not self._bucket.is_local:
                local.unlink(missing_ok=True)

    def _erase(self, table: Table, path: str, local: Path, *, is_kept: bool) -> int:
        with pq.ParquetFile(local) as file:
            table_erasure = TableErasure(self._erasure, table, file.schema_arrow)
            searched = file.iter_batches(BATCH_ROWS, columns=table_erasure.columns)
            if not any(
                table_erasure.concerns(pa.Table.from_batches([batch])) for batch in searched
            ):
                return 0
            fresh = self._folder / "erased.parquet"
            with pq.ParquetWriter(fresh, file.schema_arrow, compression="zstd") as writer:
                for batch in table_erasure.stream(file.iter_batches(BATCH_ROWS)):
                    writer.write_batch(batch)
            rows: int = file.metadata.num_rows
        self._lock.check()
        if table_erasure.kept or is_kept:
            self._bucket.publish(fresh, path)
        else:
            self._bucket.remove(path)
        fresh.unlink(missing_ok=True)
        return rows - table_erasure.kept


def _remove_leftovers(bucket: Bucket) -> None:
    """Remove what a process that was killed while it replaced a file left beside it."""
    for path in bucket.list(CURRENT):
        _, _, below = path.partition("/")
        if not is_visible(path) and "/" in below:
            bucket.remove(path)
