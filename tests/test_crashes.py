"""A process killed with SIGKILL, then the same command: the tables of one undisturbed run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from linq_source.sandbox import DEFAULT_TOKEN, Exchange, Fault, grow
from tests import processes
from tests.conftest import DAY_MS, NOW_MS, Loader
from tests.truth import query

# The command, ended by its own hand just before or after a step.
SUICIDE = """
import os, signal, sys
import dlt
from dlt.extract.extract import Extract
from dlt.pipeline.pipeline import Pipeline
from dlt.destinations.impl.duckdb.sql_client import DuckDbSqlClient
from linq_source.operations import sync as syncing
from linq_source.cli import main

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def before(owner, name):
    setattr(owner, name, die)

def after(owner, name):
    original = getattr(owner, name)
    def run(*args, **kwargs):
        result = original(*args, **kwargs)
        die()
        return result
    setattr(owner, name, run)

exec(os.environ["DIE"])
main()
"""

MOMENTS = {
    "before the package is committed": "before(Extract, 'commit_packages')",
    "after the commit, before the state is saved": "after(Extract, 'commit_packages')",
    "before normalizing": "before(Pipeline, 'normalize')",
    "before loading": "before(Pipeline, 'load')",
    "while merging": (
        "original = DuckDbSqlClient.execute_many\n"
        "def run(self, statements, *a, **k):\n"
        "    if any('INSERT' in s and 'chat_messages' in s for s in statements): die()\n"
        "    return original(self, statements, *a, **k)\n"
        "DuckDbSqlClient.execute_many = run"
    ),
    "after a table was staged, before dlt noted it": (
        "from dlt.destinations.impl.duckdb.duck import DuckDbCopyJob\n"
        "original = DuckDbCopyJob.run\n"
        "def run(self):\n"
        "    original(self)\n"
        "    if 'reactions' in self._file_name: die()\n"
        "DuckDbCopyJob.run = run"
    ),
    "between loading and marking": "before(syncing._Settling, '_settle')",
    "after marking": "after(syncing._Settling, '_settle')",
}


def command(loader: Loader, folder: Path, *options: str) -> tuple[list[str], dict[str, str]]:
    environment = dict(os.environ)
    environment |= {
        "SOURCES__LINQ__API_TOKEN": DEFAULT_TOKEN,
        "DLT_DATA_DIR": str(folder / "dlt"),
        "HOME": str(folder),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
    }
    arguments = ["run", "--base-url", loader.sandbox.url, "--json", *options]
    if loader.api == "v3":
        arguments += ["--api", "v3", "--dataset", "linq", "--pipeline-name", "linq_messages"]
    return arguments, environment


def run_to_end(loader: Loader, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    arguments, environment = command(loader, folder, *options)
    return processes.run(arguments, folder, environment)


VERSIONS = ["v2", pytest.param("v3", marks=pytest.mark.deep)]


@pytest.mark.parametrize("api", VERSIONS)
@pytest.mark.parametrize("moment", list(MOMENTS))
def test_killed_at_a_step_of_the_first_and_of_a_later_run(
    seeded: Loader, tmp_path: Path, moment: str, api: str
) -> None:
    seeded.api = api
    database = tmp_path / "linq_messages.duckdb"
    for _ in range(2):
        arguments, environment = command(seeded, tmp_path)
        dying = environment | {"DIE": MOMENTS[moment]}
        killed = processes.run(arguments, tmp_path, dying, SUICIDE)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        result = run_to_end(seeded, tmp_path)
        assert result.returncode == 0, result.stderr
        seeded.assert_equal_world(database)
        assert query(database, "SELECT count(*) - count(DISTINCT id) FROM chat_messages") == [(0,)]
        grow(seeded.world)


@pytest.mark.long
@pytest.mark.parametrize("api", VERSIONS)
def test_killed_while_fetching_at_many_requests(seeded: Loader, tmp_path: Path, api: str) -> None:
    seeded.api = api
    database = tmp_path / "linq_messages.duckdb"
    for request_number in (1, 3, 9, 20):
        arguments, environment = command(seeded, tmp_path)
        process = processes.start(arguments, tmp_path, environment)
        seeded.sandbox.hooks.append(_at_request(request_number, process.kill))
        assert process.wait() == -signal.SIGKILL
        seeded.sandbox.hooks.clear()
        grow(seeded.world)
    result = run_to_end(seeded, tmp_path)
    assert result.returncode == 0, result.stderr
    seeded.assert_equal_world(database)


@pytest.mark.parametrize("api", VERSIONS)
def test_killed_at_random_moments_of_a_backfill_in_packages(
    small: Loader, tmp_path: Path, api: str
) -> None:
    small.api = api
    for number in range(2000):
        small.world.add_message(
            1, str(number), sent_at_ms=NOW_MS - 200 * DAY_MS + number * 7_200_000
        )
    options = ("--page-size", "10", "--max-messages", "400")
    database = tmp_path / "linq_messages.duckdb"
    for request_number, delay_s in ((45, 0.0), (100, 0.1), (60, 0.4)):
        arguments, environment = command(small, tmp_path, *options)
        process = processes.start(arguments, tmp_path, environment)
        timer = threading.Timer(delay_s, process.kill)
        small.sandbox.hooks.append(_at_request(request_number, timer.start))
        process.wait()
        small.sandbox.hooks.clear()
        timer.cancel()
    result = run_to_end(small, tmp_path, *options)
    assert result.returncode == 0, result.stderr
    small.assert_equal_world(database)


def test_a_package_left_pending_is_finished_first_and_the_run_says_so(
    seeded: Loader, tmp_path: Path
) -> None:
    arguments, environment = command(seeded, tmp_path)
    dying = environment | {"DIE": MOMENTS["before loading"]}
    processes.run(arguments, tmp_path, dying, SUICIDE)
    grow(seeded.world)
    result = run_to_end(seeded, tmp_path)
    assert "finished 1 package(s) that an earlier run had left pending" in result.stdout
    seeded.assert_equal_world(tmp_path / "linq_messages.duckdb")


def _at_request(request_number: int, act: Callable[[], None]) -> Callable[[Exchange], None]:
    seen = 0

    def hook(exchange: Exchange) -> None:
        nonlocal seen
        seen += 1
        if seen == request_number:
            act()

    return hook


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted_while_the_api_fails_ends_at_once(
    seeded: Loader, tmp_path: Path, number: signal.Signals
) -> None:
    seeded.sandbox.faults.append(
        lambda exchange: Fault(status=503) if exchange.route == "chat_messages" else None
    )
    arguments, environment = command(seeded, tmp_path, "--log-format", "json")
    process = processes.start(arguments, tmp_path, environment)
    while len(seeded.sandbox.requests_log) < 10:
        time.sleep(0.05)
    process.send_signal(number)
    started_s = time.monotonic()
    _, errors = process.communicate()
    assert time.monotonic() - started_s < 60  # it would ask for 120
    assert process.returncode == 1
    *_, told, finished = [json.loads(line) for line in errors.splitlines()]
    assert told["message"].startswith("interrupted; what was loaded stays")
    assert (finished["message"], finished["exit_code"], finished["loads"]) == ("finished", 1, 0)


@pytest.mark.parametrize(
    "moment", ["before loading", "while merging", "between loading and marking"]
)
def test_terminated_at_a_step_says_so_and_the_next_run_goes_on(
    seeded: Loader, tmp_path: Path, moment: str
) -> None:
    arguments, environment = command(seeded, tmp_path)
    dying = environment | {"DIE": MOMENTS[moment]}
    ended = processes.run(arguments, tmp_path, dying, SUICIDE.replace("SIGKILL", "SIGTERM"))
    assert ended.returncode == 1
    errors = [line for line in ended.stderr.splitlines() if not line.endswith("/s")]
    assert errors == ["error: interrupted; what was loaded stays, run again to go on"]
    result = run_to_end(seeded, tmp_path)
    assert result.returncode == 0, result.stderr
    seeded.assert_equal_world(tmp_path / "linq_messages.duckdb")
