"""How large the state of many chats is, and what a run with nothing to do takes.

python benchmarks/state.py --chats 50000
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import dlt  # noqa: E402

from benchmarks.bench import serving  # noqa: E402
from benchmarks.cases import WorldSize  # noqa: E402
from linq_source import sync  # noqa: E402


def main() -> None:
    """Load a world of chats that fell silent, then run again twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chats", type=int, default=50_000)
    parser.add_argument("--messages-per-chat", type=int, default=10)
    options = parser.parse_args()
    world = WorldSize(options.chats, options.messages_per_chat)
    with tempfile.TemporaryDirectory() as folder, serving(world) as base_url:
        pipeline = dlt.pipeline(
            "state",
            destination=dlt.destinations.duckdb(str(Path(folder) / "x.duckdb")),
            dataset_name="linq",
            pipelines_dir=folder,
        )
        for name in ("first", "nothing to do", "nothing to do"):
            started_s = time.monotonic()
            # Without a lookback a chat is at rest as soon as it was read.
            report = sync(pipeline, api_token="t", base_url=base_url, lookback_days=0)
            print(
                f"{name:14} {time.monotonic() - started_s:7.1f} s  {report.requests:6} requests  "
                f"{report.chats_skipped:6} chats skipped  {report.messages:7} messages"
            )
        with pipeline.sql_client() as client:
            rows = client.execute_sql("SELECT max(length(state)) FROM _dlt_pipeline_state")
        local = (Path(pipeline.working_dir) / "state.json").stat().st_size
        stored = rows[0][0] if rows else 0
        print(f"state: {local / 1e6:.1f} MB local, {stored / 1e6:.1f} MB in the destination")


if __name__ == "__main__":
    main()
