"""Settling a lake: the log's new rows merged into the current state, partition by partition.

A partition is rewritten whole into a file of its own and then put in the old one's place; its
children come first and its messages last, because the messages tell whether there is anything
left to do. Killed anywhere, the same settling is repeated by the next run, with the same result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from linq_source.destinations.bucket import Bucket
from linq_source.destinations.deletion_rule import NOTHING_MARKED, Marked
from linq_source.destinations.lake.columns import LakeColumns
from linq_source.destinations.lake.layout import (
    CURRENT,
    LOADS,
    MARKER,
    MONTH,
    CurrentFile,
    Partitioning,
    parse_current,
    parse_load,
    partitioning_of,
)
from linq_source.destinations.lake.locking import locked
from linq_source.destinations.lake.partition_merge import EPILOGUE, Settler
from linq_source.errors import ConfigurationError, DestinationError
from linq_source.tables import TABLES, Table

# Loads older than the newest by this are not remembered one by one. A package that was left pending
# for longer, while others went on, is found by a check and needs a rebuild.
HORIZON_DAYS = 366.0


@dataclass
class Marker:
    """Which loads the current state has, and how it is partitioned."""

    partitioning: Partitioning = MONTH
    loads: set[str] = field(default_factory=set)
    before: float = 0.0
    # Of what the contract does not know, by table and column; none: not remembered yet.
    columns: Mapping[str, Mapping[str, str]] | None = None

    def has(self, load: str) -> bool:
        """Whether a load is settled."""
        return load in self.loads or float(load) < self.before

    def with_loads(self, loads: Sequence[str]) -> Marker:
        """The marker once these are settled as well."""
        known = self.loads | set(loads)
        newest = max((float(load) for load in known), default=0.0)
        before = max(self.before, newest - HORIZON_DAYS * 86_400)
        kept = {i for i in known if float(i) >= before}
        return Marker(self.partitioning, kept, before, self.columns)

    def entry(self) -> tuple[str, dict[str, Any]]:
        """Where it stands in the bucket, and what."""
        return MARKER, {
            "lake_partition": self.partitioning.name,
            "settled_before": self.before,
            "settled_loads": sorted(self.loads),
            "columns": self.columns or {},
        }


def read_marker(bucket: Bucket) -> Marker | None:
    """The bucket's marker; none where nothing was settled yet. Raises `DestinationError`."""
    try:
        found = bucket.read_json(MARKER)
        if found is None:
            return None
        loads = {load for load in found["settled_loads"] if float(load) >= 0}
        partitioning = partitioning_of(found["lake_partition"])
        return Marker(partitioning, loads, float(found["settled_before"]), found.get("columns"))
    except (ValueError, KeyError, TypeError) as error:
        raise DestinationError(f"{bucket.root}/{MARKER}: cannot be read: {EPILOGUE}") from error


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
