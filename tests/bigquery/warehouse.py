"""Statements and scripts run on DuckDB, as strictly as BigQuery runs them."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import duckdb
import sqlglot
from sqlglot import exp
from sqlglot.tokenizer_core import TokenType

from tests.bigquery.catalog import Catalog, Table, beyond, invalid_query
from tests.bigquery.changing import Changes
from tests.bigquery.checking import check_query, type_name
from tests.bigquery.definitions import Definitions
from tests.bigquery.front_end import Names, Opinions
from tests.bigquery.translation import (
    INFORMATION,
    Constant,
    Relations,
    conjuncts,
    constants_of,
    duck_sql,
    parse,
    split,
    words,
)

_LOOPS = 1_000
_LOOP = re.compile(r"WHILE\s+(.*?)\s+DO\s+(.*)", re.DOTALL | re.IGNORECASE)
_NAMES = {
    "BIGINT": "INT64",
    "HUGEINT": "INT64",
    # What an untyped null becomes.
    '"NULL"': "INT64",
    "INTEGER": "INT64",
    "VARCHAR": "STRING",
    "BOOLEAN": "BOOL",
    "DOUBLE": "FLOAT64",
    "DATE": "DATE",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMP",
}


@dataclass(frozen=True)
class Scan:
    """How many of a partitioned table's days a statement had to look at."""

    table: str
    days: frozenset[date]
    all_days: frozenset[date]


@dataclass(frozen=True)
class Statement:
    """A statement that was run, with constants put in, and what it scanned."""

    kind: str
    sql: str
    scans: tuple[Scan, ...] = ()
    affected: int = 0
    # What it made: dataset and name.
    target: tuple[str, str] | None = None


@dataclass
class Result:
    """The rows of the last SELECT, or how many rows the last change affected."""

    columns: list[tuple[str, str]] = field(default_factory=list)
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    affected: int | None = None


class Warehouse:
    """One project's tables. A request is run as a whole before the next one begins."""

    def __init__(self, project: str) -> None:
        self.catalog = Catalog(project)
        self.statements: list[Statement] = []
        self.google = Opinions()
        self.lock = threading.RLock()
        self._database = duckdb.connect(":memory:")
        self._database.execute("SET TimeZone = 'UTC'")
        self._database.execute(
            f"CREATE SCHEMA {INFORMATION};"
            f"CREATE TABLE {INFORMATION}.columns (table_schema VARCHAR, table_name VARCHAR,"
            " column_name VARCHAR, ordinal_position BIGINT, data_type VARCHAR,"
            " is_nullable VARCHAR)"
        )

    def close(self) -> None:
        self._database.close()

    def cursor(self) -> Any:
        """A connection of its own to the tables; the caller holds the lock."""
        cursor = self._database.cursor()
        cursor.execute("SET TimeZone = 'UTC'")
        return cursor

    def rows(self, dataset: str, table: str) -> list[dict[str, Any]]:
        """All rows of a table, for tests."""
        with self.lock:
            relation = self.cursor().sql(f'SELECT * FROM "{dataset}"."{table}"')
            return [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]

    def count(self, table: Table) -> int:
        """How many rows a table has."""
        with self.lock:
            sql = f"SELECT count(*) FROM {table.sql_name}"
            return int(self.cursor().execute(sql).fetchall()[0][0])

    def run(
        self,
        script: str,
        parameters: Sequence[Mapping[str, Any]] = (),
        default_dataset: str | None = None,
    ) -> Result:
        """Run a script of one or more statements."""
        with self.lock:
            return Script(self, default_dataset, constants_of(parameters)).run(script)


