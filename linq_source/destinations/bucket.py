"""A folder of a bucket, local or of an object store, through fsspec."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
from fsspec.implementations.local import LocalFileSystem

from linq_source.destinations.remote import Remote
from linq_source.errors import DestinationError

DEFAULT_LAYOUT = "{table_name}/{load_id}.{file_id}.{ext}"
_FOLDER_ATTEMPTS = 10


@dataclass(frozen=True)
class Bucket:
    """Files below `root`; every path is relative to it. Writing replaces a file in one step."""

    fs: Any
    root: str
    # How dlt names what it writes here.
    layout: str = DEFAULT_LAYOUT

    @classmethod
    def of(cls, remote: Remote) -> Bucket:
        """The dataset's folder of dlt's filesystem destination."""
        fs = remote.client.fs_client
        # Listings that another process made old would hide files.
        fs.invalidate_cache()
        client = remote.client
        return cls(fs, str(client.dataset_path).rstrip("/"), client.config.layout)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return isinstance(self.fs, LocalFileSystem)

    def check_exists(self) -> None:
        """Raise `DestinationError` where an object store has no such bucket.

        fsspec would try to make one, somewhere, of some kind.
        """
        name = self.root.lstrip("/").partition("/")[0]
        if self.is_local:
            return
        with told(f"the bucket {name}"):
            exists = self.fs.exists(name)
        if not exists:
            raise DestinationError(
                f"the bucket {name} does not exist, or these credentials may not list it: make "
                "it or check --bucket-url, then run again"
            )

    def address(self, path: str) -> str:
        """What DuckDB reads a file by; see `reading`."""
        whole = f"{self.root}/{path}"
        if self.is_local:
            return whole
        return str(self.fs.unstrip_protocol(whole))

    def below(self, whole: str) -> str:
        """A path as this bucket's file system has it, below the bucket's root."""
        return whole.lstrip("/")[len(self.root.lstrip("/")) + 1 :]

    def fetch(self, path: str, folder: str) -> str:
        """A local file with a file's content: one request, where reading in place takes many."""
        if self.is_local:
            return self.address(path)
        local = f"{folder}/{secrets.token_hex(8)}.parquet"
        with told(f"{self.root}/{path}"):
            self.fs.get_file(f"{self.root}/{path}", local)
        return local

    def reading(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let a connection read this bucket's addresses."""
        if not self.is_local:
            connection.register_filesystem(self.fs)

    def list(self, folder: str, prefix: str = "") -> list[str]:
        """Paths of all files in a folder and below, or of those that go on with `prefix`."""
        whole = f"{self.root}/{folder}".rstrip("/")
        with told(whole):
            if prefix and self.is_local:
                found: list[str] = []
                for entry in _entries(whole):
                    if entry.name.startswith(prefix):
                        found += [entry.path] if entry.is_file() else self.fs.find(entry.path)
            elif prefix:
                found = self.fs.find(whole, prefix=prefix)
            else:
                found = self.fs.find(whole)
        return sorted(map(self.below, found))

    def read_json(self, path: str) -> Any:
        """A file's JSON; none if there is no such file. Raises `ValueError` for another text."""
        with told(path):
            try:
                content = self.fs.cat_file(f"{self.root}/{path}")
            except FileNotFoundError:
                return None
        return json.loads(content)

    def write_json(self, path: str, value: Any) -> None:
        """Replace a file by JSON."""
        self._write(path, json.dumps(value, indent=1).encode())

    def create_json(self, path: str, value: Any) -> bool:
        """Make a file, unless it is there already: false then."""
        text = json.dumps(value).encode()
        whole = f"{self.root}/{path}"
        with told(whole):
            try:
                if self.is_local:
                    _create(whole, text)
                else:
                    self.fs.pipe_file(whole, text, mode="create")
            except FileExistsError:
                return False
        return True

    def publish(self, local: Path, path: str) -> None:
        """Make a file's content that of a local file, which may be used up; in one step."""
        whole = f"{self.root}/{path}"
        with told(whole):
            if not self.is_local:
                # An upload is visible only when it is complete.
                self.fs.put_file(str(local), whole)
                return
            os.makedirs(os.path.dirname(whole), exist_ok=True)
            # Beside its place, for a rename between file systems is a copy; hidden from readers.
            beside = f"{os.path.dirname(whole)}/.{secrets.token_hex(8)}.tmp"
            try:
                _link_or_copy(local, beside)
                _flush(beside)
                os.replace(beside, whole)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(beside)
            _flush(os.path.dirname(whole))

    def remove(self, path: str) -> None:
        """Remove a file, and the local folder it leaves empty."""
        whole = f"{self.root}/{path}"
        with told(whole), suppress(FileNotFoundError):
            self.fs.rm_file(whole)
            if self.is_local:
                with suppress(OSError):
                    os.rmdir(os.path.dirname(whole))

    def _write(self, path: str, content: bytes) -> None:
        whole = f"{self.root}/{path}"
        with told(whole):
            if not self.is_local:
                self.fs.pipe_file(whole, content)
                return
            with _beside(whole, content) as beside:
                os.replace(beside, whole)


@contextmanager
def _beside(whole: str, content: bytes) -> Iterator[str]:
    """A file with a content, on the disk, in the folder of another; removed if still there."""
    folder = os.path.dirname(whole)
    beside = f"{folder}/.{secrets.token_hex(8)}.tmp"
    try:
        with _opened(beside) as file:
            file.write(content)
        _flush(beside)
        yield beside
    finally:
        with suppress(FileNotFoundError):
            os.unlink(beside)


def _opened(path: str) -> BinaryIO:
    """A new file; its folder is made again where another process found it empty and removed it.

    Raises `FileExistsError` where there is one.
    """
    for _ in range(_FOLDER_ATTEMPTS):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with suppress(FileNotFoundError):
            return open(path, "xb")
    raise FileNotFoundError(path)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    with suppress(FileNotFoundError), os.scandir(folder) as found:
        return list(found)
    return []


def _create(whole: str, content: bytes) -> None:
    """Make a file. Raises `FileExistsError` where there is one."""
    with _beside(whole, content) as beside:
        try:
            # Its name and its content become visible together.
            os.link(beside, whole)
            return
        except FileExistsError:
            raise
        except OSError:
            pass
    # A mount without hard links (exFAT, SMB, many a FUSE): for a moment the file may be empty.
    with _opened(whole) as file:
        file.write(content)
    _flush(whole)


def _link_or_copy(local: Path, beside: str) -> None:
    try:
        os.link(local, beside)
    except OSError:  # another device, or a mount without hard links
        shutil.copyfile(local, beside)


def _flush(path: str) -> None:
    """What a rename makes visible must be on the disk before it, and the rename itself after."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        # Some mounts know no flushing of folders; a file that was not written is another matter.
        if not os.path.isdir(path):
            raise
    finally:
        os.close(handle)


@contextmanager
def told(place: str) -> Iterator[None]:
    """An error of the storage in one line that names the place."""
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except Exception as error:
        if isinstance(error, DestinationError):
            raise
        text = " ".join(str(error).split())[:300]
        raise DestinationError(
            f"{place}: {type(error).__name__}: {text}; check the bucket, its credentials and "
            "rights, then run again"
        ) from error
