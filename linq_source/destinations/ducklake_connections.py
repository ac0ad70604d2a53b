"""One connection to a DuckLake's catalog for all that a process asks at the same time.

dlt attaches the catalog once for each of its clients and detaches it with any of them. A catalog in
a DuckDB file is attached once in a process and no more: a run could not load while it looks.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import wraps
from typing import Any
from urllib.parse import quote
from weakref import WeakValueDictionary

import dlt
from dlt.destinations.exceptions import DestinationConnectionError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from linq_source.destinations.dlt_overrides import overriding, replace_client
from linq_source.destinations.pipeline_facts import kind_of
from linq_source.errors import DestinationError

# By catalog and folder; a pool opens its connection for the first who borrows, and closes it when
# the last has given back.
_pools: WeakValueDictionary[str, Any] = WeakValueDictionary()
_lock = threading.Lock()


def share_connections(pipeline: dlt.Pipeline) -> None:
    """Let every client of a DuckLake borrow from one connection; others stay as they are."""
    destination: Any = pipeline.destination
    if kind_of(destination) == "ducklake" and not hasattr(destination.client_class, "is_sharing"):
        effect = "a catalog in a DuckDB file cannot be loaded into: use one in Postgres"
        replace_client(pipeline, _sharing_client, effect)


def _sharing_client(client_class: Any) -> Any:
    from dlt.destinations.impl.duckdb.configuration import DuckDbConnectionPool
    from dlt.destinations.impl.ducklake import sql_client

    sql_class: Any = sql_client.DuckLakeSqlClient

    def open_connection(self: Any) -> Any:
        # Two who attach the catalog at once would be in each other's way.
        with _lock:
            try:
                return _in_turn(sql_class.open_connection, self)
            except DestinationConnectionError as error:
                failure = _telling(error, self.credentials.catalog.password)
        raise failure

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

    found = _derived(
        client_class,
        __init__,
        _repeated(client_class.initialize_storage),
        _repeated(client_class.update_stored_schema),
    )
    found.is_sharing = True
    return found


def _is_in_the_way(error: BaseException) -> bool:
    """Return whether another process made the same at the same time: one of them is refused.

    By Postgres what the catalog is made of, by DuckLake schemas, tables and columns.
    """
    if isinstance(error, DestinationConnectionError):
        return "duplicate key" in str(error.inner_exc)
    return "Transaction conflict" in str(error)


_in_turn = Retrying(
    retry=retry_if_exception(_is_in_the_way),
    stop=stop_after_attempt(6),
    wait=wait_random_exponential(multiplier=0.1, max=2.0),
    reraise=True,
)


def _repeated(method: Any) -> Any:
    """A method of a client that is called again where another shard was in the way."""

    @wraps(method)
    def repeated(*arguments: Any, **options: Any) -> Any:
        return _in_turn(method, *arguments, **options)

    return repeated


def _telling(error: DestinationConnectionError, password: str | None) -> Exception:
    """The error without the catalog's password, which DuckDB quotes with the address.

    It must be raised where the other is not handled any more, or that would go with it.
    """
    inner = error.inner_exc
    text = str(inner)
    if "extension" in text and ("download" in text or "not found" in text):
        return DestinationError(
            "ducklake: DuckDB cannot fetch an extension that it needs: let it reach the network, "
            f"or name a folder that has it (docs/lake.md): {' '.join(text.split())[:60]}"
        )
    for found in filter(None, {password, quote(password or "", safe=""), quote(password or "")}):
        text = text.replace(found, "***")
    if text == str(inner):
        return error
    plain = DestinationConnectionError("DuckLakeSqlClient", error.dataset_name, text, inner)
    plain.inner_exc = type(inner)(text)
    plain.__cause__ = plain.inner_exc
    return plain


def _derived(base: Any, *methods: Any) -> Any:
    """A class that has some methods of its own."""
    return overriding(type(base.__name__, (base,), {found.__name__: found for found in methods}))
