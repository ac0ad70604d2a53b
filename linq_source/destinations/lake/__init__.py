"""The Parquet lake: an append-only log of every version, and the current state beside it."""

from linq_source.destinations.lake.checking import LakeReport, check_lake
from linq_source.destinations.lake.settling import rebuild_lake, settle_lake

__all__ = ["LakeReport", "check_lake", "rebuild_lake", "settle_lake"]
