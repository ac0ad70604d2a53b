"""What a run costs, in numbers that do not depend on the machine.

Requests, tables handed to dlt, bytes written, and steps and memory of Python per row. A number
that rises is a regression; one that falls may be written down here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import tracemalloc
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import dlt
import pytest

import linq_source
from linq_source.sandbox import DEFAULT_TOKEN, World
from tests.conftest import DAY_MS, NOW_MS, Loader
from tests.one_chat_server import one_chat_world

CHATS = 30
SILENT_DAYS = 30
PACKAGE = str(Path(linq_source.__file__).parent)


@pytest.fixture
def silent(serve: Callable[[World], Loader]) -> Loader:
    """A loader of thirty chats of 50 messages, the newest a month old."""
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001")
    for chat_id in range(1, CHATS + 1):
        world.add_chat(display_name=f"Chat {chat_id}", chat_id=chat_id)
        for number in range(50):
            sent_at_ms = NOW_MS - SILENT_DAYS * DAY_MS - number * 60_000
            world.add_message(chat_id, f"m{number}", sent_at_ms=sent_at_ms)
    return serve(world)


def routes(loader: Loader, **options: Any) -> dict[str, int]:
    """How many requests of each kind a run makes."""
    return dict(Counter(route for route, _ in loader.requests_of(lambda: loader.sync(**options))))


def test_requests_of_runs(silent: Loader) -> None:
    listing = {"phone_numbers": 1, "chats": 1}
    assert routes(silent) == {**listing, "chat_messages": CHATS}
    assert routes(silent) == listing
    silent.world.add_message(7, "new", sent_at_ms=NOW_MS - 5_000)
    assert routes(silent) == {**listing, "chat_messages": 1}
    # Inside the lookback a chat is asked for again, and only that one.
    assert routes(silent) == {**listing, "chat_messages": 1}
    silent.assert_equal_world()


def test_pages_are_asked_for_once(serve: Callable[[World], Loader]) -> None:
    loader = serve(one_chat_world(1_000, 10))
    assert routes(loader) == {"phone_numbers": 1, "chats": 1, "chat_messages": 10}


def test_tables_handed_to_dlt_do_not_grow_with_chats_or_pages(silent: Loader) -> None:
    # Resources that are iterated find the state of the pipeline made last.
    _ = silent.pipeline
    found = [item for item in silent.source().resources["chat_messages"] if hasattr(item, "schema")]
    filled = [table for table in found if table.num_rows]
    # Messages, the ledger, the run; tombstones of both kinds of children.
    assert sorted(table.num_rows for table in filled) == [1, CHATS, *[50 * CHATS] * 3]
    empty = len(found) - len(filled)
    assert empty == 6, "every table is declared once"


def test_bytes_written(serve: Callable[[World], Loader]) -> None:
    loader = serve(one_chat_world(1_000, 40))
    pipeline = loader.pipeline
    pipeline.extract(loader.source())
    pipeline.normalize()
    (package,) = pipeline.list_normalized_load_packages()
    sizes: Counter[str] = Counter()
    for job in pipeline.get_load_package_info(package).jobs["new_jobs"]:
        if job.job_file_info.file_format == "parquet":
            sizes[job.job_file_info.table_name] += Path(job.file_path).stat().st_size
    found = {table: sizes[table] for table in EXPECTED_BYTES}
    assert found == pytest.approx(EXPECTED_BYTES, rel=0.1)


EXPECTED_BYTES = {
    "chat_messages": 16_091,
    "chat_messages__attachments": 24_216,
    "chat_messages__reactions": 14_019,
    "sync_windows": 3_829,
}


@dataclass
class Cost:
    """What reading cost: lines of this package that ran, and bytes that Python objects took."""

    lines: int = 0
    python_bytes: int = 0
    rows: int = 0


class _Tracer:
    """Counts lines of this package as they run, and what each adds to Python's memory at most.

    A list made and dropped within one line shows as a peak. Arrow's memory is not Python's.
    """

    def __init__(self) -> None:
        self.cost = Cost()
        # None until a line of this package runs: what dlt sets up first differs from run to run.
        self._before: int | None = None

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        self.note()
        self.cost.lines += event == "line"
        return self

    def note(self) -> None:
        """Count what was added since the last line."""
        if self._before is not None:
            peak = tracemalloc.get_traced_memory()[1]
            self.cost.python_bytes += max(0, peak - self._before)
        tracemalloc.reset_peak()
        self._before = tracemalloc.get_traced_memory()[0]


@contextmanager
def one_chat(messages: int, text_length: int) -> Iterator[str]:
    """One chat served by another process; gives the address."""
    command = [sys.executable, "-m", "tests.one_chat_server", str(messages), str(text_length)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        assert process.stdin is not None
        process.stdin.close()


def body_bytes(base_url: str, page_size: int, pages: int) -> int:
    """The bytes of all pages."""
    total = 0
    for page in range(1, pages + 1):
        path = f"/api/partner/v2/chats/1/chat_messages?page={page}&per_page={page_size}"
        request = urllib.request.Request(base_url + path)
        request.add_header("X-LINQ-INTEGRATION-TOKEN", DEFAULT_TOKEN)
        with urllib.request.urlopen(request) as answer:
            body = answer.read()
        assert len(json.loads(body)["data"]) == page_size
        total += len(body)
    return total


def read(base_url: str, page_size: int) -> Cost:
    """Read the chat with one worker: once as a warm-up, then traced; the least of three."""
    costs = [_read_once(base_url, page_size) for _ in range(4)][1:]
    return min(costs, key=lambda cost: cost.python_bytes)


def _read_once(base_url: str, page_size: int) -> Cost:
    source = linq_source.linq_source(
        api_token=DEFAULT_TOKEN, base_url=base_url, page_size=page_size, workers=1
    )
    resource = source.resources["chat_messages"]
    tracemalloc.start()
    tracer = _Tracer()
    before, before_threads = sys.gettrace(), threading.gettrace()
    threading.settrace(tracer)
    sys.settrace(tracer)
    try:
        tables = [item for item in resource if hasattr(item, "num_rows")]
    finally:
        sys.settrace(before)
        threading.settrace(before_threads)
        tracer.note()
        tracemalloc.stop()
    tracer.cost.rows = max(table.num_rows for table in tables)
    return tracer.cost


def test_no_row_becomes_a_python_object(tmp_path: Path) -> None:
    # Resources that are iterated find the state of the pipeline made last: here, an empty one.
    dlt.pipeline("nothing_loaded", destination="duckdb", pipelines_dir=str(tmp_path))
    pages, few, many = 20, 10, 100
    # Texts are as much longer as there are fewer of them: the pages are as large.
    with one_chat(pages * few, LONG_TEXT) as url:
        few_bytes = body_bytes(url, few, pages)
        small = read(url, few)
    with one_chat(pages * many, 4) as url:
        many_bytes = body_bytes(url, many, pages)
        large = read(url, many)
    assert abs(many_bytes - few_bytes) < 2_000, "choose another LONG_TEXT"
    assert (small.rows, large.rows) == (pages * few, pages * many)
    more_rows = large.rows - small.rows
    assert large.lines - small.lines < 0.2 * more_rows, "something loops over rows"
    grown = large.python_bytes - small.python_bytes
    # One small integer in a list takes 36 bytes. The search for the rows of a day takes a few
    # steps more, as many as the rows have doublings.
    assert grown < 18 * more_rows, f"{grown / more_rows:.0f} bytes of Python objects per row"


LONG_TEXT = 2_788
