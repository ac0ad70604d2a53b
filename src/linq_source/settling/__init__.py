"""Settling: applying what the ledger proves to what was loaded, in each destination's own way."""

from __future__ import annotations

import dlt

from linq_source.settling.open_tables import settle_open_tables
from linq_source.settling.sql import settle_sql
from linq_source.table_formats import format_of

LEDGER_RETENTION_DAYS = 90


def settle(pipeline: dlt.Pipeline, *, ledger_retention_days: int = LEDGER_RETENTION_DAYS) -> int:
    """Mark messages and chats that the ledger proves deleted; prune settled ledger rows.

    For use after a plain `pipeline.run(linq_source(...))`; `sync` does it by itself. Idempotent.
    Gives the number of messages newly marked.
    """
    if format_of(pipeline) is not None:
        return settle_open_tables(pipeline, ledger_retention_days)
    return settle_sql(pipeline, ledger_retention_days)


def is_duckdb(pipeline: dlt.Pipeline) -> bool:
    """Whether the destination is a DuckDB database."""
    destination = pipeline.destination
    return destination is not None and destination.destination_type.split(".")[-1] == "duckdb"
