"""The source's settings, checked once."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal, TypedDict, cast, get_args
from urllib.parse import urlsplit

from linq_source.errors import ConfigurationError
from linq_source.instants import DAY_US, MIN_US, format_iso, parse_instant
from linq_source.tables_v3 import UUID

MAX_PAGE_SIZE = 100
MAX_WORKERS = 64
MIN_PRIVACY_KEY_LENGTH = 16
# How phone numbers, or texts, are loaded: as they are, as a keyed hash, or not at all.
Treatment = Literal["plain", "hash", "drop"]
# What the API keeps: as it shows itself, or everything.
Retention = Literal["auto", "forever"]
# Which version of the API is read.
Api = Literal["v2", "v3"]
# A chat's or a message's id: v2 counts, v3 has UUIDs.
Id = int | str


def id_of(key: str) -> Id:
    """Return the id that a text stands for: digits only for a number."""
    return int(key) if key.isascii() and key.isdecimal() else key


def id_order(id_: Id) -> tuple[int, str]:
    """Sort ids: numbers by size, texts by their characters."""
    return (id_, "") if isinstance(id_, int) else (0, id_)


# So many chats of v3 may be told apart by the end of their ids.
_SHARD_DIGITS = 2
MAX_SHARDS_V3 = 16**_SHARD_DIGITS
# The API's paths and parameters hold ids as plain numbers.
_ID_LIMIT = 2**63


class Secret:
    """A text that shows itself only when asked: not in `repr`, `str`, a log line or a trace."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        raise TypeError("a Secret is not pickled")


@dataclass(frozen=True)
class Shard:
    """The chats whose id leaves the remainder `index` when divided by `count`.

    Of a UUID its last two digits are divided: every database can do that.
    """

    index: int
    count: int

    def __contains__(self, chat_id: Id) -> bool:
        number = chat_id if isinstance(chat_id, int) else int(chat_id[-_SHARD_DIGITS:], 16)
        return number % self.count == self.index

    @property
    def endings(self) -> tuple[str, ...]:
        """The last two digits, in lower case, of the UUIDs of its chats."""
        numbers = range(self.index, MAX_SHARDS_V3, self.count)
        return tuple(f"{number:0{_SHARD_DIGITS}x}" for number in numbers)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


class SourceOptions(TypedDict, total=False):
    """What `linq_source` takes; so do `sync` and `audit`. Explained at `linq_source`."""

    api_token: str
    base_url: str
    api: str
    chat_ids: Sequence[Id] | None
    phone_numbers: Sequence[str] | None
    start: str | datetime | date | None
    end: str | datetime | date | None
    lookback_days: float
    page_size: int
    workers: int
    max_messages: int | None
    shard: str | None
    timeout_s: float
    request_deadline_s: float
    max_requests_per_second: float | None
    allow_plain_http: bool
    phones: str
    text: str
    privacy_key: str | None
    accept_organisation: bool
    retention: str
    recheck_days: float
    recheck_share: float
    contacts: bool


@dataclass(frozen=True)
class Settings:
    """What a source was asked to do. Instants are microseconds UTC."""

    api_token: Secret
    base_url: str
    api: Api
    chat_ids: tuple[Id, ...] | None
    phone_numbers: tuple[str, ...] | None = field(repr=False)
    start_us: int | None
    end_us: int | None
    lookback_us: int
    page_size: int
    workers: int
    max_messages: int | None
    shard: Shard | None
    timeout_s: float
    request_deadline_s: float
    max_requests_per_second: float | None
    phones: Treatment
    text: Treatment
    privacy_key: Secret | None
    accept_organisation: bool = False
    retention: Retention = "auto"
    recheck_us: int = 30 * DAY_US
    recheck_share: float = 0.05
    contacts: bool = False

    @property
    def is_stateless(self) -> bool:
        """Whether an interval is read as it is, without cursors."""
        return self.end_us is not None

    @property
    def is_first_shard(self) -> bool:
        """Whether rows of no shard are loaded: two that add them at once would double them."""
        return self.shard is None or self.shard.index == 0

    def is_of_shard(self, chat_id: Id) -> bool:
        """Return whether a chat is of the shard, if there is one."""
        return self.shard is None or chat_id in self.shard

    @property
    def lists_everything(self) -> bool:
        """Whether a complete listing shows every chat there is."""
        return self.chat_ids is None and self.phone_numbers is None


