"""CREATE, ALTER, DROP and TRUNCATE: definitions go to the catalog, empty tables to DuckDB."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlglot import exp

from tests.bigquery.catalog import (
    TYPES,
    BigQueryError,
    Catalog,
    Column,
    Table,
    beyond,
    invalid_query,
)
from tests.bigquery.translation import INFORMATION, Relations


class Definitions:
    """Runs statements that define tables."""

    def __init__(self, catalog: Catalog, cursor: Any) -> None:
        self._catalog = catalog
        self._cursor = cursor

    def create_dataset(self, name: str) -> None:
        if name in self._catalog.datasets:
            text = f"Already Exists: Dataset {self._catalog.project}:{name}"
            raise BigQueryError("duplicate", text, 409)
        self._cursor.execute(f'CREATE SCHEMA "{name}"')
        self._catalog.datasets[name] = {}

    def drop_dataset(self, name: str, *, cascade: bool) -> None:
        tables = self._catalog.dataset(name)
        if tables and not cascade:
            raise BigQueryError("resourceInUse", f"Dataset {name} is still in use")
        for table in list(tables.values()):
            self._drop(table)
        self._cursor.execute(f'DROP SCHEMA "{name}"')
        del self._catalog.datasets[name]

    def create(self, tree: exp.Create, relations: Relations) -> None:
        """A dataset, or a table with its partitions, clusters and descriptions."""
        if tree.args["kind"] == "SCHEMA":
            name = tree.this.db or tree.this.name
            if not (tree.args.get("exists") and name in self._catalog.datasets):
                self.create_dataset(name)
            return
        if tree.args["kind"] != "TABLE" or tree.args.get("replace") or tree.expression:
            raise beyond(tree.sql("bigquery")[:200])
        node = tree.this.this
        dataset = relations.dataset(node)
        tables = self._catalog.dataset(dataset)
        if node.name in tables:
            if tree.args.get("exists"):
                return
            text = f"Already Exists: Table {self._catalog.project}:{dataset}.{node.name}"
            raise BigQueryError("duplicate", text, 409)
        columns = [_column(definition) for definition in tree.this.expressions]
        table = Table(dataset, node.name, {column.name: column for column in columns})
        for item in tree.args["properties"].expressions if tree.args.get("properties") else ():
            _set_property(table, item)
        parts = ", ".join(_definition(column) for column in columns)
        self._cursor.execute(f"CREATE TABLE {table.sql_name} ({parts})")
        tables[table.name] = table
        self._inform(table, columns, first=1)

    def create_as(
        self, tree: exp.Create, relations: Relations, columns: dict[str, str], query: str
    ) -> Table:
        """A table or view of what a query in DuckDB's SQL gives, in place of what it replaces."""
        node = tree.this
        dataset, kind = relations.dataset(node), str(tree.args["kind"])
        table = Table(
            dataset,
            node.name,
            {name: Column(name, type_) for name, type_ in columns.items()},
            is_view=kind == "VIEW",
        )
        before = self._catalog.dataset(dataset).get(node.name)
        if before is not None:
            if not tree.args.get("replace"):
                text = f"Already Exists: Table {self._catalog.project}:{dataset}.{node.name}"
                raise BigQueryError("duplicate", text, 409)
            if before.is_view != table.is_view:
                raise invalid_query(
                    f"{self._catalog.project}:{dataset}.{node.name} is of another type"
                )
        for item in tree.args["properties"].expressions if tree.args.get("properties") else ():
            _set_property(table, item)
        casts = ", ".join(f'CAST("{c}" AS {TYPES[t]}) AS "{c}"' for c, t in columns.items())
        self._cursor.execute(
            f"CREATE OR REPLACE {kind} {table.sql_name} AS SELECT {casts} FROM ({query})"
        )
        if before is not None:
            self._forget(before)
        self._catalog.datasets[dataset][table.name] = table
        self._inform(table, list(table.columns.values()), first=1)
        return table

    def drop_table(self, dataset: str, name: str) -> None:
        """A table or view by its name."""
        self._drop(self._catalog.table(dataset, name))

    def alter(self, tree: exp.Alter, relations: Relations) -> None:
        """Columns added to a table; REQUIRED ones cannot be."""
        table = relations.table(tree.this)
        for action in tree.args["actions"]:
            if not isinstance(action, exp.ColumnDef):
                raise beyond(tree.sql("bigquery")[:200])
            column = _column(action)
            if column.required:
                raise invalid_query("Cannot add required fields to an existing schema")
            if column.name in table.columns:
                if action.args.get("exists"):
                    continue
                raise invalid_query(f"Column already exists: {column.name}")
            self._cursor.execute(f"ALTER TABLE {table.sql_name} ADD COLUMN {_definition(column)}")
            table.columns[column.name] = column
            self._inform(table, [column], first=len(table.columns))

    def drop(self, tree: exp.Drop, relations: Relations) -> None:
        """A table, or a dataset with everything in it."""
        nodes = tree.args.get("tables") or [tree.this]
        for node in nodes:
            if tree.args["kind"] == "SCHEMA":
                name = node.db or node.name
                self.drop_dataset(name, cascade=bool(tree.args.get("cascade")))
                continue
            try:
                table = relations.table(node)
            except BigQueryError as error:
                if tree.args.get("exists") and error.reason == "notFound":
                    continue
                raise
            self._drop(table)

    def truncate(self, tree: exp.TruncateTable, relations: Relations) -> None:
        for node in tree.expressions:
            self._cursor.execute(f"DELETE FROM {relations.table(node).sql_name}")

    def _drop(self, table: Table) -> None:
        self._cursor.execute(f"DROP {'VIEW' if table.is_view else 'TABLE'} {table.sql_name}")
        self._forget(table)

    def _forget(self, table: Table) -> None:
        self._cursor.execute(
            f"DELETE FROM {INFORMATION}.columns WHERE table_schema = ? AND table_name = ?",
            [table.dataset, table.name],
        )
        del self._catalog.datasets[table.dataset][table.name]

    def _inform(self, table: Table, columns: Iterable[Column], first: int) -> None:
        for place, column in enumerate(columns, first):
            self._cursor.execute(
                f"INSERT INTO {INFORMATION}.columns VALUES (?, ?, ?, ?, ?, ?)",
                [
                    table.dataset,
                    table.name,
                    column.name,
                    place,
                    column.full_type,
                    "NO" if column.required else "YES",
                ],
            )


