"""A dlt source for the Linq Partner API's chat messages.

    import dlt
    from linq_source import sync

    pipeline = dlt.pipeline("linq", destination="duckdb", dataset_name="linq")
    report = sync(pipeline)

`linq_source(...)` is an ordinary dlt source for a pipeline of your own; `settle(pipeline)` then
marks what was deleted upstream, `audit(pipeline)` compares counts with the API, and
`forget(pipeline, phone_numbers=[...])` erases a person. The errors are drawn in
`linq_source.errors`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from linq_source.errors import (
    ApiContractError,
    ApiUnavailableError,
    AuthenticationError,
    ChatUnavailableError,
    ConfigurationError,
    DestinationError,
    LinqError,
)

if TYPE_CHECKING:
    from linq_source.destinations.scratch import ScratchFolder
    from linq_source.operations.audit import AuditReport, audit
    from linq_source.operations.forget import ForgetReport, forget
    from linq_source.operations.report import Report
    from linq_source.operations.settle import settle
    from linq_source.operations.shards import open_shard, plan_shards
    from linq_source.operations.sync import sync
    from linq_source.source import linq_source

__all__ = [
    "ApiContractError",
    "ApiUnavailableError",
    "AuditReport",
    "AuthenticationError",
    "ChatUnavailableError",
    "ConfigurationError",
    "DestinationError",
    "ForgetReport",
    "LinqError",
    "Report",
    "ScratchFolder",
    "audit",
    "forget",
    "linq_source",
    "open_shard",
    "plan_shards",
    "settle",
    "sync",
]

# dlt takes a second to import, so what needs it is imported when first used.
_LATE = {
    "AuditReport": "operations.audit",
    "ForgetReport": "operations.forget",
    "Report": "operations.report",
    "ScratchFolder": "destinations.scratch",
    "audit": "operations.audit",
    "forget": "operations.forget",
    "linq_source": "source",
    "open_shard": "operations.shards",
    "plan_shards": "operations.shards",
    "settle": "operations.settle",
    "sync": "operations.sync",
}


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(import_module(f"linq_source.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
