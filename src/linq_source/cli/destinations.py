"""From command line options to a dlt pipeline."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linq_source.errors import ConfigurationError

if TYPE_CHECKING:
    import dlt

DEFAULT_DATABASE = "linq_messages.duckdb"
DEFAULT_PIPELINE = "linq_messages"
DEMO_PIPELINE = "linq_demo"
# Warehouses that several pipelines may load into at once.
_SHARED = ("bigquery", "postgres", "redshift", "snowflake")


@dataclass(frozen=True)
class Target:
    """Where a run loads to."""

    destination: str
    database: str
    dataset: str
    pipeline_name: str
    pipelines_dir: str | None


def open_pipeline(target: Target, *, must_exist: bool = False) -> dlt.Pipeline:
    """The pipeline of a target. Raises `ConfigurationError` for one that cannot be."""
    import dlt

    if must_exist and target.destination == "duckdb" and not Path(target.database).exists():
        raise ConfigurationError(f"--database {target.database}: there is no such file")

    options: dict[str, Any] = {}
    if target.pipelines_dir is not None:
        options["pipelines_dir"] = target.pipelines_dir
    pipeline: dlt.Pipeline = dlt.pipeline(
        pipeline_name=target.pipeline_name,
        destination=_destination(target),
        dataset_name=target.dataset,
        **options,
    )
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

    if target.destination == "duckdb":
        path = Path(target.database)
        if path.stem == target.dataset:
            raise ConfigurationError(
                f"the database {target.database} and the dataset {target.dataset} have one name, "
                "which DuckDB finds ambiguous: choose another --database or --dataset"
            )
        if not path.absolute().parent.is_dir():
            raise ConfigurationError(
                f"--database {target.database}: the folder {path.parent} does not exist"
            )
        if target.pipeline_name != DEMO_PIPELINE and pipelines_in(path) == {DEMO_PIPELINE}:
            raise ConfigurationError(
                f"{path} holds the demo's invented messages: delete it, or name another file "
                "with --database"
            )
        return dlt.destinations.duckdb(target.database)
    try:
        if target.destination == "bigquery":
            # dlt would only miss it when it connects.
            import google.cloud.bigquery  # noqa: F401

            # Rows come by REST without that package, and what is fetched here is small.
            warnings.filterwarnings("ignore", "Cannot create BigQuery Storage client")
        factory = dlt.destinations.__dict__[target.destination]
        return factory(**_staging(target))
    except KeyError:
        known = sorted(n for n in dlt.destinations.__all__ if n not in ("destination", "dummy"))
        raise ConfigurationError(
            f"--destination {target.destination!r} is not known; use one of {', '.join(known)}"
        ) from None
    except (ImportError, UnknownDestinationModule) as error:
        raise ConfigurationError(
            f"--destination {target.destination} needs an extra: "
            f"pip install 'linq-source[{target.destination}]' ({error})"
        ) from error


def _staging(target: Target) -> dict[str, str]:
    """A staging dataset of its own for every pipeline but the usual one.

    Shards load into one dataset at the same time, and each empties its staging tables first.
    """
    import dlt

    key = f"destination.{target.destination}.staging_dataset_name_layout"
    if (
        target.destination not in _SHARED
        or target.pipeline_name == DEFAULT_PIPELINE
        or dlt.config.get(key) is not None
    ):
        return {}
    return {"staging_dataset_name_layout": f"%s_staging_{target.pipeline_name}"}
