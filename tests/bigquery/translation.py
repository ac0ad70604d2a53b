"""From BigQuery's SQL to statements of one syntax tree each, with names and constants resolved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from tests.bigquery.catalog import Catalog, Table, beyond, invalid_query
from tests.bigquery.checking import Schema, check_names

INFORMATION = "_information"
INFORMATION_COLUMNS = {
    "table_schema": "STRING",
    "table_name": "STRING",
    "column_name": "STRING",
    "ordinal_position": "INT64",
    "data_type": "STRING",
    "is_nullable": "STRING",
}
# A variable or parameter: its type in BigQuery's words, and its value.
Constant = tuple[str, Any]


def split(script: str) -> list[str]:
    """The statements of a script; positional parameters are named in their order."""
    try:
        tokens = sqlglot.tokenize(script, read="bigquery")
    except SqlglotError as error:
        raise invalid_query(f"Syntax error: {error}") from error
    statements: list[str] = []
    start = 0
    text = ""
    count = 0
    for token in tokens:
        if token.token_type == TokenType.PLACEHOLDER:
            text += script[start : token.start] + f"@_{count}"
            start = token.end + 1
            count += 1
        elif token.token_type == TokenType.SEMICOLON:
            statements.append((text + script[start : token.start]).strip())
            text, start = "", token.end + 1
    statements.append((text + script[start:]).strip())
    return [statement for statement in statements if statement]


def words(statement: str) -> list[Token]:
    """The tokens of one statement."""
    return sqlglot.tokenize(statement, read="bigquery")


def parse(statement: str, constants: Mapping[str, Constant]) -> exp.Expr:
    """One statement, with parameters (`@name`) and variables replaced by their values."""
    try:
        tree = sqlglot.parse_one(statement, read="bigquery")
    except SqlglotError as error:
        raise invalid_query(f"Syntax error: {error}") from error
    if isinstance(tree, exp.Command):
        raise beyond(statement[:200])
    check_names(tree)
    if isinstance(tree, (exp.Declare, exp.Set)):
        return tree
    return with_constants(tree, constants)


def with_constants(tree: exp.Expr, constants: Mapping[str, Constant]) -> exp.Expr:
    """The tree with parameters and variables replaced by typed constants."""

    def replaced(node: exp.Expr) -> exp.Expr:
        name = None
        if isinstance(node, exp.Parameter):
            name = f"@{node.name}"
            if name not in constants:
                raise invalid_query(f"Query parameter {name} not found")
        elif isinstance(node, exp.Column) and not node.table and node.name in constants:
            name = node.name
        return node if name is None else constant(*constants[name])

    return tree.transform(replaced)


def constant(type_: str, value: Any) -> exp.Expr:
    """A typed constant."""
    to = exp.DataType.build(type_, dialect="bigquery")
    if value is None:
        inner: exp.Expr = exp.null()
    elif isinstance(value, list):
        element = type_.removeprefix("ARRAY<").removesuffix(">")
        inner = exp.Array(expressions=[constant(element, item) for item in value])
    elif isinstance(value, bool):
        inner = exp.Boolean(this=value)
    elif isinstance(value, datetime | date):
        inner = exp.Literal.string(value.isoformat())
    elif isinstance(value, int | float):
        inner = exp.Literal.number(value)
    else:
        inner = exp.Literal.string(str(value))
    return exp.Cast(this=inner, to=to)


def constants_of(parameters: Sequence[Mapping[str, Any]]) -> dict[str, Constant]:
    """The parameters of a request, positional or named."""
    result: dict[str, Constant] = {}
    for place, parameter in enumerate(parameters):
        type_ = parameter["parameterType"]["type"]
        if type_ in ("ARRAY", "STRUCT"):
            raise beyond(f"a parameter of type {type_}")
        text = parameter["parameterValue"].get("value")
        value: Any = text
        if text is not None and type_ in ("INT64", "FLOAT64"):
            value = float(text) if type_ == "FLOAT64" else int(text)
        elif text is not None and type_ == "BOOL":
            value = str(text).lower() == "true"
        result[f"@{parameter.get('name') or f'_{place}'}"] = (type_, value)
    return result


class Relations:
    """The tables a statement names, resolved against the catalog and renamed for DuckDB."""

    def __init__(
        self,
        catalog: Catalog,
        default_dataset: str | None,
        temporary: Mapping[str, Mapping[str, str]],
    ) -> None:
        self._catalog = catalog
        self._default = default_dataset
        self._temporary = temporary
        self.schema: Schema = {INFORMATION: {"columns": INFORMATION_COLUMNS}}

    def resolve(self, tree: exp.Expr, skip: exp.Expr | None = None) -> None:
        """Check and rename every table of a tree in place; `skip` is one that need not exist."""
        names = {cte.alias for cte in tree.find_all(exp.CTE)}
        for node in list(tree.find_all(exp.Table)):
            if node is skip or (not node.db and node.name in names):
                continue
            if not node.db and node.name in self._temporary:
                self._know("", node.name, dict(self._temporary[node.name]))
            elif node.name.startswith("INFORMATION_SCHEMA"):
                self._inform(node)
            else:
                table = self.table(node)
                columns = {column.name: column.type for column in table.columns.values()}
                self._know(table.dataset, table.name, columns)
                self.rename(node)

    def _know(self, dataset: str, table: str, columns: dict[str, str]) -> None:
        tables = self.schema.setdefault(dataset, {})
        assert isinstance(tables, dict)
        tables[table] = columns

    def table(self, node: exp.Table) -> Table:
        """The definition of a table that a node names."""
        return self._catalog.table(self.dataset(node), node.name)

    def dataset(self, node: exp.Table) -> str:
        """The dataset of a table that a node names, in this project."""
        if node.catalog and node.catalog != self._catalog.project:
            raise invalid_query(f"Access Denied: Project {node.catalog}: not this project")
        dataset = node.db or self._default
        if not dataset:
            raise invalid_query(f"Table {node.name} must be qualified with a dataset")
        return str(dataset)

    def rename(self, node: exp.Table) -> None:
        """Give a table its name in DuckDB."""
        node.set("db", exp.to_identifier(self.dataset(node), quoted=True))
        node.set("catalog", None)

    def _inform(self, node: exp.Table) -> None:
        if node.name != "INFORMATION_SCHEMA.COLUMNS":
            raise beyond(node.name)
        dataset = self.dataset(node)
        self._catalog.dataset(dataset)
        query = sqlglot.parse_one(
            f"SELECT * FROM {INFORMATION}.columns WHERE table_schema = '{dataset}'",
            read="duckdb",
        )
        node.replace(exp.Subquery(this=query, alias=exp.TableAlias(this=exp.to_identifier("c"))))


def duck_sql(tree: exp.Expr) -> str:
    """The statement in DuckDB's SQL.

    There a date and an interval do not make a date, and Sunday is the weekday 0, not 1.
    """

    def replaced(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.DateAdd) and not isinstance(node.parent, exp.Cast):
            return exp.Cast(this=node.copy(), to=exp.DataType.build("date"))
        if isinstance(node, exp.Extract) and node.name.upper() == "DAYOFWEEK":
            one = exp.Literal.number(1)
            return exp.paren(exp.Add(this=node.copy(), expression=one), copy=False)
        return node

    return tree.transform(replaced).sql("duckdb", identify=True)


def conjuncts(condition: exp.Expr | None) -> Iterator[exp.Expr]:
    """The parts of a condition that must all hold."""
    if isinstance(condition, exp.Paren):
        yield from conjuncts(condition.this)
    elif isinstance(condition, exp.And):
        yield from conjuncts(condition.left)
        yield from conjuncts(condition.right)
    elif condition is not None:
        yield condition
