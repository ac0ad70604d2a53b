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
from linq_source.settings import Id, id_order


@dataclass(frozen=True, slots=True)
class Check:
    """The day when a chat was last read from its beginning (-1: not known), and its size."""

    checked_day: int
    chat_id: Id
    pages: int


@dataclass(frozen=True)
class Budget:
    """How many pages of which size a run may read again, and how often every chat should be."""

    pages: int
    period_us: int
    per_page: int = 100

    def choose(self, checks: Iterable[Check], bound_us: int) -> set[Id]:
        """Return the chats to read again, of those that are due; at least one, if any is.

        A chat is due after half the period, so that chats that were first read together are not all
        due at its end.
        """
        # What was read today is not due, however short the period.
        due_day = min((bound_us - self.period_us // 2) // DAY_US, bound_us // DAY_US - 1)
        chosen: set[Id] = set()
        left = self.pages
        due = (check for check in checks if check.checked_day <= due_day)
        for check in nsmallest(max(self.pages, 1), due, key=_urgency):
            if chosen and left <= 0:
                break
            chosen.add(check.chat_id)
            # Of a long chat a run reads one window.
            left -= min(check.pages, deepest_page(self.per_page))
        return chosen


def _urgency(check: Check) -> tuple[int, tuple[int, str]]:
    return check.checked_day, id_order(check.chat_id)
