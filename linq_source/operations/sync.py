"""`sync`: package after package until everything is read, then the ledger settled."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Unpack

import dlt
import pyarrow as pa
from dlt.common.configuration.container import Container
from dlt.common.configuration.providers.doc import BaseDocProvider
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from dlt.common.pipeline import LoadInfo
from pendulum import duration

from linq_source.destinations.deletion import NOTHING_MARKED, Marked
from linq_source.destinations.failures import plain_errors
from linq_source.destinations.kinds import destination_of
from linq_source.destinations.lake.layout import partitioning_of
from linq_source.destinations.new_columns import find_columns, fit_packages
from linq_source.destinations.outgoing import without_format_warnings
from linq_source.destinations.remote import Remote, connected, restore
from linq_source.destinations.settled import has_settled_before, settled_us
from linq_source.destinations.table_formats import check_table_format
from linq_source.errors import Interrupted
from linq_source.extraction import Extraction, Listener
from linq_source.instants import DAY_US, from_us, to_us
from linq_source.operations.exclusive import exclusive
from linq_source.operations.inherit import find_inheritance, find_last_bound
from linq_source.operations.lost_tables import heal_tables
from linq_source.operations.packages import drop, heal_packages
from linq_source.operations.report import ChatFailure, Report, kept_by
from linq_source.operations.settle import LEDGER_RETENTION_DAYS
from linq_source.settings import Shard, SourceOptions
from linq_source.source import open_source
from linq_source.source.session import MOST_CLOCK_DRIFT_US, Session
from linq_source.state import SECTION, SYNCED_AT_US, source_state

PACKAGE_MESSAGES = 500_000

_ARRIVED = "linq_arrived_version"
_DATASET_KEY = "linq_place"

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
            with connected(pipeline) as remote:
                destination_of(pipeline).check_exists(remote)
                if pipeline.has_pending_data:
                    _check_layout(pipeline, remote, table_format)
                loads += finish_and_agree(pipeline, remote, notes)
                _note_future(pipeline, notes)
                _check_layout(pipeline, remote, table_format)
                settling.catch_up(remote, bool(loads))
                session.settled_us = settled_us(pipeline, shard)
                session.read_until_us = find_last_bound(pipeline, remote)
                session.inheritance = find_inheritance(pipeline, remote, shard, table_format)
                session.new_columns = find_columns(pipeline, remote)
            for remote, package in _load_packages(pipeline, source, session, table_format):
                loads += package
                if _is_last(session.extraction):
                    settling.finish(remote)
        _note_oddities(session.extraction, notes)
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
        _normalize(pipeline)
        with connected(pipeline) as remote:
            package = _load(pipeline, remote)
            extraction = session.extraction
            fields = {"loads": package, "messages": extraction.counts.messages if extraction else 0}
            _log.info("package loaded", extra=fields)
            yield remote, package
        if _is_last(session.extraction):
            return


def _is_last(extraction: Extraction | None) -> bool:
    return extraction is None or extraction.is_complete or extraction.outage is not None


def load_pending(pipeline: dlt.Pipeline) -> list[str]:
    """Load what was extracted, and leave no copy of it behind. Return the ids of the packages."""
    _normalize(pipeline)
    with connected(pipeline) as remote:
        return _load(pipeline, remote)


def _normalize(pipeline: dlt.Pipeline) -> None:
    with without_format_warnings():
        pipeline.normalize()


def _load(pipeline: dlt.Pipeline, remote: Remote) -> list[str]:
    fit_packages(pipeline, remote)
    with _without_copies(), destination_of(pipeline).loading():
        loads = _load_ids(pipeline.load())
    _remember_arrived(pipeline, _version(remote.state()))
    return loads


@contextmanager
def _without_copies() -> Iterator[None]:
    """Where nobody configured otherwise: loaded files and staged rows are removed after a load.

    dlt keeps both; years of runs would fill the disk with copies of private messages
    (https://dlthub.com/docs/reference/configuration).
    """
    values = {"load": {"delete_completed_jobs": True, "truncate_staging_dataset": True}}
    providers = Container()[PluggableRunContext].providers
    default = _Defaults(values)
    if default.name in providers:
        yield
        return
    providers.add_provider(default)
    try:
        yield
    finally:
        providers.providers.remove(default)


class _Defaults(BaseDocProvider):
    """The last of the configuration's providers, so that every other comes first."""

    @property
    def name(self) -> str:
        return "linq-source defaults"

    @property
    def supports_secrets(self) -> bool:
        return False

    @property
    def is_writable(self) -> bool:
        return False


def finish_and_agree(pipeline: dlt.Pipeline, remote: Remote, notes: list[str]) -> list[str]:
    """Bring pipeline and destination to one state. Return the ids of packages it had to load."""
    _leave_other_destination(pipeline, remote, notes)
    lost = heal_tables(pipeline, remote, load_pending)
    if lost:
        _note(notes, f"made again, and read again what was in them: {', '.join(lost)}")
    loads = _finish_pending(pipeline, remote, notes)
    _agree_with_destination(pipeline, remote, notes)
    return loads


def _load_ids(info: LoadInfo | None) -> list[str]:
    return [] if info is None else list(info.loads_ids)


def _leave_other_destination(pipeline: dlt.Pipeline, remote: Remote, notes: list[str]) -> None:
    """Give up what was kept, or left pending, for another destination under the same name.

    dlt has one working folder per name: messages read for one would be loaded into another.
    """
    key = remote.dataset_key
    try:
        known = pipeline.get_local_state_val(_DATASET_KEY)
    except KeyError:
        known = None
    if known == key:
        return
    if known is not None:
        _note(notes, "this pipeline loaded into another destination; going on from what is here")
        drop(pipeline)
    pipeline.set_local_state_val(_DATASET_KEY, key)


def _finish_pending(pipeline: dlt.Pipeline, remote: Remote, notes: list[str]) -> list[str]:
    """Load what a crashed run left behind; dlt would load it instead of new data.

    What is pending builds on what was loaded before. Where the destination no longer holds that,
    loading would hide the loss: the pending packages are given up with the local state.
    """
    pipeline.activate()
    if not pipeline.has_pending_data:
        return []
    if _version(remote.state()) < _arrived(pipeline):
        _note(notes, "the destination lost what was loaded before; reading everything again")
        drop(pipeline)
        return []
    loads = load_pending(pipeline)
    _note(notes, f"finished {len(loads)} package(s) that an earlier run had left pending")
    return loads


def _agree_with_destination(pipeline: dlt.Pipeline, remote: Remote, notes: list[str]) -> None:
    """Go on from what the destination holds.

    A lost local state is restored. A local state that is ahead (the destination was lost, or a
    package was dropped before it was loaded) would skip what never arrived: it is given up.
    """
    local_state = pipeline.state
    remote_state = remote.state()
    local = local_state.get("sources", {}).get(SECTION)
    there = None if remote_state is None else remote_state.get("sources", {}).get(SECTION)
    if local != there:
        is_newer = _version(remote_state) >= local_state["_state_version"]
        if local is not None and not is_newer:
            what = "nothing of this pipeline" if there is None else "an earlier state of it"
            _note(notes, f"the destination holds {what}; going on from there")
            drop(pipeline)
        if there is not None:
            restore(pipeline)
    _remember_arrived(pipeline, _version(remote_state))


def _version(state: Any) -> int:
    return -1 if state is None else int(state["_state_version"])


def _arrived(pipeline: dlt.Pipeline) -> int:
    """The version of the state that was last seen in the destination; -1 if none was."""
    try:
        return int(pipeline.get_local_state_val(_ARRIVED))
    except KeyError:
        return -1


def _remember_arrived(pipeline: dlt.Pipeline, version: int) -> None:
    if version != _arrived(pipeline):
        pipeline.set_local_state_val(_ARRIVED, version)


def _note(notes: list[str], text: str) -> None:
    _log.warning(text)
    notes.append(text)


def _note_future(pipeline: dlt.Pipeline, notes: list[str]) -> None:
    """Say that rows bear an instant that has not come: what looks at it sees a run just now."""
    newest_us = int(source_state(pipeline.state).get(SYNCED_AT_US, 0))
    now = datetime.now(UTC)
    if newest_us > to_us(now) + MOST_CLOCK_DRIFT_US:
        _note(
            notes,
            f"the newest synced_at, {from_us(newest_us):%Y-%m-%d %H:%M}, is ahead of this "
            "machine's clock: it, or the one that loaded those rows, is wrong; bound in sync_runs "
            "tells when runs were",
        )


def _note_oddities(extraction: Extraction | None, notes: list[str]) -> None:
    if extraction is None:
        return
    if extraction.clock_ahead_us:
        _note(
            notes,
            "since the last load this machine's clock went "
            f"{duration(seconds=extraction.clock_ahead_us // 1_000_000).in_words()} further than "
            "the API's, which synced_at follows: set the clock",
        )
    if extraction.counts.contacts_failed:
        _note(notes, extraction.counts.contacts_failed)
    settings, oldest_days = extraction.settings, extraction.oldest_check_days
    if settings.recheck_share and oldest_days and oldest_days * DAY_US > settings.recheck_us:
        _note(
            notes,
            f"the chat checked longest ago was {oldest_days} days ago, more than recheck_days "
            f"({settings.recheck_us // DAY_US}): run more often, or raise recheck_share "
            f"({settings.recheck_share:g})",
        )
    if extraction.counts.cursors_unknown:
        _note(
            notes,
            f"the cursors of {extraction.counts.cursors_unknown} chats were written by another "
            "version of linq-source and are not understood: these chats are read from their "
            "beginning",
        )


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
        kept=kept_by(extraction.retention, extraction.listing.bound_us)
        if extraction.listing.is_begun
        else (),
    )
