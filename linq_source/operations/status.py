"""`status`: what the destination alone tells of its data, from what runs noted in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dlt

from linq_source import tables
from linq_source.destinations.deletion import knows_expiry
from linq_source.destinations.failures import plain_errors
from linq_source.destinations.kinds import restored_destination_of
from linq_source.destinations.reading import Reader
from linq_source.destinations.table_formats import schema_of_messages
from linq_source.errors import ConfigurationError
from linq_source.operations.settle import LEDGER_RETENTION_DAYS
from linq_source.tables import FAILED, GAP, READ, VANISHED, Table

READ_FOR_STATUS = {
    tables.SYNC_RUNS: (
        "bound", "chats", "chats_failed", "windows_unverified", "messages", "oldest_check",
        "synced_at",
    ),
    tables.SYNC_WINDOWS: ("chat_id", "event", "verified", "error", "synced_at"),
    tables.REJECTED_RECORDS: ("table_name", "synced_at"),
    tables.CHATS: ("id", "deleted_at", "expired_at"),
}  # fmt: skip
_NEVER = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Trouble:
    """What the ledger says of a chat, and nothing newer took back.

    `event` is `gap`, `failed` or `read`: windows that were read and stayed unverified. `windows`
    are the ledger's rows, the newest loaded at `newest`.
    """

    chat_id: int
    event: str
    windows: int
    newest: datetime
    error: str | None


@dataclass(frozen=True)
class Rejected:
    """Records that could not be loaded exactly as they came."""

    table_name: str | None
    records: int
    newest: datetime


@dataclass(frozen=True)
class Status:
    """How far to trust what a destination holds, at the instant `now`.

    `last_run` is when the last run that loaded or looked ended up in the destination, `read_until`
    the newest instant (the API's clock) up to which chats were read; `chats` and `messages` are
    those of that run. `oldest_check` is the day of the oldest reading from the beginning of any
    chat, None where one had none. `troubles` are in the order of events and chats.
    """

    now: datetime
    last_run: datetime
    read_until: datetime
    chats: int
    messages: int
    oldest_check: datetime | None
    troubles: tuple[Trouble, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    max_age_hours: float | None = None

    @property
    def lag_s(self) -> float:
        """How long ago what was sent last could have been read."""
        return max((self.now - self.read_until).total_seconds(), 0.0)

    @property
    def is_too_old(self) -> bool:
        """Whether the lag is more than was asked for."""
        return self.max_age_hours is not None and self.lag_s > self.max_age_hours * 3600

    @property
    def exit_code(self) -> int:
        """3 if the data is older than was asked for, else 0."""
        return 3 if self.is_too_old else 0

    def of(self, event: str) -> tuple[Trouble, ...]:
        """The troubles of one event."""
        return tuple(trouble for trouble in self.troubles if trouble.event == event)

    @property
    def gaps(self) -> tuple[Trouble, ...]:
        """Chats of which the API may have forgotten messages before they were read."""
        return self.of(GAP)

    @property
    def failed(self) -> tuple[Trouble, ...]:
        """Chats that could not be read."""
        return self.of(FAILED)

    @property
    def unverified(self) -> tuple[Trouble, ...]:
        """Chats with windows that could not be verified."""
        return self.of(READ)

    def to_dict(self) -> dict[str, Any]:
        """The outcome as plain values for JSON."""
        return {
            "last_run": self.last_run.isoformat(),
            "read_until": self.read_until.isoformat(),
            "lag_s": self.lag_s,
            "max_age_hours": self.max_age_hours,
            "is_too_old": self.is_too_old,
            "chats": self.chats,
            "messages": self.messages,
            "oldest_check": None if self.oldest_check is None else self.oldest_check.isoformat(),
            "gaps": [_plain(trouble) for trouble in self.gaps],
            "chats_failed": [_plain(trouble) for trouble in self.failed],
            "unverified": [_plain(trouble) for trouble in self.unverified],
            "rejected": [_plain(found) for found in self.rejected],
        }


def _plain(found: Trouble | Rejected) -> dict[str, Any]:
    return asdict(found) | {"newest": found.newest.isoformat()}


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
    if schema_of_messages(pipeline) is not None and not knows_expiry(pipeline):
        raise ConfigurationError(
            f"dataset {pipeline.dataset_name} was last loaded by an earlier version: "
            "run `linq-source run` once, then ask again"
        )
    with destination.reading(columns) as reader:
        found = read_status(reader, now)
        if found is None:
            raise ConfigurationError(
                f"{destination.location}, dataset {pipeline.dataset_name}: no run has loaded "
                "anything there; check --dataset and where to look, or run `linq-source run` first"
            )
        yield reader, found


def read_status(reader: Reader, now: datetime) -> Status | None:
    """What the tables of `READ_FOR_STATUS` say; None where no run has noted anything."""
    runs = reader.ask(
        "SELECT bound, chats, messages, oldest_check, synced_at FROM {sync_runs}"
        " WHERE synced_at = (SELECT MAX(synced_at) FROM {sync_runs})",
    )
    if not runs:
        return None
    bound, chats, messages, oldest_check, last_run = runs[0]
    ((read_until,),) = reader.ask("SELECT MAX(bound) FROM {sync_runs}")
    return Status(
        now=now,
        # Where a machine's clock was wrong, only the API's tells when that was.
        last_run=_utc(last_run if last_run <= now + timedelta(hours=1) else bound),
        read_until=_utc(read_until),
        chats=int(chats),
        messages=int(messages),
        oldest_check=None if oldest_check is None else _utc(oldest_check),
        troubles=_troubles(reader, now - timedelta(days=LEDGER_RETENTION_DAYS)),
        rejected=_rejected(reader),
    )


def _troubles(reader: Reader, since: datetime) -> tuple[Trouble, ...]:
    """Gaps since an instant; failures and unverified windows that nothing newer took back.

    A chat that is read completely later, or is no longer there, takes back its own; but what had
    not changed is not entered in the ledger. So a run of all chats in which none failed takes back
    all failures before it, and one in which all windows were verified all that were not.
    """
    found = reader.ask(
        "SELECT w.chat_id, w.event, COUNT(*), MAX(w.synced_at), MAX(w.error)"
        " FROM {sync_windows} AS w LEFT JOIN"
        " (SELECT chat_id, MAX(synced_at) AS proved_at FROM {sync_windows}"
        f" WHERE verified OR event = '{VANISHED}' GROUP BY chat_id) AS p ON p.chat_id = w.chat_id"
        f" WHERE w.event = '{GAP}' AND w.synced_at > %s"
        " OR NOT w.verified AND (p.proved_at IS NULL OR p.proved_at < w.synced_at)"
        f" AND (w.event = '{FAILED}' AND w.synced_at > %s"
        f" OR w.event = '{READ}' AND w.synced_at > %s)"
        " GROUP BY w.chat_id, w.event ORDER BY w.event, w.chat_id",
        since,
        _last_without(reader, "chats_failed"),
        _last_without(reader, "windows_unverified"),
    )
    return tuple(
        Trouble(int(chat_id), event, int(windows), _utc(newest), error)
        for chat_id, event, windows, newest, error in found
    )


def _last_without(reader: Reader, count: str) -> datetime:
    """When a run of all chats last had none of what a column of `sync_runs` counts."""
    found = reader.ask(
        f"SELECT MAX(synced_at) FROM {{sync_runs}} WHERE {count} = 0 AND chats >= (SELECT COUNT(*)"
        " FROM {chats} WHERE deleted_at IS NULL AND expired_at IS NULL)",
    )
    return _utc(found[0][0]) if found and found[0][0] is not None else _NEVER


def _rejected(reader: Reader) -> tuple[Rejected, ...]:
    found = reader.ask(
        "SELECT table_name, COUNT(*), MAX(synced_at) FROM {rejected_records}"
        " GROUP BY table_name ORDER BY COUNT(*) DESC, table_name",
    )
    return tuple(Rejected(name, int(records), _utc(newest)) for name, records, newest in found)


def _utc(instant: datetime) -> datetime:
    return instant.astimezone(UTC)
