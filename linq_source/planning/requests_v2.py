"""What is asked of API v2: windows of a chat and lists by page, and a chat by its id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from linq_source.decoding.envelope import object_text, read_envelope
from linq_source.decoding.pages import decode_pages
from linq_source.decoding.records import CHAT, CONTACT, Records
from linq_source.instants import MAX_US, MILLISECOND_US, MIN_US, format_iso
from linq_source.planning.windows import Page, Window
from linq_source.settings import Id

API = "/api/partner/v2"
PHONE_NUMBERS_PATH = f"{API}/phone_numbers"


class _PageOfList:
    """A page of the list `key`, by its number."""

    __slots__ = ()
    key: ClassVar[str] = "data"

    def read(self, body: bytes) -> Page:
        """Check an answer. Raises `ValueError`."""
        return Page(body, read_envelope(body, self.key))


@dataclass(frozen=True, slots=True)
class MessagesRequest(_PageOfList):
    """One page of a window. `page` counts from 1 and never passes `deepest_page`."""

    window: Window
    page: int
    per_page: int

    @property
    def chat_id(self) -> Id:
        """The chat."""
        return self.window.chat_id

    @property
    def path(self) -> str:
        """The path below the base URL."""
        return f"{API}/chats/{self.chat_id}/chat_messages"

    @property
    def parameters(self) -> Mapping[str, str]:
        """The query: one millisecond wider than the window on both sides.

        Whether the API's `after` and `before` include the instant itself is not documented; what
        comes from outside the window is dropped by comparison. Where the calendar ends, nothing
        is said: an instant cannot be asked for by excluding the one beside it.
        """
        parameters = {"page": str(self.page), "per_page": str(self.per_page), "sort": "asc"}
        start_us, end_us = self.window.start_us, self.window.end_us
        if start_us is not None and start_us - MILLISECOND_US >= MIN_US:
            parameters["after"] = format_iso(start_us - MILLISECOND_US)
        if end_us + MILLISECOND_US <= MAX_US:
            parameters["before"] = format_iso(end_us + MILLISECOND_US)
        return parameters


@dataclass(frozen=True, slots=True)
class ChatsRequest(_PageOfList):
    """One page of the chats that a phone number sees."""

    phone_number: str
    page: int
    per_page: int

    shape: ClassVar = CHAT
    path: ClassVar = f"{API}/chats"

    @property
    def parameters(self) -> Mapping[str, str]:
        """The query."""
        return {
            "phone_number": self.phone_number,
            "page": str(self.page),
            "per_page": str(self.per_page),
        }


@dataclass(frozen=True, slots=True)
class ContactsRequest(_PageOfList):
    """One page of the contacts."""

    page: int
    per_page: int

    shape: ClassVar = CONTACT
    key: ClassVar = "contacts"
    path: ClassVar = f"{API}/contacts"

    @property
    def parameters(self) -> Mapping[str, str]:
        """The query."""
        return {"page": str(self.page), "per_page": str(self.per_page)}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One chat by its id."""

    chat_id: Id

    @property
    def path(self) -> str:
        """The path below the base URL."""
        return f"{API}/chats/{self.chat_id}"

    @property
    def parameters(self) -> Mapping[str, str]:
        """No query."""
        return {}

    def read(self, body: bytes) -> Page:
        """Check an answer. Raises `ValueError`."""
        self.decode(body)
        return Page(body)

    @staticmethod
    def decode(body: bytes) -> Records:
        """Decode an answer. Raises `ValueError` when it holds no object."""
        record = object_text(body, "data")
        return decode_pages([b'{"data":[' + record + b"]}"], CHAT)


@dataclass(frozen=True, slots=True)
class CountRequest(ChatRequest):
    """One chat by its id, only for its `message_count`."""


def decode_count(body: bytes) -> int | None:
    """Return the `message_count` in the answer of `/chats/{id}`; None where it has no usable one.

    Raises `ValueError` when the answer holds no object.
    """
    counts = ChatRequest.decode(body).root["message_count"].to_pylist()
    return counts[0] if counts else None
