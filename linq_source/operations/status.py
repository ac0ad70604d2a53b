"""`status`: what the destination alone tells of its data, from what runs noted in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dlt
from dlt.common.destination.exceptions import DestinationUndefinedEntity

from linq_source import tables
from linq_source.destinations.failures import plain_errors
from linq_source.destinations.kinds import restored_destination_of
from linq_source.destinations.reading import Reader
from linq_source.errors import ConfigurationError
from linq_source.operations.settle import LEDGER_RETENTION_DAYS
from linq_source.operations.status_report import (
    Rejected,
    Status,
    Trouble,
    division_of,
    read_until,
    still_open,
)
from linq_source.tables import FAILED, GAP, READ, VANISHED, Table

READ_FOR_STATUS = {
    tables.SYNC_RUNS: (
        "bound", "chats", "chats_failed", "windows_unverified", "messages", "oldest_check",
        "covered", "chats_unlisted", "synced_at",
    ),
    tables.SYNC_WINDOWS: ("chat_id", "event", "verified", "error", "synced_at"),
    tables.REJECTED_RECORDS: ("table_name", "synced_at"),
}  # fmt: skip
# A bound further ahead of the rows that tell it is wrong, as is an arrival that is yet to come.
_CLOCKS_DIFFER = timedelta(hours=1)


def status(
    pipeline: dlt.Pipeline, *, max_age_hours: float | None = None, now: datetime | None = None
) -> Status:
    """Tell from the destination alone, without the API, how old and how complete its data is.

    Every pipeline that loaded into the dataset counts. Raises `ConfigurationError` where no run
    has loaded anything.
    """
    if max_age_hours is not None and not 0 < max_age_hours <= 876_000:
        raise ConfigurationError(f"max_age is {max_age_hours:g}: use more than 0 hours, such as 3")
    with (
        plain_errors(pipeline),
        reading_for_status(pipeline, READ_FOR_STATUS, now or datetime.now(UTC)) as (_, found),
    ):
        return replace(found, max_age_hours=max_age_hours)


@contextmanager
def reading_for_status(
    pipeline: dlt.Pipeline, columns: Mapping[Table, Sequence[str]], now: datetime
) -> Iterator[tuple[Reader, Status]]:
    """A reader of columns, those of `READ_FOR_STATUS` among them, and what they tell at `now`.

    Raises `ConfigurationError` where no run has loaded anything.
    """
    destination = restored_destination_of(pipeline)
    nothing_loaded = ConfigurationError(
        f"{destination.location}, dataset {pipeline.dataset_name}: no run has loaded "
        "anything there; check the place and --dataset, or run `linq-source run` first"
    )
    if destination.file is not None and not destination.file.exists():
        raise nothing_loaded  # to connect would make the file
    with destination.reading(columns) as reader:
        if _is_earlier(reader):
            raise ConfigurationError(
                f"dataset {pipeline.dataset_name} was last loaded by an earlier version: "
                "run `linq-source run` once, then ask again"
            )
        found = read_status(reader, now)
        if found is None:
            raise nothing_loaded
        yield reader, found


def _is_earlier(reader: Reader) -> bool:
    """Whether the tables are of a version whose runs did not say what they covered."""
    try:
        return not reader.columns(tables.SYNC_RUNS).issuperset(READ_FOR_STATUS[tables.SYNC_RUNS])
    except DestinationUndefinedEntity:
        return False


def read_status(reader: Reader, now: datetime) -> Status | None:
    """What the tables of `READ_FOR_STATUS` say; None where no run has noted anything."""
    runs = reader.ask(
        "SELECT bound, chats, messages, synced_at FROM {sync_runs}"
        " WHERE synced_at = (SELECT MAX(synced_at) FROM {sync_runs})"
    )
    if not runs:
        return None
    bound, chats, messages, last_run = runs[0]
    if bound > last_run + _CLOCKS_DIFFER:
        bound = last_run
    oldest_check, unlisted, is_bound_ahead = _of_all_chats(reader)
    clean = {
        FAILED: _newest(reader, "synced_at", "chats_failed = 0"),
        READ: _newest(reader, "synced_at", "windows_unverified = 0"),
    }
    return Status(
        now=now,
        # Where a machine's clock was wrong, only the API's tells when that was.
        last_run=_utc(last_run if last_run <= now + _CLOCKS_DIFFER else bound),
        bound=_utc(bound),
        read_until=read_until(_bounds(reader)),
        chats=int(chats),
        messages=int(messages),
        oldest_check=oldest_check,
        unlisted=unlisted,
        is_bound_ahead=is_bound_ahead,
        troubles=still_open(_troubles(reader, now), clean),
        rejected=_rejected(reader),
    )


def _newest(reader: Reader, column: str, condition: str) -> dict[str, datetime]:
    """The newest instant in a column of the runs for which a condition holds, by what they covered.

    Runs that covered nothing whole do not count.
    """
    found = reader.ask(
        f"SELECT covered, MAX({column}) FROM {{sync_runs}}"
        f" WHERE covered IS NOT NULL AND {condition} GROUP BY covered"
    )
    return {covered: _utc(newest) for covered, newest in found}


def _bounds(reader: Reader) -> dict[str, datetime]:
    """Up to where runs read, by what they covered; none later than when its rows arrived."""
    ahead_s = f"{reader.epoch_s('bound')} - {reader.epoch_s('synced_at')}"
    most_s = _CLOCKS_DIFFER.total_seconds()
    found = _newest(reader, "bound", f"{ahead_s} <= {most_s}")
    for covered, arrived in _newest(reader, "synced_at", f"{ahead_s} > {most_s}").items():
        found[covered] = max(arrived, found.get(covered, arrived))
    return found


def _of_all_chats(reader: Reader) -> tuple[datetime | None, int, bool]:
    """Return what the newest run of all chats tells.

    That is the oldest check, how many known chats were not listed, and whether its bound is later
    than its rows. Of shards those of all count that divide the chats as the newest run did.
    """
    rows = reader.ask(
        "SELECT r.covered, r.synced_at, r.bound, r.oldest_check, r.chats_unlisted"
        " FROM {sync_runs} AS r"
        " JOIN (SELECT covered, MAX(synced_at) AS newest_at FROM {sync_runs}"
        " WHERE covered IS NOT NULL GROUP BY covered) AS n"
        " ON n.covered = r.covered AND n.newest_at = r.synced_at"
    )
    if not rows:
        return None, 0, False
    division = max((synced_at, division_of(covered)) for covered, synced_at, *_ in rows)[1]
    found = [row for row in rows if division_of(row[0]) == division]
    checks = [_utc(oldest) for *_, oldest, _ in found if oldest is not None]
    oldest_check = min(checks) if len(checks) == len(found) else None
    is_bound_ahead = any(bound > synced_at + _CLOCKS_DIFFER for _, synced_at, bound, *_ in found)
    # Rows of earlier versions do not tell of unlisted ones.
    return oldest_check, sum(int(unlisted or 0) for *_, unlisted in found), is_bound_ahead


def _troubles(reader: Reader, now: datetime) -> list[Trouble]:
    """Gaps as long as the ledger is kept; failures and windows never verified since.

    A chat that is read completely later, or is no longer there, takes back its own.
    """
    found = reader.ask(
        "SELECT w.chat_id, w.event, COUNT(*), MAX(w.synced_at), MAX(w.error)"
        " FROM {sync_windows} AS w LEFT JOIN"
        " (SELECT chat_id, MAX(synced_at) AS proved_at FROM {sync_windows}"
        f" WHERE verified OR event = '{VANISHED}' GROUP BY chat_id) AS p ON p.chat_id = w.chat_id"
        f" WHERE w.synced_at > %s AND (w.event = '{GAP}'"
        f" OR w.event IN ('{FAILED}', '{READ}') AND NOT w.verified"
        " AND (p.proved_at IS NULL OR p.proved_at < w.synced_at))"
        " GROUP BY w.chat_id, w.event ORDER BY w.event, w.chat_id",
        now - timedelta(days=LEDGER_RETENTION_DAYS),
    )
    return [
        Trouble(chat_id, event, int(windows), _utc(newest), error)
        for chat_id, event, windows, newest, error in found
    ]


def _rejected(reader: Reader) -> tuple[Rejected, ...]:
    found = reader.ask(
        "SELECT table_name, COUNT(*), MAX(synced_at) FROM {rejected_records}"
        " GROUP BY table_name ORDER BY COUNT(*) DESC, table_name",
    )
    return tuple(Rejected(name, int(records), _utc(newest)) for name, records, newest in found)


def _utc(instant: datetime) -> datetime:
    return instant.astimezone(UTC)
