"""What is remembered of a chat from run to run, and its compact text form.

Fifty thousand chats must fit into dlt's state, so a cursor is one short string:
`newest|listed|closed|begin|edge|older buckets|days`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum

from linq_source.instants import DAY_US, floor_day

_WEEK_US = 7 * DAY_US


class Closed(IntEnum):
    """Whether the counts close the books on a chat.

    `OPEN`: something is not accounted for. `YES`: every message before the bound is, and the
    listing's `message_count` is explained. `UNEXPLAINED`: every message before the bound is, but
    the listing counts otherwise: it may have counted messages sent since, so ask again.
    """

    OPEN = 0
    YES = 1
    UNEXPLAINED = 2


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of `sent_at` with a digest of its own: a UTC day, or part of an overfull one."""

    start_us: int
    end_us: int


@dataclass(frozen=True, slots=True)
class Content:
    """What a segment held when it was last read: messages, and their digest."""

    count: int
    digest: str


@dataclass(frozen=True, slots=True)
class Bucket:
    """Messages before the lookback, counted from `start_us` (none: the beginning) to the next."""

    start_us: int | None
    count: int


@dataclass(frozen=True)
class Cursor:
    """One chat's memory.

    `newest_us` is the greatest `sent_at` read in verified windows; `listed` the `message_count`
    of the listing then; `begin_us` where its history begins (none: at its first message).
    `older` are the buckets before the lookback, oldest first; the last one ends at `edge_us`,
    where the lookback started. `days` are the segments from there on that have messages.
    """

    newest_us: int | None = None
    listed: int | None = None
    closed: Closed = Closed.OPEN
    begin_us: int | None = None
    edge_us: int | None = None
    older: tuple[Bucket, ...] = ()
    days: Mapping[Segment, Content] = field(default_factory=dict)

    @property
    def accounted(self) -> int:
        """How many messages are accounted for."""
        return sum(bucket.count for bucket in self.older) + sum(
            content.count for content in self.days.values()
        )


def is_settled(
    cursor: Cursor, listed: int | None, bound_us: int, lookback_us: int, begin_us: int | None
) -> bool:
    """Whether a chat needs no request at all.

    It closed, its `message_count` is the same as then, and its newest message is older than the
    lookback.
    """
    return (
        cursor.closed is Closed.YES
        and listed is not None
        and cursor.listed == listed
        and not _begins_earlier(begin_us, cursor.begin_us)
        and (cursor.newest_us is None or cursor.newest_us < bound_us - lookback_us)
    )


def _begins_earlier(begin_us: int | None, known_us: int | None) -> bool:
    return known_us is not None and (begin_us is None or begin_us < known_us)


def usable(cursor: Cursor | None, begin_us: int | None) -> Cursor | None:
    """The cursor to go on from; none where history now begins earlier than it was read."""
    if cursor is None or _begins_earlier(begin_us, cursor.begin_us):
        return None
    return cursor


def lookback_start(newest_us: int, lookback_us: int) -> int:
    """The UTC midnight at or before `newest - lookback`."""
    return floor_day(newest_us - lookback_us)


def age(cursor: Cursor, lookback_us: int) -> Cursor:
    """Move days that have left the lookback into the buckets before it."""
    if cursor.newest_us is None:
        return cursor
    edge_us = lookback_start(cursor.newest_us, lookback_us)
    if cursor.edge_us is not None:
        edge_us = max(edge_us, cursor.edge_us)
    leaving = sorted((s for s in cursor.days if s.start_us < edge_us), key=lambda s: s.start_us)
    days = {s: content for s, content in cursor.days.items() if s.start_us >= edge_us}
    # A bucket reaches up to the next one, so empty days in between belong to the earlier.
    older = list(cursor.older or beginning(cursor.begin_us))
    older += [Bucket(segment.start_us, cursor.days[segment].count) for segment in leaving]
    return replace(cursor, edge_us=edge_us, older=compact(older, edge_us), days=days)


