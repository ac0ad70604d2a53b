"""What is remembered of a chat keeps its counts, stays small, and survives its text form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from linq_source.instants import DAY_US, parse_iso
from linq_source.planning.chat_cursors import (
    Cursor,
    DayDigest,
    History,
    Late,
    Reconciled,
    Segment,
    age,
    day_segment,
    decode,
    encode,
    is_unchanged,
    lookback_start,
    observe,
    usable,
)

pytestmark = pytest.mark.quick

WEEK_US = 7 * DAY_US
NOW_US = parse_iso("2025-05-21T12:00:00Z")
TODAY_US = parse_iso("2025-05-21")
INSTANTS = st.integers(-(10**15), 4 * 10**15)
STARTS = INSTANTS | st.integers(-10_000, 40_000).map(lambda day: day * DAY_US)
COUNTS = st.integers(0, 10**9)
DIGESTS = st.text("ABCxyz019-_", min_size=12, max_size=12)
CONTENTS = st.builds(DayDigest, COUNTS, DIGESTS)
PARTS_OF_DAYS = st.tuples(INSTANTS, st.integers(1, DAY_US)).map(
    lambda pair: Segment(pair[0], pair[0] + pair[1])
)
SEGMENTS = INSTANTS.map(day_segment) | PARTS_OF_DAYS


CURSORS = st.builds(
    Cursor,
    newest_us=st.none() | INSTANTS,
    change_mark=st.none() | COUNTS,
    reconciled=st.sampled_from(Reconciled),
    begin_us=st.none() | STARTS,
    lookback_start_us=st.none() | STARTS,
    count_before_lookback=COUNTS,
    count_unlisted=st.integers(-(10**9), 10**9),
    days=st.dictionaries(SEGMENTS, CONTENTS, max_size=6),
    known_difference=st.integers(-(10**9), 10**9),
    new_difference=st.none() | st.integers(-(10**9), 10**9),
    difference_since_us=st.none() | INSTANTS,
    ahead=st.none() | CONTENTS,
    newest_id=st.none() | COUNTS,
    late=st.none() | st.builds(Late, INSTANTS, INSTANTS, COUNTS),
    checked_day=st.none() | COUNTS,
    history=st.none()
    | st.builds(History, st.integers(-9_000, 40_000).map(lambda day: day * DAY_US), DIGESTS),
    recheck_from_us=st.none() | INSTANTS,
    oldest_us=st.none() | INSTANTS,
)


@given(CURSORS)
def test_a_cursor_survives_its_text(cursor: Cursor) -> None:
    assert decode(encode(cursor)) == cursor


@given(CURSORS)
@example(
    Cursor(days={day_segment(0): DayDigest(0, "0" * 12), Segment(0, 1): DayDigest(0, "0" * 12)})
)
def test_equal_cursors_have_equal_texts(cursor: Cursor) -> None:
    backwards = dict(reversed(list(cursor.days.items())))
    assert encode(replace(cursor, days=backwards)) == encode(decode(encode(cursor)))


def test_the_text_of_a_cursor_is_short() -> None:
    days = {day_segment(TODAY_US - n * DAY_US): DayDigest(120, "A" * 12) for n in range(8)}
    cursor = Cursor(NOW_US, 123_456, Reconciled.YES, None, TODAY_US - WEEK_US, 120_000, 12, days)
    assert len(encode(cursor)) < 300


def test_an_empty_cursor_is_only_separators() -> None:
    assert encode(Cursor()) == "||0|||0|0|"
    assert decode("||0|||0|0|") == Cursor()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "||0||||",
        "||0|||0|0",
        "||0|||0|0||",
        "||7|||0|0|",
        "x||0|||0|0|",
        "||0||||0|",
        "||0|||0|0||0,,",
        "||0|||0|0||x,,,",
        "||0|||0|0||0,,,|",
        "||0|||0|0|||1,2",
        "||0|||0|0|||1,2,3",
        "||0|||0|0|||1,2,3,4,5",
        "||0|||0|0|||x",
        "||0|||0|0||||",
        "||0|||0|0||||1,2",
        "||0|||0|0||||,,,4",
        "||0|||0|0||||,,|",
        "||0|||0|0|5:1",
        "||0|||0|0|x:1:d",
    ],
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode(text)


def test_accounted_is_everything_counted() -> None:
    days = {day_segment(NOW_US): DayDigest(3, "d"), Segment(5, 6): DayDigest(4, "e")}
    assert Cursor(count_before_lookback=10, count_unlisted=20, days=days).count_accounted == 37


def test_a_difference_is_believed_after_hours_and_not_after_any_number_of_readings() -> None:
    cursor = Cursor()
    for minutes in range(0, 360, 10):
        cursor = observe(cursor, 50, NOW_US + minutes * 60_000_000)
        assert (cursor.known_difference, cursor.new_difference, cursor.difference_since_us) == (
            0,
            50,
            NOW_US,
        )
    cursor = observe(cursor, 50, NOW_US + 360 * 60_000_000)
    assert (cursor.known_difference, cursor.new_difference) == (50, None)
    assert cursor.difference_since_us == NOW_US + 360 * 60_000_000
    # What was believed by mistake is given up by the same rule.
    cursor = observe(cursor, 0, NOW_US + DAY_US)
    assert (cursor.known_difference, cursor.new_difference) == (50, 0)
    cursor = observe(cursor, 0, NOW_US + 2 * DAY_US)
    assert cursor == Cursor()


def test_a_difference_that_changes_or_a_clock_that_goes_back_begins_again() -> None:
    cursor = observe(Cursor(), 50, NOW_US)
    cursor = observe(cursor, 49, NOW_US + DAY_US)
    assert (cursor.known_difference, cursor.new_difference, cursor.difference_since_us) == (
        0,
        49,
        NOW_US + DAY_US,
    )
    cursor = observe(cursor, 0, NOW_US + DAY_US)
    assert cursor == Cursor()
    cursor = observe(observe(Cursor(), 7, NOW_US + 400 * DAY_US), 7, NOW_US)
    assert (cursor.known_difference, cursor.new_difference, cursor.difference_since_us) == (
        0,
        7,
        NOW_US,
    )
    assert observe(cursor, 7, NOW_US + DAY_US).known_difference == 7


def test_an_old_text_is_read_and_without_anything_to_add_still_written() -> None:
    text = "5|7|4||0|7|0|3:7:abc"
    assert encode(decode(text)) == text


@given(CURSORS, st.integers(0, 60 * DAY_US))
def test_ageing_keeps_what_is_accounted_for(cursor: Cursor, lookback_us: int) -> None:
    aged = age(cursor, lookback_us)
    assert aged.count_accounted == cursor.count_accounted
    if aged.lookback_start_us is not None and cursor.newest_us is not None:
        assert all(segment.start_us >= aged.lookback_start_us for segment in aged.days)
        assert aged.lookback_start_us >= lookback_start(cursor.newest_us, lookback_us)


@given(CURSORS, st.integers(0, 60 * DAY_US))
def test_ageing_twice_is_ageing_once(cursor: Cursor, lookback_us: int) -> None:
    aged = age(cursor, lookback_us)
    assert age(aged, lookback_us) == aged


def test_days_that_leave_the_lookback_are_counted_as_older() -> None:
    days = {day_segment(TODAY_US - n * DAY_US): DayDigest(2**n, f"{n}") for n in (0, 7, 8, 9)}
    aged = age(Cursor(newest_us=NOW_US, days=days), 7 * DAY_US)
    assert aged.lookback_start_us == TODAY_US - 7 * DAY_US
    assert sorted(content.count for content in aged.days.values()) == [1, 2**7]
    assert aged.count_before_lookback == 2**8 + 2**9


def test_a_chat_read_daily_for_years_stays_small() -> None:
    cursor = Cursor()
    largest = 0
    for number in range(4_000):
        newest_us = TODAY_US + number * DAY_US
        days: Mapping[Segment, DayDigest] = {
            **cursor.days,
            day_segment(newest_us): DayDigest(1, "d"),
        }
        cursor = age(replace(cursor, newest_us=newest_us, days=days), WEEK_US)
        largest = max(largest, len(encode(cursor)))
    assert cursor.count_accounted == 4_000
    assert len(cursor.days) == 8
    assert largest < 300


def test_the_lookback_begins_at_a_midnight() -> None:
    assert lookback_start(NOW_US, 7 * DAY_US) == TODAY_US - 7 * DAY_US
    assert lookback_start(TODAY_US, 0) == TODAY_US
    assert lookback_start(TODAY_US, 1) == TODAY_US - DAY_US


SETTLED = Cursor(
    newest_us=NOW_US - 8 * DAY_US,
    change_mark=5,
    reconciled=Reconciled.RESTING,
    count_before_lookback=5,
)
OTHERWISE = replace(
    SETTLED, count_before_lookback=3, known_difference=2, difference_since_us=NOW_US - DAY_US + 1
)


@pytest.mark.parametrize(
    ("cursor", "listed", "begin_us", "expected"),
    [
        (SETTLED, 5, None, True),
        (SETTLED, 6, None, False),
        (SETTLED, None, None, False),
        (replace(SETTLED, change_mark=None), None, None, False),
        (replace(SETTLED, reconciled=Reconciled.NO), 5, None, False),
        (replace(SETTLED, reconciled=Reconciled.UNEXPLAINED), 5, None, False),
        (replace(SETTLED, newest_us=NOW_US - 7 * DAY_US), 5, None, False),
        (replace(SETTLED, newest_us=NOW_US - 7 * DAY_US - 1), 5, None, True),
        (replace(SETTLED, newest_us=None), 5, None, True),
        (replace(SETTLED, begin_us=TODAY_US), 5, TODAY_US, True),
        (replace(SETTLED, begin_us=TODAY_US), 5, TODAY_US - 1, False),
        (replace(SETTLED, begin_us=TODAY_US), 5, None, False),
        (SETTLED, 5, TODAY_US, True),
        # An earlier version believed at once that the listing counts otherwise.
        (replace(SETTLED, count_before_lookback=0), 5, None, False),
        (replace(SETTLED, count_before_lookback=6), 5, None, False),
        (OTHERWISE, 5, None, True),
        (replace(OTHERWISE, difference_since_us=NOW_US - DAY_US), 5, None, False),
        (replace(OTHERWISE, difference_since_us=NOW_US + 1), 5, None, False),
        (replace(OTHERWISE, new_difference=3), 5, None, False),
        (replace(SETTLED, count_before_lookback=4, ahead=DayDigest(1, "d")), 5, None, False),
    ],
)
def test_a_chat_is_left_alone_only_when_nothing_can_have_happened(
    cursor: Cursor, listed: int | None, begin_us: int | None, expected: bool
) -> None:
    assert is_unchanged(cursor, listed, NOW_US, 7 * DAY_US, begin_us) is expected


def test_a_cursor_is_dropped_only_when_history_now_begins_earlier() -> None:
    later, all_of_it = Cursor(begin_us=TODAY_US), Cursor()
    assert usable(None, None) is None
    assert usable(later, None) is None
    assert usable(later, TODAY_US - 1) is None
    assert usable(later, TODAY_US) is later
    assert usable(later, NOW_US) is later
    assert usable(all_of_it, TODAY_US) is all_of_it
