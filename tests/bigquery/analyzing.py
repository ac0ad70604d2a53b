"""What the double is given, parsed and analyzed by GoogleSQL with the names of that moment.

GoogleSQL knows grammar, names, functions and types. What the engine refuses (partitions, REQUIRED
columns, double matches) is the double's to know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from hashlib import sha256
from typing import Any

from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service
from zetasql.wasi._pb2.zetasql.proto import options_pb2 as proto
from zetasql.wasi._pb2.zetasql.proto.simple_catalog_pb2 import SimpleCatalogProto
from zetasql.wasi._pb2.zetasql.public import options_pb2 as public
from zetasql.wasi._pb2.zetasql.public.simple_table_pb2 import SimpleColumnProto, SimpleTableProto
from zetasql.wasi._pb2.zetasql.public.type_pb2 import ArrayTypeProto, TypeProto
from zetasql.wasi._pb2.zetasql.public.value_pb2 import ValueProto

from tests.bigquery.front_end import Names
from tests.bigquery.googlesql import GoogleSQL, Refusal
from tests.bigquery.translation import INFORMATION_COLUMNS

# Of GoogleSQL's optional features those that BigQuery documents and the tests' statements use: a
# statement that needs another is refused.
_FEATURES = """
    ADDITIONAL_STRING_FUNCTIONS ALLOW_DASHES_IN_TABLE_NAME ANALYTIC_FUNCTIONS CIVIL_TIME
    CREATE_TABLE_CLUSTER_BY CREATE_TABLE_FIELD_ANNOTATIONS CREATE_TABLE_NOT_NULL
    CREATE_TABLE_PARTITION_BY DATE_ARITHMETICS DATE_TIME_CONSTRUCTORS DISABLE_FLOAT32
    DML_UPDATE_WITH_JOIN EXTENDED_DATE_TIME_SIGNATURES INTERVAL_TYPE IS_DISTINCT JSON_TYPE
    NULLS_FIRST_LAST_IN_ORDER_BY NULL_HANDLING_MODIFIER_IN_AGGREGATE
    NULL_HANDLING_MODIFIER_IN_ANALYTIC NUMERIC_TYPE BIGNUMERIC_TYPE ORDER_BY_IN_AGGREGATE
    PARAMETERIZED_TYPES PIVOT QUALIFY SAFE_FUNCTION_CALL SELECT_STAR_EXCEPT_REPLACE
    WEEK_WITH_WEEKDAY WITH_ON_SUBQUERY
""".split()
_STATEMENTS = """
    QUERY INSERT UPDATE DELETE MERGE TRUNCATE CREATE_SCHEMA CREATE_TABLE CREATE_TABLE_AS_SELECT
    CREATE_VIEW ALTER_TABLE DROP BEGIN COMMIT ROLLBACK
