"""Where a run loads to, as the command's options say it, and dlt's destination for it."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from linq_source.destinations.quoting import local_path
from linq_source.errors import ConfigurationError
from linq_source.state_keys import SECTION

PIPELINE_NAME = "linq_messages"
DEFAULT_DATABASE = "linq_messages.duckdb"
_DEFAULT_CATALOG = "linq_messages.ducklake"
_IN_A_BUCKET = ("parquet", "filesystem", "ducklake")


@dataclass(frozen=True)
class Target:
    """Where a run loads to. Names that are not given are those usual for a version of the API."""

    destination: str
    database: str
    given_dataset: str | None = None
    given_pipeline_name: str | None = None
    pipelines_dir: str | None = None
    bucket_url: str | None = None
    table_format: str | None = None
    api: str | None = None

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return self.given_dataset or f"linq{self._suffix}"

    @property
    def pipeline_name(self) -> str:
        """The pipeline's name."""
        return self.given_pipeline_name or f"{PIPELINE_NAME}{self._suffix}"

    @cached_property
    def _suffix(self) -> str:
        import dlt

        return "_v3" if (self.api or dlt.config.get(f"sources.{SECTION}.api")) == "v3" else ""


def dlt_destination(target: Target) -> Any:
    """What `dlt.pipeline` takes as the destination; a named one by the type it is configured as.

    Raises `ConfigurationError` for what is missing, or cannot be.
    """
    from dlt.common.destination import Destination
    from dlt.common.destination.exceptions import UnknownDestinationModule

    from linq_source.destinations.kinds import stage_separately

    kind = _kind_of(target.destination)
    if target.bucket_url is not None and kind not in _IN_A_BUCKET:
        raise ConfigurationError(
            f"--bucket-url: the destination {target.destination} is not in a bucket; "
            f"it is for --destination {', '.join(_IN_A_BUCKET)}"
        )
    name = (
        {} if target.destination in ("parquet", kind) else {"destination_name": target.destination}
    )
    if kind == "duckdb":
        return _duckdb(target, **name)
    if kind == "filesystem":
        return _filesystem(target, **name)
    try:
        if kind == "ducklake":
            name["credentials"] = _ducklake(target)
        if kind == "bigquery":
            # dlt would only miss it when it connects.
            import_module("google.cloud.bigquery")

            # Rows come by REST without that package, and what is fetched here is small.
            warnings.filterwarnings("ignore", "Cannot create BigQuery Storage client")
        found = Destination.from_reference(f"dlt.destinations.{kind}", **name)
        if target.pipeline_name != PIPELINE_NAME:
            # Shards load into one dataset at the same time.
            stage_separately(found, target.pipeline_name)
        return found
    except (ImportError, UnknownDestinationModule) as error:
        raise ConfigurationError(
            f"--destination {target.destination} needs an extra: "
            f"pip install 'linq-source[{kind}]' ({error})"
        ) from error


def _kind_of(destination: str) -> str:
    """The type of a destination of dlt: its own name, or what is configured for the name."""
    import dlt

    others = ("destination", "dummy")
    known = {name for name in dlt.destinations.__all__ if name not in others}
    if destination == "parquet":
        return "filesystem"
    setting = f"destination.{destination}.destination_type"
    configured = dlt.config.get(setting, str)
    kind = (configured or destination).removeprefix("dlt.destinations.")
    if kind in known:
        return kind
    told = f"{setting} is {configured!r}, which" if configured else f"--destination {destination!r}"
    raise ConfigurationError(
        f"{told} is not known; use one of {', '.join(sorted({*known, 'parquet'}))}"
        + ("" if configured else f", or a name whose type is configured as {setting}")
    )


def _duckdb(target: Target, **name: Any) -> Any:
    """The file of --database; for a named destination the one that is configured for it, if any."""
    import dlt

    database, told = target.database, "--database"
    if name:
        key = f"destination.{target.destination}.credentials"
        found: Any = dlt.secrets.get(key)
        is_detailed = isinstance(found, dict) or dlt.secrets.get(f"{key}.database") is not None
        if is_detailed or str(found).startswith(":"):
            return dlt.destinations.duckdb(**name)
        if found is not None:
            database, told = str(found).removeprefix("duckdb:///"), key
    if database == ":memory:" or database.startswith(("md:", "motherduck:")):
        raise ConfigurationError(
            f"{told} {database}: name a file; what is in memory would be lost at the "
            "end, and MotherDuck is the destination motherduck (--destination motherduck)"
        )
    # dlt would take a relative path from where the pipeline once ran first.
    return dlt.destinations.duckdb(str(_file_of(database, told)), **name)


def _file_of(database: str, told: str) -> Path:
    path = Path(database).absolute()
    if "?" in str(path):
        raise ConfigurationError(
            f"{told} {database}: DuckDB takes no path with a question mark: choose another"
        )
    if not path.parent.is_dir():
        raise ConfigurationError(f"{told} {database}: the folder {path.parent} does not exist")
    return path


def _ducklake(target: Target) -> Any:
    """The catalog in the file of --database, unless one is configured; the files in a bucket."""
    import dlt
    from dlt.common.configuration.specs import ConnectionStringCredentials
    from dlt.destinations.impl.ducklake.configuration import DuckLakeCredentials

    key = f"destination.{target.destination}.credentials"

    def is_configured(name: str, part: str) -> bool:
        return any(dlt.secrets.get(f"{key}.{found}") for found in (name, f"{name}.{part}"))

    catalog: Any = None
    storage: Any = None
    is_named = target.database != DEFAULT_DATABASE
    if is_named or not is_configured("catalog", "database"):
        file = str(_file_of(target.database if is_named else _DEFAULT_CATALOG, "--database"))
        catalog = ConnectionStringCredentials({"drivername": "duckdb", "database": file})
        _check_quotable("--database", file)
    if target.bucket_url is not None or not is_configured("storage", "bucket_url"):
        storage = _bucket_url(target)
        _check_quotable("--bucket-url", storage)
    return DuckLakeCredentials(catalog=catalog, storage=storage)


def _check_quotable(told: str, place: str) -> None:
    """Raise `ConfigurationError` for what dlt, which puts it between apostrophes, cannot say."""
    if "'" in place:
        raise ConfigurationError(f"{told} {place}: a DuckLake takes no ' in it: choose another")


def _filesystem(target: Target, **name: Any) -> Any:
    import dlt

    if target.destination == "filesystem" and target.table_format is None:
        raise ConfigurationError(
            "--destination filesystem needs --table-format delta or iceberg; for plain "
            "Parquet files use --destination parquet"
        )
    if target.destination == "parquet" and target.table_format is not None:
        raise ConfigurationError(
            f"--table-format {target.table_format}: for tables of a format use --destination "
            "filesystem; parquet is plain Parquet files"
        )
    return dlt.destinations.filesystem(_bucket_url(target), **name)


def _bucket_url(target: Target) -> str:
    """The folder or bucket, given or configured; a folder must be one that can be written."""
    import dlt

    given = target.bucket_url
    section = "filesystem" if target.destination == "parquet" else target.destination
    url = given or dlt.config.get(f"destination.{section}.bucket_url", str)
    if not url:
        raise ConfigurationError(
            f"--destination {target.destination} needs --bucket-url: a folder, s3://..., gs://... "
            "or az://..."
        )
    if "://" in url and not url.startswith("file://"):
        return url
    asked = folder = Path(local_path(url)).absolute()
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        what = "cannot be written" if folder.is_dir() else "is a file"
        raise ConfigurationError(f"--bucket-url {url}: {folder} {what}; choose another folder")
    return str(asked)
