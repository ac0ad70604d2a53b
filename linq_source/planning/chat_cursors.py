"""What is remembered of a chat from run to run, and its compact text form.

Fifty thousand chats must fit into dlt's state, so a cursor is one short string: the fields of
`Cursor` up to `days`, with `|` between them, then a part with how list and counter differ and one
with what tells late messages and one with when all was read, commas between their fields; the last
ones are left out where they say nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field, replace
from enum import IntEnum

from linq_source.instants import DAY_US, END_US, MIN_US, SECOND_US, before, floor_day
from linq_source.planning.windows import Window

# A list may lag behind its counter: replicas catch up in seconds, an index that is built again in
# hours. A difference that stood this long is the API's way of counting.
ACCEPTED_AFTER_US = 6 * 3_600 * SECOND_US
# It may have been a longer lag all the same, and within a day the API may forget what was hidden.
LOOK_AGAIN_US = DAY_US
# What arrives within this is not late, as everything takes its time to arrive; and no API that
# forgets is expected to keep a message for longer than these days.
LATE_US = 60 * SECOND_US
LATE_DAYS = 60


class Reconciled(IntEnum):
    """Whether the counts account for all messages of a chat.

    `NO`: something is not accounted for. `YES`: every message before the bound is, and the
    listing's `message_count` is explained. `UNEXPLAINED`: every message the list gives is, but
    the listing counts otherwise, so ask again. `UNCONFIRMED`: what lies before the lookback must
    be read again, whatever the counts say, once list and listing agree.
    `RESTING`: as `YES`, and read once after the newest message had left the lookback, so that
    nothing inside it can have been missed.
    """

    NO = 0
    YES = 1
    UNEXPLAINED = 2
    UNCONFIRMED = 3
    RESTING = 4

    @property
    def is_complete(self) -> bool:
        """Whether everything, the listing included, was accounted for."""
        return self in (Reconciled.YES, Reconciled.RESTING)


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of `sent_at` with a digest of its own: a UTC day, or part of an overfull one."""

    start_us: int
    end_us: int


@dataclass(frozen=True, slots=True)
class DayDigest:
    """What a segment held when it was last read: messages, and their digest."""

    count: int
    digest: str


# A segment whose rows in the tables may differ from any digest: loaded again when next read.
STALE = DayDigest(0, "")


@dataclass(frozen=True, slots=True)
class Late:
    """Between which instants messages lie that arrived late, and the day the last ones did."""

    first_us: int
    last_us: int
    arrived_day: int

    def joined(self, other: Late | None) -> Late:
        """Return both as one."""
        if other is None:
            return self
        return Late(
            min(self.first_us, other.first_us),
            max(self.last_us, other.last_us),
            max(self.arrived_day, other.arrived_day),
        )


@dataclass(frozen=True, slots=True)
class History:
    """What a chat held from its beginning to `end_us`, a midnight, when that was last read."""

    end_us: int
    digest: str


@dataclass(frozen=True)
class Cursor:
    """What is remembered of one chat from run to run.

    `newest_us` is the greatest `sent_at` (of v3 `created_at`) read in verified windows;
    `change_mark` what the listing told then that shows a change: of v2 its `message_count`, of v3
    its `updated_at` in microseconds;
    `begin_us` where its history begins (None: at its first message).
    `count_before_lookback` counts the messages read before `lookback_start_us`; `days` are the
    segments from there on that have messages. `count_unlisted` is how many messages the API counts
    besides those: before `begin_us`, or never shown by its lists. `ahead` is what the chat has at
    or after the bound, sent by clocks ahead of the server's.

    `known_difference` is by how much the listing counts more than the list gives, as the API's way
    of counting. `new_difference` is another one, the same in every reading since
    `difference_since_us`; without one, that is when the known difference was last looked at.

    `newest_id` is the greatest id of a message seen. `late` tells of messages that arrived after
    younger ones were known, or could have been: however old, they do not show what the API keeps,
    which may count from their arrival.

    `checked_day` is the number of the UTC day when the chat was last read from its beginning, and
    `history` what it held then before the lookback; while that is under way again,
    `recheck_from_us` is how far it got. `oldest_us` is the `sent_at` of its oldest message, if that
    lies before the lookback.
    """

    newest_us: int | None = None
    change_mark: int | None = None
    reconciled: Reconciled = Reconciled.NO
    begin_us: int | None = None
    lookback_start_us: int | None = None
    count_before_lookback: int = 0
    count_unlisted: int = 0
    days: Mapping[Segment, DayDigest] = field(default_factory=dict)
    known_difference: int = 0
    new_difference: int | None = None
    difference_since_us: int | None = None
    ahead: DayDigest | None = None
    newest_id: int | None = None
    late: Late | None = None
    checked_day: int | None = None
    history: History | None = None
    recheck_from_us: int | None = None
    oldest_us: int | None = None

    @property
    def count_in_lookback(self) -> int:
        """How many messages the days inside the lookback have."""
        return sum(digest.count for digest in self.days.values())

    @property
    def count_after_bound(self) -> int:
        """How many messages lie at or after the bound."""
        return 0 if self.ahead is None else self.ahead.count

    @property
    def count_before_bound(self) -> int:
        """How many of the API's messages before the bound are accounted for."""
        return self.count_unlisted + self.count_before_lookback + self.count_in_lookback

    def covers(self, begin_us: int | None) -> bool:
        """Return whether a history that begins there was read."""
        return self.begin_us is None or (begin_us is not None and begin_us >= self.begin_us)

    @property
    def count_accounted(self) -> int:
        """How many of the API's messages are accounted for."""
        return self.count_before_bound + self.count_after_bound


