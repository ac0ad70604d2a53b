"""Asking any destination in SQL: the statements of a database, or DuckDB over tables in files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from dlt.common.destination.exceptions import DestinationUndefinedEntity

from linq_source.destinations.quoting import identifier
from linq_source.tables import ALL_TABLES, Table


class Reader(ABC):
    """Tables that can be asked in SQL; `%s` stands for a value."""

    # Seconds from 1970-01-01T00:00:00Z to an instant, with its fraction.
    EPOCH_S: ClassVar = "EXTRACT(EPOCH FROM {})"
    FLOAT: ClassVar = "DOUBLE PRECISION"
    INTEGER: ClassVar = "BIGINT"

    @abstractmethod
    def knows(self, table: Table) -> bool:
        """Whether there is such a table; in a database, whether the pipeline's schema has it."""

    @abstractmethod
    def columns(self, table: Table) -> set[str]:
        """The columns that a table has: an earlier version may have made it.

        For one that is not there it raises `DestinationUndefinedEntity`.
        """

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

    def ask(self, sql: str, *values: Any) -> Sequence[tuple[Any, ...]]:
        """The rows of a statement that has tables in braces; none where one is not there."""
        try:
            names = {n: self.name(table) for n, table in ALL_TABLES.items() if f"{{{n}}}" in sql}
            return self.rows(sql.format(**names), *values)
        except DestinationUndefinedEntity:
            return []

    def epoch_s(self, column: str) -> str:
        """The expression for an instant's seconds since 1970, as a floating point number."""
        return f"CAST({self.EPOCH_S.format(column)} AS {self.FLOAT})"


class SqlReader(Reader):
    """The tables of a database that dlt has a SQL client for."""

    def __init__(self, client: Any, known: Collection[str]) -> None:
        """`known` are the names of the tables that the pipeline's schema has."""
        self._client = client
        self._known = known

    def knows(self, table: Table) -> bool:
        """Whether the pipeline's schema has such a table."""
        return table.name in self._known

    def columns(self, table: Table) -> set[str]:
        """The columns that a table has."""
        with self._client.execute_query(f"SELECT * FROM {self.name(table)} WHERE 1 = 0") as cursor:
            return {name for name, *_ in cursor.description}

    def name(self, table: Table) -> str:
        """What a statement calls a table."""
        return str(self._client.make_qualified_table_name(table.name))

    def quoted(self, column: str) -> str:
        """What a statement calls a column."""
        return str(self._client.escape_column_name(column))

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        return list(self._client.execute_sql(sql, *values) or ())


class BigQueryReader(SqlReader):
    """The tables of a project of BigQuery."""

    EPOCH_S: ClassVar = "UNIX_MICROS({}) / 1000000"
    FLOAT: ClassVar = "FLOAT64"
    INTEGER: ClassVar = "INT64"


class FilesReader(Reader):
    """Tables in files, as views or tables of a DuckDB connection under their own names."""

    def __init__(self, connection: Any, there: Mapping[Table, str]) -> None:
        """`there` are the tables that there are, each with a relation of all its columns."""
        self._connection = connection
        self._there = there

    def knows(self, table: Table) -> bool:
        """Whether there is such a table."""
        return table in self._there

    def columns(self, table: Table) -> set[str]:
        """The columns that a table has."""
        if table not in self._there:
            raise DestinationUndefinedEntity(table.name)
        found = self._connection.execute(f"DESCRIBE SELECT * FROM {self._there[table]}").fetchall()
        return {name for name, *_ in found}

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
