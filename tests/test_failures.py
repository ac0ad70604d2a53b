"""What fails in the surroundings of a run: one line that says what it is, and the next goes on."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb
import psycopg2.errors
import pytest
import requests

from linq_source import audit
from linq_source.destinations import duckdb_file, failures
from linq_source.destinations.failures import plain_errors
from linq_source.errors import ConfigurationError, DestinationError, LinqError
from linq_source.operations.check import check
from linq_source.sandbox import grow
from tests import processes
from tests.conftest import Loader
from tests.test_crashes import command, run_to_end
from tests.truth import assert_equal_world

HOLD = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1], read_only=True)
print("held", flush=True)
sys.stdin.readline()
"""
# The files that the command writes may not grow over a size: like a full disk, on any machine.
NARROW = """
import os, resource
size = int(os.environ["SIZE"])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
from linq_source.cli import main
main()
"""


def sql_error(state: str, text: str) -> psycopg2.Error:
    """An error of Postgres as psycopg2 gives it."""
    error = psycopg2.errors.lookup(state)(text)
    error.__setstate__({"pgcode": state})
    return error


def from_duckdb(sql: str) -> duckdb.Error:
    with duckdb.connect() as connection, pytest.raises(duckdb.Error) as caught:
        connection.execute(sql)
    return caught.value


ERRORS: dict[str, tuple[Callable[[], Exception], str]] = {
    "full disk": (lambda: OSError(errno.ENOSPC, "No space left on device", "f"), failures.DISK),
    "full disk, said by DuckDB": (
        lambda: duckdb.IOException("IO Error: Could not write file: No space left on device"),
        failures.DISK,
    ),
    "full disk, said by Postgres": (
        lambda: sql_error("53100", "could not write block 7 of relation"), failures.DISK,
    ),
    "read only": (lambda: OSError(errno.EROFS, "Read-only file system"), failures.RIGHTS),
    "rights lost": (lambda: PermissionError(errno.EACCES, "Permission denied"), failures.RIGHTS),
    "grant lost": (lambda: sql_error("42501", "permission denied for schema"), failures.RIGHTS),
    "deadlock": (lambda: sql_error("40P01", "deadlock detected"), failures.BUSY),
    "refused": (lambda: requests.ConnectionError("blocked by firewall"), failures.NETWORK),
    "reset": (lambda: ConnectionResetError(errno.ECONNRESET, "reset"), failures.NETWORK),
    "password": (lambda: sql_error("28P01", "password authentication failed"),
                 failures.CREDENTIALS),
    "table": (lambda: from_duckdb("SELECT * FROM block_list"), failures.NAME),
    "column": (lambda: sql_error("42703", "column locked does not exist"), failures.NAME),
    "value": (lambda: from_duckdb("SELECT CAST('a secret lock' AS INT)"), failures.VALUE),
    "constraint": (lambda: sql_error("23505", "duplicate key (a secret lock)"), failures.VALUE),
    "memory": (lambda: duckdb.OutOfMemoryException("could not allocate block"), failures.MEMORY),
}  # fmt: skip


@pytest.mark.parametrize("kind", ERRORS)
def test_what_a_destination_fails_for_is_told_by_its_kind(small: Loader, kind: str) -> None:
    cause, advice = ERRORS[kind]
    with pytest.raises(DestinationError) as caught, plain_errors(small.pipeline):
        raise RuntimeError("a job failed") from cause()
    text = str(caught.value)
    assert text.startswith(f"duckdb: {advice} (")
    assert "\n" not in text
    assert "secret" not in text


def test_a_bug_is_not_told_as_a_matter_of_the_destination(small: Loader) -> None:
    with pytest.raises(KeyError), plain_errors(small.pipeline):
        raise KeyError("lock")


def test_an_error_that_comes_from_itself_ends(small: Loader) -> None:
    """A refusal in the midst of dlt is raised again from dlt's error, which came from it."""
    refusal, step = ConfigurationError("no"), RuntimeError("a step failed")
    refusal.__cause__, step.__cause__ = step, refusal
    with pytest.raises(ConfigurationError, match="no"), plain_errors(small.pipeline):
        raise step
    other = RuntimeError("a step failed")
    other.__cause__ = other_step = RuntimeError("another step")
    other_step.__cause__ = other
    with pytest.raises(RuntimeError, match="a step failed"), plain_errors(small.pipeline):
        raise other


