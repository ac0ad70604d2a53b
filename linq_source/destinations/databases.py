"""Databases that dlt has a SQL client for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from typing import Any, ClassVar

from dlt.common.destination.exceptions import DestinationUndefinedEntity

from linq_source.destinations.base import Destination, Rows, RowsQuery
from linq_source.destinations.bigquery import merging_by_day
from linq_source.destinations.dataset_tables import in_shard
from linq_source.destinations.dbt_profiles import (
    Profile,
    bigquery_profile,
    duckdb_profile,
    postgres_profile,
)
from linq_source.destinations.deletion_rule import Marked
from linq_source.destinations.duckdb_file import (
    check_dataset_name,
    complete,
    is_half_made,
    rewrite_file,
)
from linq_source.destinations.erasing import Erasure, rows_with, wanted_values
from linq_source.destinations.reading import BigQueryReader, Reader, SqlReader
from linq_source.destinations.remote import Remote, connected
from linq_source.destinations.scratch import check_folder_writable
from linq_source.destinations.sql_ledger import settle_sql
from linq_source.destinations.table_comments import describe
from linq_source.instants import from_us
from linq_source.settings import Shard
from linq_source.tables import ALL_TABLES, Table


class Database(Destination):
    """Any database: rows are deleted and changed by statements."""

    reader_class: ClassVar[type[SqlReader]] = SqlReader

    @contextmanager
    def reading(self, columns: Mapping[Table, Sequence[str]]) -> Iterator[Reader]:
        """Some columns of the current state, to be asked in SQL."""
        with self.pipeline.sql_client() as client:
            yield self.reader_class(client, self._columns())

    def check_writable(self, table_format: str | None) -> None:
        """Make a table, and remove it, where a run would; and a dataset, where one is missing."""
        with connected(self.pipeline) as remote:
            name = f"linq_source_check_{token_hex(8)}"
            for staging in (nullcontext(), remote.sql.with_staging_dataset()):
                with staging:
                    _check_dataset(remote.sql, name)

    def erase(self, erasure: Erasure) -> dict[str, int]:
        """Erase rows, and what is staged."""
        columns = self._columns()
        with self.pipeline.sql_client() as client:
            reader = SqlReader(client, columns)
            erased = {
                table.name: _erase_rows(client, reader, erasure, table)
                for table in erasure.tables
                if reader.knows(table) or erasure.files_of
            }
            for table in erasure.tables:
                _treat_others(client, reader, erasure, table, columns.get(table.name, {}))
            with client.with_staging_dataset():
                _empty(client, [table.name for table in erasure.tables])
        return erased

    def apply_ledger(
        self, remote: Remote, ledger_retention_days: int, shard: Shard | None = None
    ) -> Marked:
        """Mark what the ledger proves gone, then describe what is there."""
        marked = settle_sql(self.pipeline, remote.sql, ledger_retention_days, shard)
        describe(self.pipeline, remote.sql)
        return marked

    def rows_since(self, remote: Remote, queries: Sequence[RowsQuery]) -> list[Rows]:
        """All in one statement: to ask a warehouse takes a second."""
        most = max(len(query.columns) for query in queries)
        parts = [
            self._select(remote.sql, query, most, str(number))
            for number, query in enumerate(queries)
        ]
        sql = " UNION ALL ".join(sql for sql, _ in parts)
        try:
            found = remote.sql.execute_sql(sql, *(value for _, values in parts for value in values))
        except DestinationUndefinedEntity:  # somebody chose among the resources
            if len(queries) == 1:
                return [[]]
            return [rows for query in queries for rows in self.rows_since(remote, [query])]
        rows: list[Rows] = [[] for _ in queries]
        for number, *row in found or ():
            query = queries[int(number)]
            rows[int(number)].append((*row[: len(query.columns) - 1], row[-1]))
        return rows

    def _select(
        self, client: Any, query: RowsQuery, most: int, number: str
    ) -> tuple[str, list[datetime]]:
        """The statement and its values; numbered, with `most` columns."""
        *first, last = query.columns
        columns = [number, *first, *["NULL"] * (most - len(query.columns)), last]
        name = client.make_qualified_table_name(query.table.name)
        known = [from_us(at_us) for at_us in sorted(query.known) if at_us > query.since_us]
        sql = f"SELECT {', '.join(columns)} FROM {name} WHERE synced_at > %s"
        if query.shard is not None:
            table = self.tables[query.table.name]
            sql += f" AND {in_shard(table, query.columns[0], query.shard)}"
        if known:
            sql += f" AND synced_at NOT IN ({', '.join(['%s'] * len(known))})"
        return sql, [from_us(query.since_us), *known]

    def _columns(self) -> dict[str, dict[str, str]]:
        """The types of every table's columns, as far as the pipeline knows them."""
        pipeline = self.pipeline
        schema: Mapping[str, Any] = (
            pipeline.default_schema.tables if pipeline.default_schema_name else {}
        )
        return {
            name: {
                column: str(hints.get("data_type"))
                for column, hints in table["columns"].items()
                if "data_type" in hints
            }
            for name, table in schema.items()
            if name in ALL_TABLES and table.get("x-normalizer")
        }


