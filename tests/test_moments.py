"""SIGKILL between any two changes to dlt's files, then the same command: one undisturbed run."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from linq_source.sandbox import World, grow, seeded_world
from tests import processes
from tests.conftest import Loader
from tests.test_crashes import command
from tests.truth import query

# What changes a folder. CPython raises these events before it does what they say, so that to be
# killed at one is to be killed between it and the one before.
COUNTING = """
import os, signal, sys
from linq_source.cli import main

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"}
kill_at = int(os.environ["KILL_AT"])
counted = os.open("changes", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
seen = 0

def count(event, values):
    global seen
    if event in CHANGES or (event == "open" and values[2] & os.O_CREAT):
        seen += 1
        if seen == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(counted, b".")

sys.addaudithook(count)
main()
"""
DOUBLED = "SELECT count(*) - count(DISTINCT id) FROM chat_messages"
# The first moment and how many to the next: few for `make test`, more for `make test-all`, every
# tenth for `make test-deep`.
FEW = (0, 200)
MORE = (100, 200)
TENTHS = [(first, 100) for first in range(10, 100, 10)]


@pytest.fixture(params=["v2", pytest.param("v3", marks=pytest.mark.long)])
def loader(request: pytest.FixtureRequest, serve: Callable[[World], Loader]) -> Loader:
    loader = serve(seeded_world(chats=3, messages=40))
    loader.api = request.param
    return loader


def count_of(folder: Path) -> int:
    """How many changes to files the last run in a folder made."""
    return (folder / "changes").stat().st_size


@pytest.mark.parametrize(
    ("first", "every"),
    [
        FEW,
        pytest.param(*MORE, marks=pytest.mark.long),
        *(pytest.param(*m, marks=[pytest.mark.deep, pytest.mark.timeout(900)]) for m in TENTHS),
    ],
)
@pytest.mark.parametrize("runs_before", [0, 1])
def test_killed_between_any_two_changes_to_files(
    loader: Loader,
    tmp_path: Path,
    runs_before: int,
    first: int,
    every: int,
    record_property: Callable[[str, object], None],
) -> None:
    folder, before = tmp_path / "run", tmp_path / "before"
    database = folder / "linq_messages.duckdb"
    folder.mkdir()

    def run(kill_at: int = 0) -> subprocess.CompletedProcess[str]:
        arguments, environment = command(loader, folder)
        return processes.run(arguments, folder, environment | {"KILL_AT": str(kill_at)}, COUNTING)

    for _ in range(runs_before):
        assert run().returncode == 0
        grow(loader.world)
    shutil.copytree(folder, before)
    whole = run()
    assert whole.returncode == 0, whole.stderr
    changes = count_of(folder)
    # Not the same moments of the first run and of a later one.
    moments = range(1 + (first + 5 * runs_before) % every, changes + 1, every)
    for moment in moments:
        shutil.rmtree(folder)
        shutil.copytree(before, folder)
        killed = run(kill_at=moment)
        if killed.returncode != -signal.SIGKILL:
            # Not every run makes as many changes.
            assert (killed.returncode, count_of(folder) < moment) == (0, True), killed.stderr
        again = run()
        assert again.returncode == 0, (moment, again.stderr)
        loader.assert_equal_world(database)
        assert query(database, DOUBLED) == [(0,)]
        working = folder / "dlt" / "pipelines" / "linq_messages"
        assert [p.name for p in (working / "normalize").iterdir() if p.is_dir()] == ["extracted"]
        for waiting in ("normalize/extracted", "load/normalized", "load/new"):
            assert not [path for path in (working / waiting).iterdir() if path.is_dir()]
    record_property("summary", f"killed at {len(moments)} of {changes} changes to files")


def in_two_places(normalize: Path, load: Path) -> None:
    """Normalized, and the package it was made from not removed yet."""
    (package,) = (load / "normalized").iterdir()
    shutil.copytree(package, normalize / "extracted" / package.name)


def half_removed(normalize: Path, load: Path) -> None:
    in_two_places(normalize, load)
    (package,) = (normalize / "extracted").iterdir()
    (package / "schema.json").unlink()


def empty_and_half_removed(normalize: Path, load: Path) -> None:
    (normalize / "extracted" / "1700000000.5").mkdir()


def tried_again(normalize: Path, load: Path) -> None:
    """By dlt, which failed: it leaves what it made of it a second time."""
    in_two_places(normalize, load)
    (package,) = (load / "normalized").iterdir()
    shutil.copytree(package, load / "new" / package.name)


def loaded_and_not_moved(normalize: Path, load: Path) -> None:
    (package,) = (load / "normalized").iterdir()
    (done,) = (path for path in (load / "loaded").iterdir() if path.name < package.name)
    shutil.rmtree(package)
    done.rename(package.with_name(done.name))


def folder_not_made_yet(normalize: Path, load: Path) -> None:
    shutil.rmtree(load)
    load.mkdir()


STATES = (
    in_two_places,
    half_removed,
    empty_and_half_removed,
    tried_again,
    loaded_and_not_moved,
    folder_not_made_yet,
)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_a_package_left_half_moved_is_no_obstacle(
    loader: Loader, state: Callable[[Path, Path], None]
) -> None:
    loader.sync()
    grow(loader.world)
    pipeline = loader.pipeline
    pipeline.extract(loader.source())
    pipeline.normalize()
    folder = Path(pipeline.working_dir)
    state(folder / "normalize", folder / "load")
    for _ in range(2):
        assert loader.sync().exit_code == 0
        loader.assert_equal_world()
    assert not loader.pipeline.has_pending_data