def reopen(cursor: Cursor, start_us: int) -> Cursor:
    """Move the edge back to `start_us`, for a lookback larger than the one before.

    The buckets reached into become one. It still counts the messages behind the new edge: the
    caller takes them off as they are read again.
    """
    if cursor.edge_us is None or cursor.edge_us <= start_us or not cursor.older:
        return cursor
    older = list(cursor.older)
    while len(older) > 1 and (older[-1].start_us or start_us) >= start_us:
        last = older.pop()
        older[-1] = Bucket(older[-1].start_us, older[-1].count + last.count)
    return replace(cursor, edge_us=start_us, older=tuple(older))


def beginning(begin_us: int | None) -> tuple[Bucket, ...]:
    """The buckets of a history that is about to be read from `begin_us` on.

    With a beginning set, the first bucket counts what lies before it and is never loaded.
    """
    return (Bucket(None, 0),) if begin_us is None else (Bucket(None, 0), Bucket(begin_us, 0))


def compact(buckets: Iterable[Bucket], edge_us: int) -> tuple[Bucket, ...]:
    """Merge neighbours so that a bucket spans no more than its distance from `edge_us` and a week.

    Their number so grows with the logarithm of the history's length. The first bucket, from the
    beginning, has no span and only takes in empty neighbours.
    """
    result: list[Bucket] = []
    end_us = edge_us
    ends: list[int] = []
    for bucket in reversed(list(buckets)):
        if result and bucket.start_us is not None and result[-1].start_us is not None:
            newer = result[-1]
            if ends[-1] - bucket.start_us <= edge_us - ends[-1] + _WEEK_US:
                result[-1] = Bucket(bucket.start_us, bucket.count + newer.count)
                end_us = bucket.start_us
                continue
        result.append(bucket)
        ends.append(end_us)
        end_us = bucket.start_us if bucket.start_us is not None else end_us
    return tuple(reversed(result))


def encode(cursor: Cursor) -> str:
    """The text kept in the state; days are written by number, parts of a day by their ends."""
    older = ",".join(f"{_start_text(bucket.start_us)}:{bucket.count}" for bucket in cursor.older)
    days = ",".join(
        f"{_segment_text(segment)}:{content.count}:{content.digest}"
        for segment, content in sorted(cursor.days.items(), key=lambda item: item[0].start_us)
    )
    head = (
        _optional(cursor.newest_us),
        _optional(cursor.listed),
        str(int(cursor.closed)),
        _start_text(cursor.begin_us),
        _start_text(cursor.edge_us),
    )
    return "|".join((*head, older, days))


def decode(text: str) -> Cursor:
    """The cursor of a text made by `encode`. Raises `ValueError` for anything else."""
    newest, listed, closed, begin, edge, older, days = text.split("|")
    buckets = []
    for part in filter(None, older.split(",")):
        start, count = part.split(":")
        buckets.append(Bucket(_start(start), int(count)))
    segments = {}
    for part in filter(None, days.split(",")):
        name, count, digest = part.split(":")
        segments[_segment(name)] = Content(int(count), digest)
    return Cursor(
        _number(newest),
        _number(listed),
        Closed(int(closed)),
        _start(begin),
        _start(edge),
        tuple(buckets),
        segments,
    )


def _optional(number: int | None) -> str:
    return "" if number is None else str(number)


def _number(text: str) -> int | None:
    return int(text) if text else None


def _start_text(start_us: int | None) -> str:
    if start_us is None:
        return ""
    return str(start_us) if start_us % DAY_US else f"{start_us // DAY_US}d"


def _start(text: str) -> int | None:
    return int(text[:-1]) * DAY_US if text.endswith("d") else _number(text)


def day_segment(instant_us: int) -> Segment:
    """The UTC day an instant lies in."""
    start_us = floor_day(instant_us)
    return Segment(start_us, start_us + DAY_US)


def _segment_text(segment: Segment) -> str:
    if segment == day_segment(segment.start_us):
        return str(segment.start_us // DAY_US)
    return f"{segment.start_us}_{segment.end_us}"


def _segment(text: str) -> Segment:
    start, _, end = text.partition("_")
    if end:
        return Segment(int(start), int(end))
    return Segment(int(start) * DAY_US, (int(start) + 1) * DAY_US)
