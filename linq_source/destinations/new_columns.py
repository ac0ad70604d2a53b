"""Columns the contract does not know, as a destination has them, whichever pipeline made them.

dlt compares names only: a pipeline that met a new field without knowing that another had given it
another type could never load again. So a run begins with what is there, and a package that was
read before another's column came is fitted to it before it is loaded.
"""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dlt
import pyarrow.parquet as pq
from dlt.common.destination.exceptions import DestinationUndefinedEntity

from linq_source.destinations.bucket import Bucket
from linq_source.destinations.dataset_tables import tables_in
from linq_source.destinations.remote import Remote
from linq_source.rows.hints import FIELD
from linq_source.rows.unknown_columns import divide, variant_of
from linq_source.state_keys import SECTION
from linq_source.tables import ALL_TABLES


@dataclass(frozen=True)
class NewColumns:
    """Types, and fields as far as they are noted, by table and column."""

    types: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    fields: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


NO_COLUMNS = NewColumns()


def find_columns(pipeline: dlt.Pipeline, remote: Remote) -> NewColumns:
    """What the destination has; brings what the pipeline knows of it up to date."""
    own = pipeline.schemas[SECTION] if SECTION in pipeline.schema_names else None
    types: dict[str, dict[str, str]] = {}
    fields: dict[str, dict[str, str]] = {}
    known = set() if own is None else {own.version_hash, *own.previous_hashes}
    for tables in _stored_schemas(pipeline, remote, known):
        for name, columns in _unknown(tables):
            for column, hints in columns.items():
                types.setdefault(name, {}).setdefault(column, hints["data_type"])
                if FIELD in hints:
                    others = fields.setdefault(name, {})
                    others[column] = first_field(column, others.get(column), hints[FIELD])
    for name, stored in _stored_columns(pipeline, remote).items():
        types.setdefault(name, {}).update(stored)
    if own is not None and _fit_schema(own, types):
        storage: Any = pipeline._schema_storage
        storage.save_schema(own)
    return NewColumns(types, fields)


def first_field(column: str, one: str | None, other: str) -> str:
    """Which of two fields keeps a column that two pipelines gave away at the same time.

    The same for whoever asks: the one that is spelled like it, or comes first in the alphabet.
    """
    return min(one or other, other, key=lambda name: (name != column, name))


def fit_packages(pipeline: dlt.Pipeline, remote: Remote) -> None:
    """Fit packages that wait to be loaded to columns that others made since they were read."""
    load_storage: Any = pipeline._get_load_storage()
    storage = load_storage.normalized_packages
    stored: Mapping[str, Mapping[str, str]] | None = None
    for load_id in pipeline.list_normalized_load_packages():
        schema = storage.load_schema(load_id)
        if not any(columns for _, columns in _unknown(schema.tables)):
            continue
        if stored is None:
            stored = _stored_columns(pipeline, remote)
        misfits = _fit_schema(schema, stored)
        if not misfits:
            continue
        jobs = pipeline.get_load_package_info(load_id).jobs
        for job in (job for state in ("new_jobs", "started_jobs") for job in jobs[state]):
            table = job.job_file_info.table_name
            if table in misfits:
                _fit_file(Path(job.file_path), misfits[table], stored[table])
        storage.save_schema(load_id, schema)
        _drop_staged(remote, list(misfits))


def _stored_schemas(
    pipeline: dlt.Pipeline, remote: Remote, known: set[str]
) -> Iterator[Mapping[str, Any]]:
    """The tables of every version of the schema that a pipeline stored, but for known ones."""
    client = remote.client
    table = client.schema.version_table_name
    if remote.is_in_files:
        bucket = Bucket.of(remote)
        for path in bucket.list(table):
            found = bucket.read_json(path)
            if found and found["schema_name"] == SECTION and found["version_hash"] not in known:
                yield json.loads(found["schema"])["tables"]
        return
    name, text, version = (
        client.sql_client.escape_column_name(client.schema.naming.normalize_identifier(column))
        for column in ("schema_name", "schema", "version_hash")
    )
    sql = (
        f"SELECT {version}, {text} FROM {remote.sql.make_qualified_table_name(table)}"
        f" WHERE {name} = %s"
    )
    try:
        found = remote.sql.execute_sql(sql, SECTION)
    except DestinationUndefinedEntity:
        return
    for key, stored in found or ():
        if key not in known:
            yield json.loads(_plain_text(stored))["tables"]


def _plain_text(stored: str) -> str:
    """A schema's JSON text, which dlt compresses where it is long."""
    try:
        return zlib.decompress(base64.b64decode(stored, validate=True)).decode()
    except ValueError:
        return stored


def _stored_columns(pipeline: dlt.Pipeline, remote: Remote) -> Mapping[str, Mapping[str, str]]:
    """The types that columns have in the tables of a database."""
    if remote.is_in_files:
        return {}
    try:
        found = dict(remote.client.get_storage_tables(list(ALL_TABLES)))
    except DestinationUndefinedEntity:
        return {}
    tables = {name: {"columns": columns} for name, columns in found.items()}
    return {
        name: {column: hints["data_type"] for column, hints in columns.items()}
        for name, columns in _unknown(tables)
    }


def _unknown(tables: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The columns of this source's tables that the contract does not know."""
    contract = tables_in(tables)
    for name in contract.keys() & tables.keys():
        yield (
            name,
            {
                column: hints
                for column, hints in tables[name].get("columns", {}).items()
                if column not in contract[name].column_names
                and not column.startswith("_dlt_")
                and "data_type" in hints
            },
        )


def _fit_schema(
    schema: dlt.Schema, stored: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, str]]:
    """Give columns the stored types, and others beside them their own; gives those it changed.

    By table and column, with the type that they had.
    """
    changed: dict[str, dict[str, str]] = {}
    for name, columns in _unknown(schema.tables):
        for column, hints in columns.items():
            had, has = hints["data_type"], stored.get(name, {}).get(column)
            if has is None or has == had:
                continue
            changed.setdefault(name, {})[column] = had
            beside: Any = {**hints, "name": variant_of(column, had)}
            hints["data_type"] = has
            schema.tables[name]["columns"].setdefault(beside["name"], beside)
    return changed


def _fit_file(path: Path, misfits: Mapping[str, str], stored: Mapping[str, str]) -> None:
    if path.suffix != ".parquet":
        # Statements that insert values, whose first line names the columns.
        is_packed = path.suffix == ".gz"
        content = path.read_bytes()
        header, separator, values = (gzip.decompress(content) if is_packed else content).partition(
            b"\n"
        )
        for column, had in misfits.items():
            header = header.replace(f'"{column}"'.encode(), f'"{variant_of(column, had)}"'.encode())
        content = header + separator + values
        path.write_bytes(gzip.compress(content) if is_packed else content)
        return
    rows = pq.read_table(path, partitioning=None)
    for column, had in misfits.items():
        if column in rows.column_names:
            fitting, rest = divide(rows[column], stored[column])
            rows = rows.drop_columns([column])
            for name, part in ((column, fitting), (variant_of(column, had), rest)):
                if part is not None:
                    rows = rows.append_column(name, part)
    pq.write_table(rows, path)


def _drop_staged(remote: Remote, tables: list[str]) -> None:
    """Have staging tables made again: an attempt to load may have made them as they were."""
    client = remote.client
    if hasattr(client, "with_staging_dataset") and hasattr(client, "sql_client"):
        with client.with_staging_dataset():
            if client.is_storage_initialized():
                client.drop_tables(*tables, delete_schema=True)
