"""The dlt source: resources over one `Extraction` per load package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import date, datetime

import dlt
from dlt.common.typing import TSecretStrValue
from dlt.extract import DltResource

from linq_source.extraction import Listener
from linq_source.settings import check_settings
from linq_source.source.session import Session
from linq_source.state import SECTION

DEFAULT_BASE_URL = "https://api.linqapp.com"


@dlt.source(name="linq", section=SECTION)
def linq_source(
    api_token: str = dlt.secrets.value,
    base_url: str = DEFAULT_BASE_URL,
    chat_ids: Sequence[int] | None = None,
    phone_numbers: Sequence[str] | None = None,
    start: str | datetime | date | None = None,
    end: str | datetime | date | None = None,
    lookback_days: float = 7.0,
    page_size: int = 100,
    workers: int = 8,
    max_messages: int | None = None,
    shard: str | None = None,
    timeout_s: float = 30.0,
    request_deadline_s: float = 120.0,
    max_requests_per_second: float | None = None,
    allow_plain_http: bool = False,
    phones: str = "plain",
    text: str = "plain",
    privacy_key: TSecretStrValue | None = None,
    accept_organisation: bool = False,
) -> Sequence[DltResource]:
    """Chat messages of the Linq Partner API, with attachments and reactions as child tables.

    Building the source touches no network. Resources: `phone_numbers`, `chats`, `chat_messages`.

    Args:
        api_token: The integration token (config: `sources.linq.api_token`, a secret).
        base_url: The API's address; https, or http on this machine.
        chat_ids: These chats; none: every chat of `phone_numbers`.
        phone_numbers: These numbers' chats; none: all numbers of the organisation.
        start: ISO 8601 or datetime; where history begins.
        end: With it, `start <= sent_at < end` is read as it is, and no cursor read or moved.
        lookback_days: How far before a chat's newest message every run reads again.
        page_size: Messages per page, 1 to 100.
        workers: Threads, and so requests in flight at the most.
        max_messages: Start no new window past this many messages in one extract.
        shard: `"i/n"`: the chats with `id % n == i`.
        timeout_s: Seconds to wait for a connection, and for each part of an answer.
        request_deadline_s: Seconds after which a request that keeps failing is given up.
        max_requests_per_second: Never ask faster; none: as fast as the server lets us.
        allow_plain_http: Take an http `base_url` that is not this machine.
        phones: `plain`, `hash` (HMAC-SHA-256 with `privacy_key`) or `drop`: phone numbers and
            e-mail addresses of people, in every table.
        text: The same for what people wrote and sent: texts of messages, names of files and
            links to them.
        privacy_key: The key of the hashes (config: `sources.linq.privacy_key`, a secret).
        accept_organisation: Load although the phone numbers, or most chats, are others than the
            dataset was loaded from.

    Raises:
        ConfigurationError: A value that cannot be used, named in one line.
    """
    settings = check_settings(
        api_token=api_token,
        base_url=base_url,
        chat_ids=chat_ids,
        phone_numbers=phone_numbers,
        start=start,
        end=end,
        lookback_days=lookback_days,
        page_size=page_size,
        workers=workers,
        max_messages=max_messages,
        shard=shard,
        timeout_s=timeout_s,
        request_deadline_s=request_deadline_s,
        max_requests_per_second=max_requests_per_second,
        allow_plain_http=allow_plain_http,
        phones=phones,
        text=text,
        privacy_key=privacy_key,
        accept_organisation=accept_organisation,
    )
    options = _options.get(None) or _Options()
    session = Session(settings, keep=options.keep, listener=options.listener)
    options.sessions.append(session)
    return session.resources()


@dataclass
class _Options:
    keep: bool = False
    listener: Listener | None = None
    sessions: list[Session] = field(default_factory=list)


_options: ContextVar[_Options] = ContextVar("linq_source_session_options")


@contextmanager
def session_options(*, keep: bool, listener: Listener | None) -> Iterator[list[Session]]:
    """How `linq_source` builds its sessions in this context; gives those it builds.

    dlt resolves the configuration of a decorated function's own arguments, so what is not
    configuration comes in this way.
    """
    options = _Options(keep, listener)
    token = _options.set(options)
    try:
        yield options.sessions
    finally:
        _options.reset(token)
