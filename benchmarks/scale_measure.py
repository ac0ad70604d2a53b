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
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.bench import control, environment, serving
from benchmarks.cases import Job, WorldSize
from benchmarks.measure import run_measured
from benchmarks.scale_model import Costs, Environment, Work, forecast
from benchmarks.scale_requests import later_reads, remembered
from benchmarks.world import MINUTE_US
from linq_source.planning.forecast import Reads, first_reads, listing_requests

LIMIT_S = 900.0
DAY_S = 86_400.0
WORKERS = 8
STATE_CHATS = (1_000, 100_000)
# By how much a prediction may be off.
ALLOWED: Mapping[str, float] = {"requests": 0.01, "seconds": 1 / 3}


@dataclass(frozen=True)
class Run(Job):
    """A job for the package, with options of `sync`."""

    options: Mapping[str, Any] = field(default_factory=dict)


_TINY = WorldSize(chats=1, messages_per_chat=100, quiet_days=30.0)
_CHATS = WorldSize(chats=2_000, messages_per_chat=4, quiet_days=30.0)
_PAGES = WorldSize(chats=100, messages_per_chat=1_000)
_LATE = replace(_CHATS, chats=1_000, latency_ms=40.0)
_MANY = WorldSize(chats=3_000, messages_per_chat=120)

CALIBRATION = (
    Run("idle", _TINY, is_rerun=True),
    Run("chats", _CHATS),
    Run("pages", _PAGES),
    Run("packages", _PAGES, options={"max_messages": 10_000}),
    Run("late", _LATE),
)
CHECKS = (
    Run("first load: 3,000 chats of 120", _MANY),
    Run("the same, every answer 20 ms late", replace(_MANY, latency_ms=20.0)),
    Run("the same, 300 requests/s", _MANY, options={"max_requests_per_second": 300}),
    Run(
        "1% of 4,000 silent chats changed",
        WorldSize(chats=4_000, messages_per_chat=30, quiet_days=30.0),
        is_rerun=True,
        changed_share=0.01,
    ),
    Run(
        "first load: 2 chats of 50,000, 20 ms late",
        WorldSize(chats=2, messages_per_chat=50_000, latency_ms=20.0),
    ),
)
Results = Mapping[str, Sequence[Mapping[str, float]]]


def measure(runs: Sequence[Run], rounds: int) -> tuple[Results, Mapping[str, float]]:
    """All runs, in turns; gives their results by name, and each world's newest message."""
    found: dict[str, list[Mapping[str, float]]] = {run.name: [] for run in runs}
    newest: dict[str, float] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="linq-scale-")))
        servers: dict[WorldSize, str] = {}
        prepared: dict[str, Path] = {}
        for run in runs:
            if run.world not in servers:
                newest_s = time.time() - run.world.quiet_days * DAY_S - 2
                servers[run.world] = stack.enter_context(serving(run.world))
            newest[run.name] = newest_s
            if run.is_rerun:
                prepared[run.name] = folder / f"prepared-{len(prepared)}"
                first = Run("prepare", run.world)
                _run(first, servers[run.world], prepared[run.name], None, keep=True)
            if run.changed_share:
                control(servers[run.world], f"change?share={run.changed_share}")
        for _ in range(rounds):
            for run in runs:
                result = _run(run, servers[run.world], folder / "run", prepared.get(run.name))
                found[run.name].append(result)
                print(f"  {run.name}: {result['seconds']:.2f} s", file=sys.stderr, flush=True)
    return found, newest


def _run(
    run: Run, base_url: str, folder: Path, prepared: Path | None, *, keep: bool = False
) -> Mapping[str, float]:
    if prepared is None:
        folder.mkdir()
    else:
        shutil.copytree(prepared, folder)
    before = _asked(base_url)
    command = ["benchmarks.scale_run", "--base-url", base_url, "--folder", str(folder)]
    try:
        result = _measured([*command, "--options", json.dumps(dict(run.options))], folder)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    expected = control(base_url, "counts")["messages"]
    if result["exit_code"] or result["held"] != expected:
        raise RuntimeError(f"{run.name}: {result['held']:,} messages of {expected:,}")
    return result | {"requests": _asked(base_url) - before}


