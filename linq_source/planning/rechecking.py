"""Which chats to read again from their beginning: those checked longest ago, within a budget.

No count shows an edit or a reaction older than the lookback, nor an addition and a deletion that
cancel each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import nsmallest

from linq_source.instants import DAY_US
from linq_source.planning.windows import deepest_page


@dataclass(frozen=True, slots=True, order=True)
class Check:
    """The day when a chat was last read from its beginning (-1: not known), and its size."""

    checked_day: int
    chat_id: int
    pages: int


@dataclass(frozen=True)
class Budget:
    """How many pages of which size a run may read again, and how often every chat should be."""

    pages: int
    period_us: int
    per_page: int = 100

    def choose(self, checks: Iterable[Check], bound_us: int) -> dict[int, int]:
        """Return the pages to read again of each chat that is due; at least one chat, if any is.

        A chat is due after half the period, so that chats that were first read together are not all
        due at its end.
        """
        due_day = (bound_us - self.period_us // 2) // DAY_US
        chosen: dict[int, int] = {}
        left, window_pages = self.pages, deepest_page(self.per_page)
        due = (check for check in checks if check.checked_day <= due_day)
        for check in nsmallest(max(self.pages, 1), due):
            if chosen and left <= 0:
                break
            # A long chat is read in parts.
            chosen[check.chat_id] = max(min(check.pages, left), min(check.pages, window_pages))
            left -= chosen[check.chat_id]
        return chosen
