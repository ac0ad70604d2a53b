"""One `sync` into a DuckDB file, as a process of its own; prints one line of JSON about it.

With `--state-chats`: what a state of so many chats costs a package that changes it. That is dlt's
own work, measured with invented cursors as the median CPU seconds of loading one row.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt

from benchmarks.contenders.common import TOKEN
from linq_source import sync


def main() -> None:
    """Read everything that is to be read, once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--base-url")
    parser.add_argument("--options", type=json.loads, default={}, help="of `sync`, as JSON")
    parser.add_argument("--state-chats", type=int, default=0)
    arguments = parser.parse_args()
    pipeline = dlt.pipeline(
        pipeline_name="scale",
        destination=dlt.destinations.duckdb(str(arguments.folder / "out.duckdb")),
        dataset_name="linq",
        pipelines_dir=str(arguments.folder / "pipelines"),
    )
    if arguments.state_chats:
        print(json.dumps(state_costs(pipeline, arguments.state_chats)))
        return
    report = sync(pipeline, api_token=TOKEN, base_url=arguments.base_url, **arguments.options)
    held = _ask(pipeline, "SELECT count(*) FROM linq.chat_messages")
    found = {"held": held, "exit_code": report.exit_code, "packages": len(report.loads)}
    print(json.dumps(found))


def state_costs(pipeline: dlt.Pipeline, chats: int) -> dict[str, float]:
    """Load a state, then change it a few times."""
    rng = random.Random(1)

    @dlt.resource(name="chat_messages")
    def messages(number: int) -> Iterator[Any]:
        cursors = dlt.current.resource_state().setdefault("cursors", {})
        if not cursors:
            cursors |= {str(100_000_000 + index): cursor(rng) for index in range(chats)}
        cursors["100000000"] = cursor(rng)
        yield {"number": number}

    seconds = []
    for number in range(4):
        began_s = time.process_time()
        pipeline.run(messages(number))
        seconds.append(time.process_time() - began_s)
    stored = _ask(pipeline, "SELECT max(length(state)) FROM linq._dlt_pipeline_state")
    return {
        "state_s": statistics.median(seconds[1:]),
        "state_bytes": (Path(pipeline.working_dir) / "state.json").stat().st_size,
        "stored_state_bytes": stored,
    }


def cursor(rng: random.Random) -> str:
    """What is kept of a chat with one day in its lookback, as `planning.cursors` writes it."""
    newest_us = rng.randrange(1_640_000_000_000_000, 1_770_000_000_000_000)
    older, day = rng.randrange(2_000), rng.randrange(1, 30)
    start_us = newest_us - 604_800_000_000
    digest = f"{rng.getrandbits(48):012x}"
    return f"{newest_us}|{older + day}|4||{start_us}|{older}|0|20493:{day}:{digest}"


def _ask(pipeline: dlt.Pipeline, sql: str) -> int:
    with pipeline.sql_client() as client:
        rows = client.execute_sql(sql)
    return int(rows[0][0]) if rows else 0


if __name__ == "__main__":
    main()
