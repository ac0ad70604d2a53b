"""One `sync` into a DuckDB file, as a process of its own, that tells where its time went.

Prints one line of JSON: wall and CPU seconds of dlt's extract step (all our reading), of the rest
(normalizing, loading, settling, start-up), requests, rows, and the size of the state.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import dlt

from benchmarks.contenders.common import TOKEN
from linq_source import sync


def main() -> None:
    """Read everything that is to be read, once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--options", type=json.loads, default={}, help="of `sync`, as JSON")
    arguments = parser.parse_args()
    pipeline = dlt.pipeline(
        pipeline_name="scale",
        destination=dlt.destinations.duckdb(str(arguments.folder / "out.duckdb")),
        dataset_name="linq",
        pipelines_dir=str(arguments.folder / "pipelines"),
    )
    extract = pipeline.extract
    spent = {"extract_s": 0.0, "extract_cpu_s": 0.0, "packages": 0}

    def timed(*args: Any, **options: Any) -> Any:
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        try:
            return extract(*args, **options)
        finally:
            spent["extract_s"] += time.perf_counter() - began_s
            spent["extract_cpu_s"] += time.process_time() - began_cpu_s
            spent["packages"] += 1

    pipeline.extract = timed  # type: ignore[method-assign]
    report = sync(pipeline, api_token=TOKEN, base_url=arguments.base_url, **arguments.options)
    with pipeline.sql_client() as client:
        rows = client.execute_sql("SELECT max(length(state)) FROM linq._dlt_pipeline_state")
        held = client.execute_sql("SELECT count(*) FROM linq.chat_messages")
    local = Path(pipeline.working_dir) / "state.json"
    print(
        json.dumps(
            spent
            | {
                "requests": report.requests,
                "retries": report.retries,
                "chats_read": report.chats - report.chats_skipped,
                "messages": report.messages,
                "held": held[0][0] if held else 0,
                "exit_code": report.exit_code,
                "state_bytes": local.stat().st_size,
                "stored_state_bytes": rows[0][0] if rows else 0,
            }
        )
    )


if __name__ == "__main__":
    main()
