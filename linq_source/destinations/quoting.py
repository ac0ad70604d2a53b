"""Texts, paths and addresses that keep their meaning whatever characters a name has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from glob import escape
from urllib.parse import unquote

# An option of `parquet_files`: columns by name, and null where a file lacks one.
UNION = "union_by_name = true"


def literal(text: str) -> str:
    """A text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def parquet_columns(paths: Sequence[str]) -> str:
    """A query for each file's columns: the file, the column, and what Parquet calls its type."""
    return (
        f"SELECT file_name, name, type FROM parquet_schema({_list(paths)})"
        " WHERE type IS NOT NULL AND COALESCE(num_children, 0) = 0"
    )


def parquet_files(paths: Sequence[str], *options: str) -> str:
    """A table function that reads the Parquet files at exactly these paths or addresses.

    What their folders are called is no column (`sent_month=...`), unless an option says so.
    """
    return f"read_parquet({', '.join((_list(paths), 'hive_partitioning = false', *options))})"


def _list(paths: Iterable[str]) -> str:
    # DuckDB, and fsspec for it, takes paths for patterns.
    return f"[{', '.join(literal(escape(path)) for path in paths)}]"


def local_path(url: str) -> str:
    """The path of a folder that is given as such, or as `file://...`, where `%20` is a blank."""
    scheme = "file://"
    return unquote(url.removeprefix(scheme)) if url.startswith(scheme) else url