""".split()
_LANGUAGE = proto.LanguageOptionsProto(
    product_mode=public.PRODUCT_EXTERNAL,
    enabled_language_features=[f"FEATURE_{name}" for name in _FEATURES],
    supported_statement_kinds=[f"RESOLVED_{name}_STMT" for name in _STATEMENTS],
    reserved_keywords=["QUALIFY"],
)
_FUNCTIONS = proto.ZetaSQLBuiltinFunctionOptionsProto(language_options=_LANGUAGE)
_DECLARATION = re.compile(r"DECLARE\s.*?(?:\s(\S+)\s+DEFAULT\s+(.*))?", re.DOTALL | re.IGNORECASE)
_ASSIGNMENT = re.compile(r"SET\s+(\w+)\s*=\s*(.*)", re.DOTALL | re.IGNORECASE)


class Analysis:
    """GoogleSQL with BigQuery's settings."""

    def __init__(self) -> None:
        self.google = GoogleSQL()
        # What it said of the same with the same names: runs repeat most of their statements.
        self._said: dict[bytes, str | None] = {}

    def parse(self, script: str) -> str | None:
        """What GoogleSQL finds wrong with the grammar of a script; none: nothing."""
        request = service.ParseRequest(sql_statement=script, options=_LANGUAGE, allow_script=True)
        return self._refusal("Parse", request)

    def analyze(self, statement: str, names: Names) -> str | None:
        """What GoogleSQL finds wrong with a statement of a script; none: nothing."""
        type_: str | None = None
        if declared := _DECLARATION.fullmatch(statement):
            type_, value = declared.groups()
            if value is None:
                return None
            statement = f"SELECT {value}"
        elif assigned := _ASSIGNMENT.fullmatch(statement):
            type_ = names.constants[assigned[1]][0]
            statement = f"SELECT {assigned[2]}"
        options, catalog = self.context(names)
        if type_ is not None:
            options.target_column_types.append(type_proto(type_))
        _add_tables(catalog, statement, names)
        request = service.AnalyzeRequest(
            options=options, simple_catalog=catalog, sql_statement=statement
        )
        return self._refusal("Analyze", request)

    def context(self, names: Names, *, has_values: bool = False) -> tuple[Any, Any]:
        """Options and a catalog with all but tables; variables have values only if wanted."""
        options = proto.AnalyzerOptionsProto(
            language_options=_LANGUAGE,
            default_timezone="UTC",
            error_message_mode=public.ERROR_MESSAGE_ONE_LINE,
        )
        catalog = SimpleCatalogProto(builtin_function_options=_FUNCTIONS)
        for name, (type_, value) in names.constants.items():
            if name.startswith("@"):
                options.query_parameters.add(name=name[1:], type=type_proto(type_))
            else:
                known = value_proto(value, type_) if has_values else ValueProto()
                catalog.constant.add(name_path=[name], type=type_proto(type_), value=known)
        return options, catalog

    def _refusal(self, method: str, request: Any) -> str | None:
        key = sha256(request.SerializeToString(deterministic=True)).digest()
        if key not in self._said:
            try:
                self.google.ask(method, request)
                self._said[key] = None
            except Refusal as refusal:
                self._said[key] = str(refusal)
        return self._said[key]


def _add_tables(names: Any, statement: str, known: Names) -> None:
    """Add the tables that a statement may mean, by each of their names."""
    text = statement.lower()
    project = SimpleCatalogProto(name=known.catalog.project)
    for dataset, tables in known.catalog.datasets.items():
        schema = SimpleCatalogProto(name=dataset)
        schema.catalog.add(name="INFORMATION_SCHEMA").table.append(
            _table("COLUMNS", INFORMATION_COLUMNS)
        )
        for table in tables.values():
            if table.name.lower() in text:
                columns = {column.name: column.type for column in table.columns.values()}
                schema.table.append(_table(table.name, columns))
        project.catalog.append(schema)
        names.catalog.append(schema)
        if dataset == known.default_dataset:
            names.table.extend(schema.table)
    names.catalog.append(project)
    for name in known.temporary:
        names.table.append(_table(name, known.temporary[name]))


def _table(name: str, columns: Mapping[str, str]) -> Any:
    described = [
        SimpleColumnProto(name=column, type=type_proto(type_)) for column, type_ in columns.items()
    ]
    return SimpleTableProto(name=name, column=described)


def type_proto(name: str) -> Any:
    """A type by its name in BigQuery."""
    if name.startswith("ARRAY<"):
        element = type_proto(name.removeprefix("ARRAY<").removesuffix(">"))
        return TypeProto(type_kind="TYPE_ARRAY", array_type=ArrayTypeProto(element_type=element))
    return TypeProto(type_kind="TYPE_DOUBLE" if name == "FLOAT64" else f"TYPE_{name}")


def value_proto(value: Any, type_: str = "") -> Any:
    """A value as GoogleSQL gets it; an instant or a day may be a text, where the type says so."""
    if isinstance(value, str) and type_ in ("TIMESTAMP", "DATE"):
        value = (datetime if type_ == "TIMESTAMP" else date).fromisoformat(value)
    proto = ValueProto()
    if isinstance(value, bool):
        proto.bool_value = value
    elif isinstance(value, int):
        proto.int64_value = value
    elif isinstance(value, float):
        proto.double_value = value
    elif isinstance(value, str):
        proto.string_value = value
    elif isinstance(value, bytes):
        proto.bytes_value = value
    elif isinstance(value, datetime):
        proto.timestamp_value.FromDatetime(value)
    elif isinstance(value, date):
        proto.date_value = (value - date(1970, 1, 1)).days
    elif isinstance(value, list):
        proto.array_value.element.extend(map(value_proto, value))
    else:
        assert value is None, value
    return proto
