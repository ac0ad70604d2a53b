"""What a `sync` did, as a value."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from linq_source.extraction.evidence import Evidence
from linq_source.extraction.listing import line_end
from linq_source.instants import SECOND_US, from_us
from linq_source.settings import Id


@dataclass(frozen=True)
class ChatFailure:
    """A chat that could not be read, and why."""

    chat_id: Id
    error: str


@dataclass(frozen=True)
class Kept:
    """What the API was seen to keep of a line: its oldest message that is listed.

    `line` is the end of the phone number, `age_s` how old the message was.
    """

    line: str
    oldest: datetime
    age_s: float

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {"line": self.line, "oldest": self.oldest.isoformat(), "age_s": self.age_s}


def kept_by(evidence: Evidence, now_us: int) -> tuple[Kept, ...]:
    """Return what one run was shown to be kept, the youngest first."""
    found = sorted(evidence.oldest_us.items(), key=lambda item: -item[1])
    return tuple(
        Kept(line_end(line), from_us(at_us), (now_us - at_us) / SECOND_US) for line, at_us in found
    )


@dataclass(frozen=True)
class Report:
    """Counts of one `sync`: rows loaded, windows and requests; `seconds` of wall time.

    `numbers_failed` tells which phone numbers' chats could not be listed, and why. `contacts` were
    listed; `contacts_failed` says why they are not all there, or not marked. `messages`,
    `attachments` and `reactions` are rows loaded, not rows that exist; `deleted` are messages newly
    marked as deleted, `expired` those that the API forgot. `gaps` are chats of which messages may
    have been forgotten before they were read, `kept` what the API was seen to keep, by line.
    `chats_unlisted` are known chats that the listing lacked and that did not vanish.
    `chats_rechecked` were read again from their beginning though nothing told that they changed;
    `oldest_check_days` ago that was done to the chat that waits for it longest, and to
    `chats_never_checked` not yet (an earlier version did not note it). `loads` are the ids of the
    load packages. `error` is set when the API failed before everything was read; what was
    read until then is loaded. `notes` say what was repaired on the way.
    """

    chats: int = 0
    chats_skipped: int = 0
    chats_failed: tuple[ChatFailure, ...] = ()
    numbers_failed: tuple[str, ...] = ()
    contacts: int = 0
    contacts_failed: str | None = None
    chats_unlisted: int = 0
    windows: int = 0
    windows_unchanged: int = 0
    windows_unverified: int = 0
    messages: int = 0
    attachments: int = 0
    reactions: int = 0
    rejected: int = 0
    deleted: int = 0
    expired: int = 0
    gaps: int = 0
    chats_rechecked: int = 0
    chats_never_checked: int = 0
    oldest_check_days: int | None = None
    requests: int = 0
    retries: int = 0
    loads: tuple[str, ...] = ()
    seconds: float = 0.0
    error: str | None = None
    notes: tuple[str, ...] = field(default=())
    kept: tuple[Kept, ...] = field(default=())

    @property
    def is_complete(self) -> bool:
        """Whether everything that was asked for was read, verified and typed."""
        return not self.doubts()

    def doubts(self) -> list[str]:
        """Return what is incomplete, in words; empty if nothing."""
        counts = {
            "failed chats": len(self.chats_failed),
            "failed numbers": len(self.numbers_failed),
            "unlisted chats": self.chats_unlisted,
            "unverified windows": self.windows_unverified,
            "rejected records": self.rejected,
            "gaps": self.gaps,
        }
        told = [f"{what}: {count:,}" for what, count in counts.items() if count]
        return [*told, *filter(None, [self.contacts_failed, self.error])]

    @property
    def exit_code(self) -> int:
        """0 done, 1 the API failed, 3 loaded but something is incomplete."""
        if self.error:
            return 1
        return 0 if self.is_complete else 3

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values for JSON."""
        return asdict(self) | {"kept": [kept.to_dict() for kept in self.kept]}
