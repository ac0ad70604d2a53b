"""SIGKILL between any two changes to dlt's files, then the same command: one undisturbed run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from linq_source.sandbox import DEFAULT_TOKEN, World, grow, seeded_world
from tests.conftest import Loader
from tests.killing import Runner
from tests.truth import assert_equal_world, query

SIGKILL = -9
DOUBLED = "SELECT count(*) - count(DISTINCT id) FROM chat_messages"
# `make test` tries every so many moments, `make test-all` the others.
EVERY = 40


@pytest.fixture
def loader(serve: Callable[[World], Loader]) -> Loader:
    return serve(seeded_world(chats=3, messages=40))


def runner(loader: Loader, folder: Path) -> Runner:
    folder.mkdir()
    environment = dict(os.environ) | {
        "SOURCES__LINQ__API_TOKEN": DEFAULT_TOKEN,
        "DLT_DATA_DIR": str(folder / "dlt"),
        "HOME": str(folder),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
    }
    return Runner(folder, ["run", "--base-url", loader.sandbox.url, "--json"], environment)


@pytest.mark.parametrize(
    "part",
    [
        0,
        *(
            pytest.param(n, marks=[pytest.mark.long, pytest.mark.timeout(900)])
            for n in range(1, EVERY)
        ),
    ],
)
@pytest.mark.parametrize("runs_before", [0, 1])
def test_killed_between_any_two_changes_to_files(
    loader: Loader,
    tmp_path: Path,
    runs_before: int,
    part: int,
    record_property: Callable[[str, object], None],
) -> None:
    folder, before = tmp_path / "run", tmp_path / "before"
    database = folder / "linq_messages.duckdb"
    with runner(loader, folder) as command:
        for _ in range(runs_before):
            assert command.run().exit_code == 0
            grow(loader.world)
        shutil.copytree(folder, before)
        whole = command.run()
        assert whole.exit_code == 0, whole.output
        # Not the same moments of the first run and of a later one.
        moments = range(1 + (part + 5 * runs_before) % EVERY, whole.changes + 1, EVERY)
        for moment in moments:
            shutil.rmtree(folder)
            shutil.copytree(before, folder)
            assert command.run(kill_at=moment).exit_code == SIGKILL
            again = command.run()
            assert again.exit_code == 0, (moment, again.output)
            assert_equal_world(database, loader.world)
            assert query(database, DOUBLED) == [(0,)]
            working = folder / "dlt" / "pipelines" / "linq_messages"
            for waiting in ("normalize/extracted", "load/normalized", "load/new"):
                assert not [path for path in (working / waiting).iterdir() if path.is_dir()]
        record_property("summary", f"killed at {len(moments)} of {whole.changes} changes to files")


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
