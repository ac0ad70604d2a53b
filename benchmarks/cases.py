"""What is measured: worlds, what is done with them, and who takes part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

CONTENDERS: Mapping[str, Sequence[str]] = {
    "ours": ("benchmarks.contenders.ours",),
    "requests_read_json": ("benchmarks.contenders.requests_read_json",),
    "rest_api": ("benchmarks.contenders.rest_api",),
    "rest_api_parallelized": ("benchmarks.contenders.rest_api", "--parallelized"),
    "meltano": ("benchmarks.contenders.meltano",),
    "pyairbyte": ("benchmarks.contenders.pyairbyte",),
    "floor": ("benchmarks.contenders.floor",),
}
TITLES: Mapping[str, str] = {
    "ours": "linq-source (`sync`)",
    "requests_read_json": "bare loop: `requests`, then DuckDB's `read_json`",
    "rest_api": "dlt's `rest_api` source",
    "rest_api_parallelized": "dlt's `rest_api` source, parallelized",
    "meltano": "Meltano pair: `singer-sdk` tap, `target-duckdb`",
    "pyairbyte": "PyAirbyte, declarative manifest",
    "floor": "floor: `http.client`, `pyarrow.json`, DuckDB",
}
# Environments that a contender needs besides ours.
ENVIRONMENTS: Mapping[str, Sequence[str]] = {
    "meltano": ("meltano-tap", "meltano-target"),
    "pyairbyte": ("pyairbyte",),
}
WORKERS = 8
PER_PAGE = 100


@dataclass(frozen=True)
class WorldSize:
    """A world, and how it is served. `quiet_days`: the age of every chat's newest message."""

    chats: int
    messages_per_chat: int
    latency_ms: float = 0.0
    quiet_days: float = 0.0

    @property
    def messages(self) -> int:
        """Of all chats."""
        return self.chats * self.messages_per_chat

    @property
    def pages(self) -> int:
        """Pages of messages, each chat's for itself."""
        return self.chats * -(-self.messages_per_chat // PER_PAGE)


@dataclass(frozen=True)
class Job:
    """One thing to do with a world.

    With `is_rerun`, it finds what a first load, not measured, left of the world; with
    `changed_share`, that share of the chats has changed since.
    """

    name: str
    world: WorldSize
    is_rerun: bool = False
    changed_share: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Case(Job):
    """A job for contenders.

    `runs` says how often each is measured, `estimated` who is too slow to be, judged by the case
    `first-load`.
    """

    title: str
    runs: Mapping[str, int]
    estimated: Sequence[str] = ()
    limit_s: float = 900.0


_Job = TypeVar("_Job", bound=Job)
FAST = 3
SLOW = 1
_SILENT = WorldSize(chats=10_000, messages_per_chat=4, quiet_days=30.0)

CASES = (
    Case(
        "start-up",
        WorldSize(chats=1, messages_per_chat=100, quiet_days=30.0),
        title="A run with nothing to do: one chat, silent for 30 days",
        runs={"ours": FAST},
        is_rerun=True,
    ),
    Case(
        "first-load",
        WorldSize(chats=100, messages_per_chat=2_000),
        title="First load: 200,000 messages in 100 chats, no latency",
        runs={
            "ours": FAST,
            "requests_read_json": FAST,
            "rest_api": SLOW,
            "rest_api_parallelized": SLOW,
            "meltano": SLOW,
            "pyairbyte": SLOW,
            "floor": FAST,
        },
    ),
    Case(
        "latency",
        WorldSize(chats=100, messages_per_chat=400, latency_ms=50.0),
        title="First load: 40,000 messages in 100 chats, every answer 50 ms late",
        runs={
            "ours": FAST,
            "requests_read_json": SLOW,
            "rest_api": SLOW,
            "rest_api_parallelized": SLOW,
            "meltano": SLOW,
            "pyairbyte": SLOW,
            "floor": SLOW,
        },
    ),
    Case(
        "nothing",
        _SILENT,
        title="A run with nothing to do: 10,000 chats, silent for 30 days",
        runs={"ours": FAST},
        is_rerun=True,
    ),
    Case(
        "changed",
        _SILENT,
        title="A run after one chat in a hundred of 10,000 changed",
        runs={"ours": FAST, "requests_read_json": SLOW},
        is_rerun=True,
        changed_share=0.01,
    ),
    Case(
        "large",
        WorldSize(chats=1_000, messages_per_chat=5_000),
        title="First load: 5,000,000 messages in 1,000 chats, no latency",
        runs={"ours": SLOW, "requests_read_json": SLOW, "floor": SLOW},
        estimated=("rest_api", "rest_api_parallelized", "meltano", "pyairbyte"),
    ),
)


def scaled(job: _Job, share: float) -> _Job:
    """The same with a share of the chats, to try it out; at least ten chats."""
    chats = min(job.world.chats, max(10, round(job.world.chats * share)))
    changed = max(job.changed_share, 1 / chats) if job.changed_share else 0.0
    return replace(job, world=replace(job.world, chats=chats), changed_share=changed)


def limited(case: Case, names: Sequence[str], runs: int | None) -> Case:
    """The same case for some contenders only, each run as often as said."""
    kept = {name: runs or times for name, times in case.runs.items() if name in names}
    return replace(case, runs=kept)
