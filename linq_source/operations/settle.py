"""Settling: applying what the ledger proves to what was loaded, in each destination's own way."""

from __future__ import annotations

import dlt

from linq_source.destinations.failures import plain_errors
from linq_source.destinations.kinds import destination_of
from linq_source.destinations.remote import connected, restore
from linq_source.destinations.table_formats import check_is_lake
from linq_source.settings import parse_shard

LEDGER_RETENTION_DAYS = 90


def settle(
    pipeline: dlt.Pipeline,
    *,
    ledger_retention_days: int = LEDGER_RETENTION_DAYS,
    lake_partition: str | None = None,
    shard: str | None = None,
) -> int:
    """Mark messages and chats that the ledger proves gone; prune settled ledger rows.

    For use after a plain `pipeline.run(linq_source(...))`; `sync` does it by itself. Idempotent.
    Return the number of messages newly marked deleted. `lake_partition` is `month` or `day`, for a
    new Parquet lake, which is settled whole. With a `shard` (`"i/n"`) only its chats are looked at:
    another shard's load may be under way.

    Raises `ConfigurationError` for a `lake_partition` where there is no lake.
    """
    chats = parse_shard(shard)
    with plain_errors(pipeline):
        if not pipeline.default_schema_name:
            # A worker that never loaded: the destination knows the schema.
            restore(pipeline)
        if lake_partition is not None:
            check_is_lake(pipeline, None, lake_partition)
        if not pipeline.default_schema_name:
            return 0
        with connected(pipeline) as remote:
            destination = destination_of(pipeline, lake_partition)
            marked = destination.apply_ledger(remote, ledger_retention_days, chats)
    return marked.deleted
