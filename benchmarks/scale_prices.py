"""What a run costs in money, from what it processes. Calculated: nobody was billed for it.

List prices of Google Cloud in US regions, without free amounts or discounts, written down in
November 2026 and not confirmed against Google's pages that day:
https://cloud.google.com/bigquery/pricing, https://cloud.google.com/compute/vm-instance-pricing.
Loading into BigQuery is free. The bytes of a row and the statements of a run are those of
docs/bigquery.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.scale_model import Forecast, Organisation, Work

QUERY_DOLLARS_PER_TIB = 6.25
STORAGE_DOLLARS_PER_GIB_MONTH = 0.02
# e2-standard-2: 2 processors, 8 GB, us-central1, on demand.
MACHINE_DOLLARS_PER_HOUR = 0.067
GIB = 2**30
TIB = 2**40

# Bytes as BigQuery counts them, per message: its own row, and its share of children.
MESSAGE_BYTES = 136
CHILD_BYTES = 42
WINDOW_BYTES = 100
# About 40 references to small tables in every run, each charged as 10 MB.
LEAST_BYTES_PER_RUN = 400e6
SETTLED_BYTES = 40
LOOKBACK_DAYS = 8


@dataclass(frozen=True)
class Money:
    """Dollars of one run."""

    machines: float
    queries: float


def stored_bytes(organisation: Organisation, windows: float) -> float:
    """What BigQuery counts as stored once everything is loaded."""
    return organisation.messages * (MESSAGE_BYTES + CHILD_BYTES) + windows * WINDOW_BYTES


def storage_dollars(stored: float) -> float:
    """A month of active storage."""
    return stored / GIB * STORAGE_DOLLARS_PER_GIB_MONTH


def query_bytes(organisation: Organisation, work: Work, forecast: Forecast, shards: int) -> float:
    """What BigQuery processes.

    A package of a first load touches most days: it reads what is there already, on average half,
    once to look and once to write. A later run reads the days of the lookback; each shard anew,
    because a day's messages are of all shards.
    """
    row_bytes = MESSAGE_BYTES + CHILD_BYTES
    if work.is_first:
        table = organisation.messages * row_bytes
        return forecast.packages * (table / 2 * 2 + LEAST_BYTES_PER_RUN)
    day = organisation.messages_per_day
    merge = 2 * LOOKBACK_DAYS * day * MESSAGE_BYTES
    settle = (2 * SETTLED_BYTES + MESSAGE_BYTES) * LOOKBACK_DAYS * day
    children = 4 * LOOKBACK_DAYS * day * CHILD_BYTES
    return shards * (merge + settle + children + LEAST_BYTES_PER_RUN)


def money(organisation: Organisation, work: Work, forecast: Forecast, shards: int) -> Money:
    """Machines, each as long as the run takes, and queries."""
    return Money(
        machines=forecast.seconds / 3_600 * shards * MACHINE_DOLLARS_PER_HOUR,
        queries=query_bytes(organisation, work, forecast, shards) / TIB * QUERY_DOLLARS_PER_TIB,
    )
