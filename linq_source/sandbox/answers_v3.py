"""The right answer to a request of v3: routes, pages by cursor, and its error envelope."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from linq_source.sandbox import rendering_v3 as rendering
from linq_source.sandbox.answers import Answer
from linq_source.sandbox.exchange import Exchange, Route
from linq_source.sandbox.files import with_links
from linq_source.sandbox.records import Chat, Message
from linq_source.sandbox.rendering import encoded, json_text
from linq_source.sandbox.rendering_v3 import number_of
from linq_source.sandbox.world import World

PREFIX = "/api/partner/v3"
# How pages are asked for: by what stood last on the one before, or by how many came before.
Cursors = Literal["keyset", "offset"]

_MOST = 100
_CHATS_PER_PAGE = 20
_MESSAGES_PER_PAGE = 50
_ROUTES: Mapping[Route, re.Pattern[str]] = {
    "phone_numbers": re.compile(rf"{PREFIX}/phone_numbers"),
    "chats": re.compile(rf"{PREFIX}/chats"),
    "chat": re.compile(rf"{PREFIX}/chats/([^/]+)"),
    "chat_messages": re.compile(rf"{PREFIX}/chats/([^/]+)/messages"),
    "message": re.compile(rf"{PREFIX}/messages/([^/]+)"),
    "attachment": re.compile(rf"{PREFIX}/attachments/([^/]+)"),
}
# The contract's codes, by status; what is not found has one of its own for each kind.
_CODES = {400: 1001, 401: 2004, 403: 2005, 404: 2001, 409: 2009, 429: 1007}
_SERVER_FAULT = 3001
T = TypeVar("T")


class _RefusedError(Exception):
    """A request the contract does not allow, or for something that is not there."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def route_of(path: str) -> tuple[Route, int | None]:
    """The route that a GET takes, and the chat it names."""
    for route, pattern in _ROUTES.items():
        if match := pattern.fullmatch(path):
            is_of_chat = route in ("chat", "chat_messages")
            return route, number_of("chat", match[1]) if is_of_chat else None
    return "unknown", None


def answer_to(
    exchange: Exchange,
    world: World,
    *,
    max_per_page: int,
    cursors: Cursors,
    newest_first: bool,
    files_url: str | None,
) -> Answer:
    """Computes an answer from the world as it is at one moment; see `answers.answer_to`."""
    pages = _Pages(exchange.params, max_per_page, cursors)
    with world.lock:
        try:
            body = _body(exchange, world, pages, newest_first, files_url)
        except _RefusedError as error:
            return Answer(
                error.status,
                rendering.error_body(error.status, error.code, str(error), None),
                {},
            )
        return Answer(200, body, {})


