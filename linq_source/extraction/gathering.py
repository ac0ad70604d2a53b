"""Rows on their way out, and what of the cursors they prove once they were taken."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field

import pyarrow as pa

from linq_source.planning.changes import Part, days_of
from linq_source.planning.cursors import doubt, encode, remembered
from linq_source.planning.readings import LedgerWindow
from linq_source.rows import building

# Rows gathered before they are handed on: few, large Arrow tables cost dlt least.
FLUSH_ROWS = 100_000
FLUSH_PARTS = 2_000


@dataclass
class Buffer:
    """Parts and ledger rows waiting to be handed on together."""

    synced_at_us: int
    tombstones: bool = False
    parts: list[Part] = field(default_factory=list)
    ledger: list[LedgerWindow] = field(default_factory=list)
    # What is known of chats once these rows were taken; none: nothing any more.
    cursors: dict[str, str | None] = field(default_factory=dict)
    rows: int = 0

    @property
    def is_full(self) -> bool:
        """Whether there is enough to hand on."""
        return self.rows >= FLUSH_ROWS or len(self.parts) >= FLUSH_PARTS

    def flush(self) -> dict[str, pa.Table]:
        """Everything gathered, as rows; empty tables left out."""
        result = {}
        if self.parts:
            result.update(
                building.message_rows(self.parts, self.synced_at_us, tombstones=self.tombstones)
            )
        if self.ledger:
            result.update(building.ledger_rows(self.ledger, self.synced_at_us))
        self.parts, self.ledger, self.cursors = [], [], {}
        self.rows, self.tombstones = 0, False
        return {name: table for name, table in result.items() if table.num_rows}


def hand_out(buffer: Buffer, cursors: MutableMapping[str, str]) -> Iterator[dict[str, pa.Table]]:
    """Give out what was gathered, and enter what it proves when it was taken."""
    for part in buffer.parts:
        key = str(part.window.chat_id)
        known = remembered(cursors.get(key))
        if known is not None:
            cursors[key] = encode(doubt(known, part.window, days_of(part.records)))
    proved = buffer.cursors
    yield buffer.flush()
    for key, text in proved.items():
        if text is None:
            cursors.pop(key, None)
        else:
            cursors[key] = text
