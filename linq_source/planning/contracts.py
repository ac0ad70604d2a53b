"""The two versions of the API behind one interface: nothing else asks which one is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from linq_source import tables, tables_v3
from linq_source.decoding.pages import decode_pages
from linq_source.decoding.records import CHAT, CHAT_V3, MESSAGE, MESSAGE_V3, Records, Shape
from linq_source.errors import ConfigurationError
from linq_source.instants import END_US
from linq_source.planning import chats, chats_v3, cursors, listings, requests_v3
from linq_source.planning.listings import ChatList
from linq_source.planning.readings import ChatResult, ChatTask, Reading
from linq_source.planning.walk_v3 import read_chats
from linq_source.planning.window_reading import Asking, in_order
from linq_source.planning.windows import PageRequest, Request, Window
from linq_source.settings import Api, Id
from linq_source.tables import Table

_IsUnchanged = Callable[[cursors.Cursor, int | None, int, int, int | None], bool]


@dataclass(frozen=True)
class Contract:
    """What a version of the API has its own way of.

    `tables` are those that its records fill, by name, `resource_tables` by resource. `list_chats`
    reads the chats of a phone number with so many on a page; `oldest` asks for what is likeliest to
    show a chat's oldest messages, `any_chats` for any chats of a number. Where listings tell no
    counts, `count_messages` counts a chat's list; None where it cannot be verified.
    """

    api: Api
    tables: Mapping[str, Table]
    resource_tables: Mapping[str, tuple[Table, ...]]
    message: Shape
    chat: Shape
    authorization: Callable[[str], tuple[str, str]]
    phone_numbers_path: str
    decode_phone_numbers: Callable[[bytes], Records]
    list_chats: Callable[[str, int], Asking[ChatList]]
    any_chats: Callable[[str], Request]
    chat_request: Callable[[Id], Request]
    decode_chat: Callable[[bytes], Records]
    oldest: Callable[[Id, int], Request]
    messages_key: str
    read_chat: Callable[[ChatTask], Reading[ChatResult]]
    is_unchanged: _IsUnchanged
    count_messages: Callable[[Id, int], Asking[int | None]] | None = None

    def decode_messages(self, body: bytes) -> Records:
        """The messages of a page, ordered by instant."""
        return in_order(decode_pages([body], self.message, self.messages_key).records)

    def read_one_chat(self, chat_id: Id) -> Asking[ChatList]:
        """One chat by its id."""
        return listings.read_one(self.chat_request(chat_id), self.decode_chat)


V2 = Contract(
    api="v2",
    tables=tables.TABLES,
    resource_tables=tables.RESOURCE_TABLES,
    message=MESSAGE,
    chat=CHAT,
    authorization=lambda token: ("X-LINQ-INTEGRATION-TOKEN", token),
    phone_numbers_path=listings.PHONE_NUMBERS_PATH,
    decode_phone_numbers=listings.decode_phone_numbers,
    list_chats=lambda number, per_page: listings.read_list(
        listings.ListRequest(number, 1, per_page)
    ),
    any_chats=lambda number: listings.ListRequest(number, 1, 1),
    chat_request=listings.ChatRequest,
    decode_chat=listings.decode_chat,
    oldest=lambda chat_id, per_page: PageRequest(Window(chat_id, None, END_US), 1, per_page),
    messages_key="data",
    read_chat=chats.read_chat,
    is_unchanged=cursors.is_unchanged,
)

V3 = Contract(
    api="v3",
    tables=tables_v3.TABLES,
    resource_tables=tables_v3.RESOURCE_TABLES,
    message=MESSAGE_V3,
    chat=CHAT_V3,
    authorization=lambda token: ("Authorization", f"Bearer {token}"),
    phone_numbers_path=requests_v3.PHONE_NUMBERS_PATH,
    decode_phone_numbers=requests_v3.decode_phone_numbers,
    list_chats=read_chats,
    any_chats=lambda number: requests_v3.ChatsRequest(number, 1),
    chat_request=requests_v3.ChatRequestV3,
    decode_chat=requests_v3.decode_chat,
    # There is no way to ask for the oldest: short chats show it.
    oldest=requests_v3.MessagesRequest,
    messages_key="messages",
    read_chat=chats_v3.read_chat,
    # What moves `updated_at` is not documented: what does not is found when all is read again.
    is_unchanged=cursors.is_at_rest,
    count_messages=chats_v3.count_messages,
)


def contract_of(api: str) -> Contract:
    """Return the contract of a version. Raises `ConfigurationError` for one that is not known."""
    found = {"v2": V2, "v3": V3}.get(api)
    if found is None:
        raise ConfigurationError(f"api is {api!r}: use v2 or v3")
    return found
