"""How many requests a reading makes, exactly: the planning of the source as arithmetic.

A chat is the ascending instants (microseconds) of its messages; a `range` will do. Not counted is
what depends on luck: pages that moved while they were read, messages sent during the listing,
refusals.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from linq_source.instants import DAY_US, MILLISECOND_US, floor_day
from linq_source.planning.cursors import lookback_start
from linq_source.planning.listings import MAX_LIST_PAGES
from linq_source.planning.windows import deepest_page

PER_PAGE = 100
MAX_PAGES = deepest_page(PER_PAGE)
LOOKBACK_US = 7 * DAY_US


@dataclass(frozen=True)
class Reads:
    """What reading a chat takes.

    `window_pages` are the pages of its windows, read one after the other; within a window all pages
    but the first are asked for at once. `splits` windows were cut off a longer rest, for two
    requests more each. `counts` are requests that only count.
    """

    window_pages: tuple[int, ...] = ()
    splits: int = 0
    counts: int = 0

    @property
    def requests(self) -> int:
        """All of them."""
        return sum(self.window_pages) + 2 * self.splits + self.counts

    def __add__(self, other: Reads) -> Reads:
        return Reads(
            self.window_pages + other.window_pages,
            self.splits + other.splits,
            self.counts + other.counts,
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


def span_reads(sent_us: Sequence[int], start_us: int | None, end_us: int) -> Reads:
    """Reading `[start, end)`, cut into windows of at most `MAX_PAGES` pages.

    Raises `ValueError` where more messages than a window holds were sent at one instant.
    """
    windows: list[int] = []
    while True:
        low, high = _served(sent_us, start_us, end_us)
        if pages_of(high - low) <= MAX_PAGES:
            windows.append(pages_of(high - low))
            return Reads(tuple(windows), len(windows) - 1)
        # The rest's first page, its page `MAX_PAGES`, and then the window that ends before it.
        cut_us = _cut(sent_us[low + (MAX_PAGES - 1) * PER_PAGE], start_us)
        low, high = _served(sent_us, start_us, cut_us)
        if pages_of(high - low) > MAX_PAGES:
            raise ValueError(f"more than {MAX_PAGES} pages at one instant")
        windows.append(pages_of(high - low))
        start_us = cut_us


def _served(sent_us: Sequence[int], start_us: int | None, end_us: int) -> tuple[int, int]:
    """What the API counts of a window: it is asked one millisecond wider on both sides."""
    low = 0 if start_us is None else bisect_left(sent_us, start_us - MILLISECOND_US + 1)
    return low, bisect_left(sent_us, end_us + MILLISECOND_US)


def _cut(earliest_us: int, start_us: int | None) -> int:
    for cut_us in (floor_day(earliest_us), earliest_us):
        if start_us is None or cut_us > start_us:
            return cut_us
    return earliest_us + 1


def first_reads(sent_us: Sequence[int], bound_us: int) -> Reads:
    """A chat never read before, from its beginning."""
    return _counted(span_reads(sent_us, None, bound_us))


def _counted(reads: Reads) -> Reads:
    """With the request that counts the chat before the first of several windows is loaded."""
    return replace(reads, counts=1) if reads.splits else reads


def later_reads(
    sent_us: Sequence[int],
    prior: Prior,
    bound_us: int,
    *,
    count_changed: bool = False,
    older_changed: bool = False,
) -> Reads:
    """A chat read before: nothing where it rests and its listed count is the same.

    With `older_changed` messages older than the lookback came or went, so that the count no longer
    agrees: it is asked for once more, and everything older is read again.
    """
    if prior.rests and not count_changed:
        return Reads()
    if prior.newest_us is None:
        return first_reads(sent_us, bound_us)
    start_us = lookback_start(prior.newest_us, LOOKBACK_US)
    reads = _counted(span_reads(sent_us, start_us, bound_us))
    if older_changed:
        reads += Reads(counts=1) + span_reads(sent_us, None, start_us)
    return reads


def remembered(sent_us: Sequence[int], bound_us: int) -> Prior:
    """What a run to a bound leaves of a chat whose counts agreed."""
    count = bisect_left(sent_us, bound_us)
    newest_us = sent_us[count - 1] if count else None
    return Prior(newest_us, newest_us is None or newest_us + LOOKBACK_US < bound_us)
