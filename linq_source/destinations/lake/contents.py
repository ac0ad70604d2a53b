"""What lies in a lake: complete loads, files of the current state, and the marker beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from linq_source.destinations.bucket import Bucket
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
from linq_source.errors import DestinationError

EPILOGUE = "restore it, or run: linq-source lake rebuild"
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


def complete_loads(bucket: Bucket) -> list[str]:
    """Ids of the loads that dlt completed; files of others are not to be believed yet."""
    found = [parse_load(path) for path in bucket.list(LOADS)]
    return sorted({load for load in found if load is not None}, key=float)


def is_visible(path: str) -> bool:
    """Return whether readers see a path in `current/`: they skip names that begin with . or _."""
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
