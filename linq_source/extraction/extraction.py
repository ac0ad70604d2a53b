"""One reading of the API: every chat's changes as rows, and what is left to read.

An `Extraction` knows the API and the pure planning; it does not know dlt. State comes in as
dictionaries of texts and is changed in place, so that whoever owns it can commit or drop it
together with the rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from linq_source.api.client import Client
from linq_source.api.pool import Failed, Output, Pool
from linq_source.errors import LinqError
from linq_source.extraction.evidence import Evidence, LastRead
from linq_source.extraction.listing import Listing, choose_some
from linq_source.extraction.row_buffer import RowBuffer
from linq_source.extraction.run_counts import Counts
from linq_source.instants import DAY_US, END_US, from_us
from linq_source.planning.chat_cursors import Cursor, Reconciled, encode, remembered
from linq_source.planning.contracts import contract_of
from linq_source.planning.readings import ChatTask, LedgerWindow, Reading, WindowToLoad
from linq_source.planning.rechecks import Budget, Check
from linq_source.planning.windows import Request, Window
from linq_source.privacy.forgotten import NOTHING, Forgotten
from linq_source.privacy.hashing import privacy_of
from linq_source.rows import building
from linq_source.settings import Id, Settings, id_of, id_order
from linq_source.tables import ALL_CHATS, FAILED, VANISHED, VANISHED_TEXT

Listener = Callable[["Extraction"], None]


@dataclass
class Extraction:
    """One run against the API. Several packages may be read from it, one after the other."""

    settings: Settings
    now: Callable[[], int]
    listener: Listener | None = None
    forgotten: Forgotten = NOTHING
    # Chats and numbers that failed for long in an earlier run (see `api.failure_scope.subject_of`).
    failing: Iterable[str] = ()
    last_read: LastRead = field(default_factory=LastRead)
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self.client = Client(self.settings)
        self.contract = contract_of(self.settings.api)
        self.listing = Listing(
            self.settings, self.client, self.counts, self.forgotten, self.now, self.failing
        )
        self.asker = self.listing.asker
        self.evidence = Evidence(
            self.client,
            self.contract,
            self.listing.lines_of,
            lambda: self.listing.elapsed_us,
            self.last_read if self.settings.lists_everything else LastRead(),
            self.settings.retention == "forever",
            self.settings.page_size,
        )
        self.privacy = privacy_of(self.settings)
        self.started_s = time.monotonic()
        # How much further than the API's clock this machine's went since the last package.
        self.clock_ahead_us = 0
        self.outage: LinqError | None = None
        self._todo: dict[Id, int | None] | None = None
        # Chats that are read again from their beginning.
        self._rechecks: set[Id] = set()
        self._checks: list[Check] = []
        # The day of the last check of every chat that may need one; -1: never.
        self._checked_days: dict[Id, int] = {}
        self.chats_never_checked = 0
        self._stuck: set[Id] = set()
        self.vanished: list[Id] = []
        self._has_entered_vanished = False
        # Chats of which something could not be read, or not verified.
        self.unread: set[Id] = set()
        self.gaps = 0
        # What broke the reading of chats, other than the API's refusals.
        self._broken: list[Exception] = []
        self._loaded_messages = 0
        # Chats of which a forgotten person's messages were left out.
        self.partly_forgotten: set[Id] = set()

    def release(self) -> None:
        """Close connections that nobody uses; reading may go on later."""
        self.client.release()

    def close(self) -> None:
        """Close the client's connections, and end whoever waits on one."""
        self.client.close()

    @property
    def is_complete(self) -> bool:
        """Whether every chat has been read to the bound."""
        return self._todo is not None and not self._todo

    def messages(
        self, cursors: MutableMapping[str, str], synced_at_us: int
    ) -> Iterator[dict[str, pa.Table]]:
        """Rows of one package: all that is left to read, or until `max_messages` are loaded.

        `cursors` holds a text per chat id. It says what was loaded of a chat once the rows that
        prove it were taken, that is when the next are asked for. Until then it says of their days
        that they must be loaded again: who takes the rows may stop at any of them.
        """
        todo = self._plan(cursors)
        buffer = RowBuffer(
            synced_at_us,
            self.counts,
            self.forgotten,
            self.partly_forgotten,
            self.contract.tables,
        )
        for chat_id, error in self.counts.chats_failed.items():
            buffer.ledger.append(self._row_of_failure(chat_id, error))
        if not self._has_entered_vanished:
            for chat_id in sorted(self.vanished, key=id_order):
                buffer.ledger.append(self._vanished(chat_id, cursors))
                buffer.cursors[str(chat_id)] = None
            self._has_entered_vanished = True
        self._loaded_messages = 0
        moved: set[Id] = set()
        self.asker.others = self._other_chats
        pool: Pool[Id] = Pool(
            self._readings(todo, cursors),
            self.asker.fetch,
            self._wants_more,
            self.settings.workers,
            self.close,
        )
        try:
            for item in pool.run():
                chat_id = item.key
                if isinstance(item, Failed):
                    self.counts.add_failure(chat_id, item.error)
                    if not isinstance(item.error, LinqError):
                        self._broken.append(item.error)
                    buffer.ledger.append(
                        self._row_of_failure(chat_id, self.counts.chats_failed[chat_id])
                    )
                elif isinstance(item, Output):
                    buffer.collect(item.value)
                    self.evidence.see(chat_id, item.value.kept_since_us)
                    if not item.value.verified:
                        self.unread.add(chat_id)
                if not isinstance(item, Failed) and item.value.cursor is not None:
                    text = encode(item.value.cursor)
                    if text != buffer.cursors.get(str(chat_id), cursors.get(str(chat_id))):
                        buffer.cursors[str(chat_id)] = text
                        moved.add(chat_id)
                self._cross_off(item, moved)
                if self.listener is not None:
                    self.listener(self)
                if buffer.is_full:
                    self._complete(buffer)
                    yield from buffer.hand_out(cursors)
        except LinqError as error:
            # What was read until here is whole; whoever owns the package decides about it.
            self.outage = error
        self._raise_if_all_broke()
        self._complete(buffer)
        yield from buffer.hand_out(cursors)

    def _complete(self, buffer: RowBuffer) -> None:
        """Say in the ledger what is kept, and what may be lost, of the chats that were read."""
        gaps = self.evidence.gaps(self.listing.bound_us)
        self.gaps += len(gaps)
        buffer.ledger = [*self.evidence.prove(buffer.ledger), *gaps]

    def _raise_if_all_broke(self) -> None:
        """Raise what broke the reading of several chats where none at all could be read.

        That is no chat's own: it is a fault of this program, or of its surroundings.
        """
        done = self.counts.chats_skipped + self.counts.chats_done
        if len(self._broken) > 1 and len(self._broken) == done:
            raise self._broken[0]

    def _cross_off(self, item: Any, moved: set[Id]) -> None:
        """Take a chat that was read to its end off the list of those still to be read."""
        if isinstance(item, Output) or self._todo is None:
            return
        if isinstance(item, Failed):
            self.unread.add(item.key)
        else:
            self.evidence.finish(item.key, item.value)
            self.counts.chats_rechecked += item.key in self._rechecks and self._is_checked(
                item.value.cursor
            )
        if not isinstance(item, Failed) and not item.value.complete:
            # Stopped for `max_messages`: the next package goes on. Where nothing was won, it
            # must not stop again at the same place.
            if item.key not in moved:
                self._stuck.add(item.key)
            return
        self._todo.pop(item.key, None)
        self.counts.chats_done += 1
        if not isinstance(item, Failed):
            cursor = item.value.cursor
            if cursor is not None and cursor.reconciled is not Reconciled.NO:
                self._checked_days[item.key] = _checked_day(cursor)
            self.asker.failing.discard(str(item.key))

    def _is_checked(self, cursor: Cursor | None) -> bool:
        today = self.listing.bound_us // DAY_US
        return cursor is not None and (
            cursor.checked_day == today or cursor.recheck_from_us is not None
        )

    def _plan(self, cursors: MutableMapping[str, str]) -> dict[Id, int | None]:
        """Return the chats still to be read, each with its change mark; unchanged ones left out."""
        if self._todo is None:
            marks = self.listing.chats().marks
            if not self.settings.is_stateless:
                unlisted, self.vanished = self.listing.find_unlisted(map(id_of, cursors))
                marks |= unlisted
            self._todo = {
                chat_id: mark
                for chat_id, mark in marks.items()
                if not self._needs_no_request(chat_id, mark, cursors)
            }
            self._choose_rechecks(marks)
            self.counts.chats_skipped = len(marks) - len(self._todo)
            # Last come those that failed for long before.
            failing = [chat_id for chat_id in self._todo if str(chat_id) in self.asker.failing]
            for chat_id in sorted(failing, key=id_order):
                self._todo[chat_id] = self._todo.pop(chat_id)
            if not self.settings.is_stateless:
                for chat_id in self._todo:
                    cursors.setdefault(str(chat_id), "")
        return dict(self._todo)

    def _choose_rechecks(self, marks: Mapping[Id, int | None]) -> None:
        """Add chats that are to be read again from their beginning."""
        checks, self._checks = self._checks, []
        self._checked_days = {check.chat_id: check.checked_day for check in checks}
        if self.settings.recheck_share and self._todo is not None:
            requests = self.client.requests + len(self._todo)
            pages = int(requests * self.settings.recheck_share)
            # One that failed before must not keep all others from their turn.
            fair = [check for check in checks if str(check.chat_id) not in self.last_read.unread]
            budget = Budget(pages, self.settings.recheck_us, self.settings.page_size)
            self._rechecks = budget.choose(fair, self.listing.bound_us)
            for chat_id in self._rechecks:
                self._todo.setdefault(chat_id, marks[chat_id])
        self.chats_never_checked = sum(
            check.checked_day < 0 and check.chat_id not in self._rechecks for check in checks
        )

    def _needs_no_request(self, chat_id: Id, change_mark: int | None, cursors: Any) -> bool:
        text = cursors.get(str(chat_id))
        cursor = remembered(text)
        self.counts.cursors_unknown += bool(text) and cursor is None
        if cursor is None or self.settings.is_stateless:
            return False
        settings = self.settings
        if change_mark != 0:
            self.evidence.remember(chat_id, cursor)
            pages = cursor.count_before_lookback // settings.page_size + 2
            if cursor.reconciled is not Reconciled.NO:
                self._checks.append(Check(_checked_day(cursor), chat_id, pages))
        return self.contract.is_unchanged(
            cursor, change_mark, self.listing.bound_us, settings.lookback_us, settings.start_us
        )

    def _readings(
        self,
        todo: dict[Id, int | None],
        cursors: MutableMapping[str, str],
    ) -> Iterator[tuple[Id, Reading[Any]]]:
        settings = self.settings
        for chat_id, listed in todo.items():
            if not self._wants_more(None):
                return
            task = ChatTask(
                chat_id=chat_id,
                change_mark=listed,
                cursor=remembered(cursors.get(str(chat_id))),
                bound_us=self.listing.bound_us,
                begin_us=settings.start_us,
                end_us=settings.end_us,
                lookback_us=settings.lookback_us,
                per_page=settings.page_size,
                in_one_go=chat_id in self._stuck,
                is_recheck=chat_id in self._rechecks,
                read_until_us=self.evidence.last_read.of(chat_id),
                keeps_forever=settings.retention == "forever",
                privacy=self.privacy,
            )
            yield chat_id, self.contract.read_chat(task)

    def _other_chats(self) -> Iterator[Request]:
        """The smallest requests for messages of some chats."""
        for chat_id in choose_some(self.listing.chats().records.root["id"]):
            yield self.contract.oldest(chat_id.as_py(), 1)

    def _wants_more(self, event: Any) -> bool:
        """Return whether new windows may be started; counts what an output brings."""
        if isinstance(event, WindowToLoad):
            self._loaded_messages += event.messages
        limit = self.settings.max_messages
        return limit is None or self._loaded_messages < limit

    def _row_of_failure(self, chat_id: Id, error: str) -> LedgerWindow:
        """Return a ledger row that says why nothing of a chat was read."""
        window = Window(chat_id, None, self.listing.bound_us)
        return LedgerWindow(window, 0, 0, 0, 0, 0, False, error, FAILED)

    def _vanished(self, chat_id: Id, cursors: MutableMapping[str, str]) -> LedgerWindow:
        """Return the ledger row of a chat that vanished."""
        cursor = remembered(cursors.get(str(chat_id)))
        row = replace(self._row_of_failure(chat_id, VANISHED_TEXT), event=VANISHED)
        newest_us = None if cursor is None else cursor.newest_us
        if cursor is not None and cursor.ahead is not None:
            newest_us = END_US
        return self.evidence.prove_vanished(row, newest_us, self.listing.all_lines)

    @property
    def oldest_check_day(self) -> int | None:
        """The day of the oldest check of any chat; -1: one was never checked."""
        is_known = not self.settings.is_stateless
        return min(self._checked_days.values(), default=None) if is_known else None

    @property
    def oldest_check(self) -> datetime | None:
        """The day of the oldest check of any chat; None where one was never checked."""
        day = self.oldest_check_day
        return None if day is None or day < 0 else from_us(day * DAY_US)

    @property
    def oldest_check_days(self) -> int | None:
        """How many days ago that was."""
        day = self.oldest_check_day
        return None if day is None or day < 0 else self.listing.bound_us // DAY_US - day

    @property
    def _covered(self) -> str | None:
        """What this run read to its bound, chats that failed aside: all, or a shard."""
        settings = self.settings
        is_whole = self.is_complete and not self.counts.numbers_failed
        if not is_whole or not settings.lists_everything or settings.is_stateless:
            return None
        return ALL_CHATS if settings.shard is None else str(settings.shard)

    def run_row(self, synced_at_us: int) -> dict[str, pa.Table]:
        """Return the run's row of `sync_runs`."""
        counts = self.counts
        values = {
            "bound": from_us(self.listing.bound_us),
            "chats": counts.chats,
            "chats_skipped": counts.chats_skipped,
            "chats_failed": len(counts.chats_failed),
            "chats_unlisted": counts.chats_unlisted,
            "windows_read": counts.windows_read,
            "windows_unchanged": counts.windows_unchanged,
            "windows_unverified": counts.windows_unverified,
            "messages": counts.messages,
            "rejected": counts.rejected,
            "gaps": self.gaps,
            "chats_rechecked": counts.chats_rechecked,
            "oldest_check": self.oldest_check,
            "requests": self.client.requests,
            "retries": self.client.retries,
            "seconds": round(time.monotonic() - self.started_s, 3),
            "covered": self._covered,
        }
        return building.run_row(values, synced_at_us, self.contract.tables)


def _checked_day(cursor: Cursor) -> int:
    return -1 if cursor.checked_day is None else cursor.checked_day
