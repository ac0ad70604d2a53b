"""Rows on their way out, and what of the cursors they prove once they were taken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from linq_source.extraction.run_counts import Counts
from linq_source.planning.changes import Part, days_of
from linq_source.planning.chat_cursors import encode, invalidate, remembered
from linq_source.planning.readings import LedgerWindow, WindowToLoad
from linq_source.planning.repeated_ids import Owners
from linq_source.privacy.forgotten import Forgotten
from linq_source.rows import building
from linq_source.settings import Id
from linq_source.tables import Table

# Rows gathered before they are handed on: few, large Arrow tables cost dlt least.
FLUSH_ROWS = 100_000
FLUSH_PARTS = 2_000


@dataclass
class RowBuffer:
    """Rows of one load package, gathered to large tables: some of `tables`, by name.

    `partly_forgotten` collects the chats of which a forgotten person's messages were left out.
    """

    synced_at_us: int
    counts: Counts
    forgotten: Forgotten
    partly_forgotten: set[Id]
    tables: Mapping[str, Table]
    parts: list[Part] = field(default_factory=list)
    ledger: list[LedgerWindow] = field(default_factory=list)
    # What is known of chats once these rows were taken; None: nothing any more.
    cursors: dict[str, str | None] = field(default_factory=dict)
    _rows: int = 0
    _owners: Owners = field(default_factory=Owners)

    @property
    def is_full(self) -> bool:
        """Whether there is enough to hand on."""
        return self._rows >= FLUSH_ROWS or len(self.parts) >= FLUSH_PARTS

    def collect(self, loaded: WindowToLoad) -> None:
        """Gather what of a window is to be loaded."""
        counts = self.counts
        counts.windows_read += 1
        counts.windows_unchanged += loaded.unchanged
        counts.windows_unverified += not loaded.verified
        counts.windows_loaded += len(loaded.ledger)
        parts, ledger = self._leave_out_forgotten(loaded)
        counts.add(parts, 1)
        self._rows += sum(len(part.records) for part in parts)
        self.parts.extend(parts)
        self.ledger.extend(ledger)

    def hand_out(self, cursors: MutableMapping[str, str]) -> Iterator[dict[str, pa.Table]]:
        """Give out what was gathered, and enter what it proves when it was taken."""
        self._leave_out_repeats()
        for part in self.parts:
            key = str(part.window.chat_id)
            known = remembered(cursors.get(key))
            if known is not None:
                cursors[key] = encode(invalidate(known, part.window, days_of(part.records)))
        proved = self.cursors
        yield self._flush()
        for key, text in proved.items():
            if text is None:
                cursors.pop(key, None)
            else:
                cursors[key] = text

    def _flush(self) -> dict[str, pa.Table]:
        """Return everything gathered, as rows; empty tables left out."""
        result = {}
        if self.parts:
            result.update(building.message_rows(self.parts, self.synced_at_us, self.tables))
        if self.ledger:
            result.update(building.ledger_rows(self.ledger, self.synced_at_us, self.tables))
        self.parts, self.ledger, self.cursors = [], [], {}
        self._rows = 0
        return {name: table for name, table in result.items() if table.num_rows}

    def _leave_out_repeats(self) -> None:
        """Load no message that another chat has, too: a key has one row."""
        parts = self._owners.leave_out_repeats(self.parts)
        self.counts.add(self.parts, -1)
        self.counts.add(parts, 1)
        loaded = {part.window: len(part.records) for part in parts}
        self.parts = parts
        self.ledger = [
            replace(row, messages=loaded.get(row.window, row.messages)) for row in self.ledger
        ]

    def _leave_out_forgotten(
        self, loaded: WindowToLoad
    ) -> tuple[Sequence[Part], Sequence[LedgerWindow]]:
        """Return what is loaded, without the rows of forgotten people.

        Digests and counts were made with them, or they would never agree with the API's.
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
