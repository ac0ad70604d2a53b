"""How old and how complete the data is, in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from linq_source.operations.health import Status, Trouble

_UNITS = (("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1))


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
