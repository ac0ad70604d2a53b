"""What a run costs in money, from what it processes. Calculated: nobody was billed for it.

List prices of Google Cloud in US regions, without free amounts or discounts, written down in
November 2026 and not confirmed against Google's pages that day:
https://cloud.google.com/bigquery/pricing, https://cloud.google.com/compute/vm-instance-pricing.
Loading into BigQuery is free. The bytes of a row and the statements of a run are those of
docs/bigquery.md.
"""

from __future__ import annotations

from benchmarks.scale_model import Forecast, Organisation

QUERY_DOLLARS_PER_TIB = 6.25
STORAGE_DOLLARS_PER_GIB_MONTH = 0.02
# e2-standard-2: 2 processors, 8 GB, us-central1, on demand.
MACHINE_DOLLARS_PER_HOUR = 0.067

# Bytes as BigQuery counts them, per message: its own row, and its share of children.
MESSAGE_BYTES = 136
CHILD_BYTES = 42
SETTLED_BYTES = 40
# About 40 references to small tables in every run, each charged as 10 MB.
LEAST_BYTES_PER_RUN = 400e6
LOOKBACK_DAYS = 8


def stored_bytes(organisation: Organisation) -> float:
    """What BigQuery counts as stored once everything is loaded."""
    return organisation.messages * (MESSAGE_BYTES + CHILD_BYTES)


def storage_dollars(organisation: Organisation) -> float:
    """A month of active storage."""
    return stored_bytes(organisation) / 2**30 * STORAGE_DOLLARS_PER_GIB_MONTH


def query_dollars(organisation: Organisation, found: Forecast, shards: int, first: bool) -> float:
    """What BigQuery processes.

    A package of a first load touches most days: it reads what is there already, on average half,
    once to look and once to write. A later run reads the days of the lookback; each shard again,
    because a day's messages are of all shards.
    """
    if first:
        processed = found.packages * (stored_bytes(organisation) / 2 * 2 + LEAST_BYTES_PER_RUN)
    else:
        per_message = 2 * MESSAGE_BYTES + (2 * SETTLED_BYTES + MESSAGE_BYTES) + 4 * CHILD_BYTES
        recent = LOOKBACK_DAYS * organisation.messages_per_day
        processed = shards * (recent * per_message + LEAST_BYTES_PER_RUN)
    return processed / 2**40 * QUERY_DOLLARS_PER_TIB


def machine_dollars(found: Forecast, shards: int) -> float:
    """Machines, each for as long as the run takes."""
    return found.seconds / 3_600 * shards * MACHINE_DOLLARS_PER_HOUR
