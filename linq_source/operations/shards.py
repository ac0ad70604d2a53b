"""Shards: one organisation read by several pipelines, each its own chats, into one dataset.

Each shard is a pipeline of its own name, state and staging dataset. What its chats' last readers
remembered is inherited when the number of shards changes (see `operations.takeover`).
"""

from __future__ import annotations

from typing import Any

import dlt
from dlt.common.destination import Destination

from linq_source.destinations.kinds import stage_separately
from linq_source.destinations.targets import PIPELINE_NAME
from linq_source.errors import ConfigurationError
from linq_source.settings import parse_shard


def plan_shards(count: int) -> list[str]:
    """The shards that divide an organisation's chats: `["0/2", "1/2"]` for 2.

    Raises `ConfigurationError` for a count below 1.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigurationError(f"the count of shards is {count!r}: use a whole number from 1 on")
    return [f"{index}/{count}" for index in range(count)]


def open_shard(
    shard: str,
    destination: Any,
    dataset_name: str = "linq",
    *,
    pipeline_name: str = PIPELINE_NAME,
    pipelines_dir: str | None = None,
) -> dlt.Pipeline:
    """The pipeline of a shard: `<pipeline_name>_0_of_4` for `"0/4"`, the name itself for `"0/1"`.

    `destination` is whatever `dlt.pipeline` takes. In a SQL destination the shard gets a staging
    dataset of its own, because each load empties its staging tables first; one configured as
    `destination.staging_dataset_name_layout` is left as it is. Nothing has to be kept in
    `pipelines_dir` from run to run: the destination holds the state.

    Raises `ConfigurationError` for a text that is not a shard.
    """
    parsed = parse_shard(shard)
    if parsed is None:
        raise ConfigurationError("shard is missing: use i/n with 0 <= i < n, such as 0/4")
    name = (
        pipeline_name if parsed.count == 1 else f"{pipeline_name}_{parsed.index}_of_{parsed.count}"
    )
    options: dict[str, Any] = {} if pipelines_dir is None else {"pipelines_dir": pipelines_dir}
    pipeline: dlt.Pipeline = dlt.pipeline(
        name, destination=Destination.from_reference(destination), dataset_name=dataset_name,
        **options,
    )  # fmt: skip
    if parsed.count > 1:
        stage_separately(pipeline.destination, name)
    return pipeline