class DuckDB(Database):
    """A DuckDB file, which is written again: blocks that DELETE frees keep their bytes."""

    beyond_reach = ""
    views_dialect = "duckdb"

    def dbt_profile(self, database: str) -> Profile:
        """The file is given to dbt."""
        return duckdb_profile(self.pipeline)

    @property
    def location(self) -> str:
        """The file's path as it is configured."""
        config: Any = self.pipeline.destination_client().config
        return str(config.credentials.database)

    @property
    def file(self) -> Path:
        """The file."""
        return Path(self.location)

    def check_writable(self, table_format: str | None) -> None:
        """The same; a file that is not there, or half made, is not made."""
        if self.file.exists() and not is_half_made(self.file):
            super().check_writable(table_format)
        else:
            check_folder_writable(self.file.parent)

    def heal(self) -> None:
        """Make an empty database of a file that is half made."""
        complete(self.file)

    def check_name(self) -> None:
        """Raise `ConfigurationError` where DuckDB could not tell the dataset from a database."""
        check_dataset_name(self.pipeline.destination_client())

    def erase(self, erasure: Erasure) -> dict[str, int]:
        """Erase rows, what is staged, and the bytes in free blocks."""
        erased = super().erase(erasure)
        if not erasure.files_of:
            with self.pipeline.destination_client() as destination_client:
                credentials: Any = destination_client.config.credentials
            rewrite_file(Path(credentials._conn_str()))
        return erased


class BigQuery(Database):
    """BigQuery, whose merges read no more than the days that they change."""

    reader_class = BigQueryReader
    views_dialect = "bigquery"

    def dbt_profile(self, database: str) -> Profile:
        """The dataset is given to dbt."""
        return bigquery_profile(self.pipeline)

    def loading(self) -> AbstractContextManager[None]:
        """Rows are merged day by day."""
        return merging_by_day(self.pipeline)


class Postgres(Database):
    """Postgres, which dbt knows, too."""

    views_dialect = "postgres"

    def dbt_profile(self, database: str) -> Profile:
        """The database is given to dbt."""
        return postgres_profile(self.pipeline)


def _check_dataset(client: Any, name: str) -> None:
    """Make a table in a dataset; in one of its own where there is none, for a run may make it."""
    if client.has_dataset():
        _check_table(client, name)
        return
    with client.with_alternative_dataset_name(name):
        client.create_dataset()
        try:
            _check_table(client, name)
        finally:
            client.drop_dataset()


def _check_table(client: Any, name: str) -> None:
    table = client.make_qualified_table_name(name)
    client.execute_sql(f"CREATE TABLE {table} (id TIMESTAMP)")
    client.execute_sql(f"DROP TABLE {table}")


def _erase_rows(client: Any, reader: Reader, erasure: Erasure, table: Table) -> int:
    """Delete the rows in which a column has one of the values; gives how many there were."""
    name = reader.name(table)
    deleted = 0
    found: list[tuple[str, Sequence[Any]]] = [*erasure.keys(table)]
    found += [(c, wanted_values(reader, table, c, wanted)) for c, wanted in erasure.texts(table)]
    for column, values in found:
        counts = rows_with(reader, f"SELECT COUNT(*) FROM {name} WHERE {column} IN", values)
        deleted += sum(count for (count,) in counts)
        list(rows_with(reader, f"DELETE FROM {name} WHERE {column} IN", values))
    return deleted


def _treat_others(
    client: Any, reader: Reader, erasure: Erasure, table: Table, types: Mapping[str, str]
) -> None:
    text_columns = [column for column, type_ in types.items() if type_ == "text"]
    for column, treat in erasure.others(table, text_columns):
        quoted = reader.quoted(column)
        for value in wanted_values(reader, table, column, erasure.people.is_named_in):
            treated = treat(value)
            # A parameter cannot be null everywhere: it would have no type.
            place, values = ("NULL", [value]) if treated is None else ("%s", [treated, value])
            client.execute_sql(
                f"UPDATE {reader.name(table)} SET {quoted} = {place} WHERE {quoted} = %s", *values
            )


def _empty(client: Any, names: Sequence[str]) -> None:
    """Empty a dataset's tables: the staging one holds copies of what was loaded last."""
    for name in names:
        try:
            client.execute_sql(f"DELETE FROM {client.make_qualified_table_name(name)} WHERE 1 = 1")
        except DestinationUndefinedEntity:
            continue
