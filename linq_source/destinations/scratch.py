"""Folders for what is only on its way: in `TMPDIR`, gone at the end, however a process ends.

A process that is killed cannot remove its folder, which may have messages in it. The next one that
makes such a folder does: the owner's lock on it ended with the owner.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from linq_source.errors import DestinationError

_PREFIX = "linq-source-scratch-"
_LOCK = ".lock"


class ScratchFolder:
    """A folder of this process's own; `name` is its path."""

    def __init__(self) -> None:
        _remove_abandoned(Path(tempfile.gettempdir()))
        # Under the name by which others look for it only when it is locked.
        made = Path(tempfile.mkdtemp(prefix="linq-source-new-"))
        self._lock = _locked(made / _LOCK)
        path = made.with_name(_PREFIX + made.name.removeprefix("linq-source-new-"))
        made.rename(path)
        self.name = str(path)

    def __enter__(self) -> str:
        return self.name

    def __exit__(self, *_: object) -> None:
        self.cleanup()

    def cleanup(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.name, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def check_folder_writable(folder: Path) -> None:
    """Make a folder in it, or where it would be made. Raises `DestinationError`."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    try:
        with tempfile.TemporaryDirectory(dir=there, prefix=".linq-source-check-"):
            pass
    except OSError as error:
        raise DestinationError(
            f"{there} cannot be written ({error.strerror}): grant it, or choose another folder"
        ) from error


def _remove_abandoned(folder: Path) -> None:
    for path in folder.glob(f"{_PREFIX}*"):
        # Another user's folder cannot be opened.
        with suppress(OSError):
            lock = _locked(path / _LOCK)
            if lock is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)


def _locked(path: Path) -> int | None:
    """An open file that this process alone has locked; none where another has, or none can."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle
