"""dbt profiles made of what dlt knows about a destination."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linq_source.destinations.bucket import Bucket
from linq_source.destinations.marts_file import check_file_for_lake, check_file_of_dataset
from linq_source.destinations.remote import Remote, connected
from linq_source.errors import ConfigurationError, no_messages_in

if TYPE_CHECKING:
    import dlt

# dbt takes what such variables hold out of everything it prints.
_PREFIX = "DBT_ENV_SECRET_LINQ_"
# A file that another program has open dbt tries again after 1, 2, 4, ... seconds, four minutes.
_ATTEMPTS = 8


@dataclass(frozen=True)
class Profile:
    """Where dbt reads and writes: its adapter's settings, our project's variables.

    `secrets` are environment variables that the settings refer to.
    """

    output: dict[str, Any]
    variables: dict[str, str]
    secrets: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def adapter(self) -> str:
        """The name of dbt's adapter."""
        return str(self.output["type"])

    @property
    def extra(self) -> str:
        """The extra of this package that has the adapter."""
        return "dbt" if self.adapter == "duckdb" else f"dbt-{self.adapter}"


def duckdb_profile(pipeline: dlt.Pipeline) -> Profile:
    """The profile of a DuckDB file, whose marts lie in it."""
    with connected(pipeline) as remote:
        dataset = _checked_dataset(pipeline, remote)
        path = str(remote.client.config.credentials.database)
        check_file_of_dataset(remote, path, dataset)
    output = {
        "type": "duckdb",
        "path": path,
        "schema": _marts(dataset),
        "retries": {"connect_attempts": _ATTEMPTS},
    }
    return Profile(output, {"linq_dataset": dataset})


def postgres_profile(pipeline: dlt.Pipeline) -> Profile:
    """The profile of a Postgres database."""
    with connected(pipeline) as remote:
        dataset = _checked_dataset(pipeline, remote)
        credentials = remote.client.config.credentials
    output = {
        "type": "postgres",
        "host": credentials.host,
        "port": credentials.port,
        "user": credentials.username,
        "password": f"{{{{ env_var('{_PREFIX}PASSWORD') }}}}",
        "dbname": credentials.database,
        "schema": _marts(dataset),
        "threads": 4,
    }
    secrets = {f"{_PREFIX}PASSWORD": credentials.password or ""}
    return Profile(output, {"linq_dataset": dataset}, secrets)


def bigquery_profile(pipeline: dlt.Pipeline) -> Profile:
    """The profile of BigQuery."""
    with connected(pipeline) as remote:
        dataset = _checked_dataset(pipeline, remote)
        return _bigquery(remote.client.config, _marts(dataset), {"linq_dataset": dataset})


def lake_profile(pipeline: dlt.Pipeline, database: str) -> Profile:
    """The profile of a Parquet lake, whose marts lie in a DuckDB file."""
    with connected(pipeline) as remote:
        return _lake(remote, database)


def _marts(dataset: str) -> str:
    """The name of the dataset of the marts beside the messages' one."""
    return f"{dataset}_marts"


def _checked_dataset(pipeline: dlt.Pipeline, remote: Remote) -> str:
    """The dataset's name in the destination, which must have messages."""
    from dlt.common.destination.exceptions import DestinationUndefinedEntity

    name = remote.sql.make_qualified_table_name("chat_messages")
    try:
        remote.sql.execute_sql(f"SELECT 1 FROM {name} WHERE 1 = 0")
    except DestinationUndefinedEntity as error:
        raise no_messages_in(f"the dataset {pipeline.dataset_name}") from error
    return str(remote.sql.dataset_name)


def _lake(remote: Remote, database: str) -> Profile:
    bucket = Bucket.of(remote)
    if not bucket.list("current/chat_messages"):
        raise no_messages_in(f"the lake {bucket.root}")
    path = Path(database).absolute()
    if not path.parent.is_dir():
        raise ConfigurationError(
            f"--database {database}: the folder {path.parent} does not exist; it is the file that "
            "the models of a lake are written to"
        )
    dataset = Path(bucket.root).name
    output = {"type": "duckdb", "path": str(path), "schema": _marts(dataset)}
    lake = bucket.address("").rstrip("/")
    check_file_for_lake(path, dataset, f"{glob.escape(lake)}/current/chat_messages/**/*.parquet")
    variables = {"linq_lake": lake, "linq_dataset": dataset}
    if bucket.is_local:
        return Profile(output, variables)
    options, secrets = _file_system(bucket.fs)
    return Profile({**output, "filesystems": [options]}, variables, secrets)


def _file_system(fs: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """How fsspec opens the same object store in dbt's process, and the secrets of that."""
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    options: dict[str, Any] = {"fs": protocol}
    secrets: dict[str, str] = {}
    for name, value in fs.storage_options.items():
        if not isinstance(value, str | bool | int | float | dict | None):
            raise ConfigurationError(
                f"--bucket-url {protocol}://...: dbt cannot be given credentials of the kind "
                f"{type(value).__name__} ({name}); build the package with a dbt profile of your "
                "own and the variable linq_lake"
            )
        if isinstance(value, str) and re.search("key|secret|token|password|string", name):
            secrets[f"{_PREFIX}{name.upper()}"] = value
            value = f"{{{{ env_var('{_PREFIX}{name.upper()}') }}}}"
        options[name] = value
    return options, secrets


def _bigquery(config: Any, dataset: str, variables: dict[str, str]) -> Profile:
    credentials = config.credentials
    output: dict[str, Any] = {
        "type": "bigquery",
        "project": credentials.project_id,
        "dataset": dataset,
        "location": config.location,
        "threads": 4,
    }
    private_key = getattr(credentials, "private_key", None)
    refresh_token = getattr(credentials, "refresh_token", None)
    if private_key:
        output["method"] = "service-account-json"
        output["keyfile_json"] = {
            "type": "service_account",
            "project_id": credentials.project_id,
            "client_email": credentials.client_email,
            "token_uri": credentials.token_uri,
            "private_key": f"{{{{ env_var('{_PREFIX}PRIVATE_KEY') }}}}",
        }
        return Profile(output, variables, {f"{_PREFIX}PRIVATE_KEY": private_key})
    if refresh_token:
        output["method"] = "oauth-secrets"
        output["client_id"] = credentials.client_id
        output["token_uri"] = credentials.token_uri
        output["client_secret"] = f"{{{{ env_var('{_PREFIX}CLIENT_SECRET') }}}}"
        output["refresh_token"] = f"{{{{ env_var('{_PREFIX}REFRESH_TOKEN') }}}}"
        secrets = {"CLIENT_SECRET": credentials.client_secret, "REFRESH_TOKEN": refresh_token}
        return Profile(output, variables, {f"{_PREFIX}{k}": v for k, v in secrets.items()})
    output["method"] = "oauth"  # as Google's libraries find them
    return Profile(output, variables)
