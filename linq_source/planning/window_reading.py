"""Reading one window: all its pages, again if the list moved, until the counts agree or not.

A window is *verified* when every page of it reported the same `total_count` and the distinct
records received are exactly that many. Otherwise it is read again, a few times; then what was
seen is given, unverified.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from linq_source.decoding.pages import decode_pages
from linq_source.decoding.records import (
    MESSAGE,
    Records,
    Rejected,
    concat_records,
    count_below,
    distinct_rejected,
)
from linq_source.planning.requests_v2 import MessagesRequest
from linq_source.planning.windows import Asking, Page, Window, ask, deepest_page

ATTEMPTS = 4
# How many pages are asked for at once; where they bring nothing new, the list has ended.
CHUNK_PAGES = 50


@dataclass(frozen=True)
class WindowRead:
    """A window as it was read.

    `records` are those inside the window, ordered by `sent_at` and `id`, each once, with the
    rejected ones that stand in it. `count_after_end` counts those received at or after its end.
    """

    window: Window
    records: Records
    total_count: int
    count_after_end: int
    pages: int
    requests: int
    attempts: int
    verified: bool
    error: str | None = None

    @property
    def messages(self) -> int:
        """Messages of the window, those that could not be typed included."""
        return self.records.received


def reach(page: Page, per_page: int) -> int:
    """Return the last page that is asked for, by the size of page that the server really uses."""
    return deepest_page(min(page.envelope.per_page or per_page, per_page))


def read_window(window: Window, per_page: int, first: Page | None = None) -> Asking[WindowRead]:
    """Read one window of at most `MAX_ROWS` rows.

    `first` is its first page where it is known already.
    """
    seen: list[Records] = []
    requests = 0
    for attempt in range(1, ATTEMPTS + 1):
        if first is None:
            (first,) = yield from ask(MessagesRequest(window, 1, per_page))
        pages = yield from _read_pages(window, per_page, first)
        requests += len(pages)
        result = _judge(window, pages)
        if result.verified:
            return replace(result, requests=requests, attempts=attempt)
        seen.append(result.records)
        first = None
    # Everything seen in any attempt existed; of a record seen twice the last version stays.
    union = arrange(concat_records(MESSAGE, seen), window)[0]
    return replace(result, records=union, requests=requests, attempts=ATTEMPTS)


def _read_pages(window: Window, per_page: int, first: Page) -> Asking[list[Page]]:
    """All pages within reach, or less where so many as are asked for at once bring nothing new."""
    pages = [first]
    seen: set[object] = set()
    last = min(first.envelope.total_pages, reach(first, per_page))
    for start in range(2, last + 1, CHUNK_PAGES):
        end = min(start + CHUNK_PAGES, last + 1)
        more = yield from ask(*(MessagesRequest(window, n, per_page) for n in range(start, end)))
        pages += more
        if end <= last:
            found = decode_pages([page.body for page in more], MESSAGE).identities
            if found <= seen:
                break
            seen |= found
    return pages


def _judge(window: Window, pages: list[Page]) -> WindowRead:
    total_count = pages[0].envelope.total_count
    decoded = decode_pages([page.body for page in pages], MESSAGE)
    records, received, after_end = arrange(decoded, window)
    verified = (
        all(page.envelope.total_count == total_count for page in pages)
        and pages[0].envelope.total_pages <= len(pages)
        and received == total_count
    )
    return WindowRead(
        window=window,
        records=records,
        total_count=total_count,
        count_after_end=after_end,
        pages=len(pages),
        requests=len(pages),
        attempts=1,
        verified=verified,
    )


def arrange(records: Records, window: Window) -> tuple[Records, int, int]:
    """The distinct records inside the window in order; how many there were; how many after it."""
    records = _distinct(records)
    lost = distinct_rejected(records.rejected)
    received = len(records) + sum(not record.repaired for record in lost)
    records = in_order(records)
    instants = records.instants
    low = 0 if window.start_us is None else count_below(instants, window.start_us)
    high = count_below(instants, window.end_us)
    inside = tuple(
        replace(record, near_us=_place(record, window))
        for record in lost
        if record.near_us is None or record.near_us in window
    )
    after_end = len(records) - high
    after_end += sum(
        not record.repaired and record.near_us is not None and record.near_us >= window.end_us
        for record in lost
    )
    if low or high < len(records):
        records = records.slice(low, high)
    return replace(records, rejected=inside), received, after_end


def _place(record: Rejected, window: Window) -> int:
    """Where a rejected record stands; one of which nothing tells it, at an end of the window."""
    if record.near_us is not None:
        return record.near_us
    return window.end_us - 1 if window.start_us is None else window.start_us


def _distinct(records: Records) -> Records:
    ids = records.root["id"]
    if len(records) == 0 or pc.count_distinct(ids).as_py() == len(records):
        return records
    numbered = pa.table({"id": ids, "row": pa.arange(0, len(records))})
    last = numbered.group_by("id").aggregate([("row", "max")])["row_max"].combine_chunks()
    return records.take(last.take(pc.sort_indices(last)))


def in_order(records: Records) -> Records:
    """Return the records by instant and `id`."""
    instant = records.shape.instant
    order = pc.sort_indices(
        records.root.select([instant, "id"]),
        sort_keys=[(instant, "ascending"), ("id", "ascending")],
    )
    order = order.cast(pa.int64())
    return records if order.equals(pa.arange(0, len(records))) else records.take(order)
