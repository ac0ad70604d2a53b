"""`sync`: package after package until everything is read, then the ledger settled."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Unpack

import dlt
import pyarrow as pa

from linq_source.destinations.dataset_tables import check_api
from linq_source.destinations.deletion_rule import NOTHING_MARKED, Marked
from linq_source.destinations.failures import plain_errors
from linq_source.destinations.kinds import destination_of
from linq_source.destinations.lake.layout import partitioning_of
from linq_source.destinations.new_columns import find_columns
from linq_source.destinations.remote import Remote, connected
from linq_source.destinations.settled_until import has_settled_before, settled_us
from linq_source.destinations.table_formats import check_is_lake, check_table_format
from linq_source.errors import Interrupted
from linq_source.extraction import Extraction, Listener
from linq_source.operations.exclusive import exclusive
from linq_source.operations.loading import load_package, normalize
from linq_source.operations.notes import note_future, note_oddities
from linq_source.operations.other_pipelines import find_inheritance, find_last_bound
from linq_source.operations.packages import heal_packages
from linq_source.operations.report import ChatFailure, Report, kept_by
from linq_source.operations.settle import LEDGER_RETENTION_DAYS
from linq_source.operations.state_sync import finish_and_agree
from linq_source.settings import Shard, SourceOptions
from linq_source.source import open_source
from linq_source.source.session import Session
from linq_source.state_keys import SYNCED_AT_US, source_state

PACKAGE_MESSAGES = 500_000

_log = logging.getLogger(__name__)


def sync(
    pipeline: dlt.Pipeline,
    *,
    listener: Listener | None = None,
    table_format: str | None = None,
    lake_partition: str | None = None,
    settles: bool = True,
    **options: Unpack[SourceOptions],
) -> Report:
    """Read, load and settle until everything is read.

    Takes the options of `linq_source`, and the `table_format` of `pipeline.run`: "delta" or
    "iceberg", for the filesystem destination; a dataset stays with the one it began with. Without
    one a bucket becomes a Parquet lake, whose current state is partitioned by `lake_partition`,
    "month" or "day". A long first reading is loaded in packages of `max_messages` (500,000);
    every loaded package is progress kept. A shard settles its own chats; without `settles` that is
    left to a later `settle`, so that the shards of a lake are settled together.
    `listener` is called with the running `Extraction` whenever something was read.

    Raises:
        ConfigurationError: A setting cannot be used; nothing was asked.
        AlreadyRunningError: Another run of the pipeline is under way; nothing was asked.
        AuthenticationError: The token is refused; nothing was loaded.
        ApiUnavailableError: The API did not answer before anything could be read.
        DestinationError: The destination cannot be opened, read or written.
    """
    started_s = time.monotonic()
    check_table_format(pipeline, table_format)
    if lake_partition is not None:
        partitioning_of(lake_partition)
        check_is_lake(pipeline, table_format, lake_partition)
    options.setdefault("max_messages", PACKAGE_MESSAGES)
    source, session = open_source(**options)
    session.keep, session.listener = True, listener
    notes: list[str] = []
    loads: list[str] = []
    shard = session.settings.shard
    settling = _Settling(pipeline, shard, lake_partition, settles)
    try:
        with exclusive(pipeline), plain_errors(pipeline):
            heal_packages(pipeline)
            destination_of(pipeline).heal()
            check_api(pipeline, session.settings.api)
            with connected(pipeline) as remote:
                destination_of(pipeline).check_exists(remote)
                if pipeline.has_pending_data:
                    _check_layout(pipeline, remote, table_format)
                loads += finish_and_agree(pipeline, remote, notes)
                note_future(pipeline, notes)
                _check_layout(pipeline, remote, table_format)
                settling.catch_up(remote, bool(loads))
                session.settled_us = settled_us(pipeline, shard)
                session.read_until_us = find_last_bound(pipeline, remote)
                session.inheritance = find_inheritance(pipeline, remote, shard)
                session.has_looked = True
                session.new_columns = find_columns(pipeline, remote)
            for remote, package in _load_packages(pipeline, source, session, table_format):
                loads += package
                if _is_last(session.extraction):
                    settling.finish(remote)
        note_oddities(session.extraction, notes)
        seconds = time.monotonic() - started_s
        return _report(session.extraction, settling.marked, loads, notes, seconds)
    except KeyboardInterrupt as error:
        raise Interrupted(tuple(loads)) from error
    finally:
        session.close()


def _check_layout(pipeline: dlt.Pipeline, remote: Remote, table_format: str | None) -> None:
    """Raise `ConfigurationError` where the destination's files could not be found again."""
    destination_of(pipeline).check_files(remote, table_format)


