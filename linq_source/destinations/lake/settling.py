"""Settling a lake, or rebuilding it from its log: under a lock, from marker to marker."""

from __future__ import annotations

from collections.abc import Mapping

from linq_source.destinations.bucket import Bucket
from linq_source.destinations.deletion_rule import NOTHING_MARKED, Marked
from linq_source.destinations.lake.columns import LakeColumns
from linq_source.destinations.lake.contents import (
    Marker,
    complete_loads,
    current_files,
    is_visible,
    read_marker,
)
from linq_source.destinations.lake.layout import (
    CURRENT,
    MONTH,
    PARTITIONINGS,
    CurrentFile,
    Partitioning,
    parse_current,
    partitioning_of,
)
from linq_source.destinations.lake.locking import locked
from linq_source.destinations.lake.partition_merge import Settler
from linq_source.errors import ConfigurationError, DestinationError
from linq_source.tables import TABLES, Table


def settle_lake(
    bucket: Bucket, lake_partition: str | None = None, stored: Mapping[str, Table] = TABLES
) -> Marked:
    """Bring the current state up to the log; gives how many messages are newly marked.

    `lake_partition` is `month` (the default of a new lake) or `day`, `stored` are the dataset's
    tables. Raises `ConfigurationError` where the lake is partitioned otherwise.

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
        return NOTHING_MARKED
    with locked(bucket) as lock:
        # Read again: another may have settled while we waited.
        marker = read_marker(bucket) or Marker(asked or MONTH)
        loads = _unsettled(bucket, marker)
        if not loads:
            return NOTHING_MARKED
        columns = LakeColumns(marker.columns)
        with Settler(bucket, marker.partitioning, lock, columns=columns, stored=stored) as settler:
            current = current_files(bucket, marker.partitioning)
            if marker.columns is None:
                settler.learn_columns(current)
            settler.read_log(loads)
            marked = settler.settle(current)
        marker.columns = columns.entry()
        lock.check()
        bucket.write_json(*marker.with_loads(loads).entry())
    return marked


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
        current = _all_ours(bucket, partitioning)
        with Settler(bucket, partitioning, lock, stored=stored) as settler:
            settler.read_log(loads)
            settler.settle(current, from_nothing=True)
            columns = settler.columns.entry()
        for path in others:
            lock.check()
            bucket.remove(path)
        bucket.write_json(*Marker(partitioning, columns=columns).with_loads(loads).entry())
        return len(current_files(bucket, partitioning))


def _unsettled(bucket: Bucket, marker: Marker | None) -> list[str]:
    return [load for load in complete_loads(bucket) if marker is None or not marker.has(load)]


def _known_partitioning(bucket: Bucket) -> Partitioning:
    """That of the marker; where it cannot be read, that of the files."""
    try:
        marker = read_marker(bucket)
    except DestinationError:
        marker = None
    if marker is not None:
        return marker.partitioning
    for each in PARTITIONINGS.values():
        if any(file.key for file in _all_ours(bucket, each)):
            return each
    return Marker().partitioning


def _all_ours(bucket: Bucket, partitioning: Partitioning) -> list[CurrentFile]:
    found = (parse_current(path, partitioning) for path in filter(is_visible, bucket.list(CURRENT)))
    return [file for file in found if file is not None]


def _files_of_others(bucket: Bucket, partitioning: Partitioning) -> list[str]:
    """Files of another partitioning. Raises `DestinationError` for a file of nobody."""
    found = []
    for path in bucket.list(CURRENT):
        if is_visible(path) and parse_current(path, partitioning) is None:
            if not any(parse_current(path, each) for each in PARTITIONINGS.values()):
                current_files(bucket, partitioning)  # says which and what to do
            found.append(path)
    return found
