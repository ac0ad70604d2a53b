"""Windows: one chat, one half-open interval of `sent_at`; and how pages are asked for."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from linq_source.decoding.envelope import Envelope
from linq_source.instants import floor_day
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


def deepest_page(per_page: int) -> int:
    """Return the last page that is asked for of a list with so many rows a page."""
    return -(-MAX_ROWS // per_page)


def cut_before(earliest_us: int, start_us: int | None) -> int:
    """Return where to cut a window whose deepest reachable page begins at `earliest_us`.

    The midnight before it if that leaves messages in front, else the instant itself; just after it
    where all messages in front are of that one instant.
    """
    for cut_us in (floor_day(earliest_us), earliest_us):
        if start_us is None or cut_us > start_us:
            return cut_us
    return earliest_us + 1


_NOT_COUNTED = Envelope(page=1, total_pages=1, total_count=1, per_page=1)


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
    """An answer whose envelope has been checked; one without counts as a page of one record.

    Of v3 `next_cursor` asks for the page after it; None: there is none. A cursor that the server
    does not take any more brings a page that `is_refused`, without a body.
    """

    body: bytes
    envelope: Envelope = _NOT_COUNTED
    next_cursor: str | None = None
    is_refused: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """Pages wanted, all at once; the answer is a list of `Page` in the same order."""

    requests: tuple[Request, ...]


T = TypeVar("T")
Asking: TypeAlias = Generator[Ask, list[Page], T]


def ask(*requests: Request) -> Asking[list[Page]]:
    """Ask for pages, all at once."""
    return (yield Ask(requests))
