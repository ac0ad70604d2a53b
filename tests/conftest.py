"""Fixtures: a sandbox served over real HTTP, and a loader into a DuckDB file of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dlt
import pytest
from hypothesis import HealthCheck, settings

from linq_source import Report, audit, linq_source, open_shard, plan_shards, settle, sync
from linq_source.operations.audit import AuditReport
from linq_source.sandbox import DEFAULT_TOKEN, Sandbox, World, seeded_world
from linq_source.sandbox.rendering_v3 import Kind, uuid_of
from linq_source.settings import Id
from tests.bigquery import front_end
from tests.destinations import KINDS, DuckDB, Place
from tests.dlt_types import remember_types
from tests.files import FileHost, file_host
from tests.truth import (
    LIVE_TABLES,
    Tables,
    assert_equal_tables,
    live_tables,
    loaded_tables,
    query,
)
from tests.truth_v3 import LIVE_TABLES_V3, assert_equal_world_v3

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
DOCS = Path(__file__).parent.parent / "docs"
# Midday, so that days before and after are whole.
NOW_MS = 20_500 * DAY_MS + 12 * HOUR_MS

# Where there is memory for it, files lie there: a disk makes each small load wait a third longer.
MEMORY = Path("/dev/shm")
is_chosen = "TMPDIR" in os.environ
has_room = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4 * 2**30
if has_room and not is_chosen:
    tempfile.tempdir = os.environ["TMPDIR"] = str(MEMORY)
os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
# A suite in the background of a script was started with SIGINT ignored, and so would be the
# processes that it starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
remember_types()
# How long an example takes on a busy machine says nothing of what is tested.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@dataclass
class Loader:
    """A pipeline into a place of its own, a DuckDB file unless told otherwise, fed by a sandbox."""

    sandbox: Sandbox
    folder: Path
    name: str = "test_linq"
    place: Place | None = None
    api: str = "v2"

    @property
    def database(self) -> Path:
        return self.folder / "messages.duckdb"

    @property
    def _place(self) -> Place:
        return self.place or DuckDB(self.folder)

    @property
    def options(self) -> dict[str, Any]:
        """What `sync`, `pipeline.run` and `pipeline.extract` must be told about the place."""
        return dict(self._place.options)

    @property
    def world(self) -> World:
        return self.sandbox.world

    @property
    def pipeline(self) -> dlt.Pipeline:
        return dlt.pipeline(
            self.name,
            destination=self._place.destination(),
            dataset_name="linq",
            pipelines_dir=str(self.folder / "pipelines"),
        )

    def arguments(self, **options: Any) -> dict[str, Any]:
        version = {} if self.api == "v2" else {"api": self.api}
        return {"api_token": DEFAULT_TOKEN, "base_url": self.sandbox.url, **version, **options}

    def sync(self, **options: Any) -> Report:
        return sync(self.pipeline, **self.options, **self.arguments(**options))

    def sync_shards(self, count: int, settles: bool = True, **options: Any) -> list[Report]:
        """Every shard after the other, by a worker that starts with an empty disk."""
        reports = []
        for shard in plan_shards(count):
            with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                pipeline = self.open_shard(shard, Path(folder))
                arguments = self.arguments(shard=shard, **options)
                reports.append(sync(pipeline, settles=settles, **self.options, **arguments))
        return reports

    def open_shard(self, shard: str, folder: Path) -> dlt.Pipeline:
        """A shard's pipeline, with its files in a folder."""
        destination = self._place.destination()
        return open_shard(shard, destination, pipeline_name=self.name, pipelines_dir=str(folder))

    def audit(self, **options: Any) -> AuditReport:
        return audit(self.pipeline, **self.arguments(**options))

    def settle(self) -> int:
        return settle(self.pipeline)

    def source(self, **options: Any) -> Any:
        return linq_source(**self.arguments(**options))

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return query(self.database, sql)

    def live_tables(self, database: Path | None = None) -> Tables:
        """What is live, in another DuckDB file if one is named."""
        place = self._place
        names = LIVE_TABLES if self.api == "v2" else LIVE_TABLES_V3
        if isinstance(place, DuckDB):
            # Opened once: that takes as long as reading all of a small file.
            return loaded_tables(database or place.database, names=names)
        return live_tables(place.rows, names)

    def assert_equal_world(self, database: Path | None = None) -> None:
        loaded = self.live_tables(database)
        if self.api == "v2":
            assert_equal_tables(loaded, self.world)
        else:
            assert_equal_world_v3(loaded, self.world)

    def id_of(self, kind: Kind, number: int) -> Id:
        """A world's number as the id that the version of the API has for it."""
        return number if self.api == "v2" else uuid_of(kind, number)

    def requests_of(self, call: Callable[[], Any]) -> list[tuple[str, dict[str, str]]]:
        """The requests that a call makes, as route and parameters."""
        self.sandbox.requests_log.clear()
        call()
        return [(record.route, dict(record.params)) for record in self.sandbox.requests_log]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[World], Loader]]:
    """Serve a world; gives a loader into a fresh database."""
    running: list[Sandbox] = []

    def start(world: World) -> Loader:
        sandbox = Sandbox(world)
        sandbox.start()
        running.append(sandbox)
        folder = tmp_path / f"loader-{len(running)}"
        folder.mkdir()
        return Loader(sandbox, folder)

    yield start
    for sandbox in running:
        sandbox.stop()
        assert sandbox.failures == []


