"""Small runs that tell what things cost, and larger ones that tell whether the model is right.

All are whole processes against the benchmark's server, taking turns, several rounds, medians.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.bench import environment, serving
from benchmarks.cases import WorldSize
from benchmarks.measure import run_measured
from benchmarks.scale_model import Costs, Environment, Work, forecast, throughput
from benchmarks.scale_requests import (
    Even,
    Listed,
    Reads,
    first_reads,
    later_reads,
    listing_requests,
    remembered,
)
from benchmarks.world import FULL_PAGE, MINUTE_US, PHONE_NUMBER, PageQuery, World
from linq_source.decoding.pages import decode_pages
from linq_source.decoding.records import MESSAGE
from linq_source.planning.digests import digest_records
from linq_source.planning.listings import DIGEST_GROUPS

LIMIT_S = 900.0
DAY_S = 86_400.0
WORKERS = 8
# One of so many shards lists all chats, and reads few.
LIST_SHARDS = 1_000
STATE_CHATS = (1_000, 100_000)


@dataclass(frozen=True)
class Run:
    """One run of the package. A rerun finds what a first load left, and `changed_share` changed."""

    name: str
    world: WorldSize
    is_rerun: bool = False
    changed_share: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)


_TINY = WorldSize(chats=1, messages_per_chat=100, quiet_days=30.0)
_CHATS = WorldSize(chats=2_000, messages_per_chat=4, quiet_days=30.0)
_LISTS = WorldSize(chats=50_000, messages_per_chat=1, quiet_days=30.0)
_PAGES = WorldSize(chats=100, messages_per_chat=1_000)
_LATE = WorldSize(chats=1_000, messages_per_chat=4, quiet_days=30.0, latency_ms=40.0)
_MANY = WorldSize(chats=3_000, messages_per_chat=120)
_MANY_LATE = WorldSize(chats=3_000, messages_per_chat=120, latency_ms=20.0)
_SILENT = WorldSize(chats=4_000, messages_per_chat=30, quiet_days=30.0)
_DEEP = WorldSize(chats=2, messages_per_chat=50_000, latency_ms=20.0)

CALIBRATION = (
    Run("tiny", _TINY),
    Run("idle", _TINY, is_rerun=True),
    Run("chats", _CHATS),
    Run("compare", _CHATS, is_rerun=True),
    Run("list", _LISTS, options={"shard": f"0/{LIST_SHARDS}"}),
    Run("pages", _PAGES),
    Run("small pages", _PAGES, options={"page_size": 25}),
    Run("packages", _PAGES, options={"max_messages": 10_000}),
    Run("late", _LATE),
)
CHECKS = (
    Run("first load: 3,000 chats of 120", _MANY),
    Run("again: all inside the lookback, nothing changed", _MANY, is_rerun=True),
    Run("first load, every answer 20 ms late", _MANY_LATE),
    Run("first load, 300 requests/s", _MANY, options={"max_requests_per_second": 300}),
    Run("1% of 4,000 silent chats changed", _SILENT, is_rerun=True, changed_share=0.01),
    Run("first load: 2 chats of 50,000, 20 ms late", _DEEP),
)


Results = Mapping[str, Sequence[Mapping[str, float]]]


def measure(rounds: int) -> tuple[dict[str, list[dict[str, float]]], dict[str, float]]:
    """Everything, in turns; gives the results by name, and the newest message of each world."""
    runs = [run for pair in _in_turns(CALIBRATION, CHECKS) for run in pair]
    found: dict[str, list[dict[str, float]]] = {run.name: [] for run in runs}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="linq-scale-")))
        servers: dict[WorldSize, str] = {}
        newest: dict[str, float] = {}
        prepared: dict[str, Path] = {}
        for world in dict.fromkeys(run.world for run in runs):
            newest_s = time.time() - world.quiet_days * DAY_S - 2
            servers[world] = stack.enter_context(serving(world))
            newest |= {run.name: newest_s for run in runs if run.world == world}
        _run(Run("warm", _TINY), servers[_TINY], folder / "warm", None)
        for run in (run for run in runs if run.is_rerun):
            prepared[run.name] = folder / f"prepared-{len(prepared)}"
            _run(Run("prepare", run.world), servers[run.world], prepared[run.name], None, keep=True)
        for run in runs:
            if run.changed_share:
                _control(servers[run.world], f"change?share={run.changed_share}")
        for number in range(rounds):
            # The other way round every second time, so that a drift hits all alike.
            for run in runs if number % 2 == 0 else reversed(runs):
                result = _run(run, servers[run.world], folder / "run", prepared.get(run.name))
                found[run.name].append(result)
                print(f"  {run.name}: {result['wall_s']:.2f} s", file=sys.stderr, flush=True)
    return found, newest


def _in_turns(first: Sequence[Run], second: Sequence[Run]) -> list[tuple[Run, ...]]:
    """Pairs, and what is left of the longer alone."""
    length = max(len(first), len(second))
    return [(*first[index : index + 1], *second[index : index + 1]) for index in range(length)]


def _run(
    run: Run, base_url: str, folder: Path, prepared: Path | None, *, keep: bool = False
) -> dict[str, float]:
    if prepared is None:
        folder.mkdir()
    else:
        shutil.copytree(prepared, folder)
    before = _traffic(base_url)
    try:
        command = [
            sys.executable, "-m", "benchmarks.scale_run", "--base-url", base_url,
            "--folder", str(folder), "--options", json.dumps(dict(run.options)),
        ]  # fmt: skip
        measured = run_measured(command, folder=folder, environment=environment(), limit_s=LIMIT_S)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    if measured.exit_code:
        raise RuntimeError(f"{run.name} failed: {measured.stderr.strip()[-2_000:]}")
    after = _traffic(base_url)
    result: dict[str, float] = json.loads(measured.stdout.splitlines()[-1])
    expected = _control(base_url, "counts")["messages"]
    if "shard" in run.options:
        expected = len(range(0, run.world.chats, LIST_SHARDS)) * run.world.messages_per_chat
    if result["exit_code"] or result["held"] != expected:
        raise RuntimeError(f"{run.name}: {result['held']:,} messages of {expected:,}")
    return result | {
        "wall_s": measured.seconds,
        "cpu_s": measured.cpu_seconds,
        "requests": after[0] - before[0],
        "bytes": after[1] - before[1],
    }


def _traffic(base_url: str) -> tuple[int, int]:
    return sum(_control(base_url, "requests").values()), _control(base_url, "bytes").get("bytes", 0)


def _control(base_url: str, command: str) -> Any:
    with urllib.request.urlopen(f"{base_url}/control/{command}", timeout=60) as answer:
        return json.load(answer)


def state_costs() -> list[dict[str, float]]:
    """What a package costs beside a small state and beside a large one."""
    found = []
    for chats in STATE_CHATS:
        with tempfile.TemporaryDirectory(prefix="linq-scale-") as folder:
            measured = run_measured(
                [sys.executable, "-m", "benchmarks.scale_state", "--chats", str(chats)],
                folder=Path(folder),
                environment=environment(),
                limit_s=LIMIT_S,
            )
        if measured.exit_code:
            raise RuntimeError(measured.stderr.strip()[-2_000:])
        result = json.loads(measured.stdout.splitlines()[-1])
        found.append(result | {"chats": chats, "peak_mb": round(measured.peak_mb)})
        print(f"  state of {chats:,} chats: {result['seconds']:.2f} s", file=sys.stderr, flush=True)
    return found


def day_seconds() -> float:
    """What one more day in a chat's lookback takes: the digest of a few messages."""
    world = World(1, FULL_PAGE, 10**15)
    chat_id = json.loads(world.chats_body(PHONE_NUMBER, 1, 1))["data"][0]["id"]
    body = world.messages_body(PageQuery(chat_id, 1, FULL_PAGE, None, None, False))
    assert body is not None
    records = decode_pages([body], MESSAGE).records
    times = []
    for index in range(90):
        began_s = time.thread_time()
        digest_records(records.slice(index, index + 10), ())
        times.append(time.thread_time() - began_s)
    return statistics.median(times)


