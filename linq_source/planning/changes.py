"""What of a window changed since it was last read, day by day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from linq_source.decoding.records import Records, count_below
from linq_source.instants import DAY_US, MAX_US, MIN_US, floor_day
from linq_source.planning.chat_cursors import DayDigest, History, Late, Segment
from linq_source.planning.digests import digest_records
from linq_source.planning.window_reading import WindowRead
from linq_source.planning.windows import Window


@dataclass(frozen=True)
class Part:
    """A part of a window that is to be loaded, as a window of its own."""

    window: Window
    records: Records


def segments_of(
    read: WindowRead, from_us: int, span_end_us: int
) -> dict[Segment, tuple[DayDigest, Records]]:
    """Return the segments of a window from `from_us` on that hold messages, each with its content.

    A segment is a UTC day, or the part of it that the window covers where a cut fell inside the
    day. The day that the bound cuts counts as whole: its rest is not read yet.
    """
    result = {}
    for start_us in days_of(read.records):
        if start_us < floor_day(from_us):
            continue
        end_us = start_us + DAY_US
        records = _between(read.records, start_us, end_us)
        low_us = start_us if read.window.start_us is None else max(start_us, read.window.start_us)
        high_us = end_us
        if read.window.end_us < min(end_us, span_end_us):
            high_us = read.window.end_us
        content = DayDigest(records.received, digest_records(records, records.rejected))
        result[Segment(low_us, high_us)] = (content, records)
    return result


def changed_parts(
    read: WindowRead,
    known: Mapping[Segment, DayDigest],
    found: Mapping[Segment, tuple[DayDigest, Records]],
) -> list[Part]:
    """Return the parts to load: segments that are new or differ, and those that are gone.

    `known` are the segments remembered for the window's interval.
    """
    differing = [
        segment for segment, (content, _) in found.items() if known.get(segment) != content
    ]
    gone = [segment for segment in known if segment not in found]
    parts: list[tuple[int, int]] = []
    for segment in sorted([*differing, *gone], key=lambda s: s.start_us):
        start_us, end_us = segment.start_us, min(segment.end_us, read.window.end_us)
        if parts and start_us < parts[-1][1]:
            parts[-1] = (parts[-1][0], max(parts[-1][1], end_us))
        elif start_us < end_us:
            parts.append((start_us, end_us))
    chat_id = read.window.chat_id
    return [
        Part(Window(chat_id, start_us, end_us), _between(read.records, start_us, end_us))
        for start_us, end_us in parts
    ]


def history_of(read: WindowRead, end_us: int) -> History:
    """Return what a window holds before an instant."""
    records = _between(read.records, MIN_US, end_us)
    return History(end_us, digest_records(records, records.rejected))


def parts_from(read: WindowRead, start_us: int) -> tuple[Part, ...]:
    """Return what a window holds from an instant on; nothing where it ends there."""
    end_us = read.window.end_us
    if start_us >= end_us:
        return ()
    window = Window(read.window.chat_id, start_us, end_us)
    return (Part(window, _between(read.records, start_us, end_us)),)


def count_before(read: WindowRead, lookback_start_us: int) -> int:
    """Return how many of the window's messages lie before an instant."""
    return _between(read.records, MIN_US, lookback_start_us).received


def days_of(records: Records) -> list[int]:
    """Return the midnights of the UTC days on which there are records, ascending."""
    # Counted from the year 1, so that the division has no negative numbers to round.
    since_year_1 = pc.subtract(records.instants, pa.scalar(MIN_US, pa.int64()))
    numbers = pc.unique(pc.divide(since_year_1, pa.scalar(DAY_US, pa.int64()))).to_pylist()
    days = {MIN_US + number * DAY_US for number in numbers}
    return sorted(days | {floor_day(r.near_us) for r in records.rejected if r.near_us is not None})


def oldest_of(records: Records, late: Late | None = None) -> int | None:
    """Return the least `sent_at` of records in order, but for those in an interval of late ones."""
    instants = records.instants
    row = 0
    if late is not None and len(instants) and late.first_us <= instants[0].as_py():
        row = len(instants.filter(pc.less_equal(instants, pa.scalar(late.last_us, pa.int64()))))
    return int(instants[row].as_py()) if row < len(instants) else None


def newest_id_of(records: Records) -> int | None:
    """Return the greatest id of records."""
    found: int | None = pc.max(records.root["id"]).as_py()
    return found


def late_of(records: Records, before_us: int, newest_id: int) -> tuple[int, int] | None:
    """Return the first and the last instant of records that are new and older than that."""
    instants = records.instants
    is_new = pc.greater(records.root["id"].combine_chunks(), pa.scalar(newest_id, pa.int64()))
    is_older = pc.less(instants, pa.scalar(before_us, pa.int64()))
    ends = pc.min_max(instants.filter(pc.and_(is_new, is_older))).as_py()
    return None if ends["min"] is None else (ends["min"], ends["max"])


def arrived_late(records: Records, since_us: int) -> Late | None:
    """Return where records lie that say they arrived late, and since an instant."""
    arrivals = records.root[records.shape.arrival].cast(pa.int64()).combine_chunks()
    is_late = pc.fill_null(pc.greater_equal(arrivals, pa.scalar(since_us, pa.int64())), False)
    ends = pc.min_max(records.instants.filter(is_late)).as_py()
    if ends["min"] is None:
        return None
    arrived_us = pc.max(arrivals.filter(is_late)).as_py()
    return Late(ends["min"], ends["max"], arrived_us // DAY_US)


def newest_of(read: WindowRead) -> int | None:
    """Return the greatest `sent_at` of the window's messages."""
    if not len(read.records):
        return None
    return int(read.records.instants[-1].as_py())


def count_until(read: WindowRead, instant_us: int) -> int:
    """Return how many of the window's messages are not known to lie after an instant."""
    return read.messages - _between(read.records, instant_us + 1, MAX_US + 1).received


def _between(records: Records, start_us: int, end_us: int) -> Records:
    instants = records.instants
    low, high = count_below(instants, start_us), count_below(instants, end_us)
    rejected = tuple(
        record
        for record in records.rejected
        if record.near_us is not None and start_us <= record.near_us < end_us
    )
    return replace(records.slice(low, high), rejected=rejected)
