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
    from linq_source.auditing import AuditReport, audit
    from linq_source.forgetting import ForgetReport, forget
    from linq_source.report import Report
    from linq_source.settling import settle
    from linq_source.sharding import open_shard, plan_shards
    from linq_source.source import linq_source
    from linq_source.syncing import sync

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
    "AuditReport": "auditing",
    "ForgetReport": "forgetting",
    "Report": "report",
    "audit": "auditing",
    "forget": "forgetting",
    "linq_source": "source",
    "open_shard": "sharding",
    "plan_shards": "sharding",
    "settle": "settling",
    "sync": "syncing",
}


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(import_module(f"linq_source.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
