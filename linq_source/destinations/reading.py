"""Asking any destination in SQL: the statements of a database, or DuckDB over tables in files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Any

from dlt.common.destination.exceptions import DestinationUndefinedEntity

from linq_source.destinations.quoting import identifier
from linq_source.tables import Table


class Reader(ABC):
    """Tables that can be asked in SQL; `%s` stands for a value."""

    @abstractmethod
    def has(self, table: Table) -> bool:
        """Whether there is such a table."""

    @abstractmethod
    def name(self, table: Table) -> str:
        """What a statement calls a table.

        For one that is not there it, or `rows`, raises `DestinationUndefinedEntity`.
        """

    @abstractmethod
    def quoted(self, column: str) -> str:
        """What a statement calls a column."""

    @abstractmethod
    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement."""


class SqlReader(Reader):
    """The tables of a database that dlt has a SQL client for."""

    def __init__(self, client: Any, there: Collection[str]) -> None:
        """`there` are the names of the tables that there are."""
        self._client = client
        self._there = there

    def has(self, table: Table) -> bool:
        """Whether there is such a table."""
        return table.name in self._there

    def name(self, table: Table) -> str:
        """What a statement calls a table."""
        return str(self._client.make_qualified_table_name(table.name))

    def quoted(self, column: str) -> str:
        """What a statement calls a column."""
        return str(self._client.escape_column_name(column))

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        return list(self._client.execute_sql(sql, *values) or ())


class FilesReader(Reader):
    """Tables in files, as views or tables of a DuckDB connection under their own names."""

    def __init__(self, connection: Any, there: Collection[Table]) -> None:
        """`there` are the tables that there are."""
        self._connection = connection
        self._there = there

    def has(self, table: Table) -> bool:
        """Whether there is such a table."""
        return table in self._there

    def name(self, table: Table) -> str:
        """What a statement calls a table."""
        if table not in self._there:
            raise DestinationUndefinedEntity(table.name)
        return identifier(table.name)

    def quoted(self, column: str) -> str:
        """What a statement calls a column."""
        return identifier(column)

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        found = self._connection.execute(sql.replace("%s", "?"), values).fetchall()
        return list(found)
