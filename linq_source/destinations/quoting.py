"""Texts, paths and addresses that keep their meaning whatever characters a name has."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

# In the names of files DuckDB, and fsspec for it, takes these for patterns.
_PATTERNS = "*?["
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
    files = ", ".join(literal(escaped(path)) for path in paths)
    return (
        f"SELECT file_name, name, type FROM parquet_schema([{files}])"
        " WHERE type IS NOT NULL AND COALESCE(num_children, 0) = 0"
    )


def parquet_files(paths: Sequence[str], *options: str) -> str:
    """A table function that reads the Parquet files at exactly these paths or addresses.

    What their folders are called is no column (`sent_month=...`), unless an option says so.
    """
    files = ", ".join(literal(escaped(path)) for path in paths)
    return f"read_parquet({', '.join((f'[{files}]', 'hive_partitioning = false', *options))})"


def local_path(url: str) -> str:
    """The path of a folder that is given as such, or as `file://...`, where `%20` is a blank."""
    scheme = "file://"
    return unquote(url.removeprefix(scheme)) if url.startswith(scheme) else url


def escaped(path: str) -> str:
    """A path in a pattern of DuckDB's that means just that path."""
    return "".join(f"[{letter}]" if letter in _PATTERNS else letter for letter in path)
