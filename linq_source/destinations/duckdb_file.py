"""The file of a DuckDB database: its name, one that another has open, one that was half made."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_delay,
    wait_fixed,
)

from linq_source.destinations.failures import is_locked
from linq_source.destinations.pipeline_facts import kind_of
from linq_source.destinations.quoting import literal
from linq_source.errors import ConfigurationError, DestinationError

T = TypeVar("T")

# As long as a settler waits for another's lock of a lake.
PATIENCE_S = 240.0
_POLL_S = 0.5
# Catalogs and schemas that every DuckDB database has.
_TAKEN = ("system", "temp", "information_schema", "pg_catalog")
# Every DuckDB file begins with three blocks of 4,096 bytes, the first of which says so.
_HEADERS_BYTES = 3 * 4096
_SAYS_SO = slice(8, 12), b"DUCK"
_log = logging.getLogger(__name__)


def when_closed(opened: Callable[[], T]) -> T:
    """Open a file; one that another program has open, when it has closed it."""
    return Retrying(
        retry=retry_if_exception_type(Exception) & retry_if_exception(is_locked),
        stop=stop_after_delay(PATIENCE_S),
        wait=wait_fixed(_POLL_S),
        before_sleep=_tell_once,
        reraise=True,
    )(opened)


def _tell_once(attempt: RetryCallState) -> None:
    if attempt.attempt_number == 1:
        _log.warning("another program has the file open; waiting until it is closed")


def catalog_of(path: str) -> str:
    """The name that DuckDB gives to the database in a file: its name up to the first dot."""
    name = Path(path).name.split("?")[0]
    found = next((part for part in name.split(".") if part), name)
    return f"{found}_db" if found in ("system", "temp", "main") else found


def check_dataset_name(client: Any) -> None:
    """Raise `ConfigurationError` where DuckDB could not tell the dataset from a database.

    `"linq"."chats"` is ambiguous when both a schema and a database are called linq, in whatever
    case. dlt writes names so, and has a second schema beside the dataset's. `client` need not be
    open: nothing is asked, and no file made.
    """
    if kind_of(client.config) != "duckdb":
        return
    path = str(client.config.credentials.database)
    catalog = catalog_of(path).lower()
    dataset = client.sql_client.dataset_name
    staging = client.sql_client.staging_dataset_name
    if dataset.lower() in _TAKEN:
        raise ConfigurationError(
            f"the dataset name {dataset} is one of DuckDB's own: choose another (--dataset)"
        )
    for schema in (dataset, staging):
        if schema.lower() == catalog:
            raise ConfigurationError(
                f"the database {path} and the dataset {dataset} cannot go together: DuckDB calls "
                f"the database {catalog_of(path)}, and a schema of it is called {schema}; choose "
                "another file name or dataset name (--database, --dataset)"
            )


def is_half_made(path: Path) -> bool:
    """Whether a file ends within its headers: no row was ever in it, and DuckDB refuses it.

    A disk that was full, or a kill, left it so.
    """
    place, text = _SAYS_SO
    with suppress(OSError):
        # To open and close a file gives up every lock of this process on it: not of a real one.
        if path.stat().st_size < _HEADERS_BYTES:
            content = path.read_bytes()
            return not content or content[place] == text
    return False


def complete(path: Path) -> None:
    """Make an empty database of a file that is half made; where it lies, with its rights.

    One that another process makes just now is locked, and left to it.
    """
    if not is_half_made(path):
        return
    import duckdb

    with tempfile.TemporaryDirectory() as folder, suppress(OSError, ImportError):
        import fcntl  # not on Windows

        fresh = Path(folder, "fresh.duckdb")
        duckdb.connect(str(fresh)).close()
        with path.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(fresh.read_bytes())


def rewrite_file(path: Path) -> None:
    """Write a file again, which nobody has open: blocks that rows were deleted from keep them."""
    import duckdb

    path = path.resolve()
    fresh = path.with_name(path.name + ".forgetting")
    fresh.unlink(missing_ok=True)
    try:
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH {literal(str(path))} AS old")
            connection.execute(f"ATTACH {literal(str(fresh))} AS fresh")
            connection.execute("CHECKPOINT old")
            connection.execute("COPY FROM DATABASE old TO fresh")
            connection.execute("DETACH fresh")
            connection.execute("DETACH old")
        if path.with_name(path.name + ".wal").exists():
            raise OSError("another program is writing")
        shutil.copymode(path, fresh)
        os.replace(fresh, path)
    except (duckdb.Error, OSError) as error:
        fresh.unlink(missing_ok=True)
        raise DestinationError(
            f"{path}: the rows are deleted, but the file could not be rewritten to free "
            f"their blocks ({type(error).__name__}); make room or close other programs, then "
            "run again"
        ) from error
