"""Where a first load's processor time goes: by phase, and by step of the reading.

    python benchmarks/phases.py --messages 200000 --chats 100

Times are CPU seconds: of the process for phases, of the thread for steps (workers run beside the
main thread, so steps may add up to more than their phase). Steps that contain others say so.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
_STARTED_S = time.process_time()


class Clock:
    """CPU seconds by name."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self._lock = threading.Lock()

    def watch(self, owner: Any, attribute: str, name: str, *, of_process: bool = False) -> None:
        """Count what calls of a function take."""
        function = getattr(owner, attribute)
        now = time.process_time if of_process else time.thread_time

        def watched(*args: Any, **kwargs: Any) -> Any:
            began_s = now()
            try:
                return function(*args, **kwargs)
            finally:
                with self._lock:
                    self.seconds[name] += now() - began_s
                    self.calls[name] += 1

        setattr(owner, attribute, watched)

    def lines(self) -> list[str]:
        """Aligned, the most expensive first."""
        return [
            f"{seconds:6.2f} s {self.calls[name]:7,} calls  {name}"
            for name, seconds in sorted(self.seconds.items(), key=lambda pair: -pair[1])
        ]


def main() -> int:
    """Measure one load and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--chats", type=int, default=100)
    arguments = parser.parse_args()
    phases, steps = Clock(), Clock()
    import dlt

    phases.seconds["import dlt"] = time.process_time() - _STARTED_S
    began_s = time.process_time()
    from pyarrow.parquet import ParquetWriter

    from benchmarks.bench import serving
    from benchmarks.cases import WorldSize
    from linq_source import sync
    from linq_source.api import transport
    from linq_source.decoding import pages
    from linq_source.planning import changes, chat_progress, window_reading

    phases.seconds["import linq_source"] = time.process_time() - began_s
    phases.calls.update(list(phases.seconds))
    steps.watch(transport.Transport, "get", "request and answer, over the socket")
    steps.watch(pages, "_parse", "JSON to Arrow, by pyarrow.json")
    steps.watch(window_reading, "decode_pages", "decode: the parser, types, children")
    steps.watch(changes, "digest_records", "digests of days")
    steps.watch(chat_progress.ChatProgress, "enter", "what changed: digests, and cutting into days")
    steps.watch(ParquetWriter, "write_table", "write Parquet")
    per_chat = max(1, arguments.messages // arguments.chats)
    with (
        tempfile.TemporaryDirectory(prefix="linq-phases-") as folder,
        serving(WorldSize(arguments.chats, per_chat)) as url,
    ):
        pipeline = dlt.pipeline(
            "phases",
            destination=dlt.destinations.duckdb(f"{folder}/out.duckdb"),
            dataset_name="linq",
            pipelines_dir=folder,
        )
        for phase in ("extract", "normalize", "load"):
            phases.watch(pipeline, phase, f"dlt's {phase} step", of_process=True)
        began_s = time.process_time()
        sync(pipeline, api_token="benchmark-token", base_url=url)
        total_s = time.process_time() - began_s
    inside_s = sum(s for name, s in phases.seconds.items() if name.startswith("dlt's"))
    phases.seconds["the rest of sync: states compared, keys checked, ledger settled"] = (
        total_s - inside_s
    )
    phases.calls["the rest of sync: states compared, keys checked, ledger settled"] = 1
    print(f"{arguments.chats} chats of {per_chat} messages, CPU seconds\n")
    print("\n".join(phases.lines()))
    print("\nwithin the extract step:\n")
    print("\n".join(steps.lines()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
