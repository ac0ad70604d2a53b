"""What a run of an organisation takes, from eight measured costs. Pure.

    requests = listings, by every shard, and what `planning.forecast` counts for every chat
    seconds  = start
             + the longest of  requests / rate limit
                               requests * compute
                               requests * (latency + wait + compute) / workers
                               the longest chat alone
             + packages * (package + chats * state + what the warehouse takes)

where `compute` is what a request costs on average: `chat` for the first of each chat that is read,
`page` for all others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

from linq_source.instants import DAY_US
from linq_source.planning.forecast import Reads, evenly, first_reads, listing_requests

YEAR_S = 365.25 * 86_400
_BOUND_US = 20_500 * DAY_US


@dataclass(frozen=True)
class Costs:
    """Measured on one machine by `scale.py`; seconds of CPU, but `wait_s`.

    `chat_s` includes the chat's first page. `wait_s` is what a round trip takes beyond latency and
    computing.
    """

    start_s: float
    chat_s: float
    page_s: float
    wait_s: float
    package_s: float
    state_s_per_chat: float
    state_bytes_per_chat: float
    stored_state_bytes_per_chat: float


@dataclass(frozen=True)
class Environment:
    """Where it runs. `rate_per_s` is for all shards together; each shard is a machine."""

    latency_s: float = 0.0
    rate_per_s: float | None = None
    workers: int = 8
    shards: int = 1
    package_messages: int = 500_000
    # Beyond what a package takes in DuckDB: a warehouse's load jobs and merges.
    package_s: float = 0.0


@dataclass(frozen=True)
class Organisation:
    """Whose messages are read. Shares are of all chats; what is not known is guessed.

    Sizes of chats are log-normal: `spread` is the standard deviation of the logarithm.
    """

    chats: int = 1_000_000
    phone_numbers: int = 1_000
    messages: int = 1_000_000_000
    years: float = 5.0
    spread: float = 1.5
    active_in_lookback: float = 0.10
    changed_in_an_hour: float = 0.004

    @property
    def messages_per_day(self) -> float:
        """On average over its years."""
        return self.messages / (self.years * YEAR_S) * 86_400


@dataclass(frozen=True)
class Work:
    """What one run does, over all shards; each shard makes all `list_requests`."""

    list_requests: int
    chats_listed: int
    chats_read: float
    message_requests: float
    messages_written: float
    longest: Reads


@dataclass(frozen=True)
class Forecast:
    """What a run takes. `seconds` is from start to end; the rest is the sum over all shards."""

    requests: float
    seconds: float
    packages: int
    limited_by: str


def sizes(chats: float, messages: float, spread: float) -> Iterator[tuple[float, int]]:
    """Groups of chats, and the messages each has: quantiles, finer towards the largest."""
    shares = [(index / 200, (index + 1) / 200) for index in range(199)]
    left = 1 / 200
    while left * chats > 1.5:
        left /= 2
        shares.append((1 - 2 * left, 1 - left))
    shares.append((1 - left, 1.0))
    normal = NormalDist(0.0, spread)
    raw = [((b - a) * chats, math.exp(normal.inv_cdf((a + b) / 2))) for a, b in shares]
    scale = messages / sum(count * size for count, size in raw)
    for count, size in raw:
        yield count, max(1, round(size * scale))


def first_work(organisation: Organisation) -> Work:
    """The first reading of everything."""
    span_us = int(organisation.years * YEAR_S * 1e6)
    return _work(organisation, organisation.chats, organisation.messages, span_us)


def hourly_work(organisation: Organisation) -> Work:
    """A run an hour after another: the lookback of active chats, which has up to eight days."""
    active = organisation.active_in_lookback * organisation.chats
    messages = max(active, 8 * organisation.messages_per_day)
    # A changed day is written whole.
    day = messages / 8 / active
    written = organisation.changed_in_an_hour * organisation.chats * max(1.0, day)
    return _work(organisation, active, messages, 8 * DAY_US, written)


def _work(
    organisation: Organisation,
    chats: float,
    messages: float,
    span_us: int,
    written: float | None = None,
) -> Work:
    reads = [
        (count, first_reads(evenly(size, _BOUND_US - span_us, _BOUND_US), _BOUND_US))
        for count, size in sizes(chats, messages, organisation.spread)
    ]
    per_number, rest = divmod(organisation.chats, organisation.phone_numbers)
    full = organisation.phone_numbers - rest
    return Work(
        list_requests=listing_requests([per_number + 1] * rest + [per_number] * full),
        chats_listed=organisation.chats,
        chats_read=chats,
        message_requests=sum(count * each.requests for count, each in reads),
        messages_written=messages if written is None else written,
        longest=reads[-1][1],
    )


def forecast(work: Work, environment: Environment, costs: Costs) -> Forecast:
    """What a run takes when its chats are divided among the shards, each with its own listing."""
    shards, workers = environment.shards, environment.workers
    requests = work.list_requests + work.message_requests / shards
    chats = work.chats_read / shards
    computing_s = chats * costs.chat_s + (requests - chats) * costs.page_s
    round_trip_s = environment.latency_s + costs.wait_s + computing_s / requests
    reading = {
        "computing": computing_s,
        "latency": requests * round_trip_s / workers,
        "rate": requests * shards / (environment.rate_per_s or math.inf),
    }
    request_s = max(reading.values()) / requests
    reading["longest chat"] = _alone_s(work.longest, round_trip_s, request_s)
    limit, reading_s = max(reading.items(), key=lambda item: item[1])
    packages = math.ceil(work.messages_written / shards / environment.package_messages)
    state_s = work.chats_listed / shards * costs.state_s_per_chat
    loading_s = packages * (costs.package_s + state_s + environment.package_s)
    return Forecast(
        requests=requests * shards,
        seconds=costs.start_s + reading_s + loading_s,
        packages=packages * shards,
        limited_by=limit if reading_s > loading_s else "packages",
    )


def _alone_s(longest: Reads, round_trip_s: float, request_s: float) -> float:
    """Reading one chat: the first page of a window, and those that find its end, one by one."""
    single = len(longest.window_pages) + 2 * longest.splits + longest.counts
    others = longest.requests - single
    return single * max(round_trip_s, request_s) + others * request_s
