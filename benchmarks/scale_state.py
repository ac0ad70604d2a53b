"""What a large state costs each package that changes it: dlt's own work, with invented cursors.

Prints one line of JSON: median CPU seconds of a load of one row beside a state of that many chats.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt

from linq_source.instants import DAY_US
from linq_source.planning.cursors import Cursor, DayDigest, Reconciled, day_segment, encode

NOW_US = 20_500 * DAY_US


def cursor(rng: random.Random) -> str:
    """What is remembered of a chat with one day in its lookback."""
    newest_us = NOW_US - rng.randrange(1_500 * DAY_US)
    days = {day_segment(newest_us): DayDigest(rng.randrange(1, 30), f"{rng.getrandbits(64):016x}")}
    older = rng.randrange(2_000)
    listed = older + sum(content.count for content in days.values())
    start_us = newest_us - 7 * DAY_US
    start_us -= start_us % DAY_US
    return encode(Cursor(newest_us, listed, Reconciled.RESTING, None, start_us, older, 0, days))


def main() -> None:
    """Load a state, then change it a few times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chats", type=int, required=True)
    arguments = parser.parse_args()
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    rng = random.Random(1)

    @dlt.resource(name="chat_messages")
    def messages(number: int) -> Iterator[Any]:
        cursors = dlt.current.resource_state().setdefault("cursors", {})
        if not cursors:
            for index in range(arguments.chats):
                cursors[str(100_000_000 + index)] = cursor(rng)
        cursors["100000000"] = cursor(rng)
        yield {"number": number}

    with tempfile.TemporaryDirectory() as folder:
        pipeline = dlt.pipeline(
            "scale_state",
            destination=dlt.destinations.duckdb(str(Path(folder) / "out.duckdb")),
            dataset_name="linq",
            pipelines_dir=folder,
        )
        seconds = []
        for number in range(4):
            began_s = time.process_time()
            pipeline.run(messages(number))
            seconds.append(time.process_time() - began_s)
        with pipeline.sql_client() as client:
            rows = client.execute_sql("SELECT max(length(state)) FROM linq._dlt_pipeline_state")
        print(
            json.dumps(
                {
                    "seconds": statistics.median(seconds[1:]),
                    "state_bytes": (Path(pipeline.working_dir) / "state.json").stat().st_size,
                    "stored_state_bytes": rows[0][0] if rows else 0,
                }
            )
        )


if __name__ == "__main__":
    main()
