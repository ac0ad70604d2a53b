"""From command line options to a dlt pipeline."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linq_source.errors import ConfigurationError

if TYPE_CHECKING:
    import dlt

DEFAULT_DATABASE = "linq_messages.duckdb"
DEMO_PIPELINE = "linq_demo"
_IN_A_BUCKET = ("parquet", "filesystem")


@dataclass(frozen=True)
class Target:
    """Where a run loads to."""

    destination: str
    database: str
    dataset: str
    pipeline_name: str
    pipelines_dir: str | None
    bucket_url: str | None = None
    table_format: str | None = None


def open_pipeline(target: Target, *, must_exist: bool = False) -> dlt.Pipeline:
    """The pipeline of a target. Raises `ConfigurationError` for one that cannot be."""
    import dlt

    from linq_source.destinations.duckdb_file import check_dataset_name
    from linq_source.destinations.table_formats import check_table_format, is_duckdb

    if must_exist and target.destination == "duckdb" and not Path(target.database).exists():
        raise ConfigurationError(f"--database {target.database}: there is no such file")

    options: dict[str, Any] = {}
    if target.pipelines_dir is not None:
        options["pipelines_dir"] = target.pipelines_dir
    if target.bucket_url is not None and target.destination not in _IN_A_BUCKET:
        raise ConfigurationError(
            f"--bucket-url: the destination {target.destination} is not in a bucket; "
            f"it is for --destination {' and '.join(_IN_A_BUCKET)}"
        )
    pipeline: dlt.Pipeline = dlt.pipeline(
        pipeline_name=target.pipeline_name,
        destination=_destination(target),
        dataset_name=target.dataset,
        **options,
    )
    check_table_format(pipeline, target.table_format)
    if is_duckdb(pipeline):
        check_dataset_name(pipeline.destination_client())
    return pipeline


def pipelines_in(path: Path) -> set[str]:
    """Names of the pipelines that loaded into a DuckDB file; empty where that cannot be told."""
    import duckdb

    if not path.exists():
        return set()
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            sql = "SELECT DISTINCT pipeline_name FROM linq._dlt_pipeline_state"
            return {name for (name,) in connection.execute(sql).fetchall()}
    except duckdb.Error:
        return set()


def _destination(target: Target) -> Any:
    import dlt
    from dlt.common.destination.exceptions import UnknownDestinationModule

    from linq_source.operations.shards import PIPELINE_NAME, stage_apart

    if target.destination == "duckdb":
        path = Path(target.database)
        if not path.absolute().parent.is_dir():
            raise ConfigurationError(
                f"--database {target.database}: the folder {path.parent} does not exist"
            )
        if target.pipeline_name != DEMO_PIPELINE and pipelines_in(path) == {DEMO_PIPELINE}:
            raise ConfigurationError(
                f"{path} holds the demo's invented messages: delete it, or name another file "
                "with --database"
            )
        # dlt would take a relative path from where the pipeline once ran first.
        return dlt.destinations.duckdb(str(path.absolute()))
    if target.destination in _IN_A_BUCKET:
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
        return dlt.destinations.filesystem(_bucket_url(target))
    try:
        if target.destination == "bigquery":
            # dlt would only miss it when it connects.
            import google.cloud.bigquery  # noqa: F401

            # Rows come by REST without that package, and what is fetched here is small.
            warnings.filterwarnings("ignore", "Cannot create BigQuery Storage client")
        factory = dlt.destinations.__dict__[target.destination]
        found = factory()
        if target.pipeline_name != PIPELINE_NAME:
            # Shards load into one dataset at the same time.
            stage_apart(found, target.pipeline_name)
        return found
    except KeyError:
        others = ("destination", "dummy")
        known = sorted({*(n for n in dlt.destinations.__all__ if n not in others), "parquet"})
        raise ConfigurationError(
            f"--destination {target.destination!r} is not known; use one of {', '.join(known)}"
        ) from None
    except (ImportError, UnknownDestinationModule) as error:
        raise ConfigurationError(
            f"--destination {target.destination} needs an extra: "
            f"pip install 'linq-source[{target.destination}]' ({error})"
        ) from error


def _bucket_url(target: Target) -> str:
    """The folder or bucket, given or configured; a folder must be one that can be written."""
    import dlt

    given = target.bucket_url
    url = given or dlt.config.get("destination.filesystem.bucket_url", str)
    if not url:
        raise ConfigurationError(
            f"--destination {target.destination} needs --bucket-url: a folder, s3://..., gs://... "
            "or az://..."
        )
    if "://" in url and not url.startswith("file://"):
        return url
    asked = folder = Path(url.removeprefix("file://")).absolute()
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        what = "cannot be written" if folder.is_dir() else "is a file"
        raise ConfigurationError(f"--bucket-url {url}: {folder} {what}; choose another folder")
    return str(asked)
