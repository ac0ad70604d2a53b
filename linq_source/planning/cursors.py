"""What is remembered of a chat from run to run, and its compact text form.

Fifty thousand chats must fit into dlt's state, so a cursor is one short string:
`newest|listed|closed|begin|edge|older|outside|days`, and where there is more to say a ninth part,
`believed,seen,since,ahead`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum

from linq_source.instants import DAY_US, END_US, MIN_US, SECOND_US, before, floor_day
from linq_source.planning.windows import Window

# A list may lag behind its counter: replicas catch up in seconds, an index that is built again in
# hours. A difference that stood this long is the API's way of counting.
BELIEVED_AFTER_US = 6 * 3_600 * SECOND_US
# It may have been a longer lag all the same, and within a day the API may forget what was hidden.
LOOK_AGAIN_US = DAY_US


class Closed(IntEnum):
    """Whether the counts close the books on a chat.

    `OPEN`: something is not accounted for. `YES`: every message before the bound is, and the
    listing's `message_count` is explained. `UNEXPLAINED`: every message the list gives is, but
    the listing counts otherwise, so ask again. `UNCONFIRMED`: what lies before the lookback must
    be read again, whatever the counts say, once list and listing agree.
    `RESTING`: as `YES`, and read once after the newest message had left the lookback, so that
    nothing inside it can have been missed.
    """

    OPEN = 0
    YES = 1
    UNEXPLAINED = 2
    UNCONFIRMED = 3
    RESTING = 4

    @property
    def is_closed(self) -> bool:
        """Whether everything, the listing included, was accounted for."""
        return self in (Closed.YES, Closed.RESTING)


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


# A segment whose rows in the tables may differ from any digest: loaded again when next read.
DOUBTED = Content(0, "")


@dataclass(frozen=True)
class Cursor:
    """One chat's memory.

    `newest_us` is the greatest `sent_at` read in verified windows; `listed` the `message_count`
    of the listing then; `begin_us` where its history begins (none: at its first message).
    `older` counts the messages read before `edge_us`, where the lookback started; `days` are the
    segments from there on that have messages. `outside` is how many messages the API counts
    beyond those: before `begin_us`, or never shown by its lists. `ahead` is what the chat has at
    or after the bound, sent by clocks ahead of the server's; none: nothing.

    `believed` is by how much the listing counts more than the list gives, as the API's way of
    counting. `seen` is another difference, seen in every reading since `since_us`; without one,
    `since_us` is when the believed difference was last looked at.
    """

    newest_us: int | None = None
    listed: int | None = None
    closed: Closed = Closed.OPEN
    begin_us: int | None = None
    edge_us: int | None = None
    older: int = 0
    outside: int = 0
    days: Mapping[Segment, Content] = field(default_factory=dict)
    believed: int = 0
    seen: int | None = None
    since_us: int | None = None
    ahead: Content | None = None

    @property
    def in_days(self) -> int:
        """How many messages the days inside the lookback have."""
        return sum(content.count for content in self.days.values())

    @property
    def count_ahead(self) -> int:
        """How many messages lie at or after the bound."""
        return 0 if self.ahead is None else self.ahead.count

    @property
    def count_before_bound(self) -> int:
        """How many of the API's messages before the bound are accounted for."""
        return self.outside + self.older + self.in_days

    @property
    def accounted(self) -> int:
        """How many of the API's messages are accounted for."""
        return self.count_before_bound + self.count_ahead


def is_settled(
    cursor: Cursor, listed: int | None, bound_us: int, lookback_us: int, begin_us: int | None
) -> bool:
    """Whether a chat needs no request at all.

    It closed, its `message_count` is the same as then and explained, and its newest message is
    older than the lookback and was so when the chat was last read.
    """
    return (
        cursor.closed is Closed.RESTING
        and listed is not None
        and cursor.listed == listed
        and is_explained(cursor, listed, bound_us)
        and cursor.ahead is None
        and not _begins_earlier(begin_us, cursor.begin_us)
        and (cursor.newest_us is None or cursor.newest_us < bound_us - lookback_us)
    )


def is_explained(cursor: Cursor, listed: int | None, bound_us: int) -> bool:
    """Whether the listing counts what is accounted for, in the API's known way of counting."""
    if listed is None or cursor.seen is not None or listed - cursor.accounted != cursor.believed:
        return False
    if cursor.believed == 0:
        return True
    return cursor.since_us is not None and 0 <= bound_us - cursor.since_us < LOOK_AGAIN_US


def observe(cursor: Cursor, difference: int, bound_us: int) -> Cursor:
    """The cursor after the listing was seen to count so many more than the list gives.

    The difference is believed once it was the same in readings hours apart, and in all between.
    """
    looked_us = bound_us if difference else None
    if difference == cursor.believed:
        return replace(cursor, seen=None, since_us=looked_us)
    since_us = cursor.since_us if cursor.seen == difference else None
    if since_us is None or since_us > bound_us:
        return replace(cursor, seen=difference, since_us=bound_us)
    if bound_us - since_us < BELIEVED_AFTER_US:
        return cursor
    return replace(cursor, believed=difference, seen=None, since_us=looked_us)


