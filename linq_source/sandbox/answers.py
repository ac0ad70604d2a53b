"""The right answer to a request: routes, parameters and the error envelope."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

from linq_source.sandbox import rendering
from linq_source.sandbox.exchange import Exchange, Route
from linq_source.sandbox.files import FILES_PREFIX, file_at, with_links
from linq_source.sandbox.growth import grow
from linq_source.sandbox.world import World

API_PREFIX = "/api/partner/v2"
CONTRACT_MAX_PER_PAGE = 100
_DEFAULT_PER_PAGE = 25

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CHAT_PATH = re.compile(rf"{API_PREFIX}/chats/([0-9]{{1,18}})(/chat_messages)?")
_FILE_PATH = re.compile(rf"{FILES_PREFIX}/[0-9]{{1,18}}/[^/]*/[^/]*")
_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a JSON body, and headers besides those which every answer has."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class _BadRequestError(Exception):
    """A parameter the contract does not allow; the message becomes the error's `detail`."""


def route_of(method: str, path: str) -> tuple[Route, int | None]:
    """The route a request takes, and the chat it names."""
    if method == "POST" and path == "/sandbox/grow":
        return "grow", None
    if method != "GET":
        return "unknown", None
    if _FILE_PATH.fullmatch(path):
        return "file", None
    if path == f"{API_PREFIX}/phone_numbers":
        return "phone_numbers", None
    if path == f"{API_PREFIX}/chats":
        return "chats", None
    if path == f"{API_PREFIX}/contacts":
        return "contacts", None
    if match := _CHAT_PATH.fullmatch(path):
        return ("chat_messages" if match[2] else "chat"), int(match[1])
    return "unknown", None


def answer_to(
    exchange: Exchange,
    world: World,
    *,
    max_per_page: int,
    inclusive: bool,
    files_url: str | None = None,
) -> Answer:
    """Computes an answer from the world as it is at one moment.

    With `files_url`, the sandbox's own address, links to attachments lead to the sandbox.
    """
    with world.lock:
        try:
            return _answer(exchange, world, max_per_page, inclusive, files_url)
        except _BadRequestError as error:
            return error_answer(400, str(error), route=exchange.route)


def error_answer(
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    route: Route = "unknown",
) -> Answer:
    """The contract's error envelope for a status; `detail` says what was wrong."""
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    code = title.lower().replace(" ", "_").replace("-", "_")
    body_of = rendering.contact_error_body if route == "contacts" else rendering.error_body
    return Answer(status, body_of(status, code, title, detail), headers or {})


def parse_instant_us(text: str) -> int | None:
    """Microseconds since the epoch for ISO 8601 with an offset or `Z`; `None` if unreadable."""
    if not _INSTANT.fullmatch(text):
        return None
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        return None


def _answer(
    exchange: Exchange, world: World, max_per_page: int, inclusive: bool, files_url: str | None
) -> Answer:
    params = exchange.params
    if exchange.route == "phone_numbers":
        numbers = sorted(world.phone_numbers.values(), key=lambda number: number.id)
        return Answer(200, rendering.phone_numbers_body(numbers), {})
    if exchange.route == "chats":
        return _chats(params, world, max_per_page)
    if exchange.route == "contacts":
        return _contacts(params, world, max_per_page)
    if exchange.route == "grow":
        return Answer(200, rendering.encoded(rendering.json_text(asdict(grow(world)))), {})
    if exchange.route == "file":
        status, body, media_type = file_at(exchange.path, params, world)
        return Answer(status, body, {"Content-Type": media_type})
    if exchange.chat_id is None:
        return error_answer(404, f"there is nothing at {exchange.method} {exchange.path}")
    chat = world.chats.get(exchange.chat_id)
    if chat is None:
        return error_answer(404, f"there is no chat {exchange.chat_id}")
    if exchange.route == "chat":
        return Answer(200, rendering.chat_body(chat), {})

    page, per_page = _paging(params, max_per_page)
    sort = params.get("sort", "asc")
    if sort not in ("asc", "desc"):
        raise _BadRequestError("sort must be asc or desc")
    found = world.message_page(
        chat.id,
        page=page,
        per_page=per_page,
        after_us=_instant_us(params, "after"),
        before_us=_instant_us(params, "before"),
        inclusive=inclusive,
        descending=sort == "desc",
    )
    meta = rendering.page_meta(page, per_page, found.total_count)
    messages = found.messages
    if files_url is not None:
        messages = [with_links(message, files_url, world.now_ms) for message in messages]
    body = rendering.messages_page_body(messages, chat.utc_offset_minutes, meta)
    return Answer(200, body, {})


def _chats(params: Mapping[str, str], world: World, max_per_page: int) -> Answer:
    page, per_page = _paging(params, max_per_page)
    phone_number = params.get("phone_number")
    if not phone_number:
        raise _BadRequestError("phone_number is required")
    chats = world.chats_seen_by(phone_number)
    first = (page - 1) * per_page
    meta = rendering.page_meta(page, per_page, len(chats))
    return Answer(200, rendering.chats_page_body(chats[first : first + per_page], meta), {})


def _contacts(params: Mapping[str, str], world: World, max_per_page: int) -> Answer:
    page = _positive(params, "page", 1)
    # The contract names no maximum.
    per_page = min(_positive(params, "per_page", _DEFAULT_PER_PAGE), max_per_page)
    contacts = world.sorted_contacts()
    first = (page - 1) * per_page
    meta = rendering.page_meta(page, per_page, len(contacts))
    return Answer(200, rendering.contacts_page_body(contacts[first : first + per_page], meta), {})


def _paging(params: Mapping[str, str], max_per_page: int) -> tuple[int, int]:
    page = _positive(params, "page", 1)
    per_page = _positive(params, "per_page", _DEFAULT_PER_PAGE)
    if per_page > CONTRACT_MAX_PER_PAGE:
        raise _BadRequestError(f"per_page must be at most {CONTRACT_MAX_PER_PAGE}")
    return page, min(per_page, max_per_page)


def _positive(params: Mapping[str, str], name: str, default: int) -> int:
    text = params.get(name)
    if text is None:
        return default
    if not _WHOLE_NUMBER.fullmatch(text) or int(text) < 1:
        raise _BadRequestError(f"{name} must be a whole number of at least 1")
    return int(text)


def _instant_us(params: Mapping[str, str], name: str) -> int | None:
    text = params.get(name)
    if text is None:
        return None
    instant_us = parse_instant_us(text)
    if instant_us is None:
        raise _BadRequestError(f"{name} must be an ISO 8601 instant with an offset")
    return instant_us