def error_answer(status: int, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    """The contract's error envelope for a status."""
    headers = headers or {}
    wait = headers.get("Retry-After", "")
    wait_s = int(wait) if wait.isdecimal() else None
    code = _CODES.get(status, _SERVER_FAULT)
    return Answer(status, rendering.error_body(status, code, message, wait_s), headers)


def _body(
    exchange: Exchange, world: World, pages: _Pages, newest_first: bool, files_url: str | None
) -> bytes:
    name = exchange.path.rpartition("/")[2]
    if exchange.route == "phone_numbers":
        lines = [rendering.line_record(world.phone_numbers[i]) for i in sorted(world.phone_numbers)]
        return encoded(json_text({"phone_numbers": lines}))
    if exchange.route == "chats":
        return _chats(exchange.params, world, pages)
    if exchange.route == "attachment":
        return _attachment(name, world, files_url)
    if exchange.route == "message":
        message = world.messages.get(number_of("message", name) or 0)
        if message is None:
            raise _RefusedError(404, 2002, "there is no such message")
        return encoded(_message(message, world, files_url))
    if exchange.route not in ("chat", "chat_messages"):
        raise _RefusedError(404, 2001, f"there is nothing at {exchange.method} {exchange.path}")
    chat = world.chats.get(exchange.chat_id or 0)
    if chat is None:
        raise _RefusedError(404, 2001, "there is no such chat")
    if exchange.route == "chat":
        return encoded(_chat(chat, world))
    messages = world.messages_of(chat.id)
    if newest_first:
        messages.reverse()
    found, following = pages.cut(
        messages, _MESSAGES_PER_PAGE, lambda message: [message.sent_at_ms, message.id], newest_first
    )
    texts = [_message(message, world, files_url) for message in found]
    return rendering.page_body("messages", texts, following)


def _chats(params: Mapping[str, str], world: World, pages: _Pages) -> bytes:
    line, other = params.get("from"), params.get("to")
    chats = sorted(world.chats.values(), key=lambda chat: chat.id)
    if line is not None:
        chats = world.chats_seen_by(line)
    if other is not None:
        chats = [chat for chat in chats if other in {h.phone_number for h in chat.handles}]
    found, following = pages.cut(chats, _CHATS_PER_PAGE, lambda chat: [chat.id], False)
    return rendering.page_body("chats", [_chat(chat, world) for chat in found], following)


def _chat(chat: Chat, world: World) -> str:
    if chat.raw is not None:
        return chat.raw
    lines = [world.phone_numbers[i] for i in chat.phone_number_ids]
    return json_text(rendering.chat_record(chat, lines, world.messages_of(chat.id)))


def _message(message: Message, world: World, files_url: str | None) -> str:
    if message.raw is not None:
        return message.raw
    if files_url is not None:
        message = with_links(message, files_url, world.now_ms)
    lines = {line.phone_number: line for line in world.phone_numbers.values()}
    return json_text(rendering.message_record(message, world.chats[message.chat_id], lines))


def _attachment(attachment_id: str, world: World, files_url: str | None) -> bytes:
    for message in world.messages.values():
        if any(item.id == attachment_id for item in message.attachments):
            if files_url is not None:
                message = with_links(message, files_url, world.now_ms)
            (found,) = [item for item in message.attachments if item.id == attachment_id]
            return encoded(json_text(rendering.attachment_record(found, message.sent_at_ms)))
    raise _RefusedError(404, 2003, "there is no such attachment")


class _Pages:
    """Cuts a list into pages, as the parameters of a request ask for them."""

    def __init__(self, params: Mapping[str, str], max_per_page: int, cursors: Cursors) -> None:
        self._params = params
        self._most = max_per_page
        self._cursors = cursors

    def cut(
        self, items: Sequence[T], usual: int, key: Callable[[T], list[int]], descending: bool
    ) -> tuple[Sequence[T], str | None]:
        """The items of one page and the cursor of the next; none after the last page."""
        limit = self._limit(usual)
        cursor = self._params.get("cursor")
        first = 0
        if cursor is not None:
            last = self._read(cursor)
            if isinstance(last, int):
                first = last
            else:
                places = (key(item) < last if descending else key(item) > last for item in items)
                first = next((i for i, is_after in enumerate(places) if is_after), len(items))
        end = first + limit
        if end >= len(items):
            return items[first:], None
        following = str(end) if self._cursors == "offset" else _opaque(key(items[end - 1]))
        return items[first:end], following

    def _limit(self, usual: int) -> int:
        text = self._params.get("limit", str(usual))
        if not text.isdecimal() or not 1 <= int(text) <= _MOST:
            raise _RefusedError(400, 1002, f"limit must be a whole number from 1 to {_MOST}")
        return min(int(text), self._most)

    def _read(self, cursor: str) -> int | list[int]:
        if self._cursors == "offset" and cursor.isdecimal():
            return int(cursor)
        try:
            last: Any = json.loads(base64.urlsafe_b64decode(cursor))
        except ValueError:
            last = None
        if self._cursors == "offset" or not isinstance(last, list):
            raise _RefusedError(400, 1003, "cursor is not one of this list")
        return last


def _opaque(key: list[int]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()