def _begins_earlier(begin_us: int | None, known_us: int | None) -> bool:
    return known_us is not None and (begin_us is None or begin_us < known_us)


def usable(cursor: Cursor | None, begin_us: int | None) -> Cursor | None:
    """The cursor to go on from; none where history now begins earlier than it was read."""
    if cursor is None or _begins_earlier(begin_us, cursor.begin_us):
        return None
    return cursor


def lookback_start(newest_us: int, lookback_us: int) -> int:
    """The UTC midnight at or before `newest - lookback`."""
    return floor_day(before(newest_us, lookback_us))


def age(cursor: Cursor, lookback_us: int, bound_us: int = END_US) -> Cursor:
    """Count the days that have left the lookback among the older.

    A newest message beyond the bound (a clock went back) does not move the lookback there.
    """
    if cursor.newest_us is None:
        return cursor
    edge_us = lookback_start(min(cursor.newest_us, bound_us), lookback_us)
    if cursor.edge_us is not None:
        edge_us = max(edge_us, cursor.edge_us)
    left = [segment for segment in cursor.days if segment.start_us < edge_us]
    return replace(
        cursor,
        edge_us=edge_us,
        older=cursor.older + sum(cursor.days[segment].count for segment in left),
        days={s: content for s, content in cursor.days.items() if s.start_us >= edge_us},
    )


def doubt(cursor: Cursor, window: Window, days: Iterable[int]) -> Cursor:
    """The cursor after rows of a window were loaded that it does not account for.

    `days` are the midnights of the days that had messages. They and the segments known inside
    the window are loaded again when next read, whatever they hold then.
    """
    if cursor.newest_us is None:
        return cursor
    edge_us = cursor.edge_us if cursor.edge_us is not None else MIN_US
    doubted = dict(cursor.days)
    for start_us in days:
        segment = day_segment(start_us)
        known = any(s.start_us < segment.end_us and segment.start_us < s.end_us for s in doubted)
        if not known and start_us >= edge_us:
            doubted[segment] = DOUBTED
    for segment, content in doubted.items():
        if segment.start_us < window.end_us and (
            window.start_us is None or segment.end_us > window.start_us
        ):
            doubted[segment] = replace(content, digest="")
    return replace(cursor, days=doubted)


def encode(cursor: Cursor) -> str:
    """The text kept in the state; days are written by number, parts of a day by their ends."""
    days = ",".join(
        f"{_segment_text(segment)}:{content.count}:{content.digest}"
        for segment, content in sorted(cursor.days.items(), key=lambda item: item[0].start_us)
    )
    parts = [
        _optional(cursor.newest_us),
        _optional(cursor.listed),
        str(int(cursor.closed)),
        _optional(cursor.begin_us),
        _optional(cursor.edge_us),
        str(cursor.older),
        str(cursor.outside),
        days,
    ]
    ahead = "" if cursor.ahead is None else f"{cursor.ahead.count}:{cursor.ahead.digest}"
    more = [str(cursor.believed), _optional(cursor.seen), _optional(cursor.since_us), ahead]
    if more != ["0", "", "", ""]:
        parts.append(",".join(more))
    return "|".join(parts)


def decode(text: str) -> Cursor:
    """The cursor of a text made by `encode`. Raises `ValueError` for anything else."""
    newest, listed, closed, begin, edge, older, outside, days, *rest = text.split("|")
    believed, seen, since, ahead = _more(*rest) if rest else (0, None, None, None)
    segments = {}
    for part in filter(None, days.split(",")):
        name, count, digest = part.split(":")
        segments[_segment(name)] = Content(int(count), digest)
    return Cursor(
        newest_us=_number(newest),
        listed=_number(listed),
        closed=Closed(int(closed)),
        begin_us=_number(begin),
        edge_us=_number(edge),
        older=int(older),
        outside=int(outside),
        days=segments,
        believed=believed,
        seen=seen,
        since_us=since,
        ahead=ahead,
    )


def _more(text: str, *surplus: str) -> tuple[int, int | None, int | None, Content | None]:
    """The ninth part of a text."""
    if surplus:
        raise ValueError("more parts than a cursor has")
    believed, seen, since, ahead = text.split(",")
    count, _, digest = ahead.partition(":")
    content = Content(int(count), digest) if ahead else None
    return int(believed), _number(seen), _number(since), content


def remembered(text: str | None) -> Cursor | None:
    """The cursor of a state's text; none where there is none, or another version wrote it."""
    try:
        return decode(text) if text else None
    except ValueError:
        return None


def _optional(number: int | None) -> str:
    return "" if number is None else str(number)


def _number(text: str) -> int | None:
    return int(text) if text else None


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
