"""What a run of an organisation takes: requests, bytes, hours and money, from measured costs.

Pure: an organisation, an environment and costs come in, a forecast comes out. Requests are those of
`scale_requests`. Time is a closed formula: a run computes and waits side by side, so its reading
takes as long as the slowest of three: requests at the throughput of a closed network (workers that
wait for the server and take turns at computing), the rate limit, the longest chat on its own.
Loading comes after it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist

from benchmarks.scale_requests import Even, Reads, first_reads, listing_requests
from linq_source.instants import DAY_US
from linq_source.planning.listings import DIGEST_GROUPS

HOUR_S = 3_600.0
DAY_S = 86_400.0


@dataclass(frozen=True)
class Costs:
    """Measured on one machine by `scale.py`, in CPU seconds where nothing else is said.

    `wait_s` is what a round trip takes beyond latency and computing (timers, taking turns at the
    interpreter), in seconds of wall time. Listed chats are compared in groups. `state_s_per_chat`
    is for each package whose state changed. The slow-downs are wall seconds per CPU second, of
    reading and of the rest: above 1 where the disk is waited for or others use the machine.
    """

    start_s: float
    first_s: float
    package_s: float
    state_s_per_chat: float
    list_s_per_chat: float
    group_s: float
    chat_s: float
    day_s: float
    page_s: float
    row_s: float
    load_s_per_row: float
    wait_s: float
    reading_slowdown: float
    loading_slowdown: float
    bytes_per_answer: float
    bytes_per_row: float
    bytes_per_chat: float
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
    changed_in_a_day: float = 0.03
    changed_in_an_hour: float = 0.004

    @property
    def messages_per_s(self) -> float:
        """On average over its years."""
        return self.messages / (self.years * 365.25 * DAY_S)

    @property
    def messages_per_day(self) -> float:
        """On average over its years."""
        return self.messages_per_s * DAY_S


@dataclass(frozen=True)
class Work:
    """What one run does, over all shards; each shard makes all `list_requests`.

    `longest` is the chat that takes longest, `arrivals_per_s` the messages sent meanwhile.
    """

    list_requests: int
    chats_listed: int
    chats_read: float
    days_read: float
    message_requests: float
    rows_read: float
    rows_written: float
    longest: Reads
    is_first: bool
    arrivals_per_s: float = 0.0
    state_changes: bool = True


@dataclass(frozen=True)
class Forecast:
    """What a run takes. `seconds` is from start to end; the rest is the sum over all shards."""

    requests: float
    listing_requests: float
    wire_bytes: float
    seconds: float
    cpu_seconds: float
    packages: float
    state_bytes: float
    stored_state_bytes: float
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


def first_work(organisation: Organisation, bound_us: int = 20_500 * DAY_US) -> Work:
    """The first reading of everything."""
    span_us = int(organisation.years * 365.25 * DAY_US)
    groups = [
        (
            count,
            size,
            first_reads(Even(bound_us - span_us, max(1, span_us // size), size), bound_us),
        )
        for count, size in sizes(organisation.chats, organisation.messages, organisation.spread)
    ]
    return Work(
        list_requests=_listing(organisation),
        chats_listed=organisation.chats,
        chats_read=organisation.chats,
        days_read=_days(organisation.active_in_lookback * organisation.chats, organisation),
        message_requests=sum(count * reads.requests for count, _, reads in groups),
        rows_read=sum(count * reads.rows for count, _, reads in groups),
        rows_written=organisation.messages,
        longest=groups[-1][2],
        is_first=True,
        arrivals_per_s=organisation.messages_per_s,
    )


def later_work(organisation: Organisation, changed_share: float) -> Work:
    """A run that finds `changed_share` of the chats changed, and reads all that do not rest.

    A chat is read until its newest message is a lookback old; the lookback has whole days, eight
    of them with the one that has begun.
    """
    active = organisation.active_in_lookback * organisation.chats
    in_lookback = 8 * organisation.messages_per_day
    bound_us = 20_500 * DAY_US
    groups = [
        (
            count,
            first_reads(Even(bound_us - 8 * DAY_US, max(1, 8 * DAY_US // size), size), bound_us),
        )
        for count, size in sizes(active, max(active, in_lookback), organisation.spread)
    ]
    in_a_day = organisation.changed_in_a_day * organisation.chats
    changed = changed_share * organisation.chats
    return Work(
        list_requests=_listing(organisation),
        chats_listed=organisation.chats,
        chats_read=active,
        days_read=_days(active, organisation),
        message_requests=sum(count * reads.requests for count, reads in groups),
        rows_read=sum(count * reads.rows for count, reads in groups),
        # A changed day is written whole.
        rows_written=changed * max(1.0, organisation.messages_per_day / in_a_day),
        longest=groups[-1][1],
        is_first=False,
        arrivals_per_s=organisation.messages_per_s,
    )


def _listing(organisation: Organisation) -> int:
    per_number, rest = divmod(organisation.chats, organisation.phone_numbers)
    full = organisation.phone_numbers - rest
    return listing_requests([per_number + 1] * rest + [per_number] * full)


def _days(active: float, organisation: Organisation) -> float:
    """Days inside the lookback that have messages, over all active chats; at most eight each."""
    return min(8 * active, max(active, 8 * organisation.changed_in_a_day * organisation.chats))


def throughput(workers: int, think_s: float, demand_s: float) -> float:
    """Requests a second of workers that wait `think_s` and then take turns for `demand_s`.

    Mean value analysis of a closed network (Reiser and Lavenberg, 1980).
    """
    queue = rate = 0.0
    for number in range(1, workers + 1):
        response_s = demand_s * (1 + queue)
        rate = number / (think_s + response_s)
        queue = rate * response_s
    return rate


def forecast(work: Work, environment: Environment, costs: Costs) -> Forecast:
    """What a run takes when its chats are divided among the shards, each with its own listing."""
    shards = environment.shards
    own = _shard_of(work, shards)
    rate = math.inf if environment.rate_per_s is None else environment.rate_per_s / shards
    extra = 0.0
    if work.arrivals_per_s:
        # A message sent between its chat's listing and the bound, on average half the listing
        # later, costs two counting requests.
        listing_s = own.list_requests / _speed(own, environment, costs, rate)
        extra = min(own.chats_read, own.arrivals_per_s * listing_s / 2) * 2
    own = replace(own, message_requests=own.message_requests + extra)
    requests = own.list_requests + own.message_requests
    speed = _speed(own, environment, costs, rate)
    alone_s = _alone_s(own.longest, environment, costs, speed)
    reading_s = max(requests / speed, alone_s)
    packages = max(1, math.ceil(own.rows_written / environment.package_messages))
    state_s = own.chats_listed / shards * costs.state_s_per_chat if own.state_changes else 0.0
    loading_s = own.rows_written * costs.load_s_per_row + packages * state_s
    start_s = costs.start_s + (costs.first_s if own.is_first else 0.0)
    # A run that starts from nothing has its first package in its start; one with nothing to do has
    # none to speak of.
    heavy = packages - 1 if own.is_first or not own.state_changes else packages
    loading_s += start_s + heavy * costs.package_s
    seconds = loading_s * costs.loading_slowdown + packages * environment.package_s + reading_s
    if reading_s == alone_s:
        limit = "longest chat"
    elif speed == rate:
        limit = "rate"
    else:
        computes = _demand_s(own, costs, shards) * costs.reading_slowdown * speed > 0.8
        limit = "computing" if computes else "latency"
    if seconds > 2 * reading_s and seconds > 60:
        limit = "packages"
    return Forecast(
        requests=requests * shards,
        listing_requests=own.list_requests * shards,
        wire_bytes=shards
        * (
            requests * costs.bytes_per_answer
            + own.rows_read * costs.bytes_per_row
            + own.chats_listed * costs.bytes_per_chat
        ),
        seconds=seconds,
        cpu_seconds=shards * (loading_s + requests * _demand_s(own, costs, shards)),
        packages=packages * shards,
        state_bytes=work.chats_listed * costs.state_bytes_per_chat,
        stored_state_bytes=work.chats_listed * costs.stored_state_bytes_per_chat,
        limited_by=limit,
    )


def _shard_of(work: Work, shards: int) -> Work:
    return replace(
        work,
        chats_read=work.chats_read / shards,
        days_read=work.days_read / shards,
        message_requests=work.message_requests / shards,
        rows_read=work.rows_read / shards,
        rows_written=work.rows_written / shards,
        arrivals_per_s=work.arrivals_per_s / shards,
    )


def _demand_s(work: Work, costs: Costs, shards: int) -> float:
    """CPU seconds per request, on average over a shard's run."""
    own_chats = work.chats_listed / shards
    # What a chat takes includes its first page, and the first of its days.
    pages = max(0.0, work.message_requests - work.chats_read)
    total_s = (
        work.chats_listed * costs.list_s_per_chat
        + min(own_chats, DIGEST_GROUPS) * costs.group_s
        + work.chats_read * costs.chat_s
        + max(0.0, work.days_read - work.chats_read) * costs.day_s
        + pages * costs.page_s
        + work.rows_read * costs.row_s
    )
    return total_s / (work.list_requests + work.message_requests)


def _speed(work: Work, environment: Environment, costs: Costs, rate: float) -> float:
    think_s = environment.latency_s + costs.wait_s
    demand_s = _demand_s(work, costs, environment.shards) * costs.reading_slowdown
    return min(rate, throughput(environment.workers, think_s, demand_s))


def _alone_s(longest: Reads, environment: Environment, costs: Costs, speed: float) -> float:
    """Reading one chat by itself: its windows one after the other, by one process.

    A window's first page, and where it was cut off the two before it, come one by one; its other
    pages at the speed of all workers.
    """
    slowdown = costs.reading_slowdown
    round_trip_s = environment.latency_s + costs.wait_s + costs.page_s * slowdown
    single = len(longest.window_pages) + 2 * longest.splits + longest.extra
    others = sum(longest.window_pages) - len(longest.window_pages)
    return (
        single * max(round_trip_s, 1 / speed)
        + others / speed
        + longest.rows * costs.row_s * slowdown
    )
