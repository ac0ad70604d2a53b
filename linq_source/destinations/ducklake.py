"""DuckLake: tables of Parquet files, and a database, the catalog, that knows which are current."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dlt

from linq_source.destinations.databases import Database
from linq_source.destinations.duckdb_file import rewrite_file
from linq_source.destinations.ducklake_connections import share_connections
from linq_source.destinations.erasing import Erasure
from linq_source.destinations.quoting import identifier, literal
from linq_source.destinations.scratch import check_folder_writable
from linq_source.errors import ConfigurationError
from linq_source.tables import Table

_ALL = "cleanup_all => true"
# No text is greater, but for those that begin with it.
_LAST = "\U0010ffff"
_ITS_FILE = re.compile(r"ducklake-[0-9a-f-]+\.parquet")


class DuckLake(Database):
    """A DuckLake. What is erased leaves its old versions and the catalog, too."""

    beyond_reach = (
        "backups, versions of objects that a bucket keeps by itself, blocks that the catalog's "
        "database has freed, and files that a run killed within the last day left are not touched"
    )
    views_dialect = "duckdb"

    def __init__(self, pipeline: dlt.Pipeline) -> None:
        super().__init__(pipeline)
        share_connections(pipeline)
        config: Any = pipeline.destination_client().config
        self._credentials: Any = config.credentials
        if self.file is not None:
            self.beyond_reach = (
                "backups, and versions of objects that a bucket keeps by itself, are not touched"
            )

    @property
    def file(self) -> Path | None:
        """The DuckDB file that the catalog is; None where it is in another database."""
        catalog = self._credentials.catalog
        return Path(catalog.database) if catalog.drivername == "duckdb" else None

    def check_name(self) -> None:
        """Raise `ConfigurationError` where DuckDB could not tell the dataset from the lake."""
        name = self._credentials.ducklake_name
        if self.pipeline.dataset_name.lower() == name.lower():
            raise ConfigurationError(
                f"the dataset {name} has the name by which DuckDB knows the lake: choose another "
                "(--dataset)"
            )

    def check_writable(self, table_format: str | None) -> None:
        """The same; a catalog's file that is not there is not made."""
        file = self.file
        if file is None or file.exists():
            super().check_writable(table_format)
            return
        check_folder_writable(file.parent)
        if self._credentials.storage.is_local_filesystem:
            check_folder_writable(Path(self._credentials.storage_url))

    def check_erasable(self, tables: Sequence[Table]) -> None:
        """Raise `ConfigurationError` where a file in its folder is not the lake's.

        Files that no snapshot knows, of a run that was killed, are erased; such a one would be.
        """
        with self.pipeline.sql_client() as client:
            for (path,) in self._call(client, "delete_orphaned_files", "dry_run => true", _ALL):
                if not _ITS_FILE.fullmatch(path.rpartition("/")[2]):
                    raise ConfigurationError(
                        f"{path}: is not a file of the DuckLake in whose folder it lies, and "
                        "would be removed with those that killed runs left: move it out"
                    )

    def erase(self, erasure: Erasure) -> dict[str, int]:
        """Erase rows, what is staged, and all old versions of the lake."""
        erased = super().erase(erasure)
        if erasure.files_of:
            return erased
        file = self.file
        with self.pipeline.sql_client() as client:
            # Few rows are kept in the catalog itself.
            self._call(client, "flush_inlined_data")
            self._call(client, "rewrite_data_files", "delete_threshold => 0")
            self._call(client, "expire_snapshots", "older_than => now()")
            self._call(client, "cleanup_old_files", _ALL)
            # Another process may be loading where the catalog is not a file that is locked.
            day_old = "older_than => now() - INTERVAL 1 DAY"
            self._call(client, "delete_orphaned_files", _ALL if file is not None else day_old)
            self._forget_extremes(client, erasure.tables)
        if file is not None:
            rewrite_file(file)
        return erased

    def _call(self, client: Any, function: str, *options: str) -> Sequence[tuple[Any, ...]]:
        lake = literal(self._credentials.ducklake_name)
        return client.execute_sql(f"CALL ducklake_{function}({', '.join((lake, *options))})") or ()

    def _forget_extremes(self, client: Any, tables: Sequence[Table]) -> None:
        """Take the least and the greatest text of each column from the catalog.

        They outlive their rows: those of whole tables are only ever widened. So they are here, as
        far as can be: null would say that no row has a value, and DuckDB would look for none.
        """
        credentials = self._credentials
        schema = "main"
        if self.file is None and credentials.catalog.drivername != "sqlite":
            schema = credentials.metadata_schema or credentials.ducklake_name
        catalog = f"__ducklake_metadata_{credentials.ducklake_name}"
        there = f"{identifier(catalog)}.{identifier(schema)}"
        names = ", ".join(literal(table.name) for table in tables)
        client.execute_sql(
            f"UPDATE {there}.ducklake_table_column_stats"
            f" SET min_value = '', max_value = {literal(_LAST)} WHERE min_value IS NOT NULL"
            f" AND (table_id, column_id) IN (SELECT (c.table_id, c.column_id)"
            f" FROM {there}.ducklake_column AS c JOIN {there}.ducklake_table AS t"
            f" ON t.table_id = c.table_id WHERE t.table_name IN ({names})"
            " AND c.column_type IN ('varchar', 'json'))"
        )