def check_settings(
    *,
    api_token: str,
    base_url: str,
    chat_ids: Sequence[Id] | None,
    phone_numbers: Sequence[str] | None,
    start: str | datetime | date | None,
    end: str | datetime | date | None,
    lookback_days: float,
    page_size: int,
    workers: int,
    max_messages: int | None,
    shard: str | None,
    timeout_s: float,
    request_deadline_s: float,
    max_requests_per_second: float | None = None,
    allow_plain_http: bool = False,
    phones: str = "plain",
    text: str = "plain",
    privacy_key: str | None = None,
    accept_organisation: bool = False,
    retention: str = "auto",
    recheck_days: float = 30.0,
    recheck_share: float = 0.05,
    contacts: bool = False,
    api: str = "v2",
) -> Settings:
    """Check what a user passed. Raises `ConfigurationError` with one line that names the value."""
    api_token = api_token.strip() if isinstance(api_token, str) else ""
    if not api_token:
        raise ConfigurationError(
            "api_token is empty: set the environment variable SOURCES__LINQ__API_TOKEN, or "
            "api_token under [sources.linq] in .dlt/secrets.toml"
        )
    if not api_token.isascii() or not api_token.isprintable():
        raise ConfigurationError("api_token has characters that no HTTP header can carry")
    start_us = _instant("start", start)
    end_us = _instant("end", end)
    if start_us is not None and end_us is not None and start_us >= end_us:
        raise ConfigurationError(
            f"start {format_iso(start_us)} is not before end {format_iso(end_us)}"
        )
    if not 0 <= lookback_days <= 36_500:
        raise ConfigurationError(f"lookback_days is {lookback_days}: use 0 to 36500")
    if not 1 <= page_size <= MAX_PAGE_SIZE:
        raise ConfigurationError(
            f"page_size is {page_size}: the API takes 1 to {MAX_PAGE_SIZE} messages a page"
        )
    if not 1 <= workers <= MAX_WORKERS:
        raise ConfigurationError(f"workers is {workers}: use 1 to {MAX_WORKERS}")
    if max_messages is not None and max_messages < 1:
        raise ConfigurationError(f"max_messages is {max_messages}: use 1 or more, or none")
    for name, seconds in (("timeout_s", timeout_s), ("request_deadline_s", request_deadline_s)):
        if not 0 < seconds <= 86_400:
            raise ConfigurationError(
                f"{name} is {seconds}: use more than 0 and up to 86400 seconds"
            )
    for name, number in (("page_size", page_size), ("workers", workers)):
        if not isinstance(number, int):
            raise ConfigurationError(f"{name} is {number!r}: use a whole number")
    if max_requests_per_second is not None and not 0.01 <= max_requests_per_second <= 100_000:
        raise ConfigurationError(
            f"max_requests_per_second is {max_requests_per_second}: use 0.01 to 100000, or none"
        )
    if chat_ids is not None and phone_numbers:
        raise ConfigurationError(
            "chat_ids (--chat-id) and phone_numbers (--phone-number) exclude each other: name "
            "chats, or numbers whose chats are meant"
        )
    if not 1 <= recheck_days <= 36_500:
        raise ConfigurationError(f"recheck_days is {recheck_days}: use 1 to 36500")
    if not 0 <= recheck_share <= 1:
        raise ConfigurationError(
            f"recheck_share is {recheck_share}: use 0 (no chat is checked) to 1, a share of the "
            "requests of a run"
        )
    if retention not in get_args(Retention):
        raise ConfigurationError(
            f"retention is {retention!r}: use auto (what is gone was deleted where the API keeps "
            "what is older, else it expired), or forever (whatever is gone was deleted)"
        )
    if api not in get_args(Api):
        raise ConfigurationError(f"api is {api!r}: use v2 or v3")
    if contacts and api == "v3":
        raise ConfigurationError("contacts: API v3 lists none; leave them out, or use api v2")
    parsed_shard = parse_shard(shard)
    if parsed_shard is not None and api == "v3" and parsed_shard.count > MAX_SHARDS_V3:
        raise ConfigurationError(f"shard is {shard!r}: API v3 allows up to {MAX_SHARDS_V3} shards")
    treatments = (_treatment("phones", phones), _treatment("text", text))
    return Settings(
        api_token=Secret(api_token),
        base_url=_base_url(base_url, allow_plain_http=allow_plain_http),
        api=cast(Api, api),
        chat_ids=_chat_ids(chat_ids, cast(Api, api)),
        phone_numbers=_phone_numbers(phone_numbers),
        # Nothing lies before the beginning of the calendar.
        start_us=None if start_us == MIN_US else start_us,
        end_us=end_us,
        lookback_us=int(lookback_days * DAY_US),
        page_size=page_size,
        workers=workers,
        max_messages=max_messages,
        shard=parsed_shard,
        timeout_s=timeout_s,
        request_deadline_s=request_deadline_s,
        max_requests_per_second=max_requests_per_second,
        phones=treatments[0],
        text=treatments[1],
        privacy_key=_privacy_key(privacy_key, is_needed="hash" in treatments),
        accept_organisation=accept_organisation,
        retention=cast(Retention, retention),
        recheck_us=int(recheck_days * DAY_US),
        recheck_share=recheck_share,
        contacts=contacts,
    )


