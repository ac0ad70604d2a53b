"""The bucket: a file appears in it whole or not at all."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from dlt.common.configuration.resolve import resolve_configuration
from dlt.common.configuration.specs import known_sections
from dlt.common.storages.configuration import FilesystemConfiguration
from dlt.common.storages.fsspec_filesystem import fsspec_from_config

from linq_source.destinations.quoting import local_path
from linq_source.destinations.scratch import ScratchFolder
from linq_source.errors import ConfigurationError, DestinationError

_READ_BYTES = 1_048_576
_UPLOAD_PART_BYTES = 8_388_608
_INCOMING = ".incoming"
# What is still being written is touched all the time; what was left by a killed run is not.
_LEFT_BEHIND_S = 3_600.0


class Incoming:
    """A file being written where nobody looks, with the hash of what was written so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()

    def restart(self) -> Any:
        """Begin at the first byte; gives what takes the chunks."""
        self.close()
        self._file = self.path.open("wb")
        self._hash = hashlib.sha256()
        return self.write

    def write(self, chunk: bytes) -> None:
        """The next chunk."""
        if self._file is None:
            raise AssertionError("restart comes first")
        self._file.write(chunk)
        self._hash.update(chunk)

    def finish(self) -> str:
        """Everything is written: on the disk, not only on its way. Gives the SHA-256 in hex."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
        self.close()
        return self._hash.hexdigest()

    def close(self) -> None:
        """Close the file if it is open."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Bucket:
    """Where files go: a local folder, or an object store that fsspec knows.

    A local file is written beside its place and moved there in one step. For an object store it
    is written to this machine's temporary folder, checked, and then uploaded: uploads are atomic.
    """

    def __init__(self, bucket_url: str, dataset: str) -> None:
        self._fs, self._root = _open(bucket_url)
        self._is_local = "file" in _protocols(self._fs)
        if self._is_local:
            self._incoming = Path(self._root) / dataset / "files" / _INCOMING
            try:
                self._incoming.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DestinationError(
                    f"--bucket-url {self._root}: no folder can be made there ({error.strerror})"
                ) from error
            self._remove_left_behind()
        else:
            self._scratch = ScratchFolder()
            self._incoming = Path(self._scratch.name)

    def close(self) -> None:
        """Remove what this run wrote on its way."""
        if not self._is_local:
            self._scratch.cleanup()
            return
        with suppress(OSError):
            self._incoming.rmdir()

    def stored_size(self, key: str) -> int | None:
        """The size in bytes of the file under a key; none if there is none."""
        try:
            found = self._fs.info(self._path(key))
        except FileNotFoundError:
            return None
        return int(found["size"]) if found["type"] == "file" else None

    def stored_hash(self, key: str) -> str:
        """The SHA-256, in hex, of the file under a key."""
        with self._fs.open(self._path(key), "rb", block_size=_READ_BYTES) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @contextmanager
    def incoming(self) -> Iterator[Incoming]:
        """Somewhere to write a file; gone at the end unless it was put to its place."""
        file = Incoming(self._incoming / secrets.token_hex(16))
        try:
            yield file
        finally:
            file.close()
            file.path.unlink(missing_ok=True)

    def put(self, file: Incoming, key: str) -> None:
        """Let a finished file appear under its key, in one step."""
        path = self._path(key)
        if self._is_local:
            target = Path(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file.path, target)
            return
        options = {}
        if {"s3", "gs", "gcs"} & _protocols(self._fs):
            options["chunksize"] = _UPLOAD_PART_BYTES
        self._fs.put_file(str(file.path), path, **options)
        self._fs.invalidate_cache(path)

    def remove(self, key: str) -> None:
        """Remove a file, and its folder with it; nothing happens where there is none."""
        path = self._path(key)
        with suppress(FileNotFoundError):
            self._fs.rm_file(path)
        if self._is_local:
            with suppress(OSError):
                Path(path).parent.rmdir()

    def _path(self, key: str) -> str:
        return f"{self._root.rstrip('/')}/{key}"

    def _remove_left_behind(self) -> None:
        oldest_s = time.time() - _LEFT_BEHIND_S
        for path in self._incoming.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest_s:
                    path.unlink()


def _open(bucket_url: str) -> tuple[Any, str]:
    """The file system of a bucket, with dlt's credentials for it, and the path in it."""
    if not bucket_url:
        raise ConfigurationError("--bucket-url is empty: name a folder, s3://... or gs://...")
    try:
        configuration = resolve_configuration(
            FilesystemConfiguration(bucket_url=local_path(bucket_url)),
            sections=(known_sections.DESTINATION, "filesystem"),
        )
        filesystem, path = fsspec_from_config(configuration)
        if configuration.is_local_filesystem:
            # A path, not the address that it was made to, where a blank is `%20`.
            path = configuration.make_local_path(configuration.bucket_url)
        return filesystem, path
    except ImportError as error:
        extra = bucket_url.partition(":")[0]
        raise ConfigurationError(
            f"--bucket-url {extra}:// needs an extra: pip install 'linq-source[{extra}]'"
        ) from error
    except (ValueError, OSError) as error:
        raise DestinationError(f"--bucket-url cannot be opened: {error}") from error


def _protocols(filesystem: Any) -> set[str]:
    protocol = filesystem.protocol
    return {protocol} if isinstance(protocol, str) else set(protocol)
