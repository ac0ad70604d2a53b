"""Load jobs: Parquet and lines of JSON into tables that exist, refused where they do not fit."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.bigquery.catalog import TYPES, BigQueryError, Table, beyond
from tests.bigquery.changing import check_partitions_of_job
from tests.bigquery.warehouse import Warehouse

_ARROW = {
    "INT64": pa.int64(),
    "STRING": pa.string(),
    "TIMESTAMP": pa.timestamp("us", tz="UTC"),
    "BOOL": pa.bool_(),
    "FLOAT64": pa.float64(),
    "DATE": pa.date32(),
    "BYTES": pa.binary(),
}
_KNOWN_OPTIONS = {
    "autodetect": False,
    "writeDisposition": "WRITE_APPEND",
    "createDisposition": "CREATE_NEVER",
    "ignoreUnknownValues": False,
    "maxBadRecords": 0,
}


def load(warehouse: Warehouse, options: Mapping[str, Any], content: bytes) -> int:
    """Append a file to a table; gives the rows."""
    for name, value in _KNOWN_OPTIONS.items():
        if options.get(name, value) not in (value, str(value)):
            raise beyond(f"a load job with {name}={options[name]}")
    with warehouse.lock:
        where = options["destinationTable"]
        table = warehouse.catalog.table(where["datasetId"], where["tableId"])
        if options["sourceFormat"] == "PARQUET":
            return _append(warehouse, table, content)
        if options["sourceFormat"] == "NEWLINE_DELIMITED_JSON":
            return _append(warehouse, table, _parquet_of(table, content))
        raise beyond(f"a load job of {options['sourceFormat']}")


def _append(warehouse: Warehouse, table: Table, content: bytes) -> int:
    schema = pq.read_schema(pa.BufferReader(content))
    for column in table.columns.values():
        if column.required and column.name not in schema.names:
            raise _unfit(table, f"Missing required field: {column.name}")
    for name in schema.names:
        _check_field(table, schema.field(name))
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        Path(file.name).write_bytes(content)
        source = f"read_parquet('{file.name}')"
        cursor = warehouse.cursor()
        if table.partition_by:
            days = f'COUNT(DISTINCT CAST("{table.partition_by}" AS DATE))'
            check_partitions_of_job(cursor.execute(f"SELECT {days} FROM {source}").fetchone()[0])
        names = ", ".join(f'"{name}"' for name in schema.names)
        sql = f"INSERT INTO {table.sql_name} ({names}) SELECT {names} FROM {source}"
        return int(cursor.execute(sql).fetchone()[0])


def _check_field(table: Table, field: pa.Field) -> None:
    column = table.columns.get(field.name)
    if column is None:
        raise _unfit(table, f"No such field: {field.name}")
    if field.type != _ARROW[column.type] and not (
        column.type == "STRING" and field.type == pa.large_string()
    ):
        raise _unfit(
            table, f"Field {field.name} has changed type from {column.type} to {field.type}"
        )
    if column.required and field.nullable:
        raise _unfit(table, f"Field {field.name} has changed mode from REQUIRED to NULLABLE")


def _unfit(table: Table, what: str) -> BigQueryError:
    return BigQueryError("invalid", f"Provided Schema does not match Table {table.name}. {what}")


def _parquet_of(table: Table, content: bytes) -> bytes:
    """Lines of JSON as Parquet of the table's own types."""
    content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    records = [json.loads(line) for line in content.splitlines() if line.strip()]
    fields, arrays = [], []
    for column in table.columns.values():
        values = [_value(column.type, record.pop(column.name, None)) for record in records]
        if column.required and None in values:
            raise _unfit(table, f"Missing required field: {column.name}")
        fields.append(pa.field(column.name, _ARROW[column.type], nullable=not column.required))
        arrays.append(pa.array(values, _ARROW[column.type]))
    for record in records:
        if record:
            raise _unfit(table, f"No such field: {', '.join(record)}")
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), sink)
    return bytes(sink.getvalue())


def _value(type_: str, value: Any) -> Any:
    if value is None or type_ not in TYPES:
        return None
    if type_ == "TIMESTAMP":
        return datetime.fromisoformat(str(value))
    if type_ == "INT64":
        return int(value)
    return value
