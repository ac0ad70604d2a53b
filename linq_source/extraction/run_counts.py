"""What a run did so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from traceback import extract_tb

from linq_source.errors import LinqError
from linq_source.planning.changes import Part
from linq_source.settings import Id


@dataclass
class Counts:
    """What a run did so far."""

    chats: int = 0
    chats_skipped: int = 0
    chats_done: int = 0
    chats_failed: dict[Id, str] = field(default_factory=dict)
    numbers_failed: list[str] = field(default_factory=list)
    contacts: int = 0
    contacts_failed: str | None = None
    chats_unlisted: int = 0
    chats_rechecked: int = 0
    cursors_unknown: int = 0
    windows_read: int = 0
    windows_unchanged: int = 0
    windows_unverified: int = 0
    windows_loaded: int = 0
    messages: int = 0
    attachments: int = 0
    reactions: int = 0
    rejected: int = 0

    def add(self, parts: Sequence[Part], times: int) -> None:
        """Count what parts bring, or with -1 take it back."""
        for part in parts:
            self.messages += times * len(part.records)
            self.rejected += times * len(part.records.rejected)
            self.attachments += times * part.records.children["attachments"].num_rows
            self.reactions += times * part.records.children["reactions"].num_rows

    def add_failure(self, chat_id: Id, error: Exception) -> None:
        """Count a chat that could not be read."""
        text = describe_error(error)
        self.chats_failed[chat_id] = (
            text if isinstance(error, LinqError) else (f"chat {chat_id}: {text}")
        )


def describe_error(error: Exception) -> str:
    """Return an error in words that quote nothing of what was answered."""
    if isinstance(error, LinqError):
        return str(error)
    frames = extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"its answers could not be read ({type(error).__name__}{where})"