def costs_from(found: Results, states: Sequence[Mapping[str, float]], day_s: float) -> Costs:
    """The costs that medians of the calibration's runs show, each by a difference of two runs.

    Costs are CPU seconds, which differ less from run to run than wall seconds do; how much longer
    the clock ran is one factor each for reading and for the rest, over all runs that only compute.
    """

    def of(name: str, quantity: str) -> float:
        return statistics.median(_with_rest(each)[quantity] for each in found[name])

    def reading(name: str, besides: str = "tiny", quantity: str = "extract_cpu_s") -> float:
        return max(0.0, of(name, quantity) - of(besides, quantity))

    def slowdown(wall: str, cpu: str) -> float:
        names = [run.name for run in CALIBRATION if run.world.latency_ms == 0]
        return sum(of(name, wall) for name in names) / sum(of(name, cpu) for name in names)

    chats, rows = _CHATS.chats, _PAGES.messages
    few = _LISTS.chats / LIST_SHARDS
    groups = min(chats, DIGEST_GROUPS)
    # Of the runs that read chats, this is what each takes besides.
    read_s = (reading("chats") - reading("compare", "idle")) / chats
    list_s = max(0.0, reading("list") - few * read_s) / _LISTS.chats
    group_s = max(0.0, reading("compare", "idle") - chats * list_s) / groups
    more = of("small pages", "requests") - of("pages", "requests")
    page_s = reading("small pages", "pages") / more
    further = _PAGES.pages - _PAGES.chats
    row_s = (reading("pages") - _PAGES.chats * (read_s + group_s) - further * page_s) / rows
    small, large = states
    reading_slowdown = slowdown("extract_s", "extract_cpu_s")
    speed = of("late", "requests") / reading("late", quantity="extract_s")
    demand_s = _LATE.chats * (read_s + group_s) / of("late", "requests") * reading_slowdown
    return Costs(
        start_s=of("idle", "rest_cpu_s") + of("idle", "extract_cpu_s"),
        first_s=max(0.0, of("tiny", "cpu_s") - of("idle", "cpu_s")),
        package_s=(of("packages", "cpu_s") - of("pages", "cpu_s"))
        / (of("packages", "packages") - of("pages", "packages")),
        state_s_per_chat=(large["seconds"] - small["seconds"]) / (large["chats"] - small["chats"]),
        list_s_per_chat=list_s,
        group_s=group_s,
        chat_s=read_s,
        day_s=day_s,
        page_s=page_s,
        row_s=max(0.0, row_s),
        load_s_per_row=max(0.0, of("pages", "rest_cpu_s") - of("tiny", "rest_cpu_s")) / rows,
        wait_s=_wait_s(speed, _LATE.latency_ms / 1_000, demand_s),
        reading_slowdown=reading_slowdown,
        loading_slowdown=slowdown("rest_s", "rest_cpu_s"),
        state_bytes_per_chat=large["state_bytes"] / large["chats"],
        stored_state_bytes_per_chat=large["stored_state_bytes"] / large["chats"],
        **_bytes(of),
    )


