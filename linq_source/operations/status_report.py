"""How old and how complete a destination's data is, as values and in words. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from linq_source.settings import Id, parse_shard
from linq_source.tables import ALL_CHATS, FAILED, GAP, READ

_UNITS = (("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1))


@dataclass(frozen=True)
class Trouble:
    """What the ledger says of a chat, and nothing newer took back.

    `event` is `gap`, `failed` or `read`: windows that were read and stayed unverified. `windows`
    are the ledger's rows, the newest loaded at `newest`.
    """

    chat_id: Id
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
    did not find listed; `is_bound_ahead`: it read to an instant later than when its rows arrived,
    so that a clock is wrong. `troubles` are in the order of events and chats.
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
    is_bound_ahead: bool = False

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
            "is_bound_ahead": self.is_bound_ahead,
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


def in_words(seconds: float) -> str:
    """A length of time in its largest unit of which there are at least two: `3 days`, `90 minutes`.

    Weeks, months and years are told in days.
    """
    for name, size in _UNITS:
        count = int(seconds // size)
        if count >= 2:
            return f"{count:,} {name}"
    return "a second" if count else "a moment"


def facts(status: Status) -> list[tuple[str, str]]:
    """What a status says, as names and texts."""

    def ago(instant: datetime) -> str:
        return f"{in_words(max((status.now - instant).total_seconds(), 0))} ago"

    def when(instant: datetime) -> str:
        return f"{instant:%Y-%m-%d %H:%M} UTC, {ago(instant)}"

    def troubles(found: Sequence[Trouble], text: str) -> str:
        if not found:
            return "none"
        return f"{text}, the newest {ago(max(trouble.newest for trouble in found))}"

    def windows(found: Sequence[Trouble]) -> int:
        return sum(trouble.windows for trouble in found)

    unverified = status.unverified
    rejected = sum(found.records for found in status.rejected)
    oldest = status.oldest_check
    return [
        ("last run", when(status.last_run)),
        ("", f"{status.messages:,} messages loaded, {status.chats:,} chats"),
        ("lag", _lag(status)),
        ("oldest check", "not every chat was checked yet" if oldest is None else when(oldest)),
        ("gaps", troubles(status.gaps, f"in {len(status.gaps):,} chats")),
        (
            "unverified windows",
            troubles(unverified, f"{windows(unverified):,} of {len(unverified):,} chats"),
        ),
        ("failed chats", troubles(status.failed, f"{len(status.failed):,}")),
        ("unlisted chats", f"{status.unlisted:,}" if status.unlisted else "none"),
        (
            "rejected records",
            f"{rejected:,}, the newest {ago(max(found.newest for found in status.rejected))}"
            if rejected
            else "none",
        ),
    ]


def doubts_of(status: Status) -> list[str]:
    """What speaks against trusting the data."""
    return [
        text
        for text, is_so in (
            (_older(status.max_age_hours or 0), status.is_too_old),
            ("no run read all chats", status.read_until is None),
            ("a run read into the future (a clock is wrong)", status.is_bound_ahead),
            ("messages may be lost (gaps)", bool(status.gaps)),
            ("chats could not be read", bool(status.failed)),
            ("known chats were not listed", status.unlisted > 0),
            ("windows are unverified", bool(status.unverified)),
            ("records were rejected", bool(status.rejected)),
        )
        if is_so
    ]


def verdict(status: Status) -> str:
    """Whether to trust the data, in a sentence."""
    doubts = doubts_of(status)
    if doubts or status.lag_s is None:
        return f"in doubt: {', '.join(doubts)}"
    return f"complete up to {in_words(status.lag_s)} ago"


def _older(hours: float) -> str:
    return f"older than {hours:g} hour{'' if hours == 1 else 's'}"


def _lag(status: Status) -> str:
    if status.lag_s is None or status.read_until is None:
        return "not known: no run read all chats"
    return f"{in_words(status.lag_s)} (read up to {status.read_until:%Y-%m-%d %H:%M} UTC)"