def is_at_rest(
    cursor: Cursor, mark: int | None, bound_us: int, lookback_us: int, begin_us: int | None
) -> bool:
    """Return whether nothing tells that a chat has changed.

    All of it was accounted for, the listing tells the same of it as then, and its newest message
    is older than the lookback and was so when the chat was last read.
    """
    return (
        cursor.reconciled is Reconciled.RESTING
        and mark is not None
        and cursor.change_mark == mark
        and cursor.ahead is None
        and cursor.covers(begin_us)
        and (cursor.newest_us is None or cursor.newest_us < bound_us - lookback_us)
    )


def is_unchanged(
    cursor: Cursor, message_count: int | None, bound_us: int, lookback_us: int, begin_us: int | None
) -> bool:
    """Return whether a chat needs no request: it is at rest, and its `message_count` explained."""
    return is_at_rest(cursor, message_count, bound_us, lookback_us, begin_us) and is_explained(
        cursor, message_count, bound_us
    )


def is_explained(cursor: Cursor, message_count: int | None, bound_us: int) -> bool:
    """Whether the listing counts what is accounted for, in the API's known way of counting."""
    if (
        message_count is None
        or cursor.new_difference is not None
        or message_count - cursor.count_accounted != cursor.known_difference
    ):
        return False
    if cursor.known_difference == 0:
        return True
    return (
        cursor.difference_since_us is not None
        and 0 <= bound_us - cursor.difference_since_us < LOOK_AGAIN_US
    )


def observe(cursor: Cursor, difference: int, bound_us: int) -> Cursor:
    """Return the cursor after the listing was seen to count so many more than the list gives.

    The difference is accepted once it was the same in readings hours apart, and in all between.
    """
    looked_us = bound_us if difference else None
    if difference == cursor.known_difference:
        return replace(cursor, new_difference=None, difference_since_us=looked_us)
    since_us = cursor.difference_since_us if cursor.new_difference == difference else None
    if since_us is None or since_us > bound_us:
        return replace(cursor, new_difference=difference, difference_since_us=bound_us)
    if bound_us - since_us < ACCEPTED_AFTER_US:
        return cursor
    return replace(
        cursor, known_difference=difference, new_difference=None, difference_since_us=looked_us
    )


def usable(cursor: Cursor | None, begin_us: int | None) -> Cursor | None:
    """Return the cursor to go on from; None where history now begins earlier than it was read."""
    if cursor is None or not cursor.covers(begin_us):
        return None
    return cursor


def lookback_start(newest_us: int, lookback_us: int) -> int:
    """Return the UTC midnight at or before `newest - lookback`."""
    return floor_day(before(newest_us, lookback_us))


def age(cursor: Cursor, lookback_us: int, bound_us: int = END_US) -> Cursor:
    """Count the days that have left the lookback as before it.

    A newest message after the bound (a clock went back) does not move the lookback there.
    """
    if cursor.newest_us is None:
        return cursor
    start_us = lookback_start(min(cursor.newest_us, bound_us), lookback_us)
    if cursor.lookback_start_us is not None:
        start_us = max(start_us, cursor.lookback_start_us)
    left = sum(digest.count for day, digest in cursor.days.items() if day.start_us < start_us)
    count_before = cursor.count_before_lookback + left
    is_recent = cursor.late is not None and bound_us // DAY_US - cursor.late.arrived_day < LATE_DAYS
    return replace(
        cursor,
        late=cursor.late if is_recent or bound_us == END_US else None,
        oldest_us=cursor.oldest_us if count_before else None,
        lookback_start_us=start_us,
        count_before_lookback=count_before,
        days={day: digest for day, digest in cursor.days.items() if day.start_us >= start_us},
    )