def _with_rest(each: Mapping[str, float]) -> dict[str, float]:
    return dict(each) | {
        "rest_s": each["wall_s"] - each["extract_s"],
        "rest_cpu_s": each["cpu_s"] - each["extract_cpu_s"],
    }


def _bytes(of: Callable[[str, str], float]) -> dict[str, float]:
    """Per answer, row and listed chat.

    Two more runs than their listing: one answer for each chat and its few rows; full pages. Both
    are sums of answers and rows, of which there are two unknown sizes.
    """
    chats, few = _CHATS.chats, _CHATS.messages_per_chat
    per_chat = (of("compare", "bytes") - of("idle", "bytes")) / (chats - 1)
    answer_and_few = (of("chats", "bytes") - of("compare", "bytes")) / chats
    pages = of("pages", "bytes") - _PAGES.chats * per_chat
    per_row = (pages - _PAGES.pages * answer_and_few) / (_PAGES.messages - _PAGES.pages * few)
    return {
        "bytes_per_answer": answer_and_few - few * per_row,
        "bytes_per_row": per_row,
        "bytes_per_chat": per_chat,
    }


def _wait_s(speed: float, latency_s: float, demand_s: float) -> float:
    """The wait per round trip, beyond latency and computing, that explains a measured speed."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if throughput(WORKERS, latency_s + middle, demand_s) > speed:
            low = middle
        else:
            high = middle
    return low


def work_of(run: Run, newest_s: float) -> Work:
    """What a run does to its world, by arithmetic."""
    size = run.world
    newest_us = int(newest_s) * 1_000_000
    now_us = int((newest_s + size.quiet_days * DAY_S + 60) * 1_000_000)
    even = Even(
        newest_us - (size.messages_per_chat - 1) * MINUTE_US, MINUTE_US, size.messages_per_chat
    )
    changed = round(run.changed_share * size.chats)
    if not run.is_rerun:
        each, chats, written = first_reads(even, now_us), size.chats, size.messages
    elif changed:
        grown = Listed((*(even.at(index) for index in range(even.count)), now_us - 1_000_000))
        each = later_reads(grown, remembered(even, now_us), now_us, count_changed=True)
        chats, written = changed, changed * each.rows
    else:
        each, written = later_reads(even, remembered(even, now_us), now_us), 0
        chats = size.chats if each.requests else 0
    return Work(
        list_requests=listing_requests([size.chats]),
        chats_listed=size.chats,
        chats_read=chats,
        days_read=chats,
        message_requests=chats * each.requests,
        rows_read=chats * each.rows,
        rows_written=written,
        longest=each if chats else Reads(),
        is_first=not run.is_rerun,
        state_changes=bool(written),
    )


def compare(found: Results, newest: Mapping[str, float], costs: Costs) -> list[dict[str, Any]]:
    """Prediction and measurement of every check."""
    result = []
    for run in CHECKS:
        environment_ = Environment(
            latency_s=run.world.latency_ms / 1_000,
            rate_per_s=run.options.get("max_requests_per_second"),
            workers=WORKERS,
        )
        predicted = forecast(work_of(run, newest[run.name]), environment_, costs)

        def median(quantity: str, runs: Sequence[Mapping[str, float]] = found[run.name]) -> float:
            return statistics.median(each[quantity] for each in runs)

        result.append(
            {
                "name": run.name,
                "requests": [round(predicted.requests), round(median("requests"))],
                "bytes": [round(predicted.wire_bytes), round(median("bytes"))],
                "seconds": [round(predicted.seconds, 2), round(median("wall_s"), 2)],
                "runs": [round(each["wall_s"], 2) for each in found[run.name]],
            }
        )
    return result


ALLOWED: Mapping[str, float] = {"requests": 0.01, "bytes": 0.05, "seconds": 0.20}


def misses(checks: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was predicted worse than promised, one line each."""
    lines = []
    for check in checks:
        for quantity, allowed in ALLOWED.items():
            predicted, measured = check[quantity]
            if abs(predicted - measured) > allowed * measured:
                lines.append(
                    f"{check['name']}: {quantity} {predicted:,} predicted, {measured:,} measured"
                )
    return lines