def _column(definition: exp.ColumnDef) -> Column:
    type_, _, length = definition.args["kind"].sql("bigquery").partition("(")
    if type_ not in TYPES or (length and type_ != "STRING"):
        raise beyond(f"a column of type {type_}({length}")
    column = Column(definition.name, type_, length=int(length[:-1]) if length else None)
    for constraint in definition.args.get("constraints") or ():
        kind = constraint.args["kind"]
        if isinstance(kind, exp.NotNullColumnConstraint):
            column.required = True
        elif isinstance(kind, exp.Properties):
            for item in kind.expressions:
                if item.name != "description":
                    raise beyond(f"a column option {item.sql('bigquery')}")
                column.description = item.args["value"].name
        else:
            raise beyond(constraint.sql("bigquery"))
    return column


def _definition(column: Column) -> str:
    text = f'"{column.name}" {TYPES[column.type]}{" NOT NULL" if column.required else ""}'
    if column.length is not None:
        text += f' CHECK (length("{column.name}") <= {column.length})'
    return text


def _set_property(table: Table, item: exp.Expr) -> None:
    if isinstance(item, exp.PartitionedByProperty):
        by = item.this
        if isinstance(by, exp.TimestampTrunc) and by.text("unit").upper() == "DAY":
            by = exp.Date(this=by.this)
        if not isinstance(by, exp.Date) or table.columns[by.this.name].type != "TIMESTAMP":
            raise beyond(f"partitions by {by.sql('bigquery')}")
        table.partition_by = by.this.name
    elif isinstance(item, exp.ClusterProperty):
        table.cluster_by = tuple(column.name for column in item.expressions)
        if len(table.cluster_by) > 4 or not set(table.cluster_by) <= set(table.columns):
            raise invalid_query(f"Invalid clustering {table.cluster_by}")
    elif item.name == "description":
        table.description = item.args["value"].name
    elif item.name == "labels":
        pairs = [pair.expressions for pair in item.args["value"].expressions]
        table.labels = {key.name: value.name for key, value in pairs}
    elif item.name != "expiration_timestamp":  # nothing stays long enough here
        raise beyond(f"a table option {item.sql('bigquery')}")
