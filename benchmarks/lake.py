"""Settling a lake: memory and time for many rows in one partition.

    python benchmarks/lake.py --rows 10000000 --changed 10000

Writes a log of `--rows` messages of one month, with a reaction on every fifth, settles it, changes
some, settles again, and rebuilds the current state. Each step is a process of its own, so that
its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
from fsspec.implementations.local import LocalFileSystem

from linq_source import tables
from linq_source.destinations.bucket import Bucket
from linq_source.destinations.lake import rebuild_lake, settle_lake
from linq_source.destinations.lake.layout import SETTLED_TABLES

FILE_ROWS = 1_000_000


def write_load(root: Path, load: str, rows: int, *, step: int, synced_at: str) -> None:
    """A load as dlt leaves it: messages with every `step`-th id, and reactions of some."""
    (root / "_dlt_loads").mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for table in SETTLED_TABLES:
            (root / table.name).mkdir(exist_ok=True)
            connection.register(f"empty_{table.name}", table.schema.empty_table())
        for number, first in enumerate(range(0, rows, FILE_ROWS)):
            last = min(first + FILE_ROWS, rows)
            connection.execute(f"""
                CREATE OR REPLACE TEMP TABLE fresh AS
                SELECT i * {step} AS id, (i * {step}) % 1000 AS chat_id,
                  'message ' || i || ' of ' || '{synced_at}' || repeat('.', (i % 80)::INT) AS text,
                  TIMESTAMPTZ '2026-03-01' + INTERVAL 1 MILLISECOND * (i * {step} % 2600000000)
                    AS sent_at,
                  'delivered' AS delivery_status, true AS is_read, '+15550000001' AS sent_from,
                  1 AS chat_handle_id, TIMESTAMPTZ '{synced_at}' AS synced_at
                FROM range({first}, {last}) AS r(i)""")
            of_message = """
                SELECT id AS chat_message_id, id + 7 AS id, chat_id, 'love' AS reaction,
                  true AS is_from_me, sent_at, synced_at FROM fresh WHERE id % 5 = 0"""
            for table, sql in (
                (tables.CHAT_MESSAGES, "SELECT * FROM fresh"),
                (tables.REACTIONS, of_message),
            ):
                connection.execute(
                    f"COPY (SELECT * FROM empty_{table.name} UNION ALL BY NAME {sql}) TO"
                    f" '{root}/{table.name}/{load}.{number:010}.parquet' (FORMAT parquet)"
                )
    (root / "_dlt_loads" / f"linq__{load}.jsonl").write_text(json.dumps({"load_id": load}))


def main() -> int:
    """Write, settle, change, settle, rebuild; one line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--changed", type=int, default=10_000)
    parser.add_argument("--step", choices=("settle", "rebuild"), help=argparse.SUPPRESS)
    parser.add_argument("--root", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        bucket = Bucket(LocalFileSystem(), arguments.root)
        started_s = time.monotonic()
        if arguments.step == "settle":
            settle_lake(bucket)
        else:
            rebuild_lake(bucket)
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024
        print(f"{arguments.step}: {time.monotonic() - started_s:.1f} s, peak {peak_mb:.0f} MB")
        return 0
    with tempfile.TemporaryDirectory(prefix="linq-lake-benchmark-") as folder:
        root = Path(folder, "lake")
        write_load(root, "1000.1", arguments.rows, step=1, synced_at="2026-04-01 00:00:00")
        _step("settle", root, f"{arguments.rows:,} new rows")
        write_load(
            root,
            "2000.1",
            arguments.changed,
            step=max(1, arguments.rows // arguments.changed),
            synced_at="2026-04-02 00:00:00",
        )
        _step("settle", root, f"{arguments.changed:,} changed rows among them")
        _step("rebuild", root, "both loads")
        (part,) = (root / "current" / "chat_messages").glob("*/part-0.parquet")
        print(f"the partition has {part.stat().st_size / 1e6:.0f} MB")
    return 0


def _step(name: str, root: Path, what: str) -> None:
    command = [sys.executable, __file__, "--step", name, "--root", str(root)]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    print(f"{text} ({what})", flush=True)


if __name__ == "__main__":
    sys.exit(main())
