"""What a destination remembers of a pipeline, asked for over one connection."""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import dlt
from dlt.common.configuration.exceptions import ConfigurationValueError
from dlt.common.destination.exceptions import DestinationUndefinedEntity
from dlt.destinations.exceptions import CantExtractTablePrefix, InvalidFilesystemLayout
from dlt.pipeline.state_sync import load_pipeline_state_from_destination

from linq_source.destinations.dlt_overrides import overriding, replace_client
from linq_source.destinations.duckdb_file import check_dataset_name, when_closed
from linq_source.destinations.ducklake_connections import share_connections
from linq_source.destinations.pipeline_facts import is_filesystem
from linq_source.errors import ConfigurationError
from linq_source.privacy.forgotten import Forgotten, forgotten_from
from linq_source.state_keys import FORGOTTEN, SECTION, source_state
from linq_source.tables import SYNC_WINDOWS


@dataclass(frozen=True)
class Remote:
    """An open destination. Making its client costs dlt more than most questions to it."""

    pipeline_name: str
    client: Any

    @property
    def sql(self) -> Any:
        """Its SQL client; only for a destination that has one."""
        return self.client.sql_client

    @property
    def is_in_files(self) -> bool:
        """Whether it is a folder or a bucket."""
        return hasattr(self.client, "fs_client")

    @property
    def dataset_key(self) -> str:
        """A digest that tells one dataset of one destination from every other."""
        config = self.client.config
        try:
            location = str(config.data_location())
        except ConfigurationValueError:
            location = config.fingerprint()
        return hashlib.sha256(f"{location}/{config.dataset_name}".encode()).hexdigest()[:16]

    def state(self) -> Any:
        """The pipeline's state as the destination holds it; none if it holds none."""
        try:
            return load_pipeline_state_from_destination(self.pipeline_name, self.client)
        except DestinationUndefinedEntity:
            return None


@contextmanager
def connected(pipeline: dlt.Pipeline) -> Iterator[Remote]:
    """Open the destination for a while.

    A DuckDB file is opened and closed with the last connection to it, which takes time at every
    step of a load; but while it is open nobody else can open it, so never while messages are read.
    """
    _adapt_files(pipeline)
    share_connections(pipeline)
    with ExitStack() as stack:
        yield Remote(pipeline.pipeline_name, when_closed(lambda: _open(pipeline, stack)))


def _open(pipeline: dlt.Pipeline, stack: ExitStack) -> Any:
    with _plain_layout_errors():
        client: Any = pipeline.destination_client()
    check_dataset_name(client)
    return stack.enter_context(client)


@contextmanager
def _plain_layout_errors() -> Iterator[None]:
    try:
        yield
    except (CantExtractTablePrefix, InvalidFilesystemLayout) as error:
        text = " ".join(str(error).split())[:300]
        raise ConfigurationError(f"the filesystem destination's {text}") from error


def _adapt_files(pipeline: dlt.Pipeline) -> None:
    """Let the pipeline load into a folder that is there, and find its files whatever its name.

    dlt makes the folder of a dataset that it has not marked as its own, and fails where it exists:
    of a run that was killed before it was marked, or of another shard that begins now. It lists by
    a pattern made of the folder's path: where that has a meaning of its own (brackets), no state
    and no schema is found, and every run would begin from nothing.
    """
    destination: Any = pipeline.destination
    if not is_filesystem(pipeline) or hasattr(destination.client_class, "is_adapted"):
        return

    def adapted_client(client_class: Any) -> Any:
        @overriding
        class AdaptedClient(client_class):  # type: ignore[misc]
            is_adapted = True

            def create_dataset(self) -> None:
                self.fs_client.makedirs(self.dataset_path, exist_ok=True)

            def list_files_with_prefixes(self, table_dir: str, prefixes: list[str]) -> list[str]:
                pattern = glob.escape(table_dir)
                if pattern == table_dir:
                    found: list[str] = super().list_files_with_prefixes(table_dir, prefixes)
                    return found
                entries = self.fs_client.glob(f"{pattern}**", detail=True)
                return [
                    path
                    for path, entry in entries.items()
                    if entry["type"] == "file" and path.startswith(tuple(prefixes))
                ]

        return AdaptedClient

    effect = "a folder that is there, or whose name has brackets, is refused or not read"
    replace_client(pipeline, adapted_client, effect)


def restore(pipeline: dlt.Pipeline) -> None:
    """Take over the schema and the state that the destination holds."""
    _adapt_files(pipeline)
    share_connections(pipeline)
    with _plain_layout_errors():
        pipeline.sync_destination()


def stored_schema(pipeline: dlt.Pipeline) -> dlt.Schema | None:
    """The newest schema with our tables that any pipeline stored in the dataset."""
    with connected(pipeline) as remote:
        if not remote.is_in_files:
            found = remote.client.get_stored_schema(SECTION)
            return found and dlt.Schema.from_stored_schema(json.loads(found.schema))
        try:
            names = {parts[0] for _, parts in remote.client._iter_stored_schema_files()}
        except DestinationUndefinedEntity:
            return None
        infos = filter(None, map(remote.client.get_stored_schema, sorted(names)))
        for info in sorted(infos, key=lambda info: info.inserted_at, reverse=True):
            schema = dlt.Schema.from_stored_schema(json.loads(info.schema))
            if SYNC_WINDOWS.name in schema.tables:
                return schema
    return None


def forgotten_in(pipeline: dlt.Pipeline) -> Forgotten:
    """Who is forgotten in the pipeline's destination."""
    with connected(pipeline) as remote:
        state = remote.state() or {}
    return forgotten_from(source_state(state).get(FORGOTTEN))
