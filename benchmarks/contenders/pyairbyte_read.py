"""PyAirbyte with a declarative manifest, into its own DuckDB cache.

Runs in an environment of its own (see `environments`), which has none of this project's packages.
Needs no registry and no Docker: the manifest is given, and `AIRBYTE_OFFLINE_MODE` is set by who
starts it.
"""

from __future__ import annotations

import sys
from typing import Any

import airbyte
from airbyte.caches import DuckDBCache

API = "/api/partner/v2"


def manifest(base_url: str, token: str) -> dict[str, Any]:
    """Numbers, the chats of each number, the messages of each chat."""
    paginator = {
        "type": "DefaultPaginator",
        "page_token_option": {
            "type": "RequestOption", "inject_into": "request_parameter", "field_name": "page",
        },
        "pagination_strategy": {
            "type": "CursorPagination",
            "cursor_value": "{{ response.meta.page + 1 }}",
            "stop_condition": "{{ response.meta.page >= response.meta.total_pages }}",
        },
    }  # fmt: skip

    def stream(
        name: str, path: str, field: str, retriever: dict[str, Any], parameters: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "type": "DeclarativeStream",
            "name": name,
            "primary_key": "id",
            "retriever": {
                "type": "SimpleRetriever",
                "requester": {
                    "type": "HttpRequester",
                    "url_base": base_url,
                    "path": API + path,
                    "http_method": "GET",
                    "request_headers": {"X-LINQ-INTEGRATION-TOKEN": token},
                    "request_parameters": parameters,
                },
                "record_selector": {
                    "type": "RecordSelector",
                    "extractor": {"type": "DpathExtractor", "field_path": [field]},
                },
                **retriever,
            },
            "schema_loader": {"type": "InlineSchemaLoader", "schema": SCHEMAS[name]},
        }

    def children_of(parent: dict[str, Any], key: str, field: str) -> dict[str, Any]:
        return {
            "paginator": paginator,
            "partition_router": {
                "type": "SubstreamPartitionRouter",
                "parent_stream_configs": [
                    {
                        "type": "ParentStreamConfig",
                        "stream": parent,
                        "parent_key": key,
                        "partition_field": field,
                    }
                ],
            },
        }

    size = {"per_page": "100"}
    numbers = stream("phone_numbers", "/phone_numbers", "phone_numbers", {}, {})
    chats = stream(
        "chats",
        "/chats",
        "data",
        children_of(numbers, "phone_number", "number"),
        {"phone_number": "{{ stream_partition.number }}", **size},
    )
    messages = stream(
        "chat_messages",
        "/chats/{{ stream_partition.chat_id }}/chat_messages",
        "data",
        children_of(chats, "id", "chat_id"),
        size,
    )
    chat_id = {"path": ["chat_id"], "value": "{{ stream_partition.chat_id }}"}
    messages["transformations"] = [
        {"type": "AddFields", "fields": [{"type": "AddedFieldDefinition", **chat_id}]}
    ]
    return {
        "type": "DeclarativeSource",
        "version": "6.0.0",
        "check": {"type": "CheckStream", "stream_names": ["phone_numbers"]},
        "streams": [numbers, chats, messages],
        "spec": {
            "type": "Spec",
            "connection_specification": {"type": "object", "properties": {}},
        },
    }


def _schema(**types: Any) -> dict[str, Any]:
    properties = {
        name: kind if isinstance(kind, dict) else {"type": ["null", kind]}
        for name, kind in types.items()
    }
    return {"type": "object", "properties": properties}


_INSTANT = {"type": ["null", "string"], "format": "date-time"}
_LIST = {"type": ["null", "array"], "items": {"type": "object"}}
SCHEMAS = {
    "phone_numbers": _schema(
        id="integer", phone_number="string", forwarding_number="string", response_rate="integer"
    ),
    "chats": _schema(
        id="integer",
        display_name="string",
        service="string",
        group="boolean",
        message_count="integer",
        chat_handles=_LIST,
    ),
    "chat_messages": _schema(
        id="integer",
        chat_id="integer",
        text="string",
        sent_at=_INSTANT,
        delivered_at=_INSTANT,
        delivery_status="string",
        edited_at=_INSTANT,
        is_read="boolean",
        sent_from="string",
        chat_handle_id="integer",
        attachments=_LIST,
        reactions=_LIST,
    ),
}


def main() -> None:
    """Read everything into the database."""
    base_url, token, database = sys.argv[1:]
    source = airbyte.get_source("source-linq", config={}, source_manifest=manifest(base_url, token))
    source.select_all_streams()
    source.read(cache=DuckDBCache(db_path=database, schema_name="linq"))


if __name__ == "__main__":
    main()