def parse_shard(text: str | None) -> Shard | None:
    """`"i/n"` as a `Shard`. Raises `ConfigurationError`."""
    if text is None:
        return None
    index, _, count = text.partition("/")
    digits = index.isdecimal() and count.isdecimal() and text.isascii()
    if not digits or not 0 <= int(index) < int(count):
        raise ConfigurationError(f"shard is {text!r}: use i/n with 0 <= i < n, such as 0/4")
    return Shard(int(index), int(count))


def _instant(name: str, value: str | datetime | date | None) -> int | None:
    if value is None:
        return None
    try:
        return parse_instant(value)
    except ValueError:
        raise ConfigurationError(
            f"{name} is {value!r}: use an ISO 8601 date or instant, such as 2026-01-31 or "
            "2026-01-31T12:00:00Z"
        ) from None


def _treatment(name: str, value: str) -> Treatment:
    if value not in get_args(Treatment):
        raise ConfigurationError(f"{name} is {value!r}: use plain, hash or drop")
    return cast(Treatment, value)


def _privacy_key(text: str | None, *, is_needed: bool) -> Secret | None:
    if not is_needed:
        return None
    where = (
        "set the environment variable SOURCES__LINQ__PRIVACY_KEY, or privacy_key under "
        "[sources.linq] in .dlt/secrets.toml"
    )
    if not text:
        raise ConfigurationError(f"hash needs a privacy_key: {where}")
    if len(text) < MIN_PRIVACY_KEY_LENGTH:
        raise ConfigurationError(
            f"privacy_key is shorter than {MIN_PRIVACY_KEY_LENGTH} characters, so its hashes could "
            f"be guessed: {where}, to 32 random characters or more"
        )
    return Secret(text)


def _base_url(text: str, *, allow_plain_http: bool) -> str:
    text = text.strip()
    if "@" in text or "?" in text or "#" in text or " " in text:
        raise ConfigurationError(
            "base_url must be a plain https://host[:port][/path], without user, query or spaces"
        )
    try:
        parts = urlsplit(text)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        is_usable = False
    if not is_usable or parts.hostname is None:
        raise ConfigurationError(f"base_url is {text!r}: use https://host or https://host:port")
    if parts.scheme == "http" and not allow_plain_http and not is_loopback(parts.hostname):
        raise ConfigurationError(
            f"base_url is {text!r}: plain http would show the token to the network; use https "
            "(or allow_plain_http, in a network that you trust with the token and the messages)"
        )
    return text.rstrip("/")


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _chat_ids(chat_ids: Sequence[Id] | None, api: Api) -> tuple[Id, ...] | None:
    if chat_ids is None:
        return None
    return tuple(dict.fromkeys(check_chat_id(chat_id, api) for chat_id in chat_ids))


def check_chat_id(chat_id: Id, api: Api) -> Id:
    """A chat's id as the version has it. Raises `ConfigurationError`."""
    if api == "v3":
        if not isinstance(chat_id, str) or not UUID.fullmatch(chat_id):
            raise ConfigurationError(f"chat id {chat_id!r} is not a UUID, as API v3 has them")
        return chat_id
    if isinstance(chat_id, bool) or not isinstance(chat_id, int) or not 0 <= chat_id < _ID_LIMIT:
        raise ConfigurationError(f"chat id {chat_id!r} is not a whole number")
    return chat_id


def _phone_numbers(phone_numbers: Sequence[str] | None) -> tuple[str, ...] | None:
    if phone_numbers is None:
        return None
    if isinstance(phone_numbers, str) or not all(
        isinstance(number, str) and number for number in phone_numbers
    ):
        raise ConfigurationError("phone_numbers must be a list of texts such as +15551234567")
    return tuple(dict.fromkeys(phone_numbers))
