"""What a pipeline takes over from others that load into the same dataset.

A pipeline's cursors and digests describe the tables as it left them. Where another pipeline
loaded rows of the same chats since (other shards than before, a backfill, a package whose worker
died with its disk), they no longer do: those days are stale, that is loaded again when next
read. Where another pipeline knows a chat better, its memory of the chat is taken over.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from linq_source.instants import DAY_US, floor_day
from linq_source.planning.chat_cursors import (
    STALE,
    Cursor,
    Reconciled,
    Segment,
    encode,
    invalidate,
    remembered,
)
from linq_source.planning.windows import Window
from linq_source.settings import Shard, id_of

# Packages of this time before a pipeline's newest are looked for: another worker's
# clock may be behind, and its package may have landed later than its `synced_at`.
OVERLAP_US = DAY_US
MOST_PACKAGES = 200


@dataclass(frozen=True)
class PipelineMemory:
    """What a pipeline's state says. `known_packages_us` are the packages (`synced_at`) it knows of.

    Its own, and those of others that it took into account, when it last looked for them: its
    newest package then was of `looked_us`.
    """

    pipeline_name: str
    synced_at_us: int = 0
    looked_us: int = 0
    known_packages_us: frozenset[int] = frozenset()
    cursors: Mapping[str, str] = field(default_factory=dict)
    forgotten: Mapping[str, Any] | None = None
    privacy: str | None = None
    lines: frozenset[str] = frozenset()

    @property
    def since_us(self) -> int:
        """From where on packages that it does not know of are looked for."""
        since_us = max((self.looked_us or self.synced_at_us) - OVERLAP_US, 0)
        return (
            max(since_us, min(self.known_packages_us))
            if len(self.known_packages_us) >= MOST_PACKAGES
            else since_us
        )

    def knows(self, synced_at_us: int) -> bool:
        """Return whether it took a package into account."""
        return synced_at_us in self.known_packages_us or synced_at_us <= self.since_us


@dataclass(frozen=True, slots=True)
class LoadedWindow:
    """A ledger row: a window of which somebody loaded `messages` messages."""

    window: Window
    messages: int
    synced_at_us: int
    failed: bool


@dataclass(frozen=True)
class Inheritance:
    """What a pipeline has to take into account before it reads.

    `cursors` stand in for its own. Those of `siblings`, the shards of another division of the
    same pipeline, count although their chat is not listed: it vanished in between. Rows whose id
    is in `rewritten` (per table) are loaded whatever their digest says. `lines` are the numbers of
    the organisation that the siblings loaded.
    """

    synced_at_us: int = 0
    known_packages_us: frozenset[int] = frozenset()
    cursors: Mapping[str, str] = field(default_factory=dict)
    siblings: frozenset[str] = frozenset()
    rewritten: Mapping[str, frozenset[Any]] = field(default_factory=dict)
    forgotten: Mapping[str, Any] | None = None
    privacy: str | None = None
    lines: frozenset[str] = frozenset()


NOTHING_INHERITED = Inheritance()


def kept_packages(packages_us: Iterable[int], newest_us: int) -> list[int]:
    """Return the packages to remember: those of the last day, the newest first to be kept."""
    recent = sorted(at_us for at_us in set(packages_us) if at_us > newest_us - OVERLAP_US)
    return recent[-MOST_PACKAGES:]


def since_of(
    memories: Sequence[PipelineMemory], shard: Shard | None, touched: frozenset[str] | None = None
) -> int:
    """From where on the ledger is needed to judge what is remembered best of the chats."""
    best = _best(memories, shard)
    keys = best.keys() if touched is None else best.keys() & touched
    latest_us = max((memory.synced_at_us for memory in memories), default=0)
    return min((best[key].since_us for key in keys), default=latest_us)


def inherit(
    own: PipelineMemory,
    others: Sequence[PipelineMemory],
    loaded: Sequence[LoadedWindow],
    shard: Shard | None = None,
    touched: frozenset[str] | None = None,
) -> Inheritance:
    """Return the cursors that change, and what a fresh pipeline has to respect.

    `loaded` are the ledger's windows of the shard's chats, from before anybody's `since_us` on.
    `touched` are the chats that others loaded; None: any that somebody remembers.
    """
    windows = defaultdict(list)
    for row in loaded:
        windows[str(row.window.chat_id)].append(row)
    best = _best([own, *others], shard)
    is_fresh = not own.synced_at_us
    keys = best.keys() if touched is None else best.keys() & touched
    cursors = {}
    siblings = set()
    for key in keys:
        memory = best[key]
        text = _invalidated(memory, key, windows.get(key, ()))
        if text is None or text == own.cursors.get(key):
            continue
        cursors[key] = text
        if (
            memory is not own
            and is_fresh
            and _base(memory.pipeline_name) == _base(own.pipeline_name)
        ):
            siblings.add(key)
    latest = max([own, *others], key=lambda memory: memory.synced_at_us)
    forgetting = [memory.forgotten for memory in others if memory.forgotten]
    return Inheritance(
        synced_at_us=max([latest.synced_at_us, *(row.synced_at_us for row in loaded)]),
        known_packages_us=frozenset(
            row.synced_at_us for row in loaded if not own.knows(row.synced_at_us)
        ),
        cursors=cursors,
        siblings=frozenset(siblings),
        forgotten=max(forgetting, key=_size, default=None) if is_fresh else None,
        privacy=latest.privacy if is_fresh else None,
        lines=_lines_of_siblings(own, others) if is_fresh else frozenset(),
    )


def _best(memories: Sequence[PipelineMemory], shard: Shard | None) -> dict[str, PipelineMemory]:
    """Whose memory of each chat is the newest."""
    best: dict[str, PipelineMemory] = {}
    for memory in sorted(memories, key=lambda memory: memory.synced_at_us):
        for key, text in memory.cursors.items():
            if text and (shard is None or id_of(key) in shard):
                best[key] = memory
    return best


def _invalidated(memory: PipelineMemory, key: str, loaded: Iterable[LoadedWindow]) -> str | None:
    cursor = remembered(memory.cursors[key])
    if cursor is None:
        return None
    for row in loaded:
        if not memory.knows(row.synced_at_us):
            cursor = _doubted(cursor, row)
    return encode(cursor)


def _doubted(cursor: Cursor, row: LoadedWindow) -> Cursor:
    """Return the cursor after a window was loaded that it does not account for.

    Messages that came there may be gone again. So what follows the newest one known has to be
    proved empty when it is next read, and the chat is read though its count is the same.
    """
    newest_us = cursor.newest_us
    cursor = invalidate(cursor, row.window, _days(row, cursor))
    if not row.messages or newest_us is None:
        return cursor
    if cursor.reconciled is Reconciled.RESTING:
        cursor = replace(cursor, reconciled=Reconciled.YES)
    start_us = _end_of_day(newest_us)
    days = {s: digest for s, digest in cursor.days.items() if s.end_us <= start_us}
    end_us = max([row.window.end_us, *(s.end_us for s in cursor.days if s not in days)])
    if start_us < end_us:
        days[Segment(start_us, end_us)] = STALE
    return replace(cursor, days=days)


def _days(row: LoadedWindow, cursor: Cursor) -> Iterable[int]:
    """Midnights of the days, to the newest message's, that a window may have brought some to."""
    if not row.messages or cursor.newest_us is None or cursor.lookback_start_us is None:
        return ()
    start_us = max(cursor.lookback_start_us, row.window.start_us or cursor.lookback_start_us)
    end_us = min(row.window.end_us, _end_of_day(cursor.newest_us))
    return range(floor_day(start_us), end_us, DAY_US)


def _end_of_day(instant_us: int) -> int:
    return floor_day(instant_us) + DAY_US


def _lines_of_siblings(own: PipelineMemory, others: Sequence[PipelineMemory]) -> frozenset[str]:
    """Another pipeline may load another organisation, a shard of the same may not."""
    base = _base(own.pipeline_name)
    known = [memory.lines for memory in others if _base(memory.pipeline_name) == base]
    return frozenset().union(*known)


def _base(pipeline_name: str) -> str:
    return re.sub(r"_\d+_of_\d+$", "", pipeline_name)


def _size(forgotten: Mapping[str, Any]) -> int:
    return len(forgotten.get("people", ())) + len(forgotten.get("chats", ()))