class Script:
    """A script under way: its variables, its temporary tables, its last result."""

    def __init__(
        self, warehouse: Warehouse, default_dataset: str | None, constants: dict[str, Constant]
    ) -> None:
        self._warehouse = warehouse
        self._default = default_dataset
        self._constants = constants
        self._cursor = warehouse.cursor()
        self._temporary: dict[str, dict[str, str]] = {}
        self._has_begun = False
        self._result = Result()

    def run(self, script: str) -> Result:
        try:
            with self._warehouse.google.of_script(script):
                self._block(split(script))
        except duckdb.ConstraintException as error:
            raise invalid_query(f"Required field cannot be null: {error}") from error
        except duckdb.Error as error:
            raise beyond(f"DuckDB refuses: {error}") from error
        finally:
            self._cursor.close()
        return self._result

    def _block(self, statements: list[str]) -> None:
        place = 0
        while place < len(statements):
            tokens = words(statements[place])
            if tokens[0].text.upper() == "WHILE":
                place = self._loop(statements, place)
            else:
                self._statement(statements[place])
            place += 1

    def _loop(self, statements: list[str], place: int) -> int:
        """Run `WHILE condition DO ...; END WHILE`; gives the place of its end."""
        head = statements[place]
        loop = _LOOP.fullmatch(head)
        if loop is None:
            raise invalid_query(f"Syntax error: {head}")
        condition, first = loop.groups()
        end = next(n for n in range(place, len(statements)) if statements[n].upper() == "END WHILE")
        self._has_begun = True
        for _ in range(_LOOPS):
            query = f"SELECT {condition}"
            with self._analyzed(query):
                is_met = self._value(parse(query, self._constants)) is True
            if not is_met:
                return end
            self._block([first, *statements[place + 1 : end]])
        raise invalid_query("a WHILE that does not end")

    def _statement(self, text: str) -> None:
        if words(text)[0].token_type == TokenType.DECLARE and self._has_begun:
            raise invalid_query("DECLARE must stand at the beginning of a script")
        with self._analyzed(text, result=lambda: self._result.rows):
            self._run(parse(text, self._constants))

    def _analyzed(self, statement: str, **options: Any) -> AbstractContextManager[None]:
        names = Names(
            self._warehouse.catalog, self._default, self._temporary, dict(self._constants)
        )
        return self._warehouse.google.of_statement(statement, names, self._cursor, **options)

    def _run(self, tree: exp.Expr) -> None:
        if isinstance(tree, exp.Declare):
            self._declare(tree)
            return
        self._has_begun = True
        if isinstance(tree, exp.Set):
            self._set(tree)
        elif isinstance(tree, exp.Query):
            self._query(tree)
        elif isinstance(tree, exp.Create) and tree.find(exp.TemporaryProperty):
            self._create_temporary(tree)
        elif isinstance(tree, exp.Insert | exp.Update | exp.Delete | exp.Merge):
            self._change(tree)
        else:
            self._define(tree)

    def _declare(self, tree: exp.Declare) -> None:
        for item in tree.expressions:
            type_ = item.args["kind"].sql("bigquery")
            value = None
            if isinstance(item.args.get("default"), exp.Expr):
                value = self._evaluate(item.args["default"])
            for name in item.this:
                self._constants[name.name] = (type_, value)

    def _set(self, tree: exp.Set) -> None:
        for item in tree.expressions:
            name = item.this.left.name
            if name not in self._constants:
                raise invalid_query(f"Undeclared variable: {name}")
            value = self._evaluate(item.this.right)
            self._constants[name] = (self._constants[name][0], value)

    def _evaluate(self, expression: exp.Expr) -> Any:
        sql = f"SELECT {expression.sql('bigquery')}"
        return self._value(parse(sql, self._constants))

    def _value(self, query: exp.Expr) -> Any:
        assert isinstance(query, exp.Query)
        ((value,),) = self._select(query).rows
        return value

    def _query(self, tree: exp.Query) -> None:
        self._result = self._select(tree)

    def _select(self, tree: exp.Query) -> Result:
        relations = self._relations()
        relations.resolve(tree)
        typed = check_query(tree, relations.schema)
        if any(ordered for ordered in typed.find_all(exp.Placeholder)):
            raise invalid_query("a placeholder without a parameter")
        scans = self._scans(tree)
        relation = self._cursor.execute(duck_sql(tree))
        columns = [(column[0], _NAMES.get(str(column[1]), "")) for column in relation.description]
        for (name, known), select in zip(columns, typed.selects, strict=True):
            if not known and not str(type_name(select)).startswith("ARRAY<"):
                raise beyond(f"the type of the column {name}")
        result = Result(columns, relation.fetchall())
        self._record("SELECT", tree, scans)
        return result

    def _create_temporary(self, tree: exp.Create) -> None:
        relations = self._relations()
        relations.resolve(tree.expression)
        typed = check_query(tree.expression, relations.schema)
        self._cursor.execute(f"CREATE TEMP TABLE {tree.this.name} AS {duck_sql(tree.expression)}")
        self._temporary[tree.this.name] = {
            select.alias_or_name: type_name(select) for select in typed.selects
        }
        self._record("CREATE TEMP TABLE", tree, ())

    def _change(self, tree: exp.Expr) -> None:
        relations = self._relations()
        changes = Changes(self._cursor, relations)
        target = changes.prepare(tree)
        scans = self._scans(tree)
        affected = changes.run(tree, target)
        self._result = Result(affected=affected)
        self._record(type(tree).__name__.upper(), tree, scans, affected)

    def _define(self, tree: exp.Expr) -> None:
        definitions = Definitions(self._warehouse.catalog, self._cursor)
        relations = self._relations()
        if isinstance(tree, exp.Create) and isinstance(tree.expression, exp.Query):
            self._create_as(definitions, tree, relations)
            return
        if isinstance(tree, exp.Create):
            definitions.create(tree, relations)
        elif isinstance(tree, exp.Alter):
            definitions.alter(tree, relations)
        elif isinstance(tree, exp.Drop):
            definitions.drop(tree, relations)
        elif isinstance(tree, exp.TruncateTable):
            definitions.truncate(tree, relations)
        else:
            raise beyond(tree.sql("bigquery")[:200])
        self._record(type(tree).__name__.upper(), tree, ())

    def _create_as(self, definitions: Definitions, tree: exp.Create, relations: Relations) -> None:
        """A table or view of a query's rows, in place of one of that name."""
        made = tree.sql("bigquery")
        query = tree.expression
        relations.resolve(query)
        typed = check_query(query, relations.schema)
        # A view's query must run, too.
        described = self._cursor.sql(duck_sql(query))
        columns = {
            name: _type_of(name, select, str(found))
            for name, select, found in zip(
                described.columns, typed.selects, described.types, strict=True
            )
        }
        table = definitions.create_as(tree, relations, columns, duck_sql(query))
        kind = f"CREATE {tree.args['kind']}"
        self._warehouse.statements.append(Statement(kind, made, target=(table.dataset, table.name)))

    def _relations(self) -> Relations:
        return Relations(self._warehouse.catalog, self._default, self._temporary)

    def _record(
        self, kind: str, tree: exp.Expr, scans: tuple[Scan, ...], affected: int = 0
    ) -> None:
        sql = tree.sql("bigquery")
        self._warehouse.statements.append(Statement(kind, sql, scans, affected))

    def _scans(self, tree: exp.Expr) -> tuple[Scan, ...]:
        """What constant conditions leave of every partitioned table, as BigQuery prunes."""
        scans = []
        for node in tree.find_all(exp.Table):
            table = self._warehouse.catalog.datasets.get(node.db, {}).get(node.name)
            if table is None or not table.partition_by or isinstance(tree, exp.Insert):
                continue
            scans.append(self._scan(node, table))
        return tuple(scans)

    def _scan(self, node: exp.Table, table: Table) -> Scan:
        alias = node.alias_or_name
        parent = node.find_ancestor(exp.Select, exp.Merge, exp.Update, exp.Delete)
        condition = None
        if isinstance(parent, exp.Merge) and not _removes_what_is_absent(parent):
            condition = parent.args["on"]
        elif parent is not None and parent.args.get("where"):
            condition = parent.args["where"].this
        parts = [p for p in conjuncts(condition) if _is_constant_on(p, alias, table.partition_by)]
        day = f'CAST("{alias}"."{table.partition_by}" AS DATE)'
        sql = f'SELECT DISTINCT {day} FROM {table.sql_name} AS "{alias}"'
        everything = frozenset(row[0] for row in self._cursor.execute(sql).fetchall())
        if not parts:
            return Scan(table.name, everything, everything)
        where = duck_sql(sqlglot.and_(*(part.copy() for part in parts)))
        days = self._cursor.execute(f"{sql} WHERE {where}").fetchall()
        return Scan(table.name, frozenset(row[0] for row in days), everything)


def _type_of(name: str, select: exp.Expr, found: str) -> str:
    """The type of a query's column: as the checks know it, where they do; else as it turned out."""
    turned_out = _NAMES.get(found)
    if turned_out is None:
        raise beyond(f"the type {found} of the column {name}")
    known = select.type
    if known is not None and not known.is_type("unknown", "null"):
        return type_name(select)
    return turned_out


def _removes_what_is_absent(merge: exp.Merge) -> bool:
    """Whether a MERGE looks at target rows that match nothing: then ON limits nothing."""
    return any(when.args.get("source") for when in merge.args["whens"].expressions)


def _is_constant_on(part: exp.Expr, alias: str, column: str) -> bool:
    """Whether a condition compares only the partitioning column with constants."""
    columns = list(part.find_all(exp.Column))
    return (
        bool(columns)
        and part.find(exp.Query) is None
        and not isinstance(part, exp.Or)
        and all(c.name == column and c.table in (alias, "") for c in columns)
    )
