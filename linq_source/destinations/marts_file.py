"""Whose marts a DuckDB file has: those of one place never replace those of another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from linq_source.destinations.duckdb_file import when_closed
from linq_source.destinations.failures import is_locked
from linq_source.destinations.quoting import literal
from linq_source.errors import ConfigurationError

if TYPE_CHECKING:
    from linq_source.destinations.remote import Remote

# What the view of the messages is made of says where they are.
_VIEW = "stg_linq__chat_messages"
_IN_FILES = "read_parquet("


def check_file_for_lake(path: Path, dataset: str, messages: str) -> None:
    """Raise `ConfigurationError` where a lake's marts would replace others in a file.

    `messages` is the pattern that the lake's messages are read by.
    """
    import duckdb

    if not path.exists():
        return
    try:
        with when_closed(lambda: duckdb.connect(str(path), read_only=True)) as connection:
            tables = connection.execute(
                "SELECT 1 FROM duckdb_tables() WHERE lower(schema_name) = lower(?)"
                " AND table_name = 'chat_messages'",
                [dataset],
            ).fetchall()
            views = connection.execute(_query(dataset)).fetchall()
    except duckdb.Error as error:
        if is_locked(error):
            raise
        raise ConfigurationError(
            f"--database {path}: is not a DuckDB file ({str(error).splitlines()[0]}); the models "
            "of a lake are written to it, name another one"
        ) from error
    if tables:
        held = f"holds the dataset {dataset}, whose"
    elif any(f"{_IN_FILES}{literal(messages)}" not in sql for (sql,) in views):
        held = f"has the schema {dataset}_marts made from another place, and these"
    else:
        return
    raise ConfigurationError(
        f"--database {path}: the file {held} marts would be replaced by those of the lake's "
        f"dataset {dataset}; name another file, say --database other.duckdb"
    )


def check_file_of_dataset(remote: Remote, path: str, dataset: str) -> None:
    """Raise `ConfigurationError` where a dataset's marts would replace those of a lake."""
    if any(_IN_FILES in sql for (sql,) in remote.sql.execute_sql(_query(dataset)) or ()):
        raise ConfigurationError(
            f"--database {path}: the file has the schema {dataset}_marts made from a lake's "
            f"dataset {dataset}, which the marts of the file's own would replace: remove it (DROP "
            f"SCHEMA {dataset}_marts CASCADE) and build the lake's with --database other.duckdb"
        )


def _query(dataset: str) -> str:
    return (
        f"SELECT sql FROM duckdb_views() WHERE view_name = '{_VIEW}'"
        f" AND lower(schema_name) = lower({literal(f'{dataset}_marts')})"
    )
