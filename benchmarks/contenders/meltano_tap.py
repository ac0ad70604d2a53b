"""A Singer tap for the same pages, as `singer-sdk` would have it written.

Runs in an environment of its own (see `environments`), which has none of this project's packages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from singer_sdk import RESTStream, Tap
from singer_sdk import typing as th
from singer_sdk.pagination import BasePageNumberPaginator, SinglePagePaginator

PER_PAGE = 100


def _body(response: Any) -> Any:
    """The answer parsed once, though both the paginator and the rows need it."""
    if not hasattr(response, "parsed_body"):
        response.parsed_body = response.json()
    return response.parsed_body


class Pages(BasePageNumberPaginator):  # type: ignore[misc]
    """Page numbers up to `meta.total_pages`."""

    def has_more(self, response: Any) -> bool:
        """Whether another page follows."""
        meta = _body(response)["meta"]
        return bool(meta["page"] < meta["total_pages"])


class LinqStream(RESTStream[int]):  # type: ignore[misc]
    """What all three have in common."""

    primary_keys = ("id",)
    list_name = "data"

    @property
    def url_base(self) -> str:
        """The API's address."""
        return f"{self.config['base_url']}/api/partner/v2"

    @property
    def http_headers(self) -> dict[str, str]:
        """The token."""
        return {"X-LINQ-INTEGRATION-TOKEN": self.config["api_token"]}

    def get_new_paginator(self) -> Any:
        """From the first page on."""
        return Pages(start_value=1)

    def get_url_params(
        self, context: Mapping[str, Any] | None, next_page_token: int | None
    ) -> dict[str, Any]:
        """Page and size."""
        return {"page": next_page_token, "per_page": PER_PAGE}

    def parse_response(self, response: Any) -> Iterable[dict[str, Any]]:
        """The records of a page."""
        yield from _body(response)[self.list_name]


class PhoneNumbers(LinqStream):
    """The organisation's numbers."""

    name = "phone_numbers"
    path = "/phone_numbers"
    list_name = "phone_numbers"
    schema = th.PropertiesList(
        th.Property("id", th.IntegerType),
        th.Property("phone_number", th.StringType),
        th.Property("forwarding_number", th.StringType),
        th.Property("response_rate", th.IntegerType),
    ).to_dict()

    def get_new_paginator(self) -> Any:
        """One answer holds all."""
        return SinglePagePaginator()

    def get_child_context(
        self, record: dict[str, Any], context: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """What the chats of a number need."""
        return {"seen_by": record["phone_number"]}


class Chats(LinqStream):
    """The chats a number sees."""

    name = "chats"
    path = "/chats"
    parent_stream_type = PhoneNumbers
    schema = th.PropertiesList(
        th.Property("id", th.IntegerType),
        th.Property("seen_by", th.StringType),
        th.Property("display_name", th.StringType),
        th.Property("service", th.StringType),
        th.Property("group", th.BooleanType),
        th.Property("message_count", th.IntegerType),
        th.Property("chat_handles", th.ArrayType(th.ObjectType(additional_properties=True))),
    ).to_dict()

    def get_url_params(
        self, context: Mapping[str, Any] | None, next_page_token: int | None
    ) -> dict[str, Any]:
        """With the number whose chats are asked for."""
        number = (context or {})["seen_by"]
        return {"phone_number": number, **super().get_url_params(context, next_page_token)}


class ChatMessages(LinqStream):
    """The messages of a chat."""

    name = "chat_messages"
    path = "/chats/{chat_id}/chat_messages"
    schema = th.PropertiesList(
        th.Property("id", th.IntegerType),
        th.Property("chat_id", th.IntegerType),
        th.Property("text", th.StringType),
        th.Property("sent_at", th.DateTimeType),
        th.Property("delivered_at", th.DateTimeType),
        th.Property("delivery_status", th.StringType),
        th.Property("edited_at", th.DateTimeType),
        th.Property("is_read", th.BooleanType),
        th.Property("sent_from", th.StringType),
        th.Property("chat_handle_id", th.IntegerType),
        th.Property("attachments", th.ArrayType(th.ObjectType(additional_properties=True))),
        th.Property("reactions", th.ArrayType(th.ObjectType(additional_properties=True))),
    ).to_dict()

    @property
    def partitions(self) -> list[dict[str, Any]]:
        """The chats.

        As children of the stream of chats, every chat's messages would come with a schema of
        their own, and the target would write a batch for each.
        """
        numbers, chats = PhoneNumbers(self._tap), Chats(self._tap)
        return [
            {"chat_id": chat["id"]}
            for number in numbers.get_records(None)
            for chat in chats.get_records({"seen_by": number["phone_number"]})
        ]


class TapLinq(Tap):  # type: ignore[misc]
    """Three streams, each the parent of the next."""

    name = "tap-linq"
    config_jsonschema = th.PropertiesList(
        th.Property("base_url", th.StringType, required=True),
        th.Property("api_token", th.StringType, required=True),
    ).to_dict()

    def discover_streams(self) -> list[Any]:
        """The streams."""
        return [PhoneNumbers(self), Chats(self), ChatMessages(self)]


if __name__ == "__main__":
    TapLinq.cli()
