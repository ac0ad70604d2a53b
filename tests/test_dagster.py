"""Dagster, from its own commands and its own environment: definitions, runs, checks, backfills."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any

import duckdb
import pytest

from linq_source import plan_shards
from linq_source.sandbox import DEFAULT_TOKEN, Exchange, World, seeded_world
from linq_source.tables import TABLES
from tests.conftest import Loader
from tests.truth import assert_equal_world

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv-dagster" / "bin"
LOADED_TABLES = [name for name in TABLES if name not in ("attachment_files", "contacts")]


class Dagster:
    """An instance of its own, with a copy of the definitions, as a user has them."""

    def __init__(self, folder: Path, loader: Loader) -> None:
        assert (BIN / "dagster").exists(), f"{BIN.parent} is missing: run make setup-dagster"
        self.folder = folder
        self.loader = loader
        self.home = folder / "home"
        self.home.mkdir()
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        settings = (ROOT / "pipelines" / "dagster.yaml").read_text()
        soon = "run_monitoring:\n  poll_interval_seconds: 1\n"
        (self.home / "dagster.yaml").write_text(settings.replace("run_monitoring:\n", soon))
        shutil.copy(ROOT / "pipelines" / "dagster_defs.py", folder)
        names = ("SOURCES__", "DESTINATION__", "LINQ_", "DAGSTER_", "PYTHON")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(names)} | {
            "DAGSTER_HOME": str(self.home),
            "DLT_DATA_DIR": str(folder / "dlt"),
            "HOME": str(folder),
            "LINQ_DUCKDB_FILE": str(loader.database),
            "LINQ_SHARDS": "2",
            "LINQ_FIRST_MONTH": "2025-11-01",
            "NO_COLOR": "1",
            "PYTHONPATH": str(ROOT),
            "SOURCES__LINQ__API_TOKEN": DEFAULT_TOKEN,
            "SOURCES__LINQ__BASE_URL": loader.sandbox.url,
            "TMPDIR": str(self.temporary),
        }

    def run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment to its end."""
        return subprocess.run(
            [str(BIN / command), *arguments], cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=200, check=False,
        )  # fmt: skip

    def materialize(self, selection: str, partition: str) -> subprocess.CompletedProcess[str]:
        return self.run(
            "dagster", "asset", "materialize", "-f", "dagster_defs.py",
            "--select", selection, "--partition", partition,
        )  # fmt: skip

    def read(self, *arguments: str) -> Any:
        """What `dagster_reader` prints."""
        program = str(ROOT / "tests" / "dagster_reader.py")
        done = subprocess.run(
            [str(BIN / "python"), program, *arguments], cwd=self.folder, env=self.environment,
            capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def change(self, *statements: str) -> None:
        """Change the loaded tables behind everybody's back."""
        with duckdb.connect(str(self.loader.database)) as connection:
            connection.execute("SET search_path = 'linq'")
            for statement in statements:
                connection.execute(statement)

    def assert_nothing_told(self, *outputs: str) -> None:
        """Neither the token nor a message's text stands in what Dagster keeps or prints."""
        kept = [path.read_bytes() for path in self.home.rglob("*") if path.is_file()]
        kept += [output.encode() for output in outputs]
        texts = {message.text for message in self.loader.world.messages.values()}
        told = [text.encode() for text in texts if text and len(text) > 15]
        assert len(told) > 50
        everything = b"\n".join(kept)
        assert b"linq_tables" in everything
        # dlt makes one for its telemetry.
        assert list(self.folder.rglob(".anonymous_id")) == []
        for secret in (DEFAULT_TOKEN.encode(), *told):
            assert secret not in everything

    @contextmanager
    def daemon(self) -> Iterator[Daemon]:
        """The daemon that starts queued runs, and whatever it started, ended at the end."""
        log = self.folder / "daemon.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [str(BIN / "dagster-daemon"), "run", "-f", "dagster_defs.py"],
                cwd=self.folder, env=self.environment, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        try:
            yield Daemon(process, log)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            finally:
                _kill_session(process.pid)
                process.wait()


class Daemon:
    """A running daemon and what it and its runs print."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    def lines(self, pattern: str) -> list[re.Match[str]]:
        return list(re.finditer(pattern, self._log.read_text(), re.MULTILINE))

    def wait_for(self, pattern: str, times: int) -> list[re.Match[str]]:
        """Wait until a pattern was printed so many times."""
        give_up = time.monotonic() + 300
        while len(found := self.lines(pattern)) < times:
            assert self.process.poll() is None, self._log.read_text()[-3000:]
            assert time.monotonic() < give_up, self._log.read_text()[-3000:]
            time.sleep(0.1)
        return found


def _kill_session(session: int) -> None:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if os.getsid(int(entry.name)) == session:
                    os.kill(int(entry.name), signal.SIGKILL)
            except ProcessLookupError:
                continue


@pytest.fixture
def dagster(serve: Callable[[World], Loader], tmp_path: Path) -> Dagster:
    return Dagster(tmp_path, serve(seeded_world(chats=8, messages=300)))


def test_the_definitions_describe_every_table(dagster: Dagster) -> None:
    valid = dagster.run("dagster", "definitions", "validate", "-f", "dagster_defs.py")
    assert valid.returncode == 0, valid.stdout
    assert "Validation successful" in valid.stdout
    found = dagster.read("dagster_defs.py")
    assert found["requests"] == [
        [f"2026-03-02T12:00:00+00:00 {shard}", shard, shard] for shard in plan_shards(2)
    ]
    assert sorted(found["assets"]) == sorted(LOADED_TABLES)
    for name, asset in found["assets"].items():
        table = TABLES[name]
        assert asset["description"] == table.description
        assert asset["columns"] == [
            [c.name, c.type, c.description, c.nullable] for c in table.columns
        ]
        assert all(column[2] for column in asset["columns"])
        assert asset["key"] == ([f"primary key: {', '.join(table.key)}"] if table.key else [])
        assert asset["deps"] == [table.parent or "linq_partner_api"]
    # Nothing was asked for all this.
    assert dagster.loader.sandbox.requests_log == []


@pytest.mark.timeout(900)
def test_checks_pass_on_what_was_loaded_and_fail_on_what_was_spoilt(dagster: Dagster) -> None:
    world = dagster.loader.world
    outputs = [dagster.materialize("group:linq", shard).stdout for shard in plan_shards(2)]
    assert_equal_world(dagster.loader.database, world)
    first, second = dagster.read()
    assert [first["status"], second["status"]] == ["SUCCESS", "SUCCESS"], outputs
    assert first["checks"]["sync_runs.fresh"] == [False, "shard 1/2 was never loaded"]
    keyed = [name for name in LOADED_TABLES if TABLES[name].key]
    names = [
        "chat_messages.read_completely", "chat_messages.agrees_with_api",
        *(f"{name}.unique_key" for name in keyed),
        "sync_runs.fresh", "sync_windows.verified_windows",
    ]  # fmt: skip
    assert second["checks"] == {name: [True, "as it should be"] for name in names}
    metadata = [run["metadata"]["chat_messages"] for run in (first, second)]
    assert sum(run["linq/messages"] for run in metadata) == len(world.messages)
    assert metadata[1]["dagster/row_count"] == len(world.messages)
    assert metadata[0]["linq/requests"] > 0
    assert metadata[0]["linq/seconds"] > 0
    assert len(metadata[0]["linq/loads"]) == 1
    assert set(second["metadata"]) == set(LOADED_TABLES)
    assert second["metadata"]["chats"]["dagster/row_count"] == len(world.chats)

    chat_id = next(c for c in world.chats if c % 2 == 0 and len(world.chats[c].message_keys) > 5)
    count = len(world.chats[chat_id].message_keys)
    lost = world.chats[chat_id].message_keys[0][1]
    twice = world.chats[chat_id].message_keys[1][1]
    dagster.change(
        f"DELETE FROM chat_messages WHERE id = {lost}",
        f"INSERT INTO chats SELECT * FROM chats WHERE id = {chat_id}",
        "INSERT INTO chat_messages__attachments BY NAME SELECT * FROM chat_messages__attachments"
        " ORDER BY ALL LIMIT 1",
        "UPDATE sync_runs SET synced_at = synced_at - INTERVAL 2 DAY",
        "INSERT INTO sync_windows BY NAME SELECT * REPLACE (false AS verified, 'gap' AS event,"
        " TIMESTAMPTZ '2025-12-31 00:00:00Z' AS window_start,"
        " TIMESTAMPTZ '2026-01-01 00:00:00Z' AS window_end) FROM sync_windows"
        f" WHERE chat_id = {chat_id} LIMIT 1",
    )
    spoilt = dagster.run("dagster", "job", "execute", "-f", "dagster_defs.py", "-j", "linq_checks")
    # The chat's repeated row is replaced by this reading only if it changed.
    outputs += [spoilt.stdout, dagster.materialize("group:linq", "0/2").stdout]
    # The other shard's run must not hide what this one found.
    outputs += [dagster.materialize("group:linq", "1/2").stdout]
    *_, checked, repeated, other = dagster.read()
    assert checked["status"] == "SUCCESS"
    failed = {name: text for name, (passed, text) in checked["checks"].items() if not passed}
    assert failed.pop("chat_messages__attachments.unique_key").startswith(
        "2 rows of chat_message_id"
    )
    assert failed.pop("chats.unique_key") == f"2 rows of id {chat_id}"
    assert "the newest run in the table is of" in failed.pop("sync_runs.fresh")
    text = failed.pop("sync_windows.verified_windows")
    assert text.startswith(f"chat {chat_id} from ")
    assert "to 2026-01-01 00:00:00+00:00" in text
    assert failed == {}
    line = f"chat {chat_id} has {count - 1} live rows where the API counts {count}"
    gap = (
        f"chat {chat_id} may lack messages from 2025-12-31T00:00:00+00:00 to"
        " 2026-01-01T00:00:00+00:00: run more often"
    )
    for run in (repeated, other):
        assert run["checks"]["chat_messages.agrees_with_api"] == [
            False, f"shard 0/2: {line}; {gap}"
        ]  # fmt: skip
        assert run["checks"]["sync_runs.fresh"] == [True, "as it should be"]
    assert twice in world.messages
    dagster.assert_nothing_told(*outputs)


@pytest.mark.timeout(900)
def test_a_killed_run_is_repeated_and_months_are_read_again(dagster: Dagster) -> None:
    """By the daemon: one run at a time, its worker killed, then months as partitions."""
    world = dagster.loader.world
    reached, released = Event(), Event()

    def hold(exchange: Exchange) -> None:
        if exchange.route == "chat_messages" and not reached.is_set():
            reached.set()
            released.wait(200)

    dagster.loader.sandbox.hooks.append(hold)
    limited = dagster.run("dagster", "instance", "concurrency", "set", "linq", "1")
    assert limited.returncode == 0, limited.stdout
    launched = backfill(dagster, "linq_read", "--all", "all")
    with dagster.daemon() as daemon:
        (started,) = daemon.wait_for(r"- (\d+) - RUN_START", 1)
        assert reached.wait(200)
        daemon.wait_for("is blocked by global concurrency limits", 1)
        assert len(daemon.lines("RUN_START")) == 1
        os.kill(int(started[1]), signal.SIGKILL)
        released.set()
        # Its death is noticed, and the queue goes on.
        daemon.wait_for("- RUN_SUCCESS -", 1)
        launched += backfill(dagster, "linq_read", "--partitions", "0/2")
        daemon.wait_for("- RUN_SUCCESS -", 2)
        assert_equal_world(dagster.loader.database, world)

        dagster.change(
            "DELETE FROM chat_messages WHERE sent_at < '2026-01-01 00:00:00Z'",
            "DELETE FROM chat_messages__reactions WHERE chat_message_id NOT IN"
            " (SELECT id FROM chat_messages)",
        )
        keys = [f"2025-{month}-01|{shard}" for month in (11, 12) for shard in plan_shards(2)]
        launched += backfill(dagster, "linq_backfill_job", "--partitions", ",".join(keys))
        daemon.wait_for("- RUN_SUCCESS -", 2 + len(keys))
    assert_equal_world(dagster.loader.database, world)
    runs = dagster.read()
    assert sorted(run["status"] for run in runs) == ["FAILURE", *["SUCCESS"] * (2 + len(keys))]
    assert {run["tags"]["linq/shard"] for run in runs} == set(plan_shards(2))
    times = sorted(run["times"] for run in runs)
    for (_, ended), (began, _) in pairwise(times):
        assert ended <= began
    dagster.assert_nothing_told(*launched, (dagster.folder / "daemon.log").read_text())
    assert list(dagster.temporary.glob("linq-*")) == []


def backfill(dagster: Dagster, job: str, *partitions: str) -> list[str]:
    done = dagster.run(
        "dagster", "job", "backfill", "-f", "dagster_defs.py", "-j", job, *partitions, "--noprompt"
    )
    assert done.returncode == 0, done.stdout
    return [done.stdout]


def test_a_wrong_token_ends_the_run_in_one_line_and_is_not_tried_again(dagster: Dagster) -> None:
    dagster.environment["SOURCES__LINQ__API_TOKEN"] = "another-token-than-the-right-one"
    failed = dagster.materialize("group:linq", "0/2")
    assert failed.returncode != 0
    assert "401" in failed.stdout
    assert "STEP_UP_FOR_RETRY" not in failed.stdout
    assert "another-token" not in failed.stdout


@pytest.mark.timeout(900)
def test_api_v3_is_loaded_by_the_same_file(
    serve_v3: Callable[[World], Loader], tmp_path: Path
) -> None:
    loader = serve_v3(seeded_world(chats=6, messages=120))
    dagster = Dagster(tmp_path, loader)
    dagster.environment |= {"LINQ_API": "v3", "LINQ_DATASET": "linq"}
    outputs = [dagster.materialize("group:linq", shard).stdout for shard in plan_shards(2)]
    loader.assert_equal_world()
    _, second = dagster.read()
    assert second["status"] == "SUCCESS", outputs
    assert "chat_messages__parts.unique_key" in second["checks"]
    assert all(is_right for is_right, _ in second["checks"].values()), second["checks"]