def _measured(module: Sequence[str], folder: Path) -> dict[str, float]:
    """What a module prints when it runs as a process, with the wall and CPU seconds it took."""
    command = [sys.executable, "-m", *module]
    done = run_measured(command, folder=folder, environment=environment(), limit_s=LIMIT_S)
    if done.exit_code:
        raise RuntimeError(f"{module[0]} failed: {done.stderr.strip()[-2_000:]}")
    whole = {"seconds": done.seconds, "cpu_seconds": done.cpu_seconds}
    printed: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return whole | printed


def _asked(base_url: str) -> int:
    return sum(control(base_url, "requests").values())


def measure_states() -> list[dict[str, float]]:
    """What a package costs beside a small state and beside a large one."""
    found = []
    for chats in STATE_CHATS:
        with tempfile.TemporaryDirectory(prefix="linq-scale-") as folder:
            command = ["benchmarks.scale_run", "--folder", folder, "--state-chats", str(chats)]
            found.append(_measured(command, Path(folder)) | {"chats": chats})
    return found


def costs_from(
    runs: Mapping[str, Run], found: Results, states: Sequence[Mapping[str, float]]
) -> Costs:
    """The costs, each the difference of medians of two runs."""

    def of(name: str, quantity: str = "cpu_seconds") -> float:
        return statistics.median(each[quantity] for each in found[name])

    start_s = of("idle")
    chats, pages, late = (runs[name].world for name in ("chats", "pages", "late"))
    package_s = (of("packages") - of("pages")) / max(
        1.0, of("packages", "packages") - of("pages", "packages")
    )
    chat_s = (of("chats") - start_s - package_s) / chats.chats
    further = pages.pages - pages.chats
    late_s = (of("late", "seconds") - start_s - package_s) / of("late", "requests") * WORKERS
    small, large = states
    return Costs(
        start_s=start_s,
        chat_s=max(0.0, chat_s),
        page_s=max(0.0, of("pages") - start_s - package_s - pages.chats * chat_s) / further,
        wait_s=max(0.0, late_s - late.latency_ms / 1_000 - chat_s),
        package_s=max(0.0, package_s),
        state_s_per_chat=(large["state_s"] - small["state_s"]) / (large["chats"] - small["chats"]),
        state_bytes_per_chat=large["state_bytes"] / large["chats"],
        stored_state_bytes_per_chat=large["stored_state_bytes"] / large["chats"],
    )


def work_of(run: Run, newest_s: float) -> Work:
    """What a run does to its world, by arithmetic: a message a minute up to the newest."""
    size = run.world
    newest_us = int(newest_s) * 1_000_000
    now_us = int((newest_s + size.quiet_days * DAY_S + 60) * 1_000_000)
    sent_us = range(newest_us - (size.messages_per_chat - 1) * MINUTE_US, newest_us + 1, MINUTE_US)
    if run.is_rerun:
        chats = round(run.changed_share * size.chats)
        prior = remembered(sent_us, now_us)
        each = later_reads([*sent_us, now_us - 1_000_000], prior, now_us, count_changed=True)
    else:
        chats, each = size.chats, first_reads(sent_us, now_us)
    return Work(
        list_requests=listing_requests([size.chats]),
        chats_listed=size.chats,
        chats_read=chats,
        message_requests=chats * each.requests,
        messages_written=chats * len(sent_us),
        longest=each if chats else Reads(),
    )


def compare(
    runs: Sequence[Run], found: Results, newest: Mapping[str, float], costs: Costs
) -> list[dict[str, Any]]:
    """Prediction and measurement of every check."""
    result = []
    for run in runs:
        place = Environment(
            latency_s=run.world.latency_ms / 1_000,
            rate_per_s=run.options.get("max_requests_per_second"),
            workers=WORKERS,
        )
        predicted = forecast(work_of(run, newest[run.name]), place, costs)
        pairs = {"requests": round(predicted.requests), "seconds": predicted.seconds}
        measured = {name: statistics.median(e[name] for e in found[run.name]) for name in pairs}
        both = {name: [round(pairs[name], 2), round(measured[name], 2)] for name in pairs}
        result.append({"name": run.name, **both})
    return result


def misses(checks: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was predicted worse than promised, one line each."""
    return [
        f"{check['name']}: {quantity} {predicted:,} predicted, {measured:,} measured"
        for check in checks
        for quantity, allowed in ALLOWED.items()
        for predicted, measured in [check[quantity]]
        if abs(predicted - measured) > allowed * measured
    ]
