"""The marts: built by `linq-source transform`, equal to what the world's own records give."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from linq_source.sandbox import World, grow, seeded_world
from tests.bigquery.server import PROJECT
from tests.conftest import DAY_MS, Loader
from tests.destinations import BigQuery, Lake, bigquery_project
from tests.marts import Marts, Seen
from tests.test_bigquery_cli import private_key, write_account
from tests.truth import Row

__all__ = ["private_key"]
pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent
BIN = ROOT / ".venv-dbt" / "bin"
PROJECT_FOLDER = ROOT / "linq_source" / "transform"
ZONE = "America/New_York"
VARS = f"{{linq_timezone: {ZONE}, linq_session_silence_minutes: 720}}"
# The instants of our runs, which the world does not know.
OURS = {"synced_at", "deleted_at", "expired_at"}


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`linq-source transform`, in a folder and environment that tell it nothing else."""
    return _start(folder, "linq-source", "transform", *arguments, **variables)


def _start(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    assert (BIN / command[0]).exists(), "make setup-dbt"
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("SOURCES__", "GOOGLE_", "DBT"))
    }
    environment = kept | {"NO_COLOR": "1", "HOME": str(folder), "DLT_DATA_DIR": str(folder / "dlt")}
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]], cwd=folder, env=environment | variables,
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip


def transform(loader: Loader, *arguments: str, **variables: str) -> dict[str, Any]:
    """A transformation of what a loader loaded that goes well; gives its report."""
    done = run(loader.folder, "--vars", VARS, "--json", *arguments, **variables)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def assert_marts(loaded: Callable[[str], list[Row]], expected: Marts) -> None:
    for name, rows in expected.items():
        found = [{k: v for k, v in row.items() if k not in OURS} for row in loaded(name)]
        assert _comparable(found) == _comparable(rows), name


def _comparable(rows: list[Row]) -> list[Any]:
    """Rows in one order, with their columns in one order, and fractions to the microsecond."""
    plain = [
        sorted((k, round(v, 6) if isinstance(v, float) else v) for k, v in row.items())
        for row in rows
    ]
    return sorted(plain, key=str)


def rows_of(database: Path, schema: str = "linq_marts") -> Callable[[str], list[Row]]:
    def rows(table: str) -> list[Row]:
        with duckdb.connect(str(database), read_only=True) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            found = connection.sql(f'SELECT * FROM "{schema}"."{table}"')
            return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]

    return rows


def run_history(loader: Loader, seen: Seen) -> Iterator[None]:
    """Load a world that changes in every way: after each load the marts are to be compared."""
    world = loader.world
    loader.sync(contacts=True)
    seen.look(world)
    yield
    before = set(world.messages)
    grow(world)  # edits, deliveries, reactions that come and go, a late message, a deletion
    removed = next(c for c in world.chats.values() if len(c.message_keys) > 5 and not c.group)
    seen.deleted_chats.add(removed.id)
    world.remove_chat(removed.id)
    seen.deleted |= before - set(world.messages)
    loader.sync(contacts=True)
    seen.look(world)
    yield
    # A line begins to forget.
    before = set(world.messages)
    world.phone_numbers[3].keeps_ms = 10 * DAY_MS
    world.advance(DAY_MS)
    seen.expired |= before - set(world.messages)
    assert seen.expired
    loader.sync(contacts=True)
    seen.look(world)
    yield


@pytest.fixture
def seen() -> Seen:
    return Seen(timezone=ZONE, silence=timedelta(hours=12))


def test_every_mart_equals_the_world_after_every_change(seeded: Loader, seen: Seen) -> None:
    """Incrementally, and again when everything is built anew."""
    for _ in run_history(seeded, seen):
        report = transform(seeded, "--database", str(seeded.database))
        assert report["models"] == {"success": 26}
        assert_marts(rows_of(seeded.database), seen.marts())
    transform(seeded, "--database", str(seeded.database), "--full-refresh")
    assert_marts(rows_of(seeded.database), seen.marts())