def hold(database: Path) -> subprocess.Popen[str]:
    """Another program that has the file open, as readers do, until its input ends."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(database)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_file_that_another_has_open_is_waited_for(
    small: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.sync()
    small.world.add_message(1, sent_at_ms=small.world.now_ms - 60_000)
    holder = hold(small.database)
    waits = threading.Event()
    monkeypatch.setattr(duckdb_file, "_POLL_S", 0.05)
    monkeypatch.setattr(duckdb_file._log, "warning", lambda _: waits.set())
    closing = threading.Thread(target=lambda: waits.wait(60) and holder.communicate("\n"))
    closing.start()
    small.sync()
    closing.join()
    assert waits.is_set()
    small.assert_equal_world()


def test_a_file_that_stays_open_is_told(small: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    small.sync()
    holder = hold(small.database)
    monkeypatch.setattr(duckdb_file, "PATIENCE_S", 0.1)
    try:
        for call in (small.sync, small.audit, small.settle):
            small.sandbox.requests_log.clear()
            with pytest.raises(DestinationError, match=r"messages\.duckdb") as caught:
                call()
            assert failures.LOCKED in str(caught.value)
    finally:
        holder.communicate("\n")


@pytest.mark.parametrize("size_bytes", [20_000, 60_000, 200_000])
def test_a_full_disk_is_one_line_and_the_next_run_goes_on(
    seeded: Loader, tmp_path: Path, size_bytes: int
) -> None:
    arguments, environment = command(seeded, tmp_path)
    narrow = environment | {"SIZE": str(size_bytes)}
    failed = processes.run(arguments, tmp_path, narrow, NARROW)
    assert failed.returncode == 1
    (line,) = [line for line in failed.stderr.splitlines() if not line.endswith("/s")]
    assert line.startswith("error: ")
    assert failures.DISK in line
    result = run_to_end(seeded, tmp_path)
    assert result.returncode == 0, result.stderr
    assert_equal_world(tmp_path / "linq_messages.duckdb", seeded.world)


@pytest.mark.parametrize("size_bytes", [0, 4096, 8192, 12287])
def test_a_file_that_a_kill_left_half_made_is_made_again(small: Loader, size_bytes: int) -> None:
    small.world.add_message(1, "hello", sent_at_ms=small.world.now_ms - 60_000)
    file = small.folder / "elsewhere.duckdb"
    duckdb.connect(str(file)).close()
    os.truncate(file, size_bytes)
    file.chmod(0o600)
    small.database.symlink_to(file)
    before = file.read_bytes()
    # Who only looks changes nothing.
    with suppress(LinqError):
        audit(small.pipeline, **small.arguments())
    checked = check(small.pipeline, **small.arguments())
    assert (checked.exit_code, file.read_bytes()) == (0, before)
    small.sync()
    small.assert_equal_world()
    assert small.database.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_no_other_small_file_is_removed(small: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duckdb_file, "PATIENCE_S", 1.0)
    content = b"something quite else than a database"
    small.database.write_bytes(content)
    with pytest.raises(DestinationError, match=r"messages\.duckdb"):
        small.sync()
    assert small.database.read_bytes() == content
    duckdb.connect(str(small.database.with_suffix(".new"))).close()
    half_made = small.database.with_suffix(".new").read_bytes()[:8192]
    small.database.write_bytes(half_made)
    lock = f"import fcntl, sys; f = open({str(small.database)!r}, 'r+b'); fcntl.lockf(f, 2)"
    program = f"{lock}; print('held', flush=True); sys.stdin.readline()"
    holder = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(DestinationError, match=r"messages\.duckdb"):
        small.sync()
    holder.communicate("\n")
    assert small.database.read_bytes() == half_made


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A small file system of its own, where this machine lets us mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = Disk(folder)
    if not disk.mount("size=8k"):
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", folder], check=True)


@dataclass(frozen=True)
class Disk:
    """A file system in memory. Its options are those of `mount`."""

    folder: Path

    def mount(self, options: str) -> bool:
        """Mount it; once mounted, change how."""
        arguments = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)]
        return not subprocess.run(arguments, capture_output=True, check=False).returncode


@pytest.mark.parametrize(
    ("option", "name"), [("--database", "messages.duckdb"), ("--pipelines-dir", "working")]
)
def test_a_disk_too_small_or_read_only_is_one_line_and_the_next_run_goes_on(
    seeded: Loader, tmp_path: Path, disk: Disk, option: str, name: str
) -> None:
    """From the first byte of the file or folder on, and again after a good run."""
    place = ["--database", str(tmp_path / "messages.duckdb"), option, str(disk.folder / name)]
    database = tmp_path / "messages.duckdb" if option != "--database" else disk.folder / name

    def fail(advice: str) -> None:
        failed = run_to_end(seeded, tmp_path, *place)
        assert (failed.returncode, failed.stdout) == (1, "")
        (line,) = [line for line in failed.stderr.splitlines() if not line.endswith("/s")]
        assert line.startswith("error: ")
        assert advice in line

    for size in ("8k", "200k"):
        assert disk.mount(f"remount,size={size}")
        fail(failures.DISK)
    for _ in range(2):
        assert disk.mount("remount,size=100m,rw")
        result = run_to_end(seeded, tmp_path, *place)
        assert result.returncode == 0, result.stderr
        assert_equal_world(database, seeded.world)
        grow(seeded.world)
        assert disk.mount("remount,ro")
        fail(failures.RIGHTS)