def invalidate(cursor: Cursor, window: Window, days: Iterable[int]) -> Cursor:
    """Return the cursor after rows of a window were loaded that it does not account for.

    `days` are the midnights of the days that had messages. They and the segments known inside
    the window are loaded again when next read, whatever they hold then.
    """
    if cursor.newest_us is None:
        return cursor
    from_us = cursor.lookback_start_us if cursor.lookback_start_us is not None else MIN_US
    result = dict(cursor.days)
    for start_us in days:
        segment = day_segment(start_us)
        known = any(s.start_us < segment.end_us and segment.start_us < s.end_us for s in result)
        if not known and start_us >= from_us:
            result[segment] = STALE
    for segment, digest in result.items():
        if segment.start_us < window.end_us and (
            window.start_us is None or segment.end_us > window.start_us
        ):
            result[segment] = replace(digest, digest="")
    history = cursor.history
    if history is not None and (window.start_us is None or window.start_us < history.end_us):
        history = None
    return replace(cursor, days=result, history=history)


def encode(cursor: Cursor) -> str:
    """The text kept in the state; days are written by number, parts of a day by their ends."""
    days = ",".join(
        f"{_segment_text(segment)}:{digest.count}:{digest.digest}"
        for segment, digest in sorted(cursor.days.items(), key=lambda day: _ends(day[0]))
    )
    parts = [
        _optional(cursor.newest_us),
        _optional(cursor.change_mark),
        str(int(cursor.reconciled)),
        _optional(cursor.begin_us),
        _optional(cursor.lookback_start_us),
        str(cursor.count_before_lookback),
        str(cursor.count_unlisted),
        days,
    ]
    ahead = "" if cursor.ahead is None else f"{cursor.ahead.count}:{cursor.ahead.digest}"
    more = [
        str(cursor.known_difference),
        _optional(cursor.new_difference),
        _optional(cursor.difference_since_us),
        ahead,
    ]
    parts.append("" if more == ["0", "", "", ""] else ",".join(more))
    late = () if cursor.late is None else astuple(cursor.late)
    parts.append(",".join(map(_optional, (cursor.newest_id, *late))))
    checks = [*map(_optional, (cursor.checked_day, cursor.recheck_from_us, cursor.oldest_us))]
    if cursor.history is not None:
        checks += [str(cursor.history.end_us // DAY_US), cursor.history.digest]
    parts.append(",".join(checks) if any(checks) else "")
    while not parts[-1] and len(parts) > 8:
        parts.pop()
    return "|".join(parts)


def _ends(segment: Segment) -> tuple[int, int]:
    return segment.start_us, segment.end_us


def decode(text: str) -> Cursor:
    """Return the cursor of a text made by `encode`. Raises `ValueError` for anything else."""
    newest, listed, reconciled, begin, start, before_lookback, unlisted, days, *rest = text.split(
        "|"
    )
    segments = {}
    for part in filter(None, days.split(",")):
        name, count, digest = part.split(":")
        segments[_segment(name)] = DayDigest(int(count), digest)
    cursor = Cursor(
        newest_us=_number(newest),
        change_mark=_number(listed),
        reconciled=Reconciled(int(reconciled)),
        begin_us=_number(begin),
        lookback_start_us=_number(start),
        count_before_lookback=int(before_lookback),
        count_unlisted=int(unlisted),
        days=segments,
    )
    if len(rest) > 3 or rest[-1:] == [""]:
        raise ValueError("more parts than a cursor has")
    differences, arrivals, checks = (*rest, "", "", "")[:3]
    if differences:
        known, new, since, ahead = differences.split(",")
        count, _, digest = ahead.partition(":")
        cursor = replace(
            cursor,
            known_difference=int(known),
            new_difference=_number(new),
            difference_since_us=_number(since),
            ahead=DayDigest(int(count), digest) if ahead else None,
        )
    if arrivals:
        newest_id, *late = arrivals.split(",")
        first, last, arrived = map(int, late) if late else (0, 0, 0)
        cursor = replace(
            cursor,
            newest_id=_number(newest_id),
            late=Late(first, last, arrived) if late else None,
        )
    if checks:
        checked, recheck_from, oldest, *history = checks.split(",")
        end, digest = history or ("", "")
        cursor = replace(
            cursor,
            checked_day=_number(checked),
            recheck_from_us=_number(recheck_from),
            oldest_us=_number(oldest),
            history=History(int(end) * DAY_US, digest) if history else None,
        )
    return cursor


def remembered(text: str | None) -> Cursor | None:
    """The cursor of a state's text; None without a text, or where another version wrote it."""
    try:
        return decode(text) if text else None
    except ValueError:
        return None


def _optional(number: int | None) -> str:
    return "" if number is None else str(number)


def _number(text: str) -> int | None:
    return int(text) if text else None


def day_segment(instant_us: int) -> Segment:
    """Return the UTC day an instant lies in."""
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
