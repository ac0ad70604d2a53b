"""How many requests a reading makes, exactly: the planning of the source as arithmetic.

Only counts and instants are needed, no answers. Pure: no network, no clock. Not counted is what
depends on luck: pages that moved while they were read, messages sent during the listing, refusals.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from linq_source.instants import DAY_US, MILLISECOND_US, floor_day
from linq_source.planning.cursors import lookback_start
from linq_source.planning.listings import MAX_LIST_PAGES
from linq_source.planning.windows import MAX_PAGES

PER_PAGE = 100
LOOKBACK_US = 7 * DAY_US


class Timeline(Protocol):
    """The instants of a chat's messages, ascending."""

    def before(self, instant_us: int) -> int:
        """How many messages were sent before an instant."""

    def at(self, index: int) -> int:
        """When the message of an index (from 0) was sent."""


@dataclass(frozen=True)
class Even:
    """Messages at equal distances."""

    first_us: int
    step_us: int
    count: int

    def before(self, instant_us: int) -> int:
        """See `Timeline`."""
        return min(max(-((self.first_us - instant_us) // self.step_us), 0), self.count)

    def at(self, index: int) -> int:
        """See `Timeline`."""
        return self.first_us + index * self.step_us


@dataclass(frozen=True)
class Listed:
    """Messages at given instants, ascending."""

    instants_us: tuple[int, ...]

    def before(self, instant_us: int) -> int:
        """See `Timeline`."""
        return bisect_left(self.instants_us, instant_us)

    def at(self, index: int) -> int:
        """See `Timeline`."""
        return self.instants_us[index]


@dataclass(frozen=True)
class Reads:
    """What reading something takes.

    `window_pages` are the pages of each window, one after the other; within a window all pages
    but the first are asked for at once. `splits` windows were cut off a longer rest, for two
    requests more each. `extra` requests only count.
    """

    window_pages: tuple[int, ...] = ()
    splits: int = 0
    extra: int = 0
    rows: int = 0

    @property
    def requests(self) -> int:
        """All of them."""
        return sum(self.window_pages) + 2 * self.splits + self.extra

    def __add__(self, other: Reads) -> Reads:
        return Reads(
            self.window_pages + other.window_pages,
            self.splits + other.splits,
            self.extra + other.extra,
            self.rows + other.rows,
        )


@dataclass(frozen=True)
class Prior:
    """What an earlier run left of a chat: its newest message, and whether it rests since."""

    newest_us: int | None
    rests: bool


def pages_of(messages: int) -> int:
    """Pages of a list; an empty one is asked for once."""
    return max(1, -(-messages // PER_PAGE))


def listing_requests(chats_per_number: Iterable[int]) -> int:
    """One for the phone numbers, and the pages of each number's chats."""
    return 1 + sum(min(pages_of(chats), MAX_LIST_PAGES) for chats in chats_per_number)


def span_reads(timeline: Timeline, start_us: int | None, end_us: int) -> Reads:
    """Reading `[start, end)`, cut into windows of at most `MAX_PAGES` pages.

    Raises `ValueError` where more messages than a window holds were sent at one instant.
    """
    windows: list[int] = []
    rows = 0
    while True:
        low, high = _served(timeline, start_us, end_us)
        if pages_of(high - low) <= MAX_PAGES:
            windows.append(pages_of(high - low))
            return Reads(tuple(windows), len(windows) - 1, 0, rows + high - low)
        # The rest's first page, its page `MAX_PAGES`, and then the window that ends before it.
        rows += 2 * PER_PAGE
        cut_us = _cut(timeline, low + (MAX_PAGES - 1) * PER_PAGE, start_us)
        low, high = _served(timeline, start_us, cut_us)
        if pages_of(high - low) > MAX_PAGES:
            raise ValueError(f"more than {MAX_PAGES} pages at one instant")
        windows.append(pages_of(high - low))
        rows += high - low
        start_us = cut_us


def _served(timeline: Timeline, start_us: int | None, end_us: int) -> tuple[int, int]:
    """What the API counts of a window: it is asked one millisecond wider on both sides."""
    low = 0 if start_us is None else timeline.before(start_us - MILLISECOND_US + 1)
    return low, timeline.before(end_us + MILLISECOND_US)


def _cut(timeline: Timeline, index: int, start_us: int | None) -> int:
    earliest_us = timeline.at(index)
    for cut_us in (floor_day(earliest_us), earliest_us):
        if start_us is None or cut_us > start_us:
            return cut_us
    return earliest_us + 1


def first_reads(timeline: Timeline, bound_us: int) -> Reads:
    """A chat never read before, from its beginning."""
    return span_reads(timeline, None, bound_us)


def later_reads(
    timeline: Timeline,
    prior: Prior,
    bound_us: int,
    *,
    count_changed: bool = False,
    older_changed: bool = False,
    lookback_us: int = LOOKBACK_US,
) -> Reads:
    """A chat read before: nothing where it rests and its listed count is the same.

    With `older_changed` messages older than the lookback came or went, so that the count no longer
    agrees: it is asked for twice, and everything older is read again.
    """
    if prior.rests and not count_changed:
        return Reads()
    if prior.newest_us is None:
        return first_reads(timeline, bound_us)
    start_us = lookback_start(prior.newest_us, lookback_us)
    reads = span_reads(timeline, start_us, bound_us)
    if older_changed:
        reads += Reads(extra=2) + span_reads(timeline, None, start_us)
    return reads


def remembered(timeline: Timeline, bound_us: int, lookback_us: int = LOOKBACK_US) -> Prior:
    """What a run to a bound leaves of a chat that closed."""
    count = timeline.before(bound_us)
    newest_us = timeline.at(count - 1) if count else None
    return Prior(newest_us, newest_us is None or newest_us + lookback_us < bound_us)
