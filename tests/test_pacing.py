"""The policy against servers that refuse what is too fast, simulated: no clock, no waiting."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linq_source.api.pacing import Pacing

pytestmark = pytest.mark.quick


class Server(Protocol):
    def ask(self, now_s: float) -> float:
        """0 if a request at that instant is granted, else the seconds to wait."""


class Bucket:
    """A token bucket that lets one second's worth through at once."""

    def __init__(self, rate_per_s: float) -> None:
        self.rate_per_s, self.tokens, self.at_s = rate_per_s, max(1.0, rate_per_s), 0.0

    def ask(self, now_s: float) -> float:
        refilled = self.tokens + (now_s - self.at_s) * self.rate_per_s
        self.tokens, self.at_s = min(max(1.0, self.rate_per_s), refilled), now_s
        if self.tokens < 1 - 1e-9:
            return (1 - self.tokens) / self.rate_per_s
        self.tokens -= 1
        return 0.0


class Window:
    """So many requests in every whole second of the server's clock."""

    def __init__(self, rate_per_s: float) -> None:
        self.rate_per_s, self.second, self.count = rate_per_s, -1, 0

    def ask(self, now_s: float) -> float:
        second = math.floor(now_s + 0.37)
        if second != self.second:
            self.second, self.count = second, 0
        if self.count >= self.rate_per_s:
            return second + 1 - 0.37 - now_s
        self.count += 1
        return 0.0


class Log:
    """So many requests in any second."""

    def __init__(self, rate_per_s: float) -> None:
        self.rate_per_s = rate_per_s
        self.granted: deque[float] = deque()

    def ask(self, now_s: float) -> float:
        while self.granted and self.granted[0] <= now_s - 1:
            self.granted.popleft()
        if len(self.granted) >= self.rate_per_s:
            return self.granted[0] + 1 - now_s
        self.granted.append(now_s)
        return 0.0


def simulate(
    server: Server,
    *,
    seconds: float,
    workers: int,
    latency_s: float,
    says_when: bool,
    max_per_s: float | None = None,
) -> tuple[list[float], list[float], list[float]]:
    """Workers that always want to ask; gives the instants granted, refused and started."""
    random = Random(1)
    pacing = Pacing(workers, max_per_s, random.random)
    events: list[tuple[float, int, str, Any]] = [(0.0, 0, "wake", None)]
    number = itertools.count(1)
    granted: list[float] = []
    refused: list[float] = []
    started: list[float] = []
    idle = workers
    wakes_s = math.inf
    while events:
        now_s, _, kind, value = heapq.heappop(events)
        if now_s > seconds:
            break
        if kind == "arrive":
            wait_s = server.ask(now_s)
            (refused if wait_s else granted).append(now_s)
            answer = (now_s + latency_s / 2, next(number), "answer", (value, wait_s))
            heapq.heappush(events, answer)
            continue
        if kind == "answer":
            (start_s, wait_s), idle = value, idle + 1
            if wait_s:
                pacing.refused(start_s, now_s, float(math.ceil(wait_s)) if says_when else 0.0)
            else:
                pacing.succeeded(start_s, now_s)
            pacing.end()
        elif now_s >= wakes_s:
            wakes_s = math.inf
        assert 1 <= pacing.limit <= workers
        while idle:
            wait_s = pacing.wait_s(now_s)
            assert wait_s >= 0
            if wait_s:
                at_s = now_s + wait_s + 0.002 * random.random()
                if at_s < wakes_s:
                    wakes_s = at_s
                    heapq.heappush(events, (at_s, next(number), "wake", None))
                break
            pacing.start(now_s)
            started.append(now_s)
            idle -= 1
            way_s = latency_s / 2 * (0.9 + 0.2 * random.random())
            heapq.heappush(events, (now_s + way_s, next(number), "arrive", now_s))
    return granted, refused, started


@pytest.mark.parametrize("says_when", [True, False], ids=["Retry-After", "no Retry-After"])
@pytest.mark.parametrize("latency_s", [0.001, 0.05])
@pytest.mark.parametrize(
    ("rate_per_s", "workers", "seconds"), [(5, 8, 60), (20, 8, 15), (50, 8, 12), (200, 16, 12)]
)
def test_the_rate_allowed_is_reached_and_few_are_refused(
    rate_per_s: float, workers: int, seconds: float, latency_s: float, says_when: bool
) -> None:
    if workers / latency_s < 1.25 * rate_per_s:
        pytest.skip("so few workers never reach the limit")
    granted, refused, _ = simulate(
        Bucket(rate_per_s), seconds=seconds, workers=workers, latency_s=latency_s,
        says_when=says_when,
    )  # fmt: skip
    assert 0.85 <= len(granted) / seconds / rate_per_s <= 1.15
    assert len(refused) / (len(granted) + len(refused)) < 0.05


