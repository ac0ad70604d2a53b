"""The dlt source: resources over one `Extraction` per load package."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from datetime import date, datetime
from typing import Unpack

import dlt
from dlt.common.typing import TSecretStrValue
from dlt.extract import DltResource, DltSource

from linq_source.settings import Id, SourceOptions, check_settings
from linq_source.source.session import Session
from linq_source.state_keys import SECTION

DEFAULT_BASE_URL = "https://api.linqapp.com"


@dlt.source(name="linq", section=SECTION)
def linq_source(
    api_token: str = dlt.secrets.value,
    base_url: str = DEFAULT_BASE_URL,
    api: str = "v2",
    chat_ids: Sequence[Id] | None = None,
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
    retention: str = "auto",
    recheck_days: float = 30.0,
    recheck_share: float = 0.05,
    contacts: bool = False,
) -> Sequence[DltResource]:
    """Chat messages of the Linq Partner API, with attachments and reactions as child tables.

    Building the source touches no network. Resources: `phone_numbers`, `chats`, `chat_messages`,
    and `contacts`, which is selected with `contacts` or by its name (`with_resources`).

    Args:
        api_token: The integration token (config: `sources.linq.api_token`, a secret).
        base_url: The API's address; https, or http on this machine.
        api: The version of the API: `v2`, or `v3`, whose ids are texts.
        chat_ids: These chats; None: every chat of `phone_numbers`.
        phone_numbers: These numbers' chats; None: all numbers of the organisation.
        start: ISO 8601 or datetime; where history begins.
        end: With it, `start <= sent_at < end` (of v3 `created_at`) is read as it is, and no cursor
            read or moved.
        lookback_days: How far before a chat's newest message every run reads again.
        page_size: Messages per page, 1 to 100.
        workers: Threads, and so requests in flight at the most.
        max_messages: Start no new window past this many messages in one extract.
        shard: `"i/n"`: the chats with `id % n == i`, of v3 by the last two digits of their ids.
        timeout_s: Seconds to wait for a connection, and for each part of an answer.
        request_deadline_s: Seconds after which a request that keeps failing is given up.
        max_requests_per_second: Never ask faster; None: as fast as the server allows.
        allow_plain_http: Take an http `base_url` that is not this machine.
        phones: `plain`, `hash` (HMAC-SHA-256 with `privacy_key`) or `drop`: phone numbers and
            e-mail addresses of people, in every table.
        text: The same for what people wrote and sent: texts of messages, names of files and
            links to them.
        privacy_key: The key of the hashes (config: `sources.linq.privacy_key`, a secret).
        accept_organisation: Load although the phone numbers, or most chats, are others than the
            dataset was loaded from.
        retention: `auto`: a message that is gone was deleted where the API was shown to keep older
            ones, else it expired. `forever`: whatever is gone was deleted.
        recheck_days: Every chat is read again from its beginning within so many days.
        recheck_share: For that, a run spends at most this share of its requests; 0: none.
        contacts: Load the contacts, too.

    Raises:
        ConfigurationError: A value that cannot be used, named in one line.
    """
    session = Session(check_settings(**locals()))
    _opened.get([]).append(session)
    return session.resources()


# dlt resolves the configuration of a decorated function's own arguments and gives back a source
# of its own: the session behind it comes out this way.
_opened: ContextVar[list[Session]] = ContextVar("linq_source_opened")


def open_source(**options: Unpack[SourceOptions]) -> tuple[DltSource, Session]:
    """Return a source, and the session that its resources share."""
    sessions: list[Session] = []
    token = _opened.set(sessions)
    try:
        return linq_source(**options), sessions[0]
    finally:
        _opened.reset(token)