@pytest.fixture
def serve_v3(serve: Callable[[World], Loader]) -> Callable[[World], Loader]:
    """The same, read by API v3."""

    def start(world: World) -> Loader:
        loader = serve(world)
        loader.api = "v3"
        return loader

    return start


@pytest.fixture
def seeded(serve: Callable[[World], Loader]) -> Loader:
    """A loader of the believable world."""
    return serve(seeded_world(chats=16, messages=700))


@pytest.fixture
def small(serve: Callable[[World], Loader]) -> Loader:
    """A loader of a world with one number, one chat and no messages."""
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001")
    world.add_chat(display_name="One", chat_id=1)
    return serve(world)


@pytest.fixture
def host() -> Iterator[FileHost]:
    """A host of files."""
    with file_host() as running:
        yield running


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `long` what loads something, and is not what the docs name first for a guarantee.

    Of the variants of a test that is, one for each destination is enough for `make test`.
    """
    named = named_first_in("guarantees.md", "security.md")
    seen = set()
    for item in items:
        assert isinstance(item, pytest.Function)
        marks = {mark.name for mark in item.iter_markers()}
        if "deep" in marks:
            item.add_marker(pytest.mark.long)
        if "serve" not in item.fixturenames or marks & {"quick", "long", "deep"}:
            continue
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        place = next((value for value in values if isinstance(value, str) and value in KINDS), None)
        test = (item.path.name, item.originalname)
        if test not in named or (test, place) in seen:
            item.add_marker(pytest.mark.long)
        seen.add((test, place))


def named_first_in(*pages: str) -> set[tuple[str, str]]:
    """File and name of the test that each line of pages, or each cell of a table, names first."""
    text = "\n".join((DOCS / page).read_text() for page in pages)
    cells = (cell for line in text.splitlines() for cell in line.split("|"))
    found = (re.search(r"`(test_\w+\.py)::(\w+)`", cell) for cell in cells)
    return {(match[1], match[2]) for match in found if match}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand a worker's counts to the process that started it."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["statements"] = dict(front_end.COUNTS)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add up the workers' counts; a worker that crashed has none."""
    front_end.COUNTS.update(getattr(node, "workeroutput", {}).get("statements", {}))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what tests recorded as their summary, such as the number of steps explored."""
    if front_end.COUNTS["ran"]:
        terminalreporter.write_line(front_end.summary(front_end.COUNTS))
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "summary":
                terminalreporter.write_line(str(value))