@pytest.mark.parametrize("server", [Window, Log])
@pytest.mark.parametrize("rate_per_s", [20, 50, 200])
def test_other_ways_of_limiting_are_served_well_too(
    server: Callable[[float], Server], rate_per_s: float
) -> None:
    granted, refused, _ = simulate(
        server(rate_per_s), seconds=30, workers=8, latency_s=0.02, says_when=True
    )
    assert 0.85 <= len(granted) / 30 / rate_per_s <= 1.15
    assert len(refused) / (len(granted) + len(refused)) < 0.05


@pytest.mark.parametrize("server", [Bucket, Window, Log])
@pytest.mark.parametrize("latency_s", [0.001, 0.05])
def test_the_rate_does_not_sink_with_time(
    server: Callable[[float], Server], latency_s: float
) -> None:
    granted, _, _ = simulate(
        server(50), seconds=200, workers=8, latency_s=latency_s, says_when=True
    )
    assert 0.85 <= sum(at_s > 100 for at_s in granted) / 100 / 50 <= 1.15


def test_a_server_that_grows_more_generous_is_followed() -> None:
    server = Bucket(20)
    ask = server.ask

    def generous(now_s: float) -> float:
        server.rate_per_s = 20.0 if now_s < 20 else 200.0
        return ask(now_s)

    server.ask = generous  # type: ignore[method-assign]
    granted, _, _ = simulate(server, seconds=80, workers=8, latency_s=0.01, says_when=True)
    assert sum(at_s > 60 for at_s in granted) / 20 > 150


@pytest.mark.parametrize("max_per_s", [3.0, 40.0])
def test_the_ceiling_holds_from_the_first_request(max_per_s: float) -> None:
    _, _, started = simulate(
        Bucket(1e9), seconds=20, workers=8, latency_s=0.01, says_when=True, max_per_s=max_per_s
    )
    assert 0.95 <= len(started) / 20 / max_per_s <= 1.02
    for first_s in started:
        assert sum(first_s <= at_s < first_s + 1 for at_s in started) <= max_per_s * 1.05 + 2


def test_nothing_waits_while_nothing_limits() -> None:
    _, refused, started = simulate(
        Bucket(1e9), seconds=1, workers=8, latency_s=0.01, says_when=True
    )
    assert refused == []
    assert len(started) > 0.9 * 8 / 0.01


def test_a_refusal_pauses_halves_and_counts_once() -> None:
    pacing = Pacing(8, None, lambda: 0.0)
    for number in range(40):
        pacing.start(number / 100)
        pacing.succeeded(number / 100, number / 100)
        pacing.end()
    assert pacing.limit == 8
    pacing.refused(1.0, 1.5, 3.0)
    assert (pacing.limit, pacing.wait_s(2.0)) == (4, 2.5)
    # Already under way when the pause began: the same event, and its wish is honoured.
    pacing.refused(1.1, 1.6, 4.0)
    assert (pacing.limit, pacing.paused_until_s) == (4, 5.6)
    pacing.refused(6.0, 6.1, 1.0)
    assert pacing.limit == 2


def test_without_a_wish_the_pauses_grow() -> None:
    pacing = Pacing(8, None, lambda: 1.0)
    now_s, pauses = 0.0, []
    for _ in range(7):
        pacing.refused(now_s, now_s, 0.0)
        pauses.append(pacing.wait_s(now_s))
        now_s = pacing.paused_until_s
    assert pauses == [1.25, 2.5, 5.0, 10.0, 20.0, 25.0, 25.0]


@settings(max_examples=50)
@given(
    rate_per_s=st.floats(0.2, 300),
    workers=st.integers(1, 32),
    latency_s=st.floats(0.001, 0.5),
    says_when=st.booleans(),
    kind=st.sampled_from([Bucket, Window, Log]),
)
def test_any_server_is_asked_again_and_again_but_never_stormed(
    rate_per_s: float, workers: int, latency_s: float, says_when: bool, kind: Any
) -> None:
    granted, refused, started = simulate(
        kind(rate_per_s), seconds=20, workers=workers, latency_s=latency_s, says_when=says_when
    )
    assert len(granted) >= 1
    assert len(refused) <= workers + 20 * workers / 2 + len(granted)
    assert started == sorted(started)
