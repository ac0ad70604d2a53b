"""What a run did so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from linq_source.planning.changes import Part


@dataclass
class Counts:
    """What a run did so far; also its row of `sync_runs`."""

    chats: int = 0
    chats_skipped: int = 0
    chats_done: int = 0
    chats_failed: dict[int, str] = field(default_factory=dict)
    numbers_failed: list[str] = field(default_factory=list)
    chats_unlisted: int = 0
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
