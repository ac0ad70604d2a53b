"""The two versions of the API behind one interface: nothing else asks which one is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from linq_source import tables, tables_v3
from linq_source.decoding.envelope import check_list
from linq_source.decoding.pages import decode_pages
from linq_source.decoding.records import (
    CHAT,
    CHAT_V3,
    MESSAGE,
    MESSAGE_V3,
    PHONE_NUMBER,
    PHONE_NUMBER_V3,
    Records,
    Shape,
)
from linq_source.errors import ConfigurationError
from linq_source.instants import END_US
from linq_source.planning import (
    chat_cursors,
    chats_v2,
    chats_v3,
    listings,
    requests_v2,
    requests_v3,
)
from linq_source.planning.listings import ChatList
from linq_source.planning.readings import ChatResult, ChatTask, Reading
from linq_source.planning.walk_v3 import read_chats
from linq_source.planning.window_reading import in_order
from linq_source.planning.windows import Asking, Request, Window
from linq_source.settings import Api, Id
from linq_source.tables import Table

_IsUnchanged = Callable[[chat_cursors.Cursor, int | None, int, int, int | None], bool]


@dataclass(frozen=True)
class Contract:
    """What a version of the API has its own way of.

    `tables` are those that its records fill, by name, `resource_tables` by resource. `list_chats`
    reads the chats of a phone number with so many on a page; `oldest` asks for what is likeliest to
    show a chat's oldest messages, `any_chats` for any chats of a number. Where listings tell no
    counts, `count_messages` counts a chat's list; None where it cannot be verified. Below
    `attachments_path` a version hands out links to files that are newer than those in messages.
    """

    api: Api
    tables: Mapping[str, Table]
    resource_tables: Mapping[str, tuple[Table, ...]]
    message: Shape
    chat: Shape
    authorization: Callable[[str], tuple[str, str]]
    phone_number: Shape
    phone_numbers_path: str
    list_chats: Callable[[str, int], Asking[ChatList]]
    any_chats: Callable[[str], Request]
    chat_request: Callable[[Id], requests_v2.ChatRequest]
    oldest: Callable[[Id, int], Request]
    messages_key: str
    read_chat: Callable[[ChatTask], Reading[ChatResult]]
    is_unchanged: _IsUnchanged
    count_messages: Callable[[Id, int], Asking[int | None]] | None = None
    attachments_path: str | None = None

    def decode_messages(self, body: bytes) -> Records:
        """The messages of a page, ordered by instant."""
        return in_order(decode_pages([body], self.message, self.messages_key))

    def decode_phone_numbers(self, body: bytes) -> Records:
        """The answer of `/phone_numbers`. Raises `ValueError` when it is not one."""
        check_list(body, "phone_numbers")
        return listings.distinct(decode_pages([body], self.phone_number, "phone_numbers"))

    def read_one_chat(self, chat_id: Id) -> Asking[ChatList]:
        """One chat by its id."""
        return listings.read_one(self.chat_request(chat_id))


V2 = Contract(
    api="v2",
    tables=tables.TABLES,
    resource_tables=tables.RESOURCE_TABLES,
    message=MESSAGE,
    chat=CHAT,
    authorization=lambda token: ("X-LINQ-INTEGRATION-TOKEN", token),
    phone_number=PHONE_NUMBER,
    phone_numbers_path=requests_v2.PHONE_NUMBERS_PATH,
    list_chats=lambda number, per_page: listings.read_list(
        requests_v2.ChatsRequest(number, 1, per_page)
    ),
    any_chats=lambda number: requests_v2.ChatsRequest(number, 1, 1),
    chat_request=requests_v2.ChatRequest,
    oldest=lambda chat_id, per_page: requests_v2.MessagesRequest(
        Window(chat_id, None, END_US), 1, per_page
    ),
    messages_key="data",
    read_chat=chats_v2.read_chat,
    is_unchanged=chat_cursors.is_unchanged,
)

V3 = Contract(
    api="v3",
    tables=tables_v3.TABLES,
    resource_tables=tables_v3.RESOURCE_TABLES,
    message=MESSAGE_V3,
    chat=CHAT_V3,
    authorization=lambda token: ("Authorization", f"Bearer {token}"),
    phone_number=PHONE_NUMBER_V3,
    phone_numbers_path=requests_v3.PHONE_NUMBERS_PATH,
    list_chats=read_chats,
    any_chats=lambda number: requests_v3.ChatsRequest(number, 1),
    chat_request=requests_v3.ChatRequest,
    # There is no way to ask for the oldest: short chats show it.
    oldest=requests_v3.MessagesRequest,
    messages_key="messages",
    read_chat=chats_v3.read_chat,
    # What moves `updated_at` is not documented: what does not is found when all is read again.
    is_unchanged=chat_cursors.is_at_rest,
    count_messages=chats_v3.count_messages,
    attachments_path=requests_v3.ATTACHMENTS_PATH,
)


def contract_of(api: str) -> Contract:
    """Return the contract of a version. Raises `ConfigurationError` for one that is not known."""
    found = {"v2": V2, "v3": V3}.get(api)
    if found is None:
        raise ConfigurationError(f"api is {api!r}: use v2 or v3")
    return found
