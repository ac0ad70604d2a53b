"""Loading new messages into DuckDB without a merge, where a look at the keys allows it.

A merge stages every row, looks for old versions and writes the row again: half of a first load.
Where a package's keys are unique and the destination has none of them, appending gives the same
tables. That is decided anew at every loading, from the files that are about to be loaded, and
leaves no trace: a load that was killed half-way is repeated as a merge, because its rows are
there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dlt
from dlt.common.destination.exceptions import DestinationUndefinedEntity

from linq_source import tables
from linq_source.destinations.quoting import UNION, parquet_files
from linq_source.destinations.remote import Remote, with_client_class
from linq_source.tables import TOMBSTONE, Table

_TABLES = (tables.CHAT_MESSAGES, tables.ATTACHMENTS, tables.REACTIONS)


def holds_no_messages(remote: Remote) -> bool:
    """Whether there are no messages and no children of any."""
    return all(_is_empty(remote.sql, table) for table in _TABLES)


@contextmanager
def appending(pipeline: dlt.Pipeline, remote: Remote) -> Iterator[None]:
    """Within it, `pipeline.load()` appends to the tables for which that is the same as merging."""
    names = _appendable(pipeline, remote.sql)
    if not names:
        yield
        return
    # dlt asks its destination for the client that loads: here for one that knows better.
    destination = pipeline._destination
    pipeline._destination = _with_appending_client(destination, names)
    try:
        yield
    finally:
        pipeline._destination = destination


def _with_appending_client(destination: Any, names: frozenset[str]) -> Any:
    """The same destination, whose clients see the tables as appended to."""
    client_class = destination.client_class

    class AppendingClient(client_class):  # type: ignore[misc, valid-type]
        _prepares_storage = False

        def verify_schema(self, *args: Any, **options: Any) -> Any:
            # The client that prepares the storage begins with this. It makes what a merge needs,
            # too: a load that is killed is repeated as one, by dlt alone if need be.
            self._prepares_storage = True
            return super().verify_schema(*args, **options)

        def prepare_load_table(self, table_name: str) -> Any:
            table = super().prepare_load_table(table_name)
            if table_name in names and not self._prepares_storage:
                table["write_disposition"] = "append"
            return table

    return with_client_class(destination, AppendingClient)


def _appendable(pipeline: dlt.Pipeline, client: Any) -> frozenset[str]:
    """The tables of the one package waiting to be loaded whose rows are all new."""
    packages = pipeline.list_normalized_load_packages()
    if len(packages) != 1:
        return frozenset()
    files: dict[str, list[str]] = defaultdict(list)
    for state, jobs in pipeline.get_load_package_info(packages[0]).jobs.items():
        for job in jobs:
            if state != "new_jobs":
                return frozenset()
            files[job.job_file_info.table_name].append(job.file_path)
    return frozenset(
        table.name for table in _TABLES if _is_all_new(client, table, files[table.name])
    )


def _is_all_new(client: Any, table: Table, files: list[str]) -> bool:
    """Whether the rows in some files have keys of their own, and no parent has rows already."""
    if not files or not all(path.endswith(".parquet") for path in files):
        return False
    rows = parquet_files(files, UNION)
    key = ", ".join(table.key)
    (counts,) = client.execute_sql(
        f"SELECT (SELECT COUNT(*) FROM {rows}),"
        f" (SELECT COUNT(*) FROM (SELECT DISTINCT {key} FROM {rows}) AS d),"
        + (f" (SELECT COUNT({TOMBSTONE}) FROM {rows})" if table.is_child else " 0")
    )
    if counts[0] != counts[1] or counts[2]:
        return False
    if _is_empty(client, table):
        return True
    column = table.merge_key or table.key[0]
    return not client.execute_sql(
        f"SELECT 1 FROM {client.make_qualified_table_name(table.name)} AS t"
        f" SEMI JOIN {rows} AS r ON t.{column} = r.{column} LIMIT 1"
    )


def _is_empty(client: Any, table: Table) -> bool:
    name = client.make_qualified_table_name(table.name)
    try:
        return not client.execute_sql(f"SELECT 1 FROM {name} LIMIT 1")
    except DestinationUndefinedEntity:
        return True