@dataclass
class _Settling:
    """How a run settles what it loads, and how many messages it marked."""

    pipeline: dlt.Pipeline
    shard: Shard | None
    lake_partition: str | None
    is_wanted: bool
    marked: Marked = NOTHING_MARKED

    def catch_up(self, remote: Remote, has_loaded: bool) -> None:
        """Before reading: what an earlier run loaded, as far as nothing says that it is settled.

        On an empty disk nothing does, and what the next package tells of it is all there is.
        """
        forgot = not has_settled_before(self.pipeline, self.shard) and SYNCED_AT_US in source_state(
            self.pipeline.state
        )
        if forgot and not destination_of(self.pipeline).knows_settled:
            self._settle(remote)
        elif has_loaded:
            self.finish(remote)

    def finish(self, remote: Remote) -> None:
        """After loading, where that is not left to others."""
        if self.is_wanted:
            self._settle(remote)

    def _settle(self, remote: Remote) -> None:
        destination = destination_of(self.pipeline, self.lake_partition)
        marked = destination.apply_ledger(remote, LEDGER_RETENTION_DAYS, self.shard)
        self.marked = Marked(*map(sum, zip(self.marked, marked, strict=True)))


def _load_packages(
    pipeline: dlt.Pipeline, source: Any, session: Session, table_format: Any
) -> Iterator[tuple[Remote, list[str]]]:
    """Extract and load until the extraction is complete or the API fails.

    Yields the open destination after each package, and the ids of its loads.
    """
    while True:
        pipeline.extract(source, table_format=table_format)
        # Freed pages would stay with Arrow's pool while the database needs the memory.
        pa.default_memory_pool().release_unused()
        normalize(pipeline)
        with connected(pipeline) as remote:
            package = load_package(pipeline, remote)
            extraction = session.extraction
            fields = {"loads": package, "messages": extraction.counts.messages if extraction else 0}
            _log.info("package loaded", extra=fields)
            yield remote, package
        if _is_last(session.extraction):
            return


def _is_last(extraction: Extraction | None) -> bool:
    return extraction is None or extraction.is_complete or extraction.outage is not None


def _report(
    extraction: Extraction | None,
    marked: Marked,
    loads: list[str],
    notes: list[str],
    seconds: float,
) -> Report:
    if extraction is None:
        return Report(loads=tuple(loads), notes=tuple(notes), seconds=round(seconds, 3))
    counts = extraction.counts
    return Report(
        chats=counts.chats,
        chats_skipped=counts.chats_skipped,
        chats_failed=tuple(
            ChatFailure(chat_id, error) for chat_id, error in sorted(counts.chats_failed.items())
        ),
        numbers_failed=tuple(sorted(counts.numbers_failed)),
        contacts=counts.contacts,
        contacts_failed=counts.contacts_failed,
        chats_unlisted=counts.chats_unlisted,
        windows=counts.windows_loaded,
        windows_unchanged=counts.windows_unchanged,
        windows_unverified=counts.windows_unverified,
        messages=counts.messages,
        attachments=counts.attachments,
        reactions=counts.reactions,
        rejected=counts.rejected,
        deleted=marked.deleted,
        expired=marked.expired,
        gaps=extraction.gaps,
        chats_rechecked=counts.chats_rechecked,
        chats_never_checked=extraction.chats_never_checked,
        oldest_check_days=extraction.oldest_check_days,
        requests=extraction.client.requests,
        retries=extraction.client.retries,
        loads=tuple(loads),
        seconds=round(seconds, 3),
        error=None if extraction.outage is None else str(extraction.outage),
        notes=tuple(notes),
        kept=kept_by(extraction.evidence, extraction.listing.bound_us)
        if extraction.listing.is_begun
        else (),
    )
