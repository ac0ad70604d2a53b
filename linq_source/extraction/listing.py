"""Listing the organisation's phone numbers and the chats of a run, each asked for once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace
from functools import cached_property
from random import sample
from typing import Any, TypeVar

from linq_source import tables
from linq_source.api.client import Client
from linq_source.api.failure_scope import Asker
from linq_source.api.pool import Failed, Finished, Pool
from linq_source.decoding.records import Records
from linq_source.errors import (
    ApiContractError,
    ApiUnavailableError,
    ChatUnavailableError,
    ConfigurationError,
    LinqError,
)
from linq_source.extraction.run_counts import Counts, describe_error
from linq_source.instants import SECOND_US, parse_http_date
from linq_source.planning import listings, requests_v2
from linq_source.planning.contracts import contract_of
from linq_source.planning.organisations import digests_of
from linq_source.planning.windows import Page
from linq_source.privacy.forgotten import Forgotten
from linq_source.privacy.hashing import privacy_of
from linq_source.privacy.numbers import normalize_phone
from linq_source.settings import Id, Settings, id_order

# Known chats that a complete listing lacks are asked for one by one, so many in a run.
MAX_ASKED = 1_000
_GONE = (404, 410)
# Of how many other chats, or numbers, one is to be asked when one fails.
_OTHERS = 10

T = TypeVar("T")


@dataclass
class Listing:
    """What the API lists. The bound advances with every answer that lists something.

    `asker` answers the requests of readings. `failing` are chats and numbers that failed for long
    in an earlier run (see `api.failure_scope.subject_of`).
    """

    settings: Settings
    client: Client
    counts: Counts
    forgotten: Forgotten
    now: Callable[[], int]
    failing: InitVar[Iterable[str]]
    asker: Asker = field(init=False)
    _bound_us: int | None = None
    _clock_us: int = 0
    _phone_numbers: Records | None = None
    _chats: listings.ChatList | None = None
    _lines_of: dict[Id, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self, failing: Iterable[str]) -> None:
        self.contract = contract_of(self.settings.api)
        self.asker = Asker(self.client, self._advance_bound, self._note_clock, set(failing))

    @property
    def is_begun(self) -> bool:
        """Whether anything was listed yet."""
        return self._bound_us is not None

    @property
    def bound_us(self) -> int:
        """The upper end of every window."""
        if self._bound_us is None:
            raise AssertionError("the bound is known once something was listed")
        return self._bound_us

    @property
    def elapsed_us(self) -> int:
        """How far the API's clock went since the bound."""
        return max(self._clock_us - self.bound_us, 0)

    @property
    def line_digests(self) -> frozenset[str]:
        """Short digests of the organisation's numbers, if they were asked for."""
        return frozenset() if self._phone_numbers is None else self.ask_for_line_digests()

    def lines_of(self, chat_id: Id) -> frozenset[str]:
        """The phone numbers that list a chat; none where not all of them are known."""
        lines = self._lines_of.get(chat_id, frozenset())
        return lines if self._chats is not None and self._chats.complete else frozenset()

    @property
    def all_lines(self) -> frozenset[str]:
        """The organisation's phone numbers."""
        return frozenset(filter(None, listings.numbers_of(self.phone_numbers())))

    def ask_for_line_digests(self) -> frozenset[str]:
        """Short digests of the organisation's numbers."""
        return digests_of(listings.numbers_of(self.phone_numbers()))

    def ask_for_clock(self) -> int:
        """Return the API's clock, in microseconds UTC."""
        self.phone_numbers()
        return self.bound_us

    def phone_numbers(self) -> Records:
        """Return the organisation's numbers."""
        if self._phone_numbers is None:
            date, records = self.client.get(
                self.contract.phone_numbers_path, {}, self.contract.decode_phone_numbers
            )
            self._advance_bound(date)
            self._phone_numbers = records
            if self.settings.is_first_shard:
                self.counts.rejected += len(records.rejected)
        return self._phone_numbers

    def chats(self) -> listings.ChatList:
        """Return the chats this run is about, each once."""
        if self._chats is None:
            self._chats = self._list_chats()
            if not self.is_begun:
                self.ask_for_clock()
            self.counts.chats = len(self._chats.records)
            self.counts.rejected += len(self._chats.records.rejected)
        return self._chats

    @cached_property
    def contacts(self) -> listings.ChatList | None:
        """The contacts; None where they cannot be read, which concerns nothing else.

        Raises `ApiUnavailableError` where nothing else was listed either.
        """
        first = requests_v2.ContactsRequest(1, self.settings.page_size)
        pool: Pool[str] = Pool(
            [(first.key, listings.read_list(first))],
            self._fetch_contacts,
            lambda _: None,
            self.settings.workers,
        )
        try:
            (item,) = pool.run()
        except (ApiContractError, ApiUnavailableError) as error:
            if not self.is_begun and isinstance(error, ApiUnavailableError):
                raise
            item = Failed(first.key, error)
        if isinstance(item, Failed):
            self.counts.contacts_failed = (
                f"contacts could not be read, which concerns nothing else: "
                f"{describe_error(item.error)}"
            )
            return None
        found: listings.ChatList = item.value
        self.counts.contacts = len(found.records)
        self.counts.rejected += len(found.records.rejected)
        if not found.complete:
            self.counts.contacts_failed = (
                "the list of contacts moved while it was read, or has records without an id: "
                "none of them was marked deleted"
            )
        return found

    def _fetch_contacts(self, request: requests_v2.ContactsRequest) -> Page:
        return self.client.get(request.path, request.parameters, request.read)[1]

    def find_unlisted(self, known: Iterable[Id]) -> tuple[dict[Id, int | None], list[Id]]:
        """Return the marks of known chats that a complete listing lacks, and those that vanished.

        A listing may lag or come up short. Only a chat that is not found by its own id either
        has vanished; what is not asked for waits for the next run.
        """
        found: dict[Id, int | None] = {}
        vanished: list[Id] = []
        listed = self.chats().marks
        unlisted = (chat_id for chat_id in known if chat_id not in listed)
        missing = sorted(filter(self.settings.is_of_shard, unlisted), key=id_order)
        if not missing or not self.chats().complete:
            return found, vanished
        # Each run begins elsewhere, so that every one of them gets its turn.
        first = self.bound_us // SECOND_US % len(missing)
        asked = (missing[first:] + missing[:first])[:MAX_ASKED]
        for item in self.read((chat_id, self.contract.read_one_chat(chat_id)) for chat_id in asked):
            if isinstance(item, Failed):
                if isinstance(item.error, ChatUnavailableError) and item.error.status in _GONE:
                    vanished.append(item.key)
                else:
                    self.counts.add_failure(item.key, item.error)
            elif isinstance(item, Finished):
                kept = replace(item.value, records=self._without_forgotten(item.value.records))
                found |= kept.marks
                if item.value.marks and not kept.marks:
                    vanished.append(item.key)
        self.counts.chats_unlisted = len(missing) - len(vanished)
        return found, vanished

    def has_chat(self, chat_id: Id) -> bool:
        """Return whether a chat is there, as far as anybody can tell."""
        try:
            request = self.contract.chat_request(chat_id)
            self.client.get(request.path, request.parameters, request.read, once=True)
        except ApiContractError as error:
            return error.status not in (403, *_GONE)
        except ApiUnavailableError:
            return True
        return True

    def _list_chats(self) -> listings.ChatList:
        settings = self.settings
        readings: dict[Any, Any]
        if settings.chat_ids is not None:
            wanted = list(filter(settings.is_of_shard, settings.chat_ids))
            self.asker.others = lambda: map(self.contract.chat_request, choose_some(wanted))
            readings = {i: self.contract.read_one_chat(i) for i in wanted}
        else:
            numbers = self._numbers()
            self.asker.others = lambda: map(self.contract.any_chats, choose_some(numbers))
            readings = {n: self.contract.list_chats(n, settings.page_size) for n in numbers}
        found = []
        failed: dict[Any, Exception] = {}
        for item in self.read(readings.items()):
            if isinstance(item, Failed):
                failed[item.key] = item.error
            else:
                found.append((str(item.key), item.value))
        if settings.chat_ids is not None:
            for chat_id, error in failed.items():
                self.counts.add_failure(chat_id, error)
        else:
            self._note_failed_numbers(failed, is_all=not found)
        found.sort(key=lambda pair: pair[0])
        joined = listings.join_lists([chat_list for _, chat_list in found], self.contract.chat)
        records = self._without_forgotten(listings.of_shard(joined.records, settings.shard))
        if settings.lists_everything and not failed:
            records = self._with_lines(records, found)
        complete = joined.complete and settings.lists_everything and self._knows_all_numbers()
        return listings.ChatList(records, complete and not failed)

    def _with_lines(
        self, records: Records, lists: Sequence[tuple[str, listings.ChatList]]
    ) -> Records:
        """Return the chats with the phone numbers that list them; all numbers were asked."""
        for number, chat_list in lists:
            line = frozenset([number])
            for chat_id in chat_list.records.root["id"].to_pylist():
                self._lines_of[chat_id] = self._lines_of.get(chat_id, frozenset()) | line
        loaded = self.phone_numbers().root
        columns = (loaded["phone_number"].to_pylist(), loaded["id"].to_pylist())
        ids = dict(zip(*columns, strict=True))
        return listings.with_lines(
            records,
            [
                (ids[number], number, part.records.root["id"])
                for number, part in lists
                if number in ids
            ],
            self.contract.tables[tables.CHAT_PHONE_NUMBERS.name],
        )

    def read(self, readings: Iterable[tuple[Any, Any]]) -> Iterator[Any]:
        """Run readings, each under its key. Yield what a `Pool` does."""
        pool: Pool[Any] = Pool(
            readings, self.asker.fetch, lambda _: None, self.settings.workers, self.client.close
        )
        return pool.run()

    def _numbers(self) -> tuple[str, ...]:
        """Return the numbers whose chats are to be listed, as the API writes them.

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

    def _knows_all_numbers(self) -> bool:
        """Return whether every number in the answer could be read."""
        return None not in listings.numbers_of(self.phone_numbers())

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
            text = f"phone number{which}: {describe_error(error)}; its chats count as they were"
            self.counts.numbers_failed.append(text)

    def _without_forgotten(self, chats: Records) -> Records:
        if not self.forgotten:
            return chats
        gone = self.forgotten.chats_of(privacy_of(self.settings).protect(chats))
        return self.forgotten.without_chats(chats, gone)

    def _note_clock(self, date: str) -> None:
        self._clock_us = max(self._clock_us, self._read_clock(date))

    def _advance_bound(self, date: str) -> None:
        at_us = self._read_clock(date)
        self._bound_us = max(at_us, self._bound_us or at_us)

    def _read_clock(self, date: str) -> int:
        """Return the server's clock (a `Date` header), or this machine's where it tells none."""
        try:
            return parse_http_date(date)
        except (ValueError, TypeError):
            return self.now()


def choose_some(items: Sequence[T]) -> list[T]:
    """Choose some at random: the first ones may be those that fail."""
    return [items[i] for i in sample(range(len(items)), min(_OTHERS, len(items)))]


def line_end(number: str) -> str:
    """Return the last digits of a phone number, which tell it apart and nobody who has it."""
    return f"...{normalize_phone(number)[-4:]}"


def _masked(numbers: Sequence[str]) -> str:
    """Phone numbers by their last digits."""
    shown = [line_end(number) for number in numbers[:10]]
    return ", ".join([*shown, *(["..."] if len(numbers) > 10 else [])])
