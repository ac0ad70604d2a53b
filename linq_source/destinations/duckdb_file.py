"""The name of a DuckDB file as DuckDB's SQL knows it, and where that name is in the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from linq_source.errors import ConfigurationError

# Catalogs and schemas that every DuckDB database has.
_TAKEN = ("system", "temp", "information_schema", "pg_catalog")


def catalog_of(path: str) -> str:
    """The name that DuckDB gives to the database in a file: its name up to the first dot."""
    name = Path(path).name.split("?")[0]
    found = next((part for part in name.split(".") if part), name)
    return f"{found}_db" if found in ("system", "temp", "main") else found


def check_dataset_name(client: Any) -> None:
    """Raise `ConfigurationError` where DuckDB could not tell the dataset from a database.

    `"linq"."chats"` is ambiguous when both a schema and a database are called linq, in whatever
    case. dlt writes names so, and has a second schema beside the dataset's. `client` need not be
    open: nothing is asked, and no file made.
    """
    if client.config.destination_type.split(".")[-1] != "duckdb":
        return
    path = str(client.config.credentials.database)
    catalog = catalog_of(path).lower()
    dataset = client.sql_client.dataset_name
    staging = client.sql_client.staging_dataset_name
    if dataset.lower() in _TAKEN:
        raise ConfigurationError(
            f"the dataset name {dataset} is one of DuckDB's own: choose another (--dataset)"
        )
    for schema in (dataset, staging):
        if schema.lower() == catalog:
            raise ConfigurationError(
                f"the database {path} and the dataset {dataset} cannot go together: DuckDB calls "
                f"the database {catalog_of(path)}, and a schema of it is called {schema}; choose "
                "another file name or dataset name (--database, --dataset)"
            )
