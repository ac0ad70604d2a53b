"""What a destination remembers of a pipeline, asked for over one connection."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dlt
from dlt.common.configuration.exceptions import ConfigurationValueError
from dlt.common.destination.exceptions import DestinationUndefinedEntity
from dlt.pipeline.state_sync import load_pipeline_state_from_destination

from linq_source.privacy.forgotten import Forgotten, forgotten_from
from linq_source.state import FORGOTTEN, source_state


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
    def place(self) -> str:
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
    with pipeline.destination_client() as client:
        yield Remote(pipeline.pipeline_name, client)


def forgotten_in(pipeline: dlt.Pipeline) -> Forgotten:
    """Who is forgotten in the pipeline's destination."""
    with connected(pipeline) as remote:
        state = remote.state() or {}
    return forgotten_from(source_state(state).get(FORGOTTEN))
