"""What the API is shown to keep in one run: the oldest message listed, line by line.

Absence is not deletion: a message that is gone was deleted only if the API keeps what is older.
Most readings show that themselves. Where one does not, a chat of the same line that is known to
have old messages is asked for its oldest.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from linq_source.api.client import Client
from linq_source.errors import ApiContractError, ApiUnavailableError
from linq_source.instants import END_US, MIN_US, format_iso
from linq_source.planning.chat_cursors import Cursor
from linq_source.planning.chat_progress import ChatProgress
from linq_source.planning.contracts import Contract
from linq_source.planning.readings import ChatResult, ChatTask, LedgerWindow, earliest
from linq_source.planning.windows import Window
from linq_source.settings import Id
from linq_source.tables import GAP

Lines = frozenset[str]

# Chats of a line that are remembered as likely to have its oldest messages.
_CANDIDATES = 3


@dataclass(frozen=True)
class LastRead:
    """Up to which instant everything was read before, but for chats that could not be read."""

    until_us: int | None = None
    unread: Mapping[str, int] = field(default_factory=dict)

    def of(self, chat_id: Id) -> int | None:
        """Return up to where a chat was read; None: not known."""
        until_us = self.unread.get(str(chat_id), self.until_us)
        return until_us or None


@dataclass
class Evidence:
    """What one run was shown to be kept. `lines_of` tells the lines that see a chat.

    `elapsed_us` is how far the API's clock went while the run lasts. A line is known by the chats
    that no other line sees: what a chat of two lines keeps may be due to the other.
    """

    client: Client
    contract: Contract
    lines_of: Callable[[Id], Lines]
    elapsed_us: Callable[[], int]
    last_read: LastRead
    keeps_forever: bool
    page_size: int
    # The oldest message listed on each line in this run.
    oldest_us: dict[str, int] = field(default_factory=dict)
    _candidates: dict[str, list[tuple[int, Id, Cursor]]] = field(default_factory=dict)
    _asked: set[str] = field(default_factory=set)
    _read_whole: set[Id] = field(default_factory=set)
    _all_gone: dict[Id, ChatResult] = field(default_factory=dict)

    def remember(self, chat_id: Id, cursor: Cursor) -> None:
        """Remember a chat that has old messages, as far as is known."""
        at_us = cursor.newest_us
        if cursor.oldest_us is not None:
            at_us = cursor.oldest_us
        elif cursor.count_before_lookback:
            at_us = cursor.lookback_start_us
        elif cursor.days:
            at_us = min(segment.start_us for segment in cursor.days)
        line = self._only_line(chat_id)
        if line is not None and at_us is not None:
            found = self._candidates.setdefault(line, [])
            insort(found, (at_us, chat_id, cursor), key=lambda candidate: candidate[:2])
            del found[_CANDIDATES:]

    def see(self, chat_id: Id, listed_us: int | None) -> None:
        """Note a message that is listed."""
        line = self._only_line(chat_id)
        if line is not None and listed_us is not None:
            self.oldest_us[line] = min(listed_us, self.oldest_us.get(line, listed_us))

    def finish(self, chat_id: Id, result: ChatResult) -> None:
        """Note how a chat's reading ended."""
        if result.all_gone_us is not None:
            self._all_gone[chat_id] = result

    def prove(self, rows: Sequence[LedgerWindow]) -> list[LedgerWindow]:
        """Return rows of the ledger with what their lines were shown to keep, where it matters."""
        if self.keeps_forever:
            return [row.keeping(MIN_US) if row.verified else row for row in rows]
        self._read_whole |= {
            row.window.chat_id for row in rows if row.verified and row.window.start_us is None
        }
        lacking = {
            row.window.chat_id
            for row in rows
            if row.verified and row.has_losses and not _covers(row.kept_since_us, row.window)
        }
        self._ask(line for chat_id in lacking for line in self.lines_of(chat_id))
        return [
            row.keeping(self._kept_since(self.lines_of(row.window.chat_id)))
            if row.window.chat_id in lacking and row.verified
            else row
            for row in rows
        ]

    def prove_vanished(
        self, row: LedgerWindow, newest_us: int | None, lines: Lines
    ) -> LedgerWindow:
        """Return the row of a chat that vanished, with what is kept, if that is older than it.

        Which of the organisation's `lines` saw it nobody tells any more: each has to keep that
        much.
        """
        if self.keeps_forever:
            return row.keeping(MIN_US)
        if newest_us is None:
            return row
        self._ask(lines)
        kept_us = self._kept_since(lines)
        return row if kept_us is None or kept_us > newest_us else row.keeping(kept_us)

    def gaps(self, bound_us: int) -> list[LedgerWindow]:
        """Return a row for each chat that the API may have forgotten messages of before a run.

        All of it that was listed when it was last read is gone, nothing as old is listed on its
        lines, and its newest message was not seen to be kept for as long as it was not looked at.
        """
        if self.keeps_forever:
            return []
        self._ask(line for chat_id in self._all_gone for line in self.lines_of(chat_id))
        found = []
        for chat_id, result in sorted(self._all_gone.items()):
            until_us = self.last_read.of(chat_id)
            if until_us is None or result.all_gone_us is None:
                continue
            kept_us = earliest(
                result.kept_since_us, self._kept_since(self.lines_of(chat_id)), bound_us
            )
            age_us = until_us - result.all_gone_us
            if kept_us is not None and kept_us > until_us and age_us < bound_us - until_us:
                found.append(_gap(Window(chat_id, until_us, kept_us)))
        self._all_gone = {}
        return found

    def _kept_since(self, lines: Collection[str]) -> int | None:
        """Since when every one of the lines keeps its messages; None where one was not shown to.

        What was listed early in the run may have been forgotten since, and others with it.
        """
        found = [self.oldest_us.get(line) for line in lines]
        if not found or None in found:
            return None
        return max(at_us for at_us in found if at_us is not None) + self.elapsed_us()

    def _ask(self, lines: Iterable[str]) -> None:
        """Ask for the oldest message of each line, once in a run."""
        for line in sorted(set(lines) - self._asked):
            self._asked.add(line)
            for _, chat_id, cursor in self._candidates.get(line, ()):
                is_known = chat_id in self._read_whole and line in self.oldest_us
                if is_known or self._ask_chat(chat_id, cursor) is not None:
                    break

    def ask_some(self, chat_ids: Iterable[Id]) -> int | None:
        """Ask some chats for their oldest messages. Return the oldest of them."""
        return earliest(*(self._ask_chat(chat_id) for chat_id in chat_ids))

    def _ask_chat(self, chat_id: Id, cursor: Cursor | None = None) -> int | None:
        """Ask a chat for its oldest messages. Return that of the first that was not late."""
        request = self.contract.oldest(chat_id, self.page_size)
        try:
            _, page = self.client.get(request.path, request.parameters, request.read, once=True)
        except (ApiContractError, ApiUnavailableError):
            return None
        until_us = self.last_read.of(chat_id)
        progress = ChatProgress(ChatTask(chat_id, None, cursor, END_US, read_until_us=until_us))
        progress.see(self.contract.decode_messages(page.body))
        self.see(chat_id, progress.oldest_us)
        return progress.oldest_us

    def _only_line(self, chat_id: Id) -> str | None:
        lines = self.lines_of(chat_id)
        return next(iter(lines)) if len(lines) == 1 else None


def _covers(kept_since_us: int | None, window: Window) -> bool:
    """Return whether all that can be gone of a window is younger than what is kept."""
    if kept_since_us is None or window.start_us is None:
        return False
    return kept_since_us <= window.start_us


def _gap(window: Window) -> LedgerWindow:
    error = (
        f"what was sent from {format_iso(window.start_us or MIN_US)} to "
        f"{format_iso(window.end_us)} may have been forgotten by the API before it was read"
    )
    return replace(
        LedgerWindow(window, 0, 0, 0, 0, 0, False, error), event=GAP, kept_since_us=window.end_us
    )
