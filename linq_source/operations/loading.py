"""Loading a package, and what is known to have arrived."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dlt
from dlt.common.configuration.container import Container
from dlt.common.configuration.providers.doc import BaseDocProvider
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from dlt.common.pipeline import LoadInfo

from linq_source.destinations.kinds import destination_of
from linq_source.destinations.load_dialect import without_format_warnings
from linq_source.destinations.new_columns import fit_packages
from linq_source.destinations.remote import Remote, connected, restore
from linq_source.destinations.scratch import ScratchFolder
from linq_source.state_keys import SECTION

_ARRIVED = "linq_arrived_version"


def load_pending(pipeline: dlt.Pipeline) -> list[str]:
    """Load what was extracted, and leave no copy of it behind. Return the ids of the packages."""
    normalize(pipeline)
    with connected(pipeline) as remote:
        return load_package(pipeline, remote)


def normalize(pipeline: dlt.Pipeline) -> None:
    """Normalize what was extracted."""
    with without_format_warnings():
        pipeline.normalize()


def load_package(pipeline: dlt.Pipeline, remote: Remote) -> list[str]:
    """Load what was normalized, and note that it arrived. Return the ids of the packages."""
    fit_packages(pipeline, remote)
    with _without_copies(), destination_of(pipeline).loading():
        loads = _load_ids(pipeline.load())
    remember_arrived(pipeline, state_version(remote.state()))
    return loads


@contextmanager
def changed_state(pipeline: dlt.Pipeline, name: str) -> Iterator[dict[str, Any]]:
    """Give what a pipeline of the dataset remembers, to be changed; what changed is loaded.

    Its own worker finds the newer state in the destination when it runs next.
    """
    with ScratchFolder() as folder:
        other = dlt.pipeline(
            name,
            destination=pipeline.destination,
            dataset_name=pipeline.dataset_name,
            pipelines_dir=folder,
        )
        try:
            restore(other)
            if SECTION not in other.state.get("sources", {}):
                # Not our pipeline. Its state would be loaded although nothing in it changed.
                yield {}
                return
            with other.managed_state(extract_state=True) as state:
                yield state["sources"][SECTION]
            if other.has_pending_data:
                load_pending(other)
        finally:
            pipeline.activate()


@contextmanager
def _without_copies() -> Iterator[None]:
    """Where nobody configured otherwise: loaded files and staged rows are removed after a load.

    dlt keeps both; years of runs would fill the disk with copies of private messages
    (https://dlthub.com/docs/reference/configuration).
    """
    values = {"load": {"delete_completed_jobs": True, "truncate_staging_dataset": True}}
    providers = Container()[PluggableRunContext].providers
    default = _Defaults(values)
    if default.name in providers:
        yield
        return
    providers.add_provider(default)
    try:
        yield
    finally:
        providers.providers.remove(default)


class _Defaults(BaseDocProvider):
    """The last of the configuration's providers, so that every other comes first."""

    @property
    def name(self) -> str:
        return "linq-source defaults"

    @property
    def supports_secrets(self) -> bool:
        return False

    @property
    def is_writable(self) -> bool:
        return False


def _load_ids(info: LoadInfo | None) -> list[str]:
    return [] if info is None else list(info.loads_ids)


def state_version(state: Any) -> int:
    """Return the version of a pipeline's state; -1 without one."""
    return -1 if state is None else int(state["_state_version"])


def arrived(pipeline: dlt.Pipeline) -> int:
    """The version of the state that was last seen in the destination; -1 if none was."""
    try:
        return int(pipeline.get_local_state_val(_ARRIVED))
    except KeyError:
        return -1


def remember_arrived(pipeline: dlt.Pipeline, version: int) -> None:
    """Note the version of the state that the destination holds."""
    if version != arrived(pipeline):
        pipeline.set_local_state_val(_ARRIVED, version)
