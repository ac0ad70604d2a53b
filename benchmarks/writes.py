"""Rows written by hourly runs, against loading the whole lookback in every run.

python benchmarks/writes.py --chats 1000 --hours 24
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import dlt  # noqa: E402

from linq_source import sync  # noqa: E402
from linq_source.sandbox import DEFAULT_TOKEN, Sandbox, World  # noqa: E402

DAY_MS = 86_400_000
HOUR_MS = 3_600_000


def main() -> None:
    """Chats with ten messages a day for eight days, then hourly runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chats", type=int, default=1000)
    parser.add_argument("--hours", type=int, default=24)
    options = parser.parse_args()
    now_ms = 20_500 * DAY_MS
    world = World(now_ms=now_ms)
    world.add_phone_number("+15550000001")
    for number in range(options.chats):
        chat = world.add_chat()
        for hour in range(8 * 24, 0, -1):
            if (hour + number) % 24 in SENDING:
                world.add_message(chat.id, sent_at_ms=now_ms - hour * HOUR_MS + number % 3000)
    with tempfile.TemporaryDirectory() as folder, Sandbox(world) as sandbox:
        pipeline = dlt.pipeline(
            "writes",
            destination=dlt.destinations.duckdb(str(Path(folder) / "x.duckdb")),
            dataset_name="linq",
            pipelines_dir=folder,
        )
        written = again = 0
        for hour in range(options.hours + 1):
            world.now_ms = now_ms + hour * HOUR_MS
            for chat_id in list(world.chats):
                if hour and (chat_id - hour) % 24 in SENDING:
                    world.add_message(chat_id, sent_at_ms=world.now_ms - 60_000)
            report = sync(pipeline, api_token=DEFAULT_TOKEN, base_url=sandbox.url)
            if hour:
                written += report.messages
                again += sum(_in_lookback(world, chat_id) for chat_id in world.chats)
        print(
            f"{options.chats} chats, {options.hours} hourly runs: {written:,} messages written, "
            f"{again:,} without the filter ({again / written:.0f} times as many)"
        )


SENDING = (0, 1, 5, 6, 7, 8, 12, 13, 17, 18)


def _in_lookback(world: World, chat_id: int) -> int:
    messages = world.messages_of(chat_id)
    start_ms = messages[-1].sent_at_ms - 7 * DAY_MS
    start_ms -= start_ms % DAY_MS
    return sum(message.sent_at_ms >= start_ms for message in messages)


if __name__ == "__main__":
    main()
