"""The tables as a dataset has them: of API v2, or of API v3.

A dataset holds one version's data, and dlt's schema of it tells which: ids of v3 are texts. Nothing
else asks for a version; what differs is a table's columns, key and `partition_by`, the instant by
which messages are divided and the ledger's windows go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import dlt

from linq_source import tables, tables_v3
from linq_source.destinations.pipeline_facts import schema_of_messages
from linq_source.destinations.quoting import literal
from linq_source.destinations.remote import stored_schema
from linq_source.errors import ConfigurationError
from linq_source.settings import Api, Id, Shard, check_chat_id
from linq_source.tables import Table

_TOLD_BY = (tables.PHONE_NUMBERS, tables.CHATS, tables.CHAT_MESSAGES)


def tables_of(pipeline: dlt.Pipeline) -> Mapping[str, Table]:
    """The tables of the dataset that a pipeline loads into.

    Where the pipeline does not know them, the destination is asked; nothing there: those of v2.
    """
    return tables_in(_stored(pipeline))


def tables_in(stored: Mapping[str, Any]) -> Mapping[str, Table]:
    """The same, by the tables as dlt's schemas describe them."""
    return tables_v3.TABLES if _api_in(stored) == "v3" else tables.TABLES


def check_api(pipeline: dlt.Pipeline, api: Api) -> None:
    """Raise `ConfigurationError` where the dataset holds the data of another version."""
    found = _api_in(_stored(pipeline))
    if found is not None and found != api:
        raise ConfigurationError(
            f"the dataset {pipeline.dataset_name} holds data of API {found}, and API {api} was to "
            f"be read: load that into another dataset with another pipeline name, or use {found}"
        )


def _stored(pipeline: dlt.Pipeline) -> Mapping[str, Any]:
    name = schema_of_messages(pipeline)
    schema = stored_schema(pipeline) if name is None else pipeline.schemas[name]
    return {} if schema is None else schema.tables


def _api_in(stored: Mapping[str, Any]) -> Api | None:
    """Return the version that dlt's tables are of; None where they do not tell."""
    for table in _TOLD_BY:
        id_type = stored.get(table.name, {}).get("columns", {}).get("id", {}).get("data_type")
        if id_type is not None:
            return "v3" if id_type == "text" else "v2"
    return None


def api_of(stored: Mapping[str, Table]) -> Api:
    """The version of the API that fills the tables."""
    return "v3" if stored is tables_v3.TABLES else "v2"


def check_chat_ids(stored: Mapping[str, Table], chat_ids: Iterable[Id]) -> list[Id]:
    """Ids of chats as the dataset has them. Raises `ConfigurationError`."""
    return [check_chat_id(chat_id, api_of(stored)) for chat_id in chat_ids]


def in_shard(table: Table, column: str, shard: Shard) -> str:
    """The condition of SQL that a column of chats' ids has one of a shard's."""
    types = {known.name: known.type for known in table.columns}
    if types[column] == "bigint":
        return f"MOD({column}, {shard.count}) = {shard.index}"
    return f"LOWER(RIGHT({column}, 2)) IN ({', '.join(map(literal, shard.endings))})"
