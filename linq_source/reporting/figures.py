"""What a report shows, as values: counted in the database, named here. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from linq_source.operations.status_report import Status

HOUR_S = 3_600
DAY_S = 24 * HOUR_S
WEEK_S = 7 * DAY_S
# The days that headlines are about, and the days before them that they are compared with.
RECENT_DAYS = 30
# The days of most charts.
CHART_DAYS = 90
# The weeks whose hours are added up.
BUSY_WEEKS = 12
# Charts over time begin no earlier: a single wrong instant would make them one thin line.
MOST_YEARS = 10
# A longer history is shown by weeks.
MOST_DAYS_BY_DAY = 100
# How long answers took, and how long nobody answered: upper ends in seconds, and their names.
WAITS: Sequence[tuple[float, str]] = (
    (60, "under 1 min"),
    (300, "1 to 5 min"),
    (900, "5 to 15 min"),
    (HOUR_S, "15 to 60 min"),
    (4 * HOUR_S, "1 to 4 h"),
    (DAY_S, "4 to 24 h"),
    (WEEK_S, "1 to 7 days"),
    (float("inf"), "over 7 days"),
)
# A Monday is the first day of the weeks, 1970-01-01 was a Thursday.
_MONDAY_S = 4 * DAY_S


@dataclass(frozen=True)
class Period:
    """What a point of a chart over time covers: a UTC day, or a week from Monday on."""

    name: str
    seconds: int
    origin_s: int

    def start_of(self, number: int) -> datetime:
        """The first instant of a period, told by its number since 1970."""
        return datetime.fromtimestamp(number * self.seconds + self.origin_s, UTC)


BY_DAY = Period("day", DAY_S, 0)
BY_WEEK = Period("week", WEEK_S, _MONDAY_S)


@dataclass(frozen=True)
class Hour:
    """Messages of one hour, told by its number since 1970."""

    number: int
    received: int
    sent: int


@dataclass(frozen=True)
class Traffic:
    """Messages received from people, and sent by the organisation."""

    received: int = 0
    sent: int = 0

    @property
    def messages(self) -> int:
        """Both."""
        return self.received + self.sent


@dataclass(frozen=True)
class Responses:
    """Turns that began in a period and were answered: how many, and the seconds it took."""

    period: int
    turns: int
    median_s: float
    p90_s: float


@dataclass(frozen=True)
class Waiting:
    """A chat whose last turn nobody answered yet."""

    chat: str
    since: datetime


@dataclass(frozen=True)
class Delivery:
    """Messages sent by the organisation with one status."""

    status: str
    sent: int
    delivered: int
    read: int


@dataclass(frozen=True)
class Share:
    """One of several kinds, and what it counts."""

    name: str
    values: tuple[int, ...]


@dataclass(frozen=True)
class Figures:
    """All that a page shows. Instants end at `until`."""

    dataset: str
    status: Status
    lines: int
    chats: int
    messages: int
    period: Period
    hours: tuple[Hour, ...] = ()
    responses: tuple[Responses, ...] = ()
    recent: Responses | None = None
    before: Responses | None = None
    # As many as there are `WAITS`: answers of the last days, and turns that nobody answered.
    answered: tuple[int, ...] = (0,) * len(WAITS)
    unanswered: tuple[int, ...] = (0,) * len(WAITS)
    waiting: tuple[Waiting, ...] = ()
    deliveries: tuple[Delivery, ...] = ()
    reactions: tuple[Share, ...] = ()
    attachments: tuple[Share, ...] = ()
    busiest: tuple[Share, ...] = ()

    @property
    def until(self) -> datetime:
        """Up to where every chat was read."""
        return until_of(self.status)

    def traffic(self, days_ago: int, days: int) -> Traffic:
        """Messages of so many days that ended some days before `until`, by whole hours."""
        end = int((self.until - timedelta(days=days_ago)).timestamp()) // HOUR_S
        return _sum(hour for hour in self.hours if end - 24 * days < hour.number <= end)

    def traffic_by_period(self) -> list[tuple[datetime, Traffic]]:
        """Messages by period, in the order of time; periods without any are there, too."""
        period = self.period
        found: dict[int, list[Hour]] = defaultdict(list)
        for hour in self.hours:
            found[(hour.number * HOUR_S - period.origin_s) // period.seconds].append(hour)
        if not found:
            return []
        return [
            (period.start_of(number), _sum(found.get(number, ())))
            for number in range(min(found), max(found) + 1)
        ]

    def busy_hours(self) -> list[tuple[int, int]]:
        """Hours of the last weeks, by number, with the messages received in them."""
        first = int((self.until - timedelta(weeks=BUSY_WEEKS)).timestamp()) // HOUR_S
        return [(hour.number, hour.received) for hour in self.hours if hour.number > first]

    @property
    def sent(self) -> int:
        """Messages sent, of which `delivered` and `read` tell."""
        return sum(found.sent for found in self.deliveries)

    @property
    def delivered(self) -> int:
        """Messages sent that were delivered."""
        return sum(found.delivered for found in self.deliveries)

    @property
    def read(self) -> int:
        """Messages sent that were read."""
        return sum(found.read for found in self.deliveries)


def until_of(status: Status) -> datetime:
    """Up to where every chat was read; where no run read all, the newest run."""
    return status.read_until or status.bound


def _sum(hours: Iterable[Hour]) -> Traffic:
    found = list(hours)
    return Traffic(sum(hour.received for hour in found), sum(hour.sent for hour in found))


def period_of(hours: Sequence[Hour]) -> Period:
    """By day where that makes few points, else by week."""
    days = (hours[-1].number - hours[0].number) / 24 if hours else 0
    return BY_DAY if days <= MOST_DAYS_BY_DAY else BY_WEEK


_KINDS = (
    ("image/", "Images"),
    ("video/", "Videos"),
    ("audio/", "Audio"),
    ("application/pdf", "PDF"),
    ("text/vcard", "Contacts"),
    ("text/x-vcard", "Contacts"),
    ("text/calendar", "Calendar"),
    ("text/", "Text"),
    ("application/vnd.", "Office documents"),
    ("application/msword", "Office documents"),
)


def kind_of(mime_type: str | None) -> str:
    """What people call a media type."""
    text = (mime_type or "").lower()
    return next((name for start, name in _KINDS if text.startswith(start)), "Other")


def summed(rows: Iterable[tuple[str, *tuple[int, ...]]]) -> tuple[Share, ...]:
    """Counts of rows with one name added up, the greatest first."""
    found: dict[str, list[int]] = {}
    for name, *values in rows:
        sums = found.setdefault(name, [0] * len(values))
        found[name] = [a + b for a, b in zip(sums, values, strict=True)]
    shares = (Share(name, tuple(values)) for name, values in found.items())
    return tuple(sorted(shares, key=lambda share: (-share.values[0], share.name)))
