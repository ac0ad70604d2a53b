"""What is asked of API v3: lists by an opaque cursor, newest first as far as anybody knows.

`migrate_to_v3` is a GET that writes: it is never asked for.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from linq_source.decoding.envelope import object_text, read_next_cursor
from linq_source.decoding.pages import decode_pages
from linq_source.decoding.records import CHAT_V3, MESSAGE_V3, Records
from linq_source.planning import requests_v2
from linq_source.planning.windows import Page
from linq_source.settings import Id

API = "/api/partner/v3"
PHONE_NUMBERS_PATH = f"{API}/phone_numbers"
ATTACHMENTS_PATH = f"{API}/attachments"
# How a server says that it takes a cursor no more.
_REFUSALS = (400, 404, 409, 410, 422)


class _PageOfList:
    """A page of the list `key`, by a cursor."""

    __slots__ = ()
    key: ClassVar[str]

    def read(self, body: bytes) -> Page:
        """Check an answer. Raises `ValueError`."""
        return Page(body, next_cursor=read_next_cursor(body, self.key))


@dataclass(frozen=True, slots=True)
class MessagesRequest(_PageOfList):
    """One page of a chat's messages; without a cursor the first."""

    chat_id: Id
    limit: int
    cursor: str | None = None

    shape: ClassVar = MESSAGE_V3
    key: ClassVar = "messages"

    @property
    def path(self) -> str:
        """The path below the base URL."""
        return f"{API}/chats/{self.chat_id}/messages"

    @property
    def parameters(self) -> Mapping[str, str]:
        """The query."""
        return _parameters(self.limit, self.cursor)

    def is_refused_with(self, status: int) -> bool:
        """Return whether a status refuses the cursor, not the chat."""
        return self.cursor is not None and status in _REFUSALS


@dataclass(frozen=True, slots=True)
class ChatsRequest(_PageOfList):
    """One page of the chats of a phone number; without a cursor the first."""

    phone_number: str
    limit: int
    cursor: str | None = None

    shape: ClassVar = CHAT_V3
    key: ClassVar = "chats"
    path: ClassVar = f"{API}/chats"

    @property
    def parameters(self) -> Mapping[str, str]:
        """The query."""
        return {"from": self.phone_number, **_parameters(self.limit, self.cursor)}


@dataclass(frozen=True, slots=True)
class ChatRequest(requests_v2.ChatRequest):
    """One chat by its id."""

    @property
    def path(self) -> str:
        """The path below the base URL."""
        return f"{API}/chats/{self.chat_id}"

    @staticmethod
    def decode(body: bytes) -> Records:
        """Decode an answer. Raises `ValueError` when it is no object."""
        record = object_text(b'{"chat":' + body.removeprefix(BOM_UTF8) + b"}", "chat")
        return decode_pages([b'{"chats":[' + record + b"]}"], CHAT_V3, "chats")


def _parameters(limit: int, cursor: str | None) -> dict[str, str]:
    return {"limit": str(limit)} | ({} if cursor is None else {"cursor": cursor})
