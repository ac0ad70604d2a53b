"""Airflow as a user runs it, from its own environment, in a folder of a test's own."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
BIN = ROOT / ".venv-airflow" / "bin"
DAG_FILE = ROOT / "pipelines" / "airflow_dag.py"
# Airflow's processes start slowly where a machine is busy.
PATIENCE_S = 400.0


class Airflow:
    """An Airflow whose database, dags and logs are in a folder, with our DAG as a user copies it.

    `variables` are what the DAG is configured by.
    """

    def __init__(self, folder: Path, database: Path, variables: Mapping[str, str]) -> None:
        self.home = folder / "airflow"
        self.temporary = folder / "temporary"
        for path in (self.home / "dags", self.temporary):
            path.mkdir(parents=True)
        shutil.copy(DAG_FILE, self.home / "dags")
        shutil.copy(database, self.home / "airflow.db")
        self.environment = environment_of(self.home) | {
            "TMPDIR": str(self.temporary),
            "DLT_DATA_DIR": str(folder / "dlt"),
            "LINQ_RETRY_DELAY_S": "0",
            **variables,
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `airflow` with arguments; its output goes to a file among the logs."""
        output = self.home / "logs" / f"{arguments[0]}-{time.monotonic_ns()}.log"
        output.parent.mkdir(exist_ok=True)
        with output.open("w") as file:
            return subprocess.Popen(
                [str(BIN / "airflow"), *arguments],
                cwd=self.home, env=self.environment, text=True, stdin=subprocess.DEVNULL,
                stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def run(self, *arguments: str) -> int:
        """Run `airflow` with arguments to its end; gives the exit code."""
        process = self.start(*arguments)
        try:
            return process.wait(PATIENCE_S)
        finally:
            process.kill()
            process.wait()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of Airflow's own database."""
        database = f"file:{self.home / 'airflow.db'}?mode=ro"
        with closing(sqlite3.connect(database, uri=True, timeout=60)) as connection:
            return connection.execute(sql).fetchall()

    def states(self) -> dict[tuple[str, int], str]:
        """The states of the last run's tasks, by task and map index."""
        found = self.rows(
            "SELECT task_id, map_index, state FROM task_instance WHERE run_id ="
            " (SELECT run_id FROM dag_run ORDER BY id DESC LIMIT 1)"
        )
        return {(task, index): state for task, index, state in found}

    def results(self, task: str) -> list[Any]:
        """What a task of the last run returned, by map index."""
        found = self.rows(
            "SELECT value FROM xcom WHERE key = 'return_value' AND task_id ="
            f" '{task}' AND dag_run_id = (SELECT max(id) FROM dag_run) ORDER BY map_index"
        )
        return [json.loads(value) for (value,) in found]

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """Asset events so far, oldest first: the asset's name and what was told of it."""
        found = self.rows(
            "SELECT name, event.extra FROM asset_event event JOIN asset ON asset.id = asset_id"
            " ORDER BY event.id"
        )
        return [(name, json.loads(extra)) for name, extra in found]

    def written(self) -> str:
        """Everything that Airflow keeps or says: logs, output, and its database's texts."""
        logs = [path.read_text() for path in (self.home / "logs").rglob("*.log")]
        with closing(sqlite3.connect(self.home / "airflow.db", timeout=60)) as connection:
            return "\n".join([*connection.iterdump(), *logs])

    @contextmanager
    def services(self) -> Iterator[None]:
        """Scheduler, DAG processor and API server, until the end; then none of their processes."""
        port = _free_port()
        self.environment |= {
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        }
        running = [self.start(name) for name in ("api-server", "scheduler", "dag-processor")]
        try:
            yield
        finally:
            for process in running:
                process.terminate()
            for process in running:
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            for pid in self._left_running():
                os.kill(pid, signal.SIGKILL)

    def _left_running(self) -> list[int]:
        """Processes of this Airflow, which inherited its environment."""
        mark = f"AIRFLOW_HOME={self.home}\0".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue  # it ended meanwhile, or is another user's
        return found


def environment_of(home: Path) -> dict[str, str]:
    """A clean environment for an Airflow with SQLite that reaches nobody."""
    return {
        "AIRFLOW_HOME": str(home),
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "NO_COLOR": "1",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "true",
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "false",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        "AIRFLOW__API_AUTH__JWT_SECRET": "0123456789" * 7,
    }


def migrated_database(folder: Path) -> Path:
    """A database of Airflow's tables, made once for all processes that share the folder."""
    assert (BIN / "airflow").exists(), f"{BIN.parent} is missing: run make setup-airflow"
    home = folder / "migrated"
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = home / "done.db"
        if not done.exists():
            subprocess.run(
                [str(BIN / "airflow"), "db", "migrate"], cwd=home, env=environment_of(home),
                check=True, timeout=PATIENCE_S, capture_output=True,
            )  # fmt: skip
            (home / "airflow.db").rename(done)
        return done


def wait_until(condition: Callable[[], Any]) -> None:
    """Return as soon as a condition holds; fail when it does not in any reasonable time."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "what was waited for did not come"
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
