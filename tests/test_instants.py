"""Instants are whole microseconds, and text and `datetime` say the same."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linq_source.instants import (
    DAY_US,
    MAX_US,
    MIN_US,
    SECOND_US,
    floor_day,
    format_iso,
    from_us,
    parse_http_date,
    parse_instant,
    parse_iso,
    to_us,
)

pytestmark = pytest.mark.quick

NOON_US = 1_747_828_800 * SECOND_US  # 2025-05-21T12:00:00Z
INSTANTS = st.integers(MIN_US, MAX_US)
OFFSETS = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(
    lambda minutes: timezone(timedelta(minutes=minutes))
)
AWARE = st.datetimes(
    min_value=datetime(2, 1, 1),  # noqa: DTZ001 - Hypothesis wants naive bounds
    max_value=datetime(9998, 12, 31),  # noqa: DTZ001
    timezones=OFFSETS,
)


@given(INSTANTS)
def test_an_instant_survives_datetime(instant_us: int) -> None:
    assert to_us(from_us(instant_us)) == instant_us


@given(st.integers(parse_iso("1000-01-01"), MAX_US))
def test_an_instant_survives_text(instant_us: int) -> None:
    assert parse_iso(format_iso(instant_us)) == instant_us


@given(st.integers(MIN_US, parse_iso("1000-01-01") - 1))
def test_an_instant_of_the_first_millennium_survives_text(instant_us: int) -> None:
    assert parse_iso(format_iso(instant_us)) == instant_us


@given(AWARE)
def test_text_in_any_zone_is_the_instant_the_standard_library_reads(moment: datetime) -> None:
    assert parse_iso(moment.isoformat()) == to_us(moment) == to_us(moment.astimezone(UTC))


@given(INSTANTS, INSTANTS)
def test_order_in_time_is_the_order_of_the_numbers(one: int, other: int) -> None:
    assert (one < other) == (from_us(one) < from_us(other))


@given(st.integers(0, 10**12 - 1))
def test_fractional_digits_after_the_sixth_are_cut(picoseconds: int) -> None:
    text = f"2025-05-21T12:00:00.{picoseconds:012}Z"
    assert parse_iso(text) == NOON_US + picoseconds // 10**6


@pytest.mark.parametrize(
    "text",
    [
        "2025-05-21T12:00:00Z",
        "2025-05-21t12:00:00z",
        "2025-05-21 12:00:00",
        "2025-05-21T12:00",
        " 2025-05-21T12:00:00Z\n",
        "2025-05-21T12:00:00 +00:00",
        "2025-05-21T12:00:00-00:00",
        "2025-05-21T07:00:00-05:00",
        "2025-05-21T07:00:00-0500",
        "2025-05-21T17:30:00+05:30",
        "2025-05-21T14:00+02",
    ],
)
def test_every_notation_seen_in_the_wild_is_the_same_instant(text: str) -> None:
    assert parse_iso(text) == NOON_US


def test_a_bare_date_is_its_utc_midnight() -> None:
    assert parse_iso("2025-05-21") == NOON_US - DAY_US // 2


@pytest.mark.parametrize("fraction", ["5", "50", "500000"])
@pytest.mark.parametrize("mark", [".", ","])
def test_a_fraction_of_any_length_is_part_of_a_second(mark: str, fraction: str) -> None:
    assert parse_iso(f"2025-05-21T12:00:00{mark}{fraction}Z") == NOON_US + 500_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2025-05",
        "20250521",
        "2025-02-29",
        "2025-13-01",
        "2025-05-21T24:00:00Z",
        "2016-12-31T23:59:60Z",
        "2025-05-21T12:00:00+24:00",
        "2025-05-21T12:00:00+05:60",
        "2025-05-21T12:00:00.Z",
        "2025-05-21T12:00:00Z Z",
        "0000-01-01",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "1747828800",
    ],
)
def test_what_names_no_instant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_iso(text)


@pytest.mark.parametrize(
    "value",
    [
        "2025-05-21",
        date(2025, 5, 21),
        datetime(2025, 5, 21),  # noqa: DTZ001 - what a user may pass
        datetime(2025, 5, 21, tzinfo=UTC),
        datetime(2025, 5, 20, 19, tzinfo=timezone(timedelta(hours=-5))),
    ],
)
def test_text_date_and_datetime_name_the_same_start(value: str | date | datetime) -> None:
    assert parse_instant(value) == NOON_US - DAY_US // 2


def test_an_http_date_is_read_and_anything_else_refused() -> None:
    assert parse_http_date("Wed, 21 May 2025 12:00:00 GMT") == NOON_US
    with pytest.raises(ValueError, match=r".+"):
        parse_http_date("2025-05-21T12:00:00Z")


@given(INSTANTS)
def test_the_midnight_before_is_a_midnight_less_than_a_day_away(instant_us: int) -> None:
    midnight_us = floor_day(instant_us)
    assert midnight_us % DAY_US == 0
    assert 0 <= instant_us - midnight_us < DAY_US
