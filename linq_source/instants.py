"""Instants as whole microseconds since 1970-01-01T00:00:00Z.

Windows, cursors and digests compare millions of instants; integers do that without time zones.
Names end in `_us`. Text and `datetime` appear only at the edges, through these functions.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime

MILLISECOND_US = 1_000
SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US

# What datetime can hold, and so what every destination can.
MIN_US = -62_135_596_800 * SECOND_US
MAX_US = 253_402_300_799 * SECOND_US + 999_999
# Behind every instant there is: the end of a window that has none.
END_US = MAX_US + 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ONE_US = timedelta(microseconds=1)

# RFC 3339 with the freedoms seen in the wild: a space for the T, no zone (read as UTC),
# and any number of fractional digits (nanoseconds are cut to microseconds).
_ISO_8601 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?"
    r"\s*([Zz]|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)


def to_us(instant: datetime) -> int:
    """Microseconds of an aware `datetime`; a naive one is read as UTC."""
    aware = instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _ONE_US


def from_us(instant_us: int) -> datetime:
    """The aware UTC `datetime` of an instant, or the end of the calendar it lies beyond."""
    return _EPOCH + timedelta(microseconds=min(max(instant_us, MIN_US), MAX_US))


def before(instant_us: int, by_us: int) -> int:
    """The instant `by_us` earlier, or the beginning of the calendar."""
    return max(instant_us - by_us, MIN_US)


def parse_iso(text: str) -> int:
    """Microseconds of an ISO 8601 date or date-time; what names no zone is UTC.

    Raises `ValueError` for anything else, and for instants outside the years 1 to 9999.
    """
    match = _ISO_8601.fullmatch(text.strip())
    if match is None:
        raise ValueError("not an ISO 8601 instant")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    instant = datetime(
        int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0),
        tzinfo=UTC,
    )  # fmt: skip
    fraction_us = int((fraction or "0")[:6].ljust(6, "0"))
    result = to_us(instant) + fraction_us - _offset_us(zone)
    if not MIN_US <= result <= MAX_US:
        raise ValueError("instant outside the years 1 to 9999")
    return result


def _offset_us(zone: str | None) -> int:
    if zone is None or zone in "Zz":
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if hours > 23 or minutes > 59:
        raise ValueError("not a UTC offset")
    offset_us = (hours * 3600 + minutes * 60) * SECOND_US
    return -offset_us if zone[0] == "-" else offset_us


def parse_instant(value: str | datetime | date) -> int:
    """Microseconds of what a user may pass as `start` or `end`. Raises `ValueError`."""
    if isinstance(value, datetime):
        return to_us(value)
    if isinstance(value, date):
        return to_us(datetime(value.year, value.month, value.day, tzinfo=UTC))
    return parse_iso(value)


def parse_http_date(text: str) -> int:
    """Microseconds of an HTTP `Date` header (RFC 9110, section 5.6.7). Raises `ValueError`."""
    return to_us(parsedate_to_datetime(text))


def format_iso(instant_us: int) -> str:
    """ISO 8601 in UTC with microseconds and `Z`, as the API's parameters and people read it."""
    return from_us(instant_us).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def floor_day(instant_us: int) -> int:
    """The UTC midnight at or before an instant."""
    return instant_us - instant_us % DAY_US
