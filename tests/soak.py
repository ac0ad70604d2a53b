"""The law of test_truth.py for as long as one likes, with runs that are killed: `make soak`.

Histories are made at random and told by a seed; the first that differs ends the soak with it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from linq_source.planning import windows
from linq_source.sandbox import DEFAULT_TOKEN
from tests import processes
from tests.destinations import DuckDB, Lake, OpenTables
from tests.test_truth import STEPS, Truth

KINDS = ("duckdb", "duckdb", "parquet", "delta")
# A run takes about a second, most of it dlt's own steps.
LONGEST_LIFE_MS = 3000

RUN = """
import json, os
import dlt
from linq_source import sync
from linq_source.planning import windows

task = json.loads(os.environ["SOAK"])
windows.MAX_ROWS = task["max_rows"]
kind = getattr(dlt.destinations, task["destination"])
pipeline = dlt.pipeline(
    task["name"], destination=kind(task["place"]), dataset_name="linq",
    pipelines_dir=task["pipelines"],
)
sync(pipeline, **task["options"])
"""


class Soak(Truth):
    """As `Truth`, into any kind of destination, and killed at any moment."""

    kind = "duckdb"
    world_forgets = False
    max_rows = 5_000
    # Whether `before` and `after` include the instant, to begin with.
    inclusive = False

    def __init__(self) -> None:
        super().__init__()
        self.sandbox.inclusive = self.inclusive
        self.divides = self.kind in ("duckdb", "parquet")
        self.forgets = self.world_forgets
        if self.kind == "parquet":
            self.loader.place = Lake(self.folder)
        elif self.kind == "delta":
            self.loader.place = OpenTables(self.folder, "delta")

    @rule(life_ms=st.integers(0, LONGEST_LIFE_MS))
    def a_run_that_is_killed(self, life_ms: int) -> None:
        """By SIGKILL, from outside, some time after it began."""
        if self.shards > 1:
            return
        place = self.loader.place or DuckDB(self.folder)
        task = {
            "destination": "duckdb" if isinstance(place, DuckDB) else "filesystem",
            "place": str(getattr(place, "bucket", self.loader.database)),
            "name": self.loader.name,
            "pipelines": str(self.folder / "pipelines"),
            "max_rows": self.max_rows,
            "options": self.loader.options
            | self.loader.arguments(**self.options(), max_messages=3 if life_ms % 2 else None),
        }
        environment = dict(os.environ) | {
            "SOAK": json.dumps(task),
            "SOURCES__LINQ__API_TOKEN": DEFAULT_TOKEN,
            "HOME": str(self.folder),
        }
        process = processes.start([], self.folder, environment, RUN)
        time.sleep(life_ms / 1000)
        process.kill()
        STEPS["kills"] += process.wait() == -signal.SIGKILL
        self.equal = False


def main() -> None:
    """Run histories until the minutes are over."""
    minutes = float(sys.argv[1])
    number = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(10**9)
    ends_s = time.monotonic() + 60 * minutes
    STEPS.update(steps=0, runs=0, examples=0, kills=0)
    while time.monotonic() < ends_s:
        number += 1
        choice = random.Random(number)
        # Windows of few messages split as they do in a world of millions.
        vars(windows)["MAX_ROWS"] = max_rows = choice.choice((24, 40, 60))
        kind = choice.choice(KINDS)
        chosen = {"kind": kind, "max_rows": max_rows, "inclusive": choice.random() < 0.5}
        chosen["world_forgets"] = choice.random() < 0.5
        variant = type("Variant", (Soak,), chosen)
        forgets = ", the API forgets" if chosen["world_forgets"] else ""
        print(f"seed {number}: {kind}{forgets}", flush=True)
        run_state_machine_as_test(
            seed(number)(variant),
            settings=settings(
                max_examples=3, stateful_step_count=20, deadline=None, database=None,
                suppress_health_check=list(HealthCheck), phases=[Phase.generate],
            ),
            _min_steps=10,
        )  # fmt: skip
    counts = ", ".join(f"{STEPS[name]:,} {name}" for name in ("steps", "runs", "kills"))
    print(f"soak: {counts} in {minutes:g} minutes, no difference")


if __name__ == "__main__":
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    main()
