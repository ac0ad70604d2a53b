"""What BigQuery refuses and DuckDB would run: types that do not compare, names out of scope."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify

from tests.bigquery.catalog import Table, beyond, invalid_query

Schema = dict[str, object]

_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)
_NUMBERS = {"INT64", "FLOAT64", "NUMERIC", "BIGNUMERIC"}
_FROM_TEXT = {"STRING", "DATE", "TIMESTAMP"}


def check_names(statement: exp.Expr) -> None:
    """Columns are qualified by an alias or a table's last name, never by a path."""
    for column in statement.find_all(exp.Column):
        if column.args.get("db") or column.args.get("catalog"):
            raise invalid_query(
                f"Unrecognized name: {column.sql('bigquery')}; a path cannot qualify a column"
            )


def check_query(query: exp.Query, schema: Schema) -> exp.Query:
    """The query with every name resolved and every type known. Raises what BigQuery would."""
    try:
        resolved = qualify(
            query.copy(), schema=schema, dialect="bigquery", quote_identifiers=False, identify=False
        )
        typed = annotate_types(resolved, schema=schema, dialect="bigquery")
    except SqlglotError as error:
        raise invalid_query(f"Unrecognized name or wrong scope: {error}") from error
    assert isinstance(typed, exp.Query)
    for node in typed.walk():
        _check_node(node)
    return typed


def _check_node(node: exp.Expr) -> None:
    if isinstance(node, exp.Anonymous):
        raise beyond(f"the function {node.name}")
    if isinstance(node, _COMPARISONS):
        _check_comparable(node, node.left, node.right)
    elif isinstance(node, exp.Between):
        _check_comparable(node, node.this, node.args["low"])
        _check_comparable(node, node.this, node.args["high"])
    elif isinstance(node, exp.In):
        for other in _members(node):
            _check_comparable(node, node.this, other)
    elif isinstance(node, (exp.Where, exp.Having)):
        if type_name(node.this) != "BOOL":
            raise invalid_query(f"WHERE clause should return type BOOL: {node.sql('bigquery')}")
    elif isinstance(node, (exp.And, exp.Or)):
        for side in (node.left, node.right):
            if type_name(side) not in ("BOOL", "NULL"):
                raise invalid_query(f"No matching signature for {node.sql('bigquery')}")


def _members(node: exp.In) -> Iterator[exp.Expr]:
    yield from node.expressions
    query = node.args.get("query")
    if query is not None:
        yield query.unnest().selects[0]
    unnest = node.args.get("unnest")
    if unnest is not None:
        (array,) = unnest.expressions
        element = array.type.expressions[0]
        cast = exp.Cast(this=exp.null(), to=element)
        cast.type = element
        yield cast


def _check_comparable(node: exp.Expr, left: exp.Expr, right: exp.Expr) -> None:
    if not is_assignable(left, type_name(right)) and not is_assignable(right, type_name(left)):
        raise invalid_query(
            f"No matching signature for operator in {node.sql('bigquery')} for argument types: "
            f"{type_name(left)}, {type_name(right)}"
        )


def is_assignable(value: exp.Expr, type_: str) -> bool:
    """Whether BigQuery converts a value to a type by itself; only literals cross families."""
    own = type_name(value)
    if isinstance(value, exp.Null) or own == type_ or "NULL" in (own, type_):
        return True
    if own in _NUMBERS and type_ in _NUMBERS:
        return own == "INT64" or type_ != "INT64"
    return isinstance(value, exp.Literal) and value.is_string and type_ in _FROM_TEXT


def type_name(node: exp.Expr) -> str:
    """BigQuery's name of an expression's type."""
    type_ = node.type
    if type_ is None or type_.is_type("unknown"):
        raise beyond(f"the type of {node.sql('bigquery')}")
    name = type_.sql("bigquery").split("(")[0]
    return {"INT": "INT64", "BIGINT": "INT64", "VARCHAR": "STRING"}.get(name, name)


def check_assignments(table: Table, names: Iterable[str], values: Iterable[exp.Expr]) -> None:
    """Values fit their columns, none is missing, and every REQUIRED column has one."""
    names, values = list(names), list(values)
    if len(names) != len(values):
        raise invalid_query(f"{len(values)} values for {len(names)} columns of {table.name}")
    for name, value in zip(names, values, strict=True):
        if name not in table.columns:
            raise invalid_query(f"Column {name} is not present in table {table.name}")
        value = value.this if isinstance(value, exp.Alias) else value
        if not is_assignable(value, table.columns[name].type):
            raise invalid_query(
                f"Value of type {type_name(value)} cannot be assigned to {name}, which has type "
                f"{table.columns[name].type}"
            )


def check_required(table: Table, names: Iterable[str]) -> None:
    """An inserted row names every REQUIRED column."""
    given = set(names)
    for column in table.columns.values():
        if column.required and column.name not in given:
            raise invalid_query(f"Required field {column.name} cannot be null")
