"""What polling quiet chats costs by API v3, where no count tells that nothing changed.

    python benchmarks/polling_v3.py --chats 50000

Loads an invented organisation once, lets nine days pass, and runs again: as it is; with rechecks;
and with an API whose chats tell no `updated_at`. Requests are exact. CPU seconds are of this
process, in which the sandbox answers, too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import dlt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from linq_source import sync
from linq_source.sandbox import DEFAULT_TOKEN, Sandbox, World

DAY_MS = 86_400_000
NOW_MS = 20_500 * DAY_MS


def world_of(chats: int) -> World:
    """One line, chats of two messages each."""
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001")
    for number in range(chats):
        chat = world.add_chat()
        for age_days in (1, 2):
            world.add_message(chat.id, f"{number}", sent_at_ms=NOW_MS - age_days * DAY_MS)
    return world


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chats", type=int, default=2_000)
    chats = parser.parse_args().chats
    with tempfile.TemporaryDirectory() as folder, Sandbox(world_of(chats)) as sandbox:
        pipeline = dlt.pipeline(
            "polling",
            destination=dlt.destinations.duckdb(str(Path(folder) / "messages.duckdb")),
            dataset_name="linq_v3",
            pipelines_dir=folder,
        )

        def run(what: str, **options: Any) -> None:
            began_s, cpu_s = time.monotonic(), time.process_time()
            report = sync(
                pipeline, api_token=DEFAULT_TOKEN, base_url=sandbox.url, api="v3", **options
            )
            print(
                f"{what:<44}{report.requests:>9,} requests {report.messages:>9,} messages"
                f" {time.process_time() - cpu_s:>8.1f} s CPU {time.monotonic() - began_s:>8.1f} s",
                flush=True,
            )

        run("the first load")
        sandbox.world.advance(9 * DAY_MS)
        run("nine days later, once more over the lookback", recheck_share=0)
        run("then", recheck_share=0)
        sandbox.world.advance(16 * DAY_MS)
        run("with rechecks, 16 days later")
        for chat in sandbox.world.chats.values():
            chat.extra["updated_at"] = None
        run("where chats tell no updated_at", recheck_share=0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
