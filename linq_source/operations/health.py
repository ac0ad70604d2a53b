"""How old and how complete a destination's data is, as values. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from linq_source.settings import parse_shard
from linq_source.tables import ALL_CHATS, FAILED, GAP, READ


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

    `last_run` is when the last run arrived, `bound` up to where it read (the API's clock), `chats`
    and `messages` what it was about and loaded. `read_until` is up to where every chat was read;
    None where no run read all. `oldest_check` is the day of the oldest reading from the beginning
    of any chat, None where one had none; `unlisted` are the known chats that the newest run of all
    did not find listed. `troubles` are in the order of events and chats.
    """

    now: datetime
    last_run: datetime
    bound: datetime
    read_until: datetime | None
    chats: int
    messages: int
    oldest_check: datetime | None
    troubles: tuple[Trouble, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    max_age_hours: float | None = None
    unlisted: int = 0

    @property
    def lag_s(self) -> float | None:
        """Seconds from the end of the last complete reading until now; None if there was none."""
        if self.read_until is None:
            return None
        return max((self.now - self.read_until).total_seconds(), 0.0)

    @property
    def is_too_old(self) -> bool:
        """Whether the lag is more than was asked for."""
        if self.max_age_hours is None:
            return False
        return self.lag_s is None or self.lag_s > self.max_age_hours * 3600

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
            "read_until": _text(self.read_until),
            "lag_s": self.lag_s,
            "max_age_hours": self.max_age_hours,
            "is_too_old": self.is_too_old,
            "chats": self.chats,
            "messages": self.messages,
            "oldest_check": _text(self.oldest_check),
            "gaps": [_plain(trouble) for trouble in self.gaps],
            "chats_failed": [_plain(trouble) for trouble in self.failed],
            "chats_unlisted": self.unlisted,
            "unverified": [_plain(trouble) for trouble in self.unverified],
            "rejected": [_plain(found) for found in self.rejected],
        }


def _plain(found: Trouble | Rejected) -> dict[str, Any]:
    return asdict(found) | {"newest": found.newest.isoformat()}


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def division_of(covered: str) -> int:
    """Into how many shards a run divided the chats, by what it covered; 1: it covered all."""
    shard = None if covered == ALL_CHATS else parse_shard(covered)
    return 1 if shard is None else shard.count


def read_until(bounds: Mapping[str, datetime]) -> datetime | None:
    """Up to where every chat was read, from the newest bound by what runs covered.

    That is all chats, or a shard: of a division the one that lags most counts, where all have run.
    """
    by_division: dict[int, list[datetime]] = defaultdict(list)
    for covered, bound in bounds.items():
        by_division[division_of(covered)].append(bound)
    whole = [min(found) for count, found in by_division.items() if len(found) >= count]
    return max(whole, default=None)


def still_open(
    troubles: Iterable[Trouble], clean: Mapping[str, Mapping[str, datetime]]
) -> tuple[Trouble, ...]:
    """The troubles that no run took back which covered the chat and had none of their kind.

    `clean` has, by event, when a run that covered something last had none of it. What did not
    change is not entered in the ledger: only such a run tells that it was read after all.
    """

    def is_open(trouble: Trouble) -> bool:
        for covered, at in clean.get(trouble.event, {}).items():
            shard = None if covered == ALL_CHATS else parse_shard(covered)
            if at > trouble.newest and (shard is None or trouble.chat_id in shard):
                return False
        return True

    return tuple(filter(is_open, troubles))
