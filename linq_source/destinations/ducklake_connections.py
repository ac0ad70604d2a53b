"""One connection to a DuckLake's catalog for all that a process asks at the same time.

dlt attaches the catalog anew for each of its clients and detaches it with any of them. A catalog in
a DuckDB file is attached once in a process and no more: a run could not load while it looks.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any
from weakref import WeakValueDictionary

import dlt

from linq_source.destinations.overriding import overriding, replace_client

# By catalog and folder; a pool opens its connection for the first who borrows, and closes it when
# the last has given back.
_pools: WeakValueDictionary[str, Any] = WeakValueDictionary()
_lock = threading.Lock()


def share_connections(pipeline: dlt.Pipeline) -> None:
    """Let every client of a DuckLake borrow from one connection; others stay as they are."""
    destination: Any = pipeline.destination
    kind = "" if destination is None else destination.destination_type.rpartition(".")[2]
    if kind == "ducklake" and not hasattr(destination.client_class, "is_sharing"):
        effect = "a catalog in a DuckDB file cannot be loaded into: use one in Postgres"
        replace_client(pipeline, _sharing_client, effect)


def _sharing_client(client_class: Any) -> Any:
    from dlt.destinations.impl.duckdb.configuration import DuckDbConnectionPool
    from dlt.destinations.impl.ducklake import sql_client

    sql_class: Any = sql_client.DuckLakeSqlClient

    def open_connection(self: Any) -> Any:
        # Two who attach the catalog at once would be in each other's way.
        with _lock:
            return sql_class.open_connection(self)

    def close_connection(self: Any) -> None:
        # The catalog stays attached for the others; it is closed with the last connection.
        if self._conn:
            with suppress(Exception):
                self._conn.execute("ROLLBACK")
            self.credentials.conn_pool.return_conn(self._conn)
            self._conn = None

    sharing_sql_class = _derived(sql_class, open_connection, close_connection)

    def __init__(self: Any, schema: Any, config: Any, capabilities: Any) -> None:
        credentials = config.credentials
        key = f"{credentials.catalog_location()} {credentials.storage_url}"
        with _lock:
            credentials.conn_pool = _pools.setdefault(key, DuckDbConnectionPool(credentials))
        client_class.__init__(self, schema, config, capabilities)
        self.sql_client.__class__ = sharing_sql_class

    found = _derived(client_class, __init__)
    found.is_sharing = True
    return found


def _derived(base: Any, *methods: Any) -> Any:
    """A class that has some methods of its own."""
    return overriding(type(base.__name__, (base,), {found.__name__: found for found in methods}))
