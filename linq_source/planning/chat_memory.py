"""A chat's memory while it is read: what each window adds to it, and what is to be loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from linq_source.instants import DAY_US, floor_day
from linq_source.planning.changes import (
    changed_parts,
    count_before,
    days_of,
    newest_of,
    segments_of,
)
from linq_source.planning.cursors import (
    DOUBTED,
    Closed,
    Content,
    Cursor,
    Segment,
    age,
    doubt,
    lookback_start,
    usable,
)
from linq_source.planning.readings import ChatTask, Loaded, ledger_row, load_whole
from linq_source.planning.walking import WindowRead
from linq_source.planning.windows import Window


@dataclass
class Book:
    """A chat's memory while it is read: entered window by window, in order of time."""

    task: ChatTask
    cursor: Cursor = field(init=False)
    prior: Cursor | None = field(init=False)
    span: Window = field(init=False)
    contiguous: bool = True
    windows: int = 0
    beyond: int = 0
    received: int = 0

    def __post_init__(self) -> None:
        task = self.task
        self.prior = usable(task.cursor, task.begin_us)
        known = self.prior or Cursor(begin_us=task.begin_us)
        start_us = known.begin_us
        end_us = task.bound_us
        newest_us = known.newest_us
        if newest_us is not None:
            lookback_us = lookback_start(newest_us, task.lookback_us)
            start_us = lookback_us if start_us is None else max(start_us, lookback_us)
            if known.edge_us is not None and start_us < known.edge_us:
                again = {Segment(start_us, known.edge_us): DOUBTED}
                known = replace(known, edge_us=start_us, days=again | dict(known.days))
            # A clock that went back must not hide what was read before.
            end_us = max(end_us, newest_us + 1)
        self.cursor = replace(age(known, task.lookback_us), closed=Closed.OPEN, listed=task.listed)
        self.span = Window(task.chat_id, start_us, end_us)

    def enter(self, read: WindowRead) -> Loaded:
        """Take in a window of the span; gives what of it is to be loaded."""
        self.windows += 1
        self.beyond = read.beyond
        if not read.verified or not self.contiguous:
            self.contiguous = False
            self.cursor = doubt(self.cursor, read.window, days_of(read.records))
            return load_whole(read, self.cursor)
        self.received += read.messages
        fresh = self._is_fresh(read.window)
        window, lookback_us = read.window, self.task.lookback_us
        known = {s: c for s, c in self.cursor.days.items() if self._lies_in(s.start_us, window)}
        kept = {s: c for s, c in self.cursor.days.items() if s not in known}
        prior_us = None if self.prior is None else self.prior.newest_us
        if not fresh and self._is_first and prior_us is not None:
            # Beyond what was read, an empty stretch is to be proved empty as well.
            behind_us = max(floor_day(prior_us) + DAY_US, _start_of(window))
            if behind_us < window.end_us:
                known.setdefault(Segment(behind_us, window.end_us), DOUBTED)
        if window.end_us < self.span.end_us:
            kept |= {
                Segment(window.end_us, s.end_us): DOUBTED for s in known if s.end_us > window.end_us
            }
        newest = [at for at in (self.cursor.newest_us, newest_of(read)) if at is not None]
        newest_us = max(newest) if newest else None
        edge_us = window.end_us if newest_us is None else lookback_start(newest_us, lookback_us)
        found = segments_of(read, edge_us if fresh else _start_of(window), self.span.end_us)
        new = {segment: content for segment, (content, _) in found.items()}
        older = self.cursor.older
        older += count_before(read, edge_us) if fresh else -self._counted_before(new)
        cursor = replace(self.cursor, newest_us=newest_us, older=older, days=kept | new)
        self.cursor = age(cursor, lookback_us)
        if fresh and (read.messages or self._is_first):
            return load_whole(read, self.cursor)
        parts = changed_parts(read, known, found)
        ledger = tuple(
            ledger_row(read, part, part.records.received, first=index == 0)
            for index, part in enumerate(parts)
        )
        unchanged = sum(known.get(s) == content for s, (content, _) in found.items())
        return Loaded(tuple(parts), ledger, self.cursor, True, unchanged)

    @property
    def _is_first(self) -> bool:
        """Whether the chat was never read to a bound since its reading began."""
        prior = self.prior
        return prior is None or prior.newest_us is None or prior.closed is Closed.OPEN

    @property
    def in_days(self) -> int:
        """How many messages the days inside the lookback have."""
        return sum(content.count for content in self.cursor.days.values())

    def _is_fresh(self, window: Window) -> bool:
        """Whether nothing of a window can have been read before: it is loaded whole."""
        if self.prior is None or self.prior.newest_us is None:
            return True
        return window.start_us is not None and self.prior.newest_us < window.start_us

    def _counted_before(self, new: Mapping[Segment, Content]) -> int:
        """What a larger lookback than before reads again, already counted among the older."""
        edge_us = self.prior.edge_us if self.prior is not None else None
        if edge_us is None:
            return 0
        return sum(content.count for segment, content in new.items() if segment.start_us < edge_us)

    def _lies_in(self, instant_us: int, window: Window) -> bool:
        return instant_us in window or (
            window.end_us == self.span.end_us and instant_us >= window.end_us
        )


def _start_of(window: Window) -> int:
    return window.end_us if window.start_us is None else window.start_us
