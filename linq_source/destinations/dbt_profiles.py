"""A dbt profile made of what dlt knows about a destination."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linq_source.destinations.marts_file import ATTEMPTS, check_file_for_lake, check_file_of_dataset
from linq_source.errors import ConfigurationError, no_messages_in

if TYPE_CHECKING:
    import dlt

    from linq_source.destinations.remote import Remote

# dbt takes what such variables hold out of everything it prints.
_PREFIX = "DBT_ENV_SECRET_LINQ_"


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


def profile_of(pipeline: dlt.Pipeline, database: str) -> Profile:
    """The profile for what a pipeline loads; what lies in files is modelled in a DuckDB file.

    Raises `ConfigurationError` where there are no messages, or dbt cannot be told how to read them.
    """
    from linq_source.destinations.kinds import kind_of
    from linq_source.destinations.remote import connected

    kind = kind_of(pipeline.destination)
    with connected(pipeline) as remote:
        if kind == "filesystem":
            return _lake(remote, database)
        dataset = _checked_dataset(pipeline, remote)
        config = remote.client.config
        variables = {"linq_dataset": dataset}
        marts = f"{dataset}_marts"
        if kind == "duckdb":
            path = str(config.credentials.database)
            check_file_of_dataset(remote, path, dataset)
            output = {
                "type": "duckdb",
                "path": path,
                "schema": marts,
                "retries": {"connect_attempts": ATTEMPTS},
            }
            return Profile(output, variables)
        if kind == "postgres":
            return _postgres(config.credentials, marts, variables)
        if kind == "bigquery":
            return _bigquery(config, marts, variables)
    raise ConfigurationError(
        f"--destination {kind}: there is no profile for it; transform knows duckdb, bigquery, "
        "postgres and parquet, and the package runs under any dbt profile of your own"
    )


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
    from linq_source.destinations.lake.bucket import Bucket
    from linq_source.destinations.quoting import escaped

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
    output = {"type": "duckdb", "path": str(path), "schema": f"{dataset}_marts"}
    lake = bucket.address("").rstrip("/")
    check_file_for_lake(path, dataset, f"{escaped(lake)}/current/chat_messages/**/*.parquet")
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


def _postgres(credentials: Any, schema: str, variables: dict[str, str]) -> Profile:
    output = {
        "type": "postgres",
        "host": credentials.host,
        "port": credentials.port,
        "user": credentials.username,
        "password": f"{{{{ env_var('{_PREFIX}PASSWORD') }}}}",
        "dbname": credentials.database,
        "schema": schema,
        "threads": 4,
    }
    return Profile(output, variables, {f"{_PREFIX}PASSWORD": credentials.password or ""})


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
