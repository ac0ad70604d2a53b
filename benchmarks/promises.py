"""What the project promises about its speed, and whether a set of measurements keeps it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.cases import WorldSize


@dataclass(frozen=True)
class Promise:
    """One promise: `measured` is `None` where it was not measured."""

    text: str
    measured: str | None
    met: bool


@dataclass(frozen=True)
class Figures:
    """Medians of a set of measurements, as `benchmarks.json` holds them."""

    result: Mapping[str, Any]

    def world(self, case: str) -> WorldSize:
        """The world of a case."""
        return WorldSize(**self.result["cases"][case]["world"])

    def median(self, case: str, contender: str, quantity: str = "seconds") -> float:
        """Raises `KeyError` for what was not measured."""
        runs = self.result["cases"][case]["measurements"][contender]
        if not runs or any(each["exit_code"] for each in runs):
            raise KeyError(contender)
        return float(statistics.median(each[quantity] for each in runs))

    def requests(self, case: str, kind: str) -> int:
        """Requests of one kind in our last run of a case."""
        return int(self.result["cases"][case]["requests"]["ours"].get(kind, 0))

    @property
    def ideal_latency_s(self) -> float:
        """Pages x latency / workers, plus a run with nothing to do."""
        world = self.world("latency")
        waiting_s = world.pages * world.latency_ms / 1_000 / int(self.result["workers"])
        return waiting_s + self.median("start-up", "ours")


def promises(figures: Figures) -> Iterator[Promise]:
    """Every promise, met or not."""
    for text, judge in _PROMISES:
        try:
            measured, met = judge(figures)
        except KeyError:
            yield Promise(text, None, met=False)
        else:
            yield Promise(text, measured, met)


Judgement = tuple[str, bool]


def _no_slower_than_bare_loop(figures: Figures) -> Judgement:
    ratio = figures.median("first-load", "ours") / figures.median(
        "first-load", "requests_read_json"
    )
    return f"{ratio:.2f} times its time", ratio <= 1


def _times_faster(contender: str, times: float) -> Callable[[Figures], Judgement]:
    def judge(figures: Figures) -> Judgement:
        ratio = figures.median("first-load", contender) / figures.median("first-load", "ours")
        return f"{ratio:.1f} times", ratio >= times

    return judge


def _cpu_of_floor(figures: Figures) -> Judgement:
    ours, floor = (figures.median("first-load", n, "cpu_seconds") for n in ("ours", "floor"))
    return f"{ours / floor:.2f} times ({ours:.2f} s, {floor:.2f} s)", ours <= 2 * floor


def _latency(figures: Figures) -> Judgement:
    seconds, ideal_s = figures.median("latency", "ours"), figures.ideal_latency_s
    return f"{seconds / ideal_s:.2f} ({seconds:.2f} s, {ideal_s:.2f} s)", seconds <= 1.15 * ideal_s


def _large_peak(figures: Figures) -> Judgement:
    peak_mb = figures.median("large", "ours", "peak_mb")
    return f"{peak_mb:.0f} MB", peak_mb < 600


def _large_time(figures: Figures) -> Judgement:
    each_us = [
        figures.median(case, "ours") / figures.world(case).messages * 1e6
        for case in ("large", "first-load")
    ]
    ratio = each_us[0] / each_us[1]
    return f"{ratio:.2f} ({each_us[0]:.1f} µs, {each_us[1]:.1f} µs)", ratio <= 1.15


def _listing_requests(figures: Figures) -> Judgement:
    listing, numbers = (figures.requests("changed", kind) for kind in ("chats", "phone_numbers"))
    return f"{listing} of chats, {numbers} of phone numbers", listing <= 100


def _requests_of_changed(figures: Figures) -> Judgement:
    chats = figures.result["cases"]["changed"]["chats_changed"]
    requests = figures.requests("changed", "messages")
    return f"{requests} for {chats} chats", requests <= chats


def _under(case: str, limit_s: float) -> Callable[[Figures], Judgement]:
    def judge(figures: Figures) -> Judgement:
        seconds = figures.median(case, "ours")
        return f"{seconds:.2f} s", seconds < limit_s

    return judge


def _help(figures: Figures) -> Judgement:
    seconds = figures.result["help_seconds"]
    return f"{seconds:.2f} s", seconds < 0.3


def _server(figures: Figures) -> Judgement:
    rate = figures.result["pages_per_second"]
    return f"{rate:,} pages/s", rate >= 10_000


_PROMISES: tuple[tuple[str, Callable[[Figures], Judgement]], ...] = (
    ("200,000 messages: no slower than the bare loop", _no_slower_than_bare_loop),
    ("200,000 messages: 10 times faster than `rest_api`", _times_faster("rest_api", 10)),
    ("200,000 messages: 3 times faster than the Meltano pair", _times_faster("meltano", 3)),
    ("200,000 messages: at most 2 times the floor's CPU seconds", _cpu_of_floor),
    ("50 ms latency: within 1.15 of pages x latency / workers + start-up", _latency),
    ("5,000,000 messages: peak memory under 600 MB", _large_peak),
    ("5,000,000 messages: time per message within 1.15 of that of 200,000", _large_time),
    ("1% of 10,000 chats changed: at most 100 listing requests", _listing_requests),
    ("1% of 10,000 chats changed: one request per changed chat", _requests_of_changed),
    ("1% of 10,000 chats changed: under 3 s", _under("changed", 3)),
    ("nothing to do in 10,000 chats: under 2 s", _under("nothing", 2)),
    ("`linq-source --help`: under 0.3 s", _help),
    ("the server: at least 10,000 pages/s", _server),
)
