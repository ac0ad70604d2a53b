"""dlt's working folder after a process was killed: every package in one place, whole.

dlt makes a package whole in one folder and renames it into the next: `normalize/extracted`,
`load/new`, `load/normalized`, `load/loaded`. Between a rename and what belongs to it (removing the
package it was made from, moving it on once it is marked as complete) a package is in two places,
and dlt's next step fails there at every later run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import dlt
from dlt.common.storages import LoadStorage, NormalizeStorage, PackageStorage


def heal_packages(pipeline: dlt.Pipeline) -> None:
    """Bring what was left half moved to where dlt goes on from it.

    Read from dlt 1.31: `NormalizeStorage`, `LoadStorage`, `Normalize.spool_files`,
    `Load.complete_package`. Killed in the midst of this, it is done again.
    """
    folder = Path(pipeline.working_dir)
    shutil.rmtree(_dropped(folder), ignore_errors=True)
    load = folder / "load"
    loaded, normalized = load / LoadStorage.LOADED_FOLDER, load / LoadStorage.NORMALIZED_FOLDER
    extracted = folder / "normalize" / NormalizeStorage.EXTRACTED_FOLDER
    if load.is_dir():
        for part in (loaded, normalized, load / LoadStorage.NEW_PACKAGES_FOLDER):
            part.mkdir(exist_ok=True)
    for left in _packages(extracted.parent):
        # What an extraction that was killed had gathered.
        if left != extracted:
            shutil.rmtree(left)
    for package in _packages(normalized):
        if (package / PackageStorage.PACKAGE_COMPLETED_FILE_NAME).exists():
            # All of it is in the destination, which knows so.
            package.rename(loaded / package.name)
        elif not _is_whole(package):
            shutil.rmtree(package)
    for package in _packages(extracted):
        # What was made from it is whole, or dlt was removing it because it held nothing.
        made = (normalized / package.name, loaded / package.name)
        if any(path.exists() for path in made) or not _is_whole(package):
            shutil.rmtree(package)


def drop(pipeline: dlt.Pipeline) -> None:
    """`pipeline.drop()`, all at once: half a package must never be loaded."""
    folder = Path(pipeline.working_dir)
    shutil.rmtree(_dropped(folder), ignore_errors=True)
    folder.rename(_dropped(folder))
    pipeline.drop()
    shutil.rmtree(_dropped(folder))


def _dropped(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.dropped")


def _packages(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from [Path(entry) for entry in os.scandir(folder) if entry.is_dir()]


def _is_whole(package: Path) -> bool:
    """Whether a package has what each has that was moved in and none of which was removed."""
    return (package / PackageStorage.SCHEMA_FILE_NAME).exists() and (
        package / PackageStorage.NEW_JOBS_FOLDER
    ).is_dir()
