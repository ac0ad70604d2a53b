"""One reading of the API: listings, the bound, and every chat's changes as rows.

An `Extraction` knows the API and the pure planning; it does not know dlt. State comes in as
dictionaries of texts and is changed in place, so that whoever owns it can commit or drop it
together with the rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import sample
from traceback import extract_tb
from typing import Any, TypeVar

import pyarrow as pa

from linq_source.api.asking import Asker, Request, chats_of
from linq_source.api.client import Client
from linq_source.api.pool import Failed, Finished, Output, Pool
from linq_source.decoding.records import Records
from linq_source.errors import (
    ApiContractError,
    ApiUnavailableError,
    ChatUnavailableError,
    ConfigurationError,
    LinqError,
)
from linq_source.extraction.counts import Counts
from linq_source.extraction.gathering import Buffer, hand_out
from linq_source.instants import SECOND_US, from_us, parse_http_date
from linq_source.planning import listings
from linq_source.planning.changes import Part
from linq_source.planning.chats import read_chat
from linq_source.planning.cursors import encode, is_settled, remembered
from linq_source.planning.organisations import lines_of, most_vanished
from linq_source.planning.readings import ChatTask, LedgerWindow, Loaded, Reading
from linq_source.planning.repeats import Owners
from linq_source.planning.windows import PageRequest, Window
from linq_source.privacy.forgotten import NOTHING, Forgotten
from linq_source.privacy.numbers import normalize_phone
from linq_source.privacy.treatment import privacy_of
from linq_source.rows import building
from linq_source.settings import Settings
from linq_source.tables import VANISHED

# Known chats that a complete listing lacks are asked for one by one, so many in a run.
MAX_ASKED = 1_000
GONE = (404, 410)
# Of how many other chats, or numbers, one is to be asked when one fails.
_OTHERS = 10

T = TypeVar("T")


Listener = Callable[["Extraction"], None]


@dataclass
class Extraction:
    """One run against the API. Several packages may be read from it, one after the other."""

    settings: Settings
    now: Callable[[], int]
    listener: Listener | None = None
    forgotten: Forgotten = NOTHING
    # Chats and numbers that failed for long in an earlier run (see `api.asking.subject_of`).
    failing: Iterable[str] = ()
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self.client = Client(self.settings)
        self.asker = Asker(self.client, self._believe_date, set(self.failing))
        self.privacy = privacy_of(self.settings)
        self.started_s = time.monotonic()
        self.bound_us: int | None = None
        # How much further than the API's clock this machine's went since the last package.
        self.clock_ahead_us = 0
        self._phone_numbers: Records | None = None
        self._chats: listings.ChatList | None = None
        self.outage: LinqError | None = None
        self._todo: dict[int, int | None] | None = None
        self._stuck: set[int] = set()
        self._vanished: list[int] = []
        # What broke the reading of chats, other than the API's refusals.
        self._broken: list[Exception] = []
        self._loaded_messages = 0
        # Whether the destination held no messages when the reading began.
        self.fills_empty_tables = False
        self._loaded_chats: set[int] = set()
        # Chats of which a forgotten person's messages were left out.
        self.partly_forgotten: set[int] = set()

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

    def phone_numbers(self) -> Records:
        """The organisation's numbers, asked for once."""
        if self._phone_numbers is None:
            answer, records = self.client.get(
                listings.PHONE_NUMBERS_PATH, {}, listings.decode_phone_numbers
            )
            self._believe_date(answer.date)
            self._phone_numbers = records
            if self.settings.shard is None or self.settings.shard.index == 0:
                self.counts.rejected += len(records.rejected)
        return self._phone_numbers

    def chats(self) -> listings.ChatList:
        """The chats this run is about, each once, asked for once."""
        if self._chats is None:
            self._chats = self._list_chats()
            self.counts.chats = len(self._chats.records)
            self.counts.rejected += len(self._chats.records.rejected)
        return self._chats

    def _list_chats(self) -> listings.ChatList:
        settings = self.settings
        per_page = min(settings.page_size, 100)
        readings: dict[Any, Any]
        if settings.chat_ids is not None:
            wanted = [i for i in settings.chat_ids if settings.shard is None or i in settings.shard]
            self.asker.others = lambda: map(listings.ChatRequest, _some(wanted))
            readings = {i: listings.read_one_chat(i) for i in wanted}
        else:
            numbers = self._numbers()
            self.asker.others = lambda: (listings.ListRequest(n, 1, 1) for n in _some(numbers))
            readings = {n: listings.read_chat_list(n, per_page) for n in numbers}
        found = []
        failed: dict[Any, Exception] = {}
        pool: Pool[Any] = Pool(
            iter(readings.items()),
            self.asker.fetch,
            lambda _: None,
            settings.workers,
            self.close,
        )
        for item in pool.run():
            if isinstance(item, Failed):
                failed[item.key] = item.error
            else:
                found.append((str(item.key), item.value))
        if settings.chat_ids is not None:
            for chat_id, error in failed.items():
                self._note_failure(chat_id, error)
        else:
            self._note_failed_numbers(failed, is_all=not found)
        found.sort(key=lambda pair: pair[0])
        joined = listings.join_lists([chat_list for _, chat_list in found])
        records = self._without_forgotten(listings.of_shard(joined.records, settings.shard))
        complete = joined.complete and settings.lists_everything and self._knows_all_numbers()
        return listings.ChatList(records, complete and not failed)

    def _numbers(self) -> tuple[str, ...]:
        """The numbers whose chats are to be listed, as the API writes them.

        Raises `ConfigurationError` for one that the organisation does not have.
        """
        known = tuple(filter(None, listings.numbers_of(self.phone_numbers())))
        asked = self.settings.phone_numbers
        if asked is None:
            return known
        by_form = {normalize_phone(number): number for number in known}
        unknown = [number for number in asked if normalize_phone(number) not in by_form]
        if unknown and self._knows_all_numbers():
            raise ConfigurationError(
                f"phone number {_masked(unknown[:1])} is not one of the organisation's: it has "
                f"{len(known)} ({_masked(known)}); check --phone-number"
            )
        return tuple(dict.fromkeys(by_form.get(normalize_phone(n), n) for n in asked))

    @property
    def lines(self) -> frozenset[str]:
        """Short digests of the organisation's numbers, if they were asked for."""
        return frozenset() if self._phone_numbers is None else self.ask_for_lines()

    @property
    def is_begun(self) -> bool:
        """Whether anything was asked yet."""
        return self.bound_us is not None

    def ask_for_clock(self) -> int:
        """The API's clock."""
        self.phone_numbers()
        return self._bound()

    def ask_for_lines(self) -> frozenset[str]:
        """Short digests of the organisation's numbers."""
        return lines_of(listings.numbers_of(self.phone_numbers()))

    def check_chats(self, known: Iterable[str]) -> None:
        """Raise `ConfigurationError` where the chats listed are certainly of others than `known`.

        That is where most of them are neither listed nor found by their ids.
        """
        chats = self.chats()
        if not chats.complete or self.settings.accept_organisation:
            return
        shard = self.settings.shard
        own = [int(key) for key in known if shard is None or int(key) in shard]
        vanished = most_vanished(own, chats.counts.keys())
        if vanished and not any(map(self._exists, sample(vanished, 3))):
            raise ConfigurationError(
                f"{len(vanished)} of the {len(own)} chats in this dataset no longer exist at "
                f"{self.settings.base_url}: these seem to be another organisation's. Load them "
                "into another dataset with another pipeline name, or, if they are right, accept "
                "them once with --accept-organisation (accept_organisation=True)"
            )

    def _exists(self, chat_id: int) -> bool:
        try:
            request = listings.ChatRequest(chat_id)
            self.client.get(request.path, request.parameters, listings.decode_chat, once=True)
        except ApiContractError as error:
            return error.status not in (403, 404, 410)
        except ApiUnavailableError:
            return True  # as far as anybody can tell
        return True

    def _note_failed_numbers(self, failed: Mapping[str, Exception], *, is_all: bool) -> None:
        """Note the numbers whose chats could not be listed; if no other could be, raise."""
        for error in failed.values():
            if is_all:
                raise (isinstance(error, LinqError) and error.__cause__) or error
        numbers = listings.numbers_of(self.phone_numbers())
        loaded = self.phone_numbers().root
        columns = (loaded["phone_number"].to_pylist(), loaded["id"].to_pylist())
        ids = dict(zip(*columns, strict=True))
        for number, error in failed.items():
            which = ""
            if number in numbers:
                which = f" {numbers.index(number) + 1} of {len(numbers)} (id {ids.get(number)})"
            text = f"phone number{which}: {_told(error)}; its chats count as they were"
            self.counts.numbers_failed.append(text)

    def _without_forgotten(self, chats: Records) -> Records:
        if not self.forgotten:
            return chats
        gone = self.forgotten.chats_of(self.privacy.protect(chats))
        return self.forgotten.without_chats(chats, gone)

    def _knows_all_numbers(self) -> bool:
        """Whether every number in the answer could be read."""
        return None not in listings.numbers_of(self.phone_numbers())

    def _believe_date(self, text: str) -> None:
        """The bound is the server's clock at the last listing answer, or ours if it tells none."""
        try:
            at_us = parse_http_date(text)
        except (ValueError, TypeError):
            at_us = self.now()
        self.bound_us = max(at_us, self.bound_us or at_us)

    def _note_failure(self, chat_id: int, error: Exception) -> str:
        text = str(error) if isinstance(error, LinqError) else f"chat {chat_id}: {_told(error)}"
        self.counts.chats_failed[chat_id] = text
        return text

    def messages(
        self, cursors: MutableMapping[str, str], synced_at_us: int
    ) -> Iterator[dict[str, pa.Table]]:
        """Rows of one package: all that is left to read, or until `max_messages` are loaded.

        `cursors` holds a text per chat id. It says what was loaded of a chat once the rows that
        prove it were taken, that is when the next are asked for. Until then it says of their days
        that they must be loaded again: who takes the rows may stop at any of them.
        """
        todo = self._plan(cursors)
        buffer = Buffer(synced_at_us)
        owners = Owners()
        loaded_before = frozenset(self._loaded_chats)
        buffer.ledger.extend(self._failed_windows(self.counts.chats_failed))
        if not self.settings.is_stateless:
            for window in self._vanished_windows(cursors):
                buffer.ledger.append(window)
                buffer.cursors[str(window.window.chat_id)] = None
        self._loaded_messages = 0
        moved: set[int] = set()
        self.asker.others = self._other_chats
        pool: Pool[int] = Pool(
            self._readings(todo, cursors, loaded_before),
            self.asker.fetch,
            self._wants_more,
            self.settings.workers,
            self.close,
        )
        try:
            for item in pool.run():
                chat_id = item.key
                if isinstance(item, Failed):
                    text = self._note_failure(chat_id, item.error)
                    if not isinstance(item.error, LinqError):
                        self._broken.append(item.error)
                    buffer.ledger.extend(self._failed_windows({chat_id: text}))
                elif isinstance(item, Output):
                    self._take(item.value, buffer)
                    # What the destination cannot have needs nothing replaced.
                    is_new = self.fills_empty_tables and chat_id not in loaded_before
                    buffer.tombstones = buffer.tombstones or not is_new
                    self._loaded_chats.add(chat_id)
                if not isinstance(item, Failed) and item.value.cursor is not None:
                    text = encode(item.value.cursor)
                    if text != buffer.cursors.get(str(chat_id), cursors.get(str(chat_id))):
                        buffer.cursors[str(chat_id)] = text
                        moved.add(chat_id)
                self._settle_todo(item, moved)
                if self.listener is not None:
                    self.listener(self)
                if buffer.is_full:
                    self._leave_out_repeats(buffer, owners)
                    yield from hand_out(buffer, cursors)
        except LinqError as error:
            # What was read until here is whole; whoever owns the package decides about it.
            self.outage = error
        self._raise_if_all_broke()
        self._leave_out_repeats(buffer, owners)
        yield from hand_out(buffer, cursors)

    def _raise_if_all_broke(self) -> None:
        """Raise what broke the reading of several chats where none at all could be read.

        That is no chat's own: it is a fault of this program, or of its surroundings.
        """
        done = self.counts.chats_skipped + self.counts.chats_done
        if len(self._broken) > 1 and len(self._broken) == done:
            raise self._broken[0]

    def _settle_todo(self, item: Any, moved: set[int]) -> None:
        if isinstance(item, Output) or self._todo is None:
            return
        if not isinstance(item, Failed) and not item.value.complete:
            # Stopped for `max_messages`: the next package goes on. Where nothing was won, it
            # must not stop again at the same place.
            if item.key not in moved:
                self._stuck.add(item.key)
            return
        self._todo.pop(item.key, None)
        self.counts.chats_done += 1
        if not isinstance(item, Failed):
            self.asker.failing.discard(str(item.key))

    def _plan(self, cursors: MutableMapping[str, str]) -> dict[int, int | None]:
        """The chats still to be read, with their listed counts; those settled left out."""
        if self._todo is None:
            counts = self.chats().counts
            if not self.settings.is_stateless:
                counts |= self._ask_for_unlisted(cursors)
            self._todo = {
                chat_id: listed
                for chat_id, listed in counts.items()
                if not self._is_settled(chat_id, listed, cursors)
            }
            self.counts.chats_skipped = len(counts) - len(self._todo)
            # Nobody waits for those that failed for long before.
            for chat_id in sorted(chats_of(self.asker.failing) & self._todo.keys()):
                self._todo[chat_id] = self._todo.pop(chat_id)
            if not self.settings.is_stateless:
                for chat_id in self._todo:
                    cursors.setdefault(str(chat_id), "")
        return dict(self._todo)

    def _ask_for_unlisted(self, cursors: MutableMapping[str, str]) -> dict[int, int | None]:
        """Counts of known chats that a complete listing lacks, and that are there all the same.

        A listing may lag or come up short. Only a chat that is not found by its own id either
        has vanished; what is not asked for waits for the next run.
        """
        if not self.chats().complete:
            return {}
        listed, shard = self.chats().counts, self.settings.shard
        missing = sorted(
            int(key)
            for key in cursors
            if int(key) not in listed and (shard is None or int(key) in shard)
        )
        if not missing:
            return {}
        # Each run begins elsewhere, so that every one of them gets its turn.
        first = self._bound() // SECOND_US % len(missing)
        asked = (missing[first:] + missing[:first])[:MAX_ASKED]
        readings: Any = ((chat_id, listings.read_one_chat(chat_id)) for chat_id in asked)
        pool: Pool[Any] = Pool(
            readings, self.asker.fetch, lambda _: None, self.settings.workers, self.close
        )
        found: dict[int, int | None] = {}
        for item in pool.run():
            if isinstance(item, Failed):
                if isinstance(item.error, ChatUnavailableError) and item.error.status in GONE:
                    self._vanished.append(item.key)
                else:
                    self._note_failure(item.key, item.error)
            elif isinstance(item, Finished):
                kept = replace(item.value, records=self._without_forgotten(item.value.records))
                found |= kept.counts
                if item.value.counts and not kept.counts:
                    self._vanished.append(item.key)
        self.counts.chats_unlisted = len(missing) - len(self._vanished)
        return found

    def _is_settled(self, chat_id: int, listed: int | None, cursors: Any) -> bool:
        text = cursors.get(str(chat_id))
        cursor = remembered(text)
        self.counts.cursors_unknown += bool(text) and cursor is None
        if cursor is None or self.settings.is_stateless:
            return False
        settings = self.settings
        return is_settled(cursor, listed, self._bound(), settings.lookback_us, settings.start_us)

    def _bound(self) -> int:
        if self.bound_us is None:
            raise AssertionError("the bound is known once the chats are listed")
        return self.bound_us

    def _readings(
        self,
        todo: dict[int, int | None],
        cursors: MutableMapping[str, str],
        loaded_before: frozenset[int],
    ) -> Iterator[tuple[int, Reading[Any]]]:
        settings = self.settings
        for chat_id, listed in todo.items():
            if not self._wants_more(None):
                return
            task = ChatTask(
                chat_id=chat_id,
                listed=listed,
                cursor=remembered(cursors.get(str(chat_id))),
                bound_us=self._bound(),
                begin_us=settings.start_us,
                end_us=settings.end_us,
                lookback_us=settings.lookback_us,
                per_page=settings.page_size,
                in_one_go=chat_id in self._stuck,
                is_new=self.fills_empty_tables and chat_id not in loaded_before,
                privacy=self.privacy,
            )
            yield chat_id, read_chat(task)

    def _other_chats(self) -> Iterator[Request]:
        """The smallest requests for messages of some chats."""
        for chat_id in _some(self.chats().records.root["id"]):
            yield PageRequest(Window(chat_id.as_py(), None, self._bound()), 1, 1)

    def _wants_more(self, event: Any) -> bool:
        """Whether new windows may be started; counts what an output brings."""
        if isinstance(event, Loaded):
            self._loaded_messages += event.messages
        limit = self.settings.max_messages
        return limit is None or self._loaded_messages < limit

    def _take(self, loaded: Loaded, buffer: Buffer) -> None:
        counts = self.counts
        counts.windows_read += 1
        counts.windows_unchanged += loaded.unchanged
        counts.windows_unverified += not loaded.verified
        counts.windows_loaded += len(loaded.ledger)
        parts, ledger = self._leave_out(loaded)
        counts.add(parts, 1)
        buffer.rows += sum(len(part.records) for part in parts)
        buffer.parts.extend(parts)
        buffer.ledger.extend(ledger)

    def _leave_out_repeats(self, buffer: Buffer, owners: Owners) -> None:
        """Load no message that another chat has, too: a key has one row."""
        parts = owners.leave_out_repeats(buffer.parts)
        self.counts.add(buffer.parts, -1)
        self.counts.add(parts, 1)
        loaded = {part.window: len(part.records) for part in parts}
        buffer.parts = parts
        buffer.ledger = [
            replace(row, messages=loaded.get(row.window, row.messages)) for row in buffer.ledger
        ]

    def _leave_out(self, loaded: Loaded) -> tuple[Sequence[Part], Sequence[LedgerWindow]]:
        """What is loaded, without the rows of forgotten people.

        Digests and counts were made with them, or the books would never close.
        """
        if not self.forgotten.people:
            return loaded.parts, loaded.ledger
        parts, ledger = [], []
        for part, row in zip(loaded.parts, loaded.ledger, strict=True):
            records = self.forgotten.without(part.records)
            if len(records) < len(part.records):
                self.partly_forgotten.add(part.window.chat_id)
            parts.append(Part(part.window, records))
            ledger.append(replace(row, messages=len(records)))
        return parts, ledger

    def _failed_windows(self, failed: dict[int, str]) -> Iterator[LedgerWindow]:
        for chat_id, error in failed.items():
            yield self._note(chat_id, error)

    def _vanished_windows(self, cursors: MutableMapping[str, str]) -> Iterator[LedgerWindow]:
        """A ledger row for every remembered chat that is neither listed nor found by its id."""
        for chat_id in sorted(self._vanished):
            yield self._note(chat_id, VANISHED)
        self._vanished = []

    def _note(self, chat_id: int, error: str) -> LedgerWindow:
        end_us = self.bound_us if self.bound_us is not None else self.now()
        return LedgerWindow(Window(chat_id, None, end_us), 0, 0, 0, 0, 0, False, error)

    def run_row(self, synced_at_us: int) -> dict[str, pa.Table]:
        """The run's row of `sync_runs`."""
        counts = self.counts
        values = {
            "bound": from_us(self._bound()),
            "chats": counts.chats,
            "chats_skipped": counts.chats_skipped,
            "chats_failed": len(counts.chats_failed),
            "windows_read": counts.windows_read,
            "windows_unchanged": counts.windows_unchanged,
            "windows_unverified": counts.windows_unverified,
            "messages": counts.messages,
            "rejected": counts.rejected,
            "requests": self.client.requests,
            "retries": self.client.retries,
            "seconds": round(time.monotonic() - self.started_s, 3),
        }
        return building.run_row(values, synced_at_us)


def _some(items: Sequence[T]) -> list[T]:
    """Some of them at random: the first ones may be those that fail."""
    return [items[i] for i in sample(range(len(items)), min(_OTHERS, len(items)))]


def _masked(numbers: Sequence[str]) -> str:
    """Phone numbers by their last digits."""
    shown = [f"...{normalize_phone(number)[-4:]}" for number in numbers[:10]]
    return ", ".join([*shown, *(["..."] if len(numbers) > 10 else [])])


def _told(error: Exception) -> str:
    """An error in words that quote nothing of what was answered."""
    if isinstance(error, LinqError):
        return str(error)
    frames = extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"its answers could not be read ({type(error).__name__}{where})"
