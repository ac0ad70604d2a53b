"""The session of a source: what its resources share, and what they remember in dlt's state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import dlt
import pyarrow as pa
from dlt.common.storages.exceptions import CurrentLoadPackageStateNotAvailable
from dlt.extract import DltResource

from linq_source.decoding.records import Records
from linq_source.destinations.dataset_tables import check_api
from linq_source.destinations.kinds import destination_of
from linq_source.destinations.load_dialect import in_the_dialect
from linq_source.destinations.new_columns import NO_COLUMNS
from linq_source.destinations.unlisted_rows import unlisted_rows
from linq_source.errors import ConfigurationError
from linq_source.extraction import Extraction, Listener
from linq_source.extraction.evidence import LastRead
from linq_source.extraction.organisation import check_chats, check_lines
from linq_source.instants import SECOND_US, to_us
from linq_source.planning import listings
from linq_source.planning.contracts import contract_of
from linq_source.planning.takeover import NOTHING_INHERITED, kept_packages
from linq_source.privacy.forgotten import forgotten_from
from linq_source.privacy.hashing import PLAIN, privacy_of
from linq_source.rows import building
from linq_source.settings import Api, Settings, id_of
from linq_source.source.last_read import last_read, remember_read
from linq_source.source.schema import (
    apply_table_format,
    is_known,
    make_resource,
    note_fields,
    unknown_columns,
    without_tombstones,
)
from linq_source.state_keys import (
    BOUND,
    FAILING,
    FORGOTTEN,
    KNOWN_PACKAGES,
    LINES,
    LOOKED_US,
    PRIVACY,
    SETTLED,
    SYNCED_AT_US,
)
from linq_source.tables import SYNC_RUNS

# How far this machine's clock may be ahead of the API's.
MOST_CLOCK_DRIFT_US = 3600 * SECOND_US


class Session:
    """The resources of one source, and the extraction they share within a load package.

    `sync` keeps one extraction over several packages (`keep`); otherwise each package, that is
    each run of a pipeline, begins a new one.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._contract = contract_of(settings.api)
        self._tables = self._contract.resource_tables
        self.extraction: Extraction | None = None
        self.keep = False
        self.listener: Listener | None = None
        self._privacy = privacy_of(settings).fingerprint
        self._package: str | None = None
        self._entered: set[str] = set()
        self._open = 0
        self._synced_at_us = 0
        # What other pipelines left in the same dataset; taken over once.
        self.inheritance = NOTHING_INHERITED
        # Whether it was looked for, and the package that then took it over.
        self.has_looked = False
        self._looked_us = 0
        # What the destination has beyond the contract, whoever loaded it.
        self.new_columns = NO_COLUMNS
        # Up to where the destination was settled when the reading began; 0: not known.
        self.settled_us = 0
        # The bound of the newest run, where this machine does not know it; None: nobody does.
        self.read_until_us: int | None = None

    def resources(self) -> list[DltResource]:
        """Return the resources, every table of theirs with its own hints."""
        generators = {
            "phone_numbers": self._phone_numbers,
            "chats": self._chats,
            "chat_messages": self._chat_messages,
            "contacts": self._contacts,
        }
        found = [
            make_resource(name, self._tables[name], generator)
            for name, generator in generators.items()
            if name in self._tables
        ]
        for resource in found:
            resource.selected = resource.name != "contacts" or self.settings.contacts
        return found

    def close(self) -> None:
        """Close the extraction, if one is open."""
        if self.extraction is not None:
            self.extraction.close()

    @contextmanager
    def _joined(self, resource: str) -> Iterator[Extraction]:
        """The extraction of the load package under way."""
        package = _load_id()
        self._check_privacy()
        is_new = package != self._package or resource in self._entered
        if is_new or self.extraction is None:
            is_new = True
            if package is not None and not self.keep:
                _check_destination(self.settings.api)
            self._package = package
            self._entered = set()
            if self.inheritance.forgotten is not None:
                dlt.current.source_state().setdefault(FORGOTTEN, dict(self.inheritance.forgotten))
            if self.extraction is None or not self.keep:
                self.close()
                state = dlt.current.source_state()
                self.extraction = Extraction(
                    self.settings,
                    _now_us,
                    self.listener,
                    forgotten_from(state.get(FORGOTTEN)),
                    state.get(FAILING, ()),
                    LastRead() if package is None else last_read(self.read_until_us),
                )
        self._entered.add(resource)
        self._open += 1
        try:
            if is_new:
                self._synced_at_us = self._next_instant(self.extraction)
            known = dlt.current.source_state().get(LINES) or self.inheritance.lines
            check_lines(self.extraction.listing, known)
            yield self.extraction
        finally:
            self._open -= 1
            if self._open == 0 and not self.keep and self.extraction is not None:
                self.extraction.release()

    def _next_instant(self, extraction: Extraction) -> int:
        """`synced_at` of a package: now, but always later than every one before it.

        Where this machine's clock went further since the newest package than the API's did, the
        API's counts: a clock that is wrong for one run would leave all later ones in the future.
        """
        state = dlt.current.source_state()
        own_us = int(state.get(SYNCED_AT_US, 0))
        now_us = _now_us() - extraction.clock_ahead_us
        if (
            BOUND in state
            and now_us - own_us > MOST_CLOCK_DRIFT_US
            and not extraction.listing.is_begun
        ):
            elapsed_us = max(extraction.listing.ask_for_clock() - int(state[BOUND]), 0)
            ahead_us = now_us - own_us - elapsed_us
            if ahead_us > MOST_CLOCK_DRIFT_US:
                extraction.clock_ahead_us = ahead_us
                now_us -= ahead_us
        return max(now_us, own_us + 1, self.inheritance.synced_at_us + 1)

    def _check_privacy(self) -> None:
        """Raise `ConfigurationError` where rows of another treatment are loaded already."""
        state = dlt.current.source_state()
        own = state.get(PRIVACY, PLAIN.fingerprint) if SYNCED_AT_US in state else None
        was = own or self.inheritance.privacy
        if was is not None and was != self._privacy:
            raise ConfigurationError(
                f"phones={self.settings.phones}, text={self.settings.text} or the privacy_key is "
                f"not what this dataset was loaded with ({was.split(':')[0]}), and old rows would "
                "keep their form: put it back, or load into a new dataset with a new pipeline name"
            )

    def _phone_numbers(self) -> Iterator[Any]:
        with self._joined("phone_numbers") as extraction:
            if self.settings.is_first_shard:
                found = extraction.privacy.protect(extraction.listing.phone_numbers())
                found = extraction.forgotten.without(found)
                yield from self._changed("phone_numbers", found)
            else:
                yield from self._emit("phone_numbers", {})

    def _chats(self) -> Iterator[Any]:
        with self._joined("chats") as extraction:
            found = extraction.privacy.protect(extraction.listing.chats().records)
            found = extraction.forgotten.without(found)
            yield from self._changed("chats", found)

    def _contacts(self) -> Iterator[Any]:
        with self._joined("contacts") as extraction:
            listed = extraction.listing.contacts if self.settings.is_first_shard else None
            if listed is None:
                yield from self._emit("contacts", {})
                return
            found = extraction.forgotten.without(extraction.privacy.protect(listed.records))
            yield from self._changed("contacts", found, listed)

    def _changed(
        self, resource: str, records: Any, listed: listings.ChatList | None = None
    ) -> Iterator[Any]:
        """Rows of the groups whose digest is not the one in the state.

        Where they are those of a complete list, `listed`, other rows are marked deleted if any
        group changed.

        dlt may close this generator at any of the tables and keeps the state: digests are entered
        when all were taken, and what is about to change is unknown until then.
        """
        known: Mapping[str, str] = {}
        digests: dict[str, str] = {}
        if self.settings.is_stateless:
            changed = records
        else:
            state = dlt.current.resource_state(resource)
            known = listings.without_groups(
                state.get("digests", {}), self._rewritten(resource, records)
            )
            changed, digests = listings.changed_groups(records, known)
            if listed is not None and not listed.complete:
                digests |= listings.NOT_COMPARED
            kept = dict(known.items() & digests.items())
            if listed is not None and kept != digests:
                kept |= listings.NOT_COMPARED
            state["digests"] = kept
        is_any = len(changed) or changed.rejected
        found = (
            building.list_rows(changed, self._synced_at_us, self._contract.tables) if is_any else {}
        )
        yield from self._emit(resource, found)
        if listed is not None and listed.complete and known != digests:
            yield from self._mark_gone(listed.records)
        if not self.settings.is_stateless:
            state["digests"] = digests

    def _mark_gone(self, listed: Records) -> Iterator[Any]:
        """The rows in the destination that a complete list does not have, marked deleted."""
        table = listed.shape.root
        known = dlt.current.source_schema().tables.get(table.name, {})
        if not known.get("x-normalizer"):
            return
        columns = {
            name: column["data_type"]
            for name, column in known["columns"].items()
            if "data_type" in column and not name.startswith("_dlt")
        }
        ids = {*listed.root["id"].to_pylist(), *(lost.id for lost in listed.rejected)}
        rows = unlisted_rows(dlt.current.pipeline(), table, columns, ids)
        if rows.num_rows:
            self._remember_package()
            rows = building.marked_rows(rows, self._synced_at_us)
            yield in_the_dialect(rows, table)

    def _rewritten(self, resource: str, records: Any) -> set[Any]:
        """Ids of the records whose rows others loaded or marked since; told once."""
        found = dict(self.inheritance.rewritten)
        gone = found.pop(resource, frozenset())
        self.inheritance = replace(self.inheritance, rewritten=found)
        return set(gone) & set(records.root["id"].to_pylist()) if gone else set()

    def _chat_messages(self) -> Iterator[Any]:
        with self._joined("chat_messages") as extraction:
            state = dlt.current.resource_state("chat_messages")
            cursors: MutableMapping[str, str] = state.setdefault("cursors", {})
            check_chats(extraction, cursors)
            self._take_over(extraction, cursors)
            for found in extraction.messages(cursors, self._synced_at_us):
                self._remember_partly_forgotten(extraction)
                self._unlearn_vanished(extraction)
                yield from self._emit("chat_messages", found)
            yield from self._emit("chat_messages", {})
            self._remember_failing(extraction)
            if extraction.is_complete and self._package is not None:
                remember_read(extraction, cursors)
            if extraction.outage is not None and not self.keep:
                raise extraction.outage
            if extraction.is_complete or extraction.outage is not None or not self.keep:
                found = extraction.run_row(self._synced_at_us)
                yield from self._emit("chat_messages", found)

    def _unlearn_vanished(self, extraction: Extraction) -> None:
        """Have chats that vanished loaded again when they return: their rows are marked deleted.

        Where the chats are loaded in the same package, their digests show it.
        """
        if extraction.vanished and "chats" not in self._entered:
            state = dlt.current.resource_state("chats")
            known = state.get("digests", {})
            state["digests"] = listings.without_groups(known, extraction.vanished)

    def _remember_partly_forgotten(self, extraction: Extraction) -> None:
        if extraction.partly_forgotten - extraction.forgotten.partly:
            forgotten = extraction.forgotten.with_chats((), extraction.partly_forgotten)
            dlt.current.source_state()[FORGOTTEN] = forgotten.to_state()

    def _take_over(self, extraction: Extraction, cursors: MutableMapping[str, str]) -> None:
        """Put cursors of other pipelines, and those with stale days, in the place of its own."""
        found, self.inheritance = (
            self.inheritance,
            replace(self.inheritance, cursors={}, known_packages_us=frozenset()),
        )
        if self.settings.is_stateless:
            return
        listed = extraction.listing.chats()
        for key, text in found.cursors.items():
            is_sibling = listed.complete and key in found.siblings
            if key in cursors or id_of(key) in listed.marks or is_sibling:
                cursors[key] = text
        state = dlt.current.source_state()
        if self.has_looked:
            self._looked_us, self.has_looked = self._synced_at_us, False
            if found.known_packages_us or self._is_remembered(state):
                state[LOOKED_US] = self._looked_us
        if found.known_packages_us:
            self._remember_packages(found.known_packages_us)

    def _remember_failing(self, extraction: Extraction) -> None:
        state = dlt.current.source_state()
        failing = sorted(extraction.asker.failing)
        if failing != state.get(FAILING, []):
            state[FAILING] = failing

    def _remember_packages(self, packages_us: Iterable[int]) -> None:
        state = dlt.current.source_state()
        state[KNOWN_PACKAGES] = kept_packages(
            [*state.get(KNOWN_PACKAGES, ()), *packages_us],
            state.get(LOOKED_US, self._synced_at_us),
        )

    def _is_remembered(self, state: Mapping[str, Any]) -> bool:
        """Whether the package under way is the newest that the state knows."""
        return bool(state.get(SYNCED_AT_US) == self._synced_at_us)

    def _emit(self, resource: str, found: Mapping[str, pa.Table]) -> Iterator[Any]:
        """Rows for dlt, each for its table; without any, tables that lack columns, without rows."""
        schema = dlt.current.source_schema()
        if apply_table_format(self._tables[resource]) is not None:
            # Children are merged by their own keys: there is nothing a tombstone would remove.
            found = {name: without_tombstones(table) for name, table in found.items()}
        if not found:
            found = {
                table.name: table.schema.empty_table()
                for table in self._tables[resource]
                if not is_known(schema, table)
            }
        types = unknown_columns(schema, found, self.new_columns, self._contract.tables)
        by_name = {table.name: table for table in self._tables[resource]}
        if any(table.num_rows and name != SYNC_RUNS.name for name, table in found.items()):
            self._remember_package()
        for name, table in found.items():
            rows = types.fit(name, table)
            note_fields(name, types.fields(name), rows.column_names)
            yield in_the_dialect(rows, by_name[name])

    def _remember_package(self) -> None:
        """Enter the instant and the privacy of the rows, before the first of them is taken."""
        state = dlt.current.source_state()
        if not self._is_remembered(state):
            state[SYNCED_AT_US] = self._synced_at_us
            if self.extraction is not None and self.extraction.listing.is_begun:
                state[BOUND] = self.extraction.listing.bound_us
            if self._looked_us:
                state[LOOKED_US] = self._looked_us
            self._remember_packages([self._synced_at_us])
            if self.settled_us:
                state[SETTLED] = {str(self.settings.shard): self.settled_us}
        if self._privacy != PLAIN.fingerprint:
            state[PRIVACY] = self._privacy
        if self.extraction is not None and (digests := self.extraction.listing.line_digests):
            if sorted(digests) != state.get(LINES):
                state[LINES] = sorted(digests)


def _load_id() -> str | None:
    """Return the id of the load package; None where resources are iterated without a pipeline."""
    try:
        return dlt.current.load_package_state()["load_id"]
    except CurrentLoadPackageStateNotAvailable:
        return None


def _check_destination(api: Api) -> None:
    """Raise `ConfigurationError` where the pipeline under way could load nothing that it reads."""
    pipeline = dlt.current.pipeline()
    if pipeline.destination is not None:
        destination_of(pipeline).check_name()
        check_api(pipeline, api)


def _now_us() -> int:
    return to_us(datetime.now(UTC))
