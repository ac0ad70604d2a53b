"""Loading a package into Delta and Iceberg tables: each table in one transaction.

dlt merges into Iceberg a thousand rows at a time, each a snapshot of its own, and fails where rows
change in the load that also brings a new column. Into Delta it merges rows that are all new,
too, which reads the table for nothing. Here a table's files are one change: the keys that are there
already are replaced, and where there are none, rows are only added. What a load that was killed
leaves behind is a whole table or nothing of it, so repeating it gives the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dlt

from linq_source.destinations.remote import with_client_class
from linq_source.tables import TABLES


@contextmanager
def merging_whole(pipeline: dlt.Pipeline) -> Iterator[None]:
    """Within it, `pipeline.load()` writes each Delta or Iceberg table in one transaction."""
    destination: Any = pipeline._destination
    client_class = destination.client_class

    class MergingClient(client_class):  # type: ignore[misc, valid-type]
        @staticmethod
        def get_reference_followup_job_class(table: Any) -> Any:
            job = client_class.get_reference_followup_job_class(table)
            if job is None or table["name"] not in TABLES:
                return job
            # Here, because only these tables need the libraries it needs.
            from linq_source.destinations.open_tables.jobs import JOBS

            return JOBS[table["table_format"]]

    pipeline._destination = with_client_class(destination, MergingClient)
    try:
        yield
    finally:
        pipeline._destination = destination
