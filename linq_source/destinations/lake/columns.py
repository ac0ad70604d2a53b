"""Columns of a lake that the contract does not know: one type each, in every file.

Pipelines that load at the same time may give a new field two types, and files of the log are
what they are. The current state gives a column the type that came first; values of another type
are written as text where the column is text, and stand in a column beside it otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from linq_source.destinations.quoting import identifier
from linq_source.rows.unknown_columns import variant_of
from linq_source.tables import Table

# Types as the hints of dlt name them, by what Parquet calls them.
_TYPE_NAMES = {"INT64": "bigint", "DOUBLE": "double", "BOOLEAN": "bool", "BYTE_ARRAY": "text"}
_ARROW_TYPES = {
    "bigint": pa.int64(),
    "double": pa.float64(),
    "bool": pa.bool_(),
    "text": pa.string(),
}

# A file, a column and its type in Parquet's words.
FileColumn = tuple[str, str, str]


@dataclass(frozen=True)
class LogFiles:
    """Files whose columns are read alike: `misfits` are those of another type, with their own."""

    paths: Sequence[str]
    misfits: Mapping[str, str] = field(default_factory=dict)
    texts: frozenset[str] = frozenset()

    @property
    def select(self) -> str:
        """What to select from them, after `SELECT * EXCLUDE` of other names."""
        return "".join(
            f", CAST({identifier(name)} AS VARCHAR) AS {identifier(name)}"
            if name in self.texts
            else f", {identifier(name)} AS {identifier(variant_of(name, type_name))}"
            for name, type_name in self.misfits.items()
        )


class LakeColumns:
    """The columns of each table, as far as they are known; grows with what is read."""

    def __init__(self, known: Mapping[str, Mapping[str, str]] | None = None) -> None:
        self._known = {table: dict(columns) for table, columns in (known or {}).items()}
        # Tables that have a column which not every reader would find.
        self.widened: set[str] = set()

    def entry(self) -> dict[str, dict[str, str]]:
        """What is to be remembered."""
        return {table: dict(sorted(columns.items())) for table, columns in self._known.items()}

    def schema(self, table: Table) -> pa.Schema:
        """The table's columns, then those the contract does not know."""
        added = self._known.get(table.name, {})
        return pa.schema([*table.schema, *((name, _ARROW_TYPES[t]) for name, t in added.items())])

    def learn(self, table: Table, paths: Sequence[str], found: Iterable[FileColumn]) -> None:
        """Take the columns from files of the current state, in their order."""
        columns = self._by_file(table, found)
        for path in paths:
            self._add(table, columns.get(path, {}))
        if paths and set(columns.get(paths[0], {})) != set(self._known.get(table.name, {})):
            self.widened.add(table.name)

    def read(
        self, table: Table, paths: Sequence[str], found: Iterable[FileColumn]
    ) -> list[LogFiles]:
        """Files of the log, by how they are read; adds their columns."""
        columns = self._by_file(table, found)
        groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
        for path in paths:
            misfits = self._add(table, columns.get(path, {}))
            groups.setdefault(tuple(sorted(misfits.items())), []).append(path)
        known = self._known.get(table.name, {})
        texts = frozenset(name for name, type_name in known.items() if type_name == "text")
        return [LogFiles(files, dict(misfits), texts) for misfits, files in groups.items()]

    def _by_file(self, table: Table, found: Iterable[FileColumn]) -> dict[str, dict[str, str]]:
        columns: dict[str, dict[str, str]] = {}
        for path, name, type_name in found:
            if name not in table.column_names and type_name in _TYPE_NAMES:
                columns.setdefault(path, {})[name] = _TYPE_NAMES[type_name]
        return columns

    def _add(self, table: Table, columns: Mapping[str, str]) -> dict[str, str]:
        """Add a file's columns; gives those of a type that is not the column's."""
        misfits = {}
        for name, type_name in columns.items():
            known = self._known.get(table.name, {}).get(name)
            if known is None:
                self._note(table, name, type_name)
            elif known != type_name:
                misfits[name] = type_name
                if known != "text":
                    self._note(table, variant_of(name, type_name), type_name)
        return misfits

    def _note(self, table: Table, name: str, type_name: str) -> None:
        known = self._known.setdefault(table.name, {})
        if name not in known:
            known[name] = type_name
            self.widened.add(table.name)
