"""Windows: one chat, one half-open interval of `sent_at`, and the requests that read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from linq_source.decoding.envelope import Envelope, read_envelope
from linq_source.instants import MAX_US, MILLISECOND_US, MIN_US, format_iso
from linq_source.settings import Id

# Deep pages cost the server ever more; a window with more rows than this is split by time.
MAX_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class Window:
    """The messages of one chat with `start_us <= instant < end_us`; no start: all before.

    The instant is `sent_at`, of API v3 `created_at`.
    """

    chat_id: Id
    start_us: int | None
    end_us: int

    def __contains__(self, instant_us: int) -> bool:
        return instant_us < self.end_us and (self.start_us is None or instant_us >= self.start_us)


@dataclass(frozen=True, slots=True)
class PageRequest:
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
        return f"/api/partner/v2/chats/{self.chat_id}/chat_messages"

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

    def read(self, body: bytes) -> Page:
        """Check an answer. Raises `ValueError`."""
        return Page(body, read_envelope(body))


def deepest_page(per_page: int) -> int:
    """Return the last page that is asked for of a list with so many rows a page."""
    return -(-MAX_ROWS // per_page)


ONE = Envelope(page=1, total_pages=1, total_count=1, per_page=1)


class Request(Protocol):
    """Something to ask the API for: a path below the base URL, and a query."""

    @property
    def path(self) -> str:
        """The path below the base URL."""

    @property
    def parameters(self) -> Mapping[str, str]:
        """The query."""

    def read(self, body: bytes) -> Page:
        """Check an answer. Raises `ValueError` for one that is not the contract's."""


@dataclass(frozen=True, slots=True)
class Page:
    """An answer whose envelope has been checked; a single record counts as a page of one.

    Of v3 `next_cursor` asks for the page after it; None: there is none. A cursor that the server
    does not take any more brings a page that `is_refused`, without a body.
    """

    body: bytes
    envelope: Envelope = ONE
    next_cursor: str | None = None
    is_refused: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """Pages wanted, all at once; the answer is a list of `Page` in the same order."""

    requests: tuple[Request, ...]
