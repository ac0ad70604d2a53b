"""GoogleSQL's reference evaluator: what a statement gives of small tables, to compare with."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service

from tests.bigquery.analyzing import Analysis, type_proto, value_proto
from tests.bigquery.front_end import Names, Rows
from tests.bigquery.googlesql import Refusal

# It takes a moment for every row.
MOST_ROWS = 300
_PATH = re.compile(r"`([\w-]+)`\.`(\w+)`\.`(\w+)`")
_KIND = re.compile(r"SELECT|WITH|UPDATE|DELETE", re.IGNORECASE)
# Statements whose result is not one alone.
_UNSTEADY = re.compile(r"\bCURRENT_|\bLIMIT\b|\bRAND\b|\bGENERATE_UUID\b", re.IGNORECASE)
# What it says of a table that is not named by its path.
_NO_CONTENT = ("Table not found", "One or more tables")
# Numbers the rows: the evaluator names a changed row by its primary key.
_ROW = "_row"
_EPOCH_DAY = date(1970, 1, 1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Expected:
    """The rows that a query gives, or that a change leaves in a table (in DuckDB's name).

    Or why it can be run on no account.
    """

    rows: Rows = field(default_factory=list)
    table: str = ""
    refusal: str | None = None

    def check(self, found: Iterable[Sequence[Any]]) -> None:
        """Fail unless these are the rows, in whatever order."""
        here, there = Counter(map(_plain, found)), Counter(map(_plain, self.rows))
        differences = f"the double has {list(here - there)}, GoogleSQL {list(there - here)}"
        assert here == there, differences[:2_000]


class Evaluation(Analysis):
    """GoogleSQL with its reference evaluator, which knows SELECT, UPDATE and DELETE."""

    def expected(self, statement: str, names: Names, cursor: Any) -> Expected | None:
        """What a statement must give, with the tables as they are; none: it cannot say."""
        kind = _KIND.match(statement)
        if kind is None or _UNSTEADY.search(statement):
            return None
        options, catalog = self.context(names, has_values=True)
        contents = _contents(catalog, statement, names, cursor)
        if contents is None:
            return None
        is_query = kind[0].upper() in ("SELECT", "WITH")
        form = service.EvaluateQueryRequest if is_query else service.EvaluateModifyRequest
        # A path as one name: the evaluator has contents for tables at the root alone.
        sql = _PATH.sub(r"`\1.\2.\3`", statement)
        request = form(sql=sql, options=options, simple_catalog=catalog)
        for path, rows in contents.items():
            data = request.table_content[path].table_data
            data.SetInParent()  # there, though it may have no rows
            for number, row in enumerate(rows):
                data.row.add(cell=map(value_proto, (number, *row)))
        for name, (type_, value) in names.constants.items():
            if name.startswith("@"):
                request.params.add(name=name[1:], value=value_proto(value, type_))
        try:
            if is_query:
                content = self.google.ask("EvaluateQuery", request)
                answer = service.EvaluateQueryResponse.FromString(content)
                return Expected([_row(row.cell) for row in answer.content.table_data.row])
            content = self.google.ask("EvaluateModify", request)
            answer = service.EvaluateModifyResponse.FromString(content)
        except Refusal as refusal:
            is_unknown = str(refusal).startswith(_NO_CONTENT)
            return None if is_unknown else Expected(refusal=str(refusal))
        kept = dict(enumerate(contents[answer.table_name]))
        for change in answer.content:
            number = change.old_primary_key[0].int64_value
            del kept[number]
            if change.operation == service.EvaluateModifyResponse.Row.UPDATE:
                kept[number] = _row(change.cell)[1:]
        _, dataset, name = answer.table_name.split(".")
        return Expected(list(kept.values()), names.catalog.datasets[dataset][name].sql_name)


def _contents(catalog: Any, statement: str, names: Names, cursor: Any) -> dict[str, Rows] | None:
    """The rows of all tables of a statement, which are added to the catalog; none: too many."""
    contents: dict[str, Rows] = {}
    for project, dataset, name in dict.fromkeys(_PATH.findall(statement)):
        table = names.catalog.datasets.get(dataset, {}).get(name)
        if table is None:
            return None
        path = f"{project}.{dataset}.{name}"
        cursor.execute(f"SELECT * FROM {table.sql_name}")
        contents[path] = cursor.fetchmany(MOST_ROWS + 1)
        described = catalog.table.add(name=path, primary_key_column_index=[0])
        described.column.add(name=_ROW, type=type_proto("INT64"), is_pseudo_column=True)
        for column in table.columns.values():
            described.column.add(name=column.name, type=type_proto(column.type))
    return contents if sum(map(len, contents.values())) <= MOST_ROWS else None


def _row(cells: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(map(python_value, cells))


def python_value(proto: Any) -> Any:
    """A value as GoogleSQL gives it."""
    kind = proto.WhichOneof("value")
    if kind is None:
        return None
    value = getattr(proto, kind)
    if kind == "timestamp_value":
        return _EPOCH + timedelta(seconds=value.seconds, microseconds=value.nanos // 1_000)
    if kind == "date_value":
        return _EPOCH_DAY + timedelta(days=value)
    if kind == "array_value":
        return [python_value(element) for element in value.element]
    return value


def _plain(row: Iterable[Any]) -> tuple[str, ...]:
    """A row to compare, whatever the library's class of time zones."""
    return tuple(map(_text, row))


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    # The last digits of a sum depend on its order.
    return f"{value:.9g}" if isinstance(value, float) else repr(value)
