"""What the reading of a chat is made of: its task, and what it gives out."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

from linq_source.planning.changes import Part
from linq_source.planning.chat_cursors import Cursor
from linq_source.planning.window_reading import WindowRead
from linq_source.planning.windows import Ask, Page, Window
from linq_source.privacy.hashing import PLAIN, Privacy
from linq_source.settings import Id
from linq_source.tables import READ


@dataclass(frozen=True)
class ChatTask:
    """What to read of a chat.

    `change_mark` is the listing's `message_count`, of v3 its `updated_at` in microseconds (None:
    unknown). With `end_us` the interval from `begin_us` to it is read as it is and nothing
    remembered; else `begin_us` is where history begins and `bound_us` the run's upper end. A
    recheck is read again from its beginning, a long one a window a run. `read_until_us` is the
    bound of the last reading; `keeps_forever` says that the API forgets nothing. `in_one_go` lets
    no wish to stop end it early.
    """

    chat_id: Id
    change_mark: int | None
    cursor: Cursor | None
    bound_us: int
    begin_us: int | None = None
    end_us: int | None = None
    lookback_us: int = 0
    per_page: int = 100
    in_one_go: bool = False
    is_recheck: bool = False
    read_until_us: int | None = None
    keeps_forever: bool = False
    privacy: Privacy = PLAIN


@dataclass(frozen=True)
class ChatResult:
    """How a chat's reading ended: what to remember, and whether it came to the bound.

    Where none of the messages known before is listed any more, `all_gone_us` is the `sent_at` of
    the newest of them. `kept_since_us` is that of the oldest message listed now.
    """

    cursor: Cursor | None
    complete: bool
    all_gone_us: int | None = None
    kept_since_us: int | None = None


@dataclass(frozen=True)
class LedgerWindow:
    """A row of the ledger, before `synced_at`. `messages` counts the rows loaded.

    `kept_since_us` is the `sent_at` of the oldest message that the API was shown to keep. A row
    that `has_losses` covers messages that were known and may be gone.
    """

    window: Window
    total_count: int
    messages: int
    pages: int
    requests: int
    attempts: int
    verified: bool
    error: str | None
    event: str = READ
    kept_since_us: int | None = None
    has_losses: bool = False

    def keeping(self, since_us: int | None) -> LedgerWindow:
        """Return the row where the API was shown to keep a message of that instant, too."""
        return replace(self, kept_since_us=earliest(self.kept_since_us, since_us))


@dataclass(frozen=True)
class WindowToLoad:
    """One window was read: what of it is to be loaded, and what is known after it.

    `parts` and `ledger` go together. `cursor` is the chat's memory once they are loaded; None
    when the reading keeps none. `unchanged` counts segments that were read and left alone.
    """

    parts: tuple[Part, ...]
    ledger: tuple[LedgerWindow, ...]
    cursor: Cursor | None
    verified: bool
    unchanged: int = 0
    kept_since_us: int | None = None

    @property
    def messages(self) -> int:
        """Rows of messages to load."""
        return sum(len(part.records) for part in self.parts)


Event: TypeAlias = Ask | WindowToLoad
Reply: TypeAlias = list[Page] | bool | None
T = TypeVar("T")
Reading: TypeAlias = Generator[Event, Reply, T]


def give(found: Iterable[WindowToLoad]) -> Reading[None]:
    """Give out what is to be loaded, whatever is replied."""
    waiting = deque(found)
    while waiting:
        yield waiting.popleft()


def load_whole(
    read: WindowRead, cursor: Cursor | None, *, has_losses: bool = False
) -> WindowToLoad:
    """Load a whole window."""
    part = Part(read.window, read.records)
    row = replace(ledger_row(read, part, read.total_count), has_losses=has_losses)
    return WindowToLoad((part,), (row,), cursor, read.verified)


def keeping(loaded: WindowToLoad, since_us: int | None) -> WindowToLoad:
    """Return the same rows to load, where the API was shown to keep a message of an instant."""
    ledger = tuple(row.keeping(since_us) for row in loaded.ledger)
    return replace(loaded, ledger=ledger, kept_since_us=since_us)


def earliest(*instants_us: int | None) -> int | None:
    """Return the earliest instant that is known."""
    return min((at_us for at_us in instants_us if at_us is not None), default=None)


def prove_nothing(loaded: WindowToLoad, reason: str) -> WindowToLoad:
    """Return the same rows to load, but as no proof of what is not among them."""
    ledger = tuple(replace(row, verified=False, error=reason) for row in loaded.ledger)
    return replace(loaded, ledger=ledger, verified=False)


def ledger_row(read: WindowRead, part: Part, total_count: int, first: bool = True) -> LedgerWindow:
    """Return a part's row; the effort of a reading stands in that of its first part only."""
    return LedgerWindow(
        window=part.window,
        total_count=total_count,
        messages=len(part.records),
        pages=read.pages if first else 0,
        requests=read.requests if first else 0,
        attempts=read.attempts,
        verified=read.verified,
        error=read.error,
    )
