"""How many requests a first reading makes: the planning of windows as arithmetic.

A chat is the ascending instants (microseconds) of its messages; a `range` will do. Not counted is
what depends on luck: pages that moved while they were read, messages sent during the listing,
refusals.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from linq_source.instants import MILLISECOND_US
from linq_source.planning.listings import MAX_LIST_PAGES
from linq_source.planning.windows import cut_before, deepest_page

PER_PAGE = 100


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

    @property
    def counted(self) -> Reads:
        """With the request that counts the chat before the first of several windows is loaded."""
        return replace(self, counts=1) if self.splits else self


def pages_of(messages: int, per_page: int = PER_PAGE) -> int:
    """Pages of a list; an empty one is asked for once."""
    return max(1, -(-messages // per_page))


def listing_requests(chats_per_number: Iterable[int], per_page: int = PER_PAGE) -> int:
    """One for the phone numbers, and the pages of each number's chats."""
    return 1 + sum(min(pages_of(chats, per_page), MAX_LIST_PAGES) for chats in chats_per_number)


def first_reads(sent_us: Sequence[int], bound_us: int, per_page: int = PER_PAGE) -> Reads:
    """A chat never read before, from its beginning."""
    return span_reads(sent_us, None, bound_us, per_page).counted


def first_requests(
    message_counts: Iterable[int], since_us: int, bound_us: int, per_page: int = PER_PAGE
) -> int:
    """Requests for the messages of chats, of which only the counts are known.

    They are taken to lie evenly between two instants, which matters for long chats alone.
    """
    return sum(
        chats * first_reads(evenly(messages, since_us, bound_us), bound_us, per_page).requests
        for messages, chats in Counter(message_counts).items()
    )


def evenly(messages: int, since_us: int, bound_us: int) -> range:
    """Messages at equal distances before the bound."""
    step_us = max(1, (bound_us - since_us) // max(1, messages))
    return range(since_us, since_us + messages * step_us, step_us)


def span_reads(
    sent_us: Sequence[int], start_us: int | None, end_us: int, per_page: int = PER_PAGE
) -> Reads:
    """Reading `[start, end)`, cut into windows of a bounded number of pages.

    Raises `ValueError` where more messages than a window holds were sent at one instant.
    """
    most = deepest_page(per_page)
    windows: list[int] = []
    while True:
        low, high = _served(sent_us, start_us, end_us)
        if pages_of(high - low, per_page) <= most:
            windows.append(pages_of(high - low, per_page))
            return Reads(tuple(windows), len(windows) - 1)
        # The rest's first page, its deepest page, and then the window that ends before it.
        cut_us = cut_before(sent_us[low + (most - 1) * per_page], start_us)
        low, high = _served(sent_us, start_us, cut_us)
        if pages_of(high - low, per_page) > most:
            raise ValueError(f"more than {most} pages at one instant")
        windows.append(pages_of(high - low, per_page))
        start_us = cut_us


def _served(sent_us: Sequence[int], start_us: int | None, end_us: int) -> tuple[int, int]:
    """What the API counts of a window: it is asked one millisecond wider on both sides."""
    low = 0 if start_us is None else bisect_left(sent_us, start_us - MILLISECOND_US + 1)
    return low, bisect_left(sent_us, end_us + MILLISECOND_US)
