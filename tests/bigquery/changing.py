"""INSERT, UPDATE, DELETE and MERGE, with the rules that BigQuery has and DuckDB has not."""

from __future__ import annotations

from typing import Any

from sqlglot import exp

from tests.bigquery.catalog import (
    PARTITIONS_PER_JOB,
    PARTITIONS_PER_TABLE,
    BigQueryError,
    Table,
    beyond,
    invalid_query,
)
from tests.bigquery.checking import check_assignments, check_query, check_required
from tests.bigquery.translation import Relations, duck_sql

_TWICE = "UPDATE/MERGE must match at most one source row for each target row"


class Changes:
    """Checks a changing statement, then runs it."""

    def __init__(self, cursor: Any, relations: Relations) -> None:
        self._cursor = cursor
        self._relations = relations

    def prepare(self, tree: exp.Expr) -> Table | None:
        """Resolve and check a statement in place; gives its target, none for a temporary one."""
        node = tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
        is_permanent = bool(node.db)
        target = self._relations.table(node) if is_permanent else None
        self._relations.resolve(tree)
        if target is None:
            if not isinstance(tree, exp.Insert):
                raise beyond("a change of a temporary table")
            check_query(tree.expression, self._relations.schema)
        elif isinstance(tree, exp.Insert):
            self._check_insert(tree, target)
        elif isinstance(tree, exp.Update):
            self._check_update(tree, target, node)
        elif isinstance(tree, exp.Delete):
            if tree.args.get("where") is None:
                raise invalid_query("DELETE must have a WHERE clause")
            if tree.args.get("using"):
                raise invalid_query("Syntax error: DELETE has no USING")
            query = exp.select("1").from_(node.copy()).where(tree.args["where"].this.copy())
            check_query(query, self._relations.schema)
        elif isinstance(tree, exp.Merge):
            self._check_merge(tree, target, node)
        return target

    def run(self, tree: exp.Expr, target: Table | None) -> int:
        """Run a checked statement; gives the rows it affected."""
        relation = self._cursor.execute(duck_sql(tree))
        (count,) = relation.fetchone()
        if target is not None and target.partition_by:
            self._check_partitions(target)
        return int(count)

    def _check_insert(self, tree: exp.Insert, target: Table) -> None:
        if not isinstance(tree.this, exp.Schema):
            raise beyond("an INSERT without a list of columns")
        names = [column.name for column in tree.this.expressions]
        check_required(target, names)
        source = tree.expression
        if isinstance(source, exp.Values):
            for row in source.expressions:
                typed = check_query(exp.select(*(v.copy() for v in row.expressions)), {})
                check_assignments(target, names, typed.selects)
            return
        typed = check_query(source, self._relations.schema)
        check_assignments(target, names, typed.selects)
        if target.partition_by:
            place = names.index(target.partition_by)
            day = source.selects[place].alias_or_name
            query = exp.select(f"COUNT(DISTINCT CAST({day} AS DATE))")
            self._check_count(query.from_(source.copy().subquery("s")))

    def _check_update(self, tree: exp.Update, target: Table, node: exp.Table) -> None:
        if tree.args.get("where") is None:
            raise invalid_query("UPDATE must have a WHERE clause")
        names = []
        for item in tree.expressions:
            if item.left.table not in ("", node.alias_or_name):
                raise invalid_query(f"Unrecognized name: {item.left.sql('bigquery')}")
            names.append(item.left.name)
        query = exp.select(*(item.right.copy() for item in tree.expressions))
        query = query.from_(node.copy())
        sources = tree.args["from_"] if tree.args.get("from_") else None
        if sources is not None:
            query = query.join(sources.this.copy(), join_type="cross")
        query = query.where(tree.args["where"].this.copy())
        check_assignments(target, names, check_query(query, self._relations.schema).selects)
        if sources is not None:
            self._check_single(node, query)

    def _check_merge(self, tree: exp.Merge, target: Table, node: exp.Table) -> None:
        joined = exp.select("1").from_(node.copy())
        joined = joined.join(tree.args["using"].copy(), on=tree.args["on"].copy())
        check_query(joined, self._relations.schema)
        for when in tree.args["whens"].expressions:
            then = when.args["then"]
            if isinstance(then, exp.Insert):
                names = [column.name for column in then.this.expressions]
                values = then.expression.expressions
                check_required(target, names)
                self._check_inserted_days(tree, target, dict(zip(names, values, strict=True)))
            elif isinstance(then, exp.Update):
                names = [item.left.name for item in then.expressions]
                values = [item.right for item in then.expressions]
            elif then.name.upper() == "DELETE":
                names, values = [], []
            else:
                raise beyond(when.sql("bigquery"))
            query = exp.select(*([v.copy() for v in values] or ["1"]))
            query = query.from_(tree.args["using"].copy())
            if not isinstance(then, exp.Insert):  # which sees the source alone
                query = query.join(node.copy(), join_type="cross")
            if when.args.get("condition") is not None:
                query = query.where(when.args["condition"].copy())
            typed = check_query(query, self._relations.schema)
            if names:
                check_assignments(target, names, typed.selects)
        if any(when.args.get("matched") for when in tree.args["whens"].expressions):
            self._check_single(node, joined)

    def _check_single(self, node: exp.Table, joined: exp.Select) -> None:
        """A target row may match one source row only."""
        rowid = exp.column("rowid", table=node.alias_or_name)
        twice = joined.select(rowid, append=False).group_by(rowid.copy()).having("COUNT(*) > 1")
        if self._cursor.execute(duck_sql(twice.limit(1))).fetchone():
            raise invalid_query(_TWICE)

    def _check_inserted_days(
        self, tree: exp.Merge, target: Table, values: dict[str, exp.Expr]
    ) -> None:
        if not target.partition_by:
            return
        day = exp.Cast(this=values[target.partition_by].copy(), to=exp.DataType.build("date"))
        query = exp.select(exp.Count(this=exp.Distinct(expressions=[day])))
        self._check_count(query.from_(tree.args["using"].copy()))

    def _check_count(self, query: exp.Select) -> None:
        check_partitions_of_job(self._cursor.execute(duck_sql(query)).fetchone()[0])

    def _check_partitions(self, target: Table) -> None:
        day = f'CAST("{target.partition_by}" AS DATE)'
        sql = f"SELECT COUNT(DISTINCT {day}) FROM {target.sql_name}"
        if self._cursor.execute(sql).fetchone()[0] > PARTITIONS_PER_TABLE:
            raise BigQueryError(
                "quotaExceeded", f"more than {PARTITIONS_PER_TABLE} partitions", 403
            )


def check_partitions_of_job(days: int) -> None:
    """One job may write so many partitions and no more."""
    if days > PARTITIONS_PER_JOB:
        raise invalid_query(
            f"Too many partitions produced by query, allowed {PARTITIONS_PER_JOB}, query produces "
            f"at least {days} partitions"
        )
