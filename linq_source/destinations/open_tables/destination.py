"""A folder or bucket of Delta or Iceberg tables as a destination."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import dlt
import pyarrow as pa
from dlt.common.schema.utils import new_table

from linq_source.destinations.base import Rows, RowsQuery
from linq_source.destinations.bucket import Bucket
from linq_source.destinations.dataset_tables import tables_in
from linq_source.destinations.deletion_rule import Marked
from linq_source.destinations.duckdb_in_memory import make_table, make_view, spilling_duckdb
from linq_source.destinations.erasing import Erasure, TableErasure
from linq_source.destinations.files import Files
from linq_source.destinations.open_tables.delta import DeltaTables
from linq_source.destinations.open_tables.iceberg import IcebergTables
from linq_source.destinations.open_tables.settling import (
    MEMORY_LIMIT,
    OpenTableStore,
    settle_open_tables,
)
from linq_source.destinations.pipeline_facts import schema_of_messages
from linq_source.destinations.reading import FilesReader, Reader
from linq_source.destinations.remote import Remote, connected
from linq_source.destinations.scan_filters import Condition
from linq_source.destinations.settled_until import is_maintenance_due, settled_us
from linq_source.destinations.table_formats import format_in, format_of
from linq_source.instants import from_us
from linq_source.settings import Shard
from linq_source.tables import ATTACHMENT_FILES, Table


class OpenTables(Files):
    """Tables that keep their old versions, until they are erased from."""

    write_strategy = "upsert"

    def __init__(self, pipeline: dlt.Pipeline, schema: dlt.Schema | None = None) -> None:
        """The schema is another pipeline's, where this one knows none of the dataset."""
        super().__init__(pipeline)
        self._schema = schema
        self.table_format = format_of(pipeline) if schema is None else format_in(schema)

    def loading(self) -> AbstractContextManager[None]:
        """Iceberg tables change in one transaction each, as Delta tables do by themselves."""
        if self.table_format != "iceberg":
            return super().loading()
        # Here, because only Iceberg needs its library.
        from linq_source.destinations.open_tables.loading import merging_whole

        return merging_whole(self.pipeline)

    @property
    def tables(self) -> Mapping[str, Table]:
        """The tables as the dataset has them."""
        return super().tables if self._schema is None else tables_in(self._schema.tables)

    @contextmanager
    def reading(self, columns: Mapping[Table, Sequence[str]]) -> Iterator[Reader]:
        """Some columns of the current state, to be asked in SQL."""
        tables = self.tables
        with self._tables() as store, spilling_duckdb(MEMORY_LIMIT) as (connection, _):
            there = {}
            for table, names in columns.items():
                found = store.scan(table, names, ())
                if found is not None:
                    there[table] = f"stored_{table.name}"
                    make_table(connection, there[table], found)
                    stored = tables.get(table.name, table)
                    make_view(connection, stored, names, there[table])
            yield FilesReader(connection, there)

    def check_erasable(self, tables: Sequence[Table]) -> None:
        """Raise `ConfigurationError` where old versions could not be removed."""
        with self._tables() as store:
            for table in tables:
                store.check_history(table)

    def erase(self, erasure: Erasure) -> dict[str, int]:
        """Erase rows, then every old version of every table."""
        self.check_erasable(erasure.tables)
        with connected(self.pipeline) as remote, self._tables() as store:
            bucket = Bucket.of(remote)
            erased = {table.name: _erase(store, erasure, table) for table in erasure.tables}
            for table in erasure.tables:
                store.drop_history(table, bucket)
        return erased

    def apply_ledger(
        self, remote: Remote, ledger_retention_days: int, shard: Shard | None = None
    ) -> Marked:
        """Mark what the ledger proves gone, and remove children that went."""
        before_us = settled_us(self.pipeline, shard)
        with self._tables() as store:
            marked = settle_open_tables(store, self.pipeline, ledger_retention_days, shard)
        if is_maintenance_due(before_us, settled_us(self.pipeline, shard)):
            with self._tables() as store:
                for name, table in self.tables.items():
                    # `media` may be writing to its own at the same time.
                    if name != ATTACHMENT_FILES.name:
                        store.maintain(table)
        return marked

    def rows_since(self, remote: Remote, queries: Sequence[RowsQuery]) -> list[Rows]:
        """Each from a narrowed scan."""
        with self._tables() as store:
            return [_rows_since(store, query) for query in queries]

    @contextmanager
    def _tables(self) -> Iterator[OpenTableStore]:
        """The tables, while dlt's client is open."""
        # In anybody's pipeline other schemas may come first.
        name = schema_of_messages(self.pipeline)
        of_schema = {} if name is None else {"schema_name": name}
        with self.pipeline.destination_client(**of_schema) as opened:
            client: Any = opened
            client.schema = self._schema or client.schema
            # This table belongs to another schema of the dataset.
            if ATTACHMENT_FILES.name not in client.schema.tables:
                # A copy: the pipeline's own schema stays as it is.
                client.schema = client.schema.clone()
                kept_as = cast(Any, self.table_format)
                client.schema.update_table(
                    new_table(
                        ATTACHMENT_FILES.name, write_disposition="append", table_format=kept_as
                    )
                )
            yield DeltaTables(client) if self.table_format == "delta" else IcebergTables(client)


def _rows_since(store: OpenTableStore, query: RowsQuery) -> Rows:
    condition = Condition("synced_at", ">", from_us(query.since_us))
    reader = store.scan(query.table, query.columns, [condition])
    if reader is None:
        return []
    found = reader.read_all().select(query.columns)
    return list(zip(*(column.to_pylist() for column in found.columns), strict=True))


def _erase(store: OpenTableStore, erasure: Erasure, table: Table) -> int:
    """Replace the table by what stays of it, if anything goes; gives the rows that went."""
    searched = store.every_column(table)
    if searched is None:
        return 0
    table_erasure = TableErasure(erasure, table, searched.schema)
    rows, is_concerned = 0, False
    for batch in searched:
        rows += batch.num_rows
        is_concerned |= table_erasure.concerns(pa.Table.from_batches([batch]))
    if not is_concerned:
        return 0
    batches = store.every_column(table)
    kept = table_erasure.stream(batches or ())
    store.replace(table, kept)
    return rows - table_erasure.kept
