"""A chat's progress while it is read: what each window adds to it, and what is to be loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from linq_source.decoding.records import Records
from linq_source.instants import DAY_US, END_US, MIN_US, floor_day
from linq_source.planning.changes import (
    arrived_late,
    changed_parts,
    count_before,
    count_until,
    days_of,
    history_of,
    late_of,
    newest_id_of,
    newest_of,
    oldest_of,
    parts_from,
    segments_of,
)
from linq_source.planning.chat_cursors import (
    LATE_DAYS,
    LATE_US,
    STALE,
    Cursor,
    DayDigest,
    Late,
    Reconciled,
    Segment,
    age,
    invalidate,
    lookback_start,
    usable,
)
from linq_source.planning.digests import digest_records
from linq_source.planning.readings import (
    ChatTask,
    WindowToLoad,
    earliest,
    keeping,
    ledger_row,
    load_whole,
    prove_nothing,
)
from linq_source.planning.window_reading import WindowRead
from linq_source.planning.windows import Window


@dataclass(frozen=True)
class _Held:
    """What of a window is to be loaded, and what its ledger rows prove.

    `touched` are the segments whose digests they make true. A window that `has_unknown` is not
    described by digests alone: the tables may hold more of it than the cursor knows.
    """

    loaded: WindowToLoad
    touched: frozenset[Segment] = frozenset()
    has_unknown: bool = False
    is_ahead: bool = False


@dataclass
class ChatProgress:
    """A chat's progress while it is read: entered window by window, in order of time.

    What a window brings is held until it is known whether it proves deletions. `is_unproven`
    tells that what lies before the lookback was loaded without that proof. `first_us` is the
    `sent_at` of the oldest message listed in this reading, `oldest_us` that of the oldest that did
    not arrive late; `has_losses` tells that messages known before may be gone.
    """

    task: ChatTask
    cursor: Cursor = field(init=False)
    prior: Cursor | None = field(init=False)
    span: Window = field(init=False)
    is_unproven: bool = field(init=False)
    all_verified: bool = True
    windows: int = 0
    count_after_end: int = 0
    received: int = 0
    is_ahead_read: bool = False
    has_told_lag: bool = False
    first_us: int | None = None
    oldest_us: int | None = None
    has_losses: bool = False
    _held: list[_Held] = field(default_factory=list)

    def __post_init__(self) -> None:
        task = self.task
        self.prior = usable(task.cursor, task.begin_us)
        seen = task.cursor or Cursor()
        # Which messages were seen stays true where history now begins earlier.
        known = self.prior or Cursor(
            begin_us=task.begin_us, newest_id=seen.newest_id, late=seen.late
        )
        start_us = known.begin_us
        end_us = task.bound_us
        newest_us = known.newest_us
        if newest_us is not None:
            lookback_us = self._lookback_start(newest_us)
            start_us = lookback_us if start_us is None else max(start_us, lookback_us)
            if known.lookback_start_us is not None and start_us < known.lookback_start_us:
                again = {Segment(start_us, known.lookback_start_us): STALE}
                known = replace(
                    known, lookback_start_us=start_us, days=again | dict(known.days), history=None
                )
            # A clock that went back must not hide what was read before.
            end_us = max(end_us, newest_us + 1)
        self.is_unproven = known.reconciled is Reconciled.UNCONFIRMED
        self.cursor = replace(
            age(known, task.lookback_us, task.bound_us),
            reconciled=Reconciled.UNCONFIRMED if self.is_unproven else Reconciled.NO,
            change_mark=task.change_mark,
        )
        self.span = Window(task.chat_id, start_us, end_us)

    def enter(self, read: WindowRead) -> None:
        """Take in a window of the span, and hold what of it is to be loaded."""
        self.windows += 1
        self.count_after_end = read.count_after_end
        late = self.cursor.late
        self.see(read.records)
        if not read.verified or not self.all_verified:
            self.all_verified = False
            self.cursor = invalidate(self.cursor, read.window, days_of(read.records))
            self._held.append(_Held(load_whole(read, self.cursor)))
            return
        self.received += read.messages
        fresh = self._is_fresh(read.window)
        window = read.window
        known = {s: c for s, c in self.cursor.days.items() if self._lies_in(s.start_us, window)}
        kept = {s: c for s, c in self.cursor.days.items() if s not in known}
        prior_us = None if self.prior is None else self.prior.newest_us
        # What lay ahead of the last bound may have gone before this one passed it.
        was_ahead = (
            self.prior is not None
            and self.prior.ahead is not None
            and self.prior.change_mark != self.task.change_mark
        )
        if not fresh and (self._is_first or was_ahead) and prior_us is not None:
            # After what was read, an empty stretch is to be proved empty as well.
            behind_us = max(floor_day(prior_us) + DAY_US, _start_of(window))
            if behind_us < window.end_us:
                known.setdefault(Segment(behind_us, window.end_us), STALE)
        if window.end_us < self.span.end_us:
            kept |= {
                Segment(window.end_us, s.end_us): STALE for s in known if s.end_us > window.end_us
            }
        newest = [at for at in (self.cursor.newest_us, newest_of(read)) if at is not None]
        newest_us = max(newest) if newest else None
        start_us = window.end_us if newest_us is None else self._lookback_start(newest_us)
        found = segments_of(read, start_us if fresh else _start_of(window), self.span.end_us)
        new = {segment: content for segment, (content, _) in found.items()}
        count = self.cursor.count_before_lookback
        count += count_before(read, start_us) if fresh else -self._counted_before(new)
        cursor = replace(
            self.cursor, newest_us=newest_us, count_before_lookback=count, days=kept | new
        )
        if window.start_us == self.cursor.begin_us:
            # What follows is read today, too, or by a later run that goes on from here.
            cursor = replace(
                cursor, checked_day=self.task.bound_us // DAY_US, oldest_us=self.first_us
            )
            if window.end_us == self.span.end_us:
                cursor = replace(cursor, history=history_of(read, start_us) if count else None)
        self.cursor = age(cursor, self.task.lookback_us, self.task.bound_us)
        touched = {s for s, content in new.items() if known.get(s) != content}
        touched |= known.keys() - new.keys()
        # One that arrived late may stand in for one that went.
        is_late = self.prior is not None and late != self.cursor.late
        has_losses = self._has_losses(read, known) or is_late or was_ahead
        self.has_losses = self.has_losses or has_losses
        if fresh and (read.messages or self._is_first or was_ahead):
            loaded = load_whole(read, self.cursor, has_losses=has_losses)
            self._held.append(_Held(loaded, frozenset(touched), has_unknown=self._is_first))
            return
        parts = changed_parts(read, known, found)
        ledger = tuple(
            replace(
                ledger_row(read, part, part.records.received, first=index == 0),
                has_losses=has_losses,
            )
            for index, part in enumerate(parts)
        )
        unchanged = sum(known.get(s) == content for s, (content, _) in found.items())
        loaded = WindowToLoad(tuple(parts), ledger, self.cursor, True, unchanged)
        self._held.append(_Held(loaded, frozenset(touched)))

    def enter_ahead(self, read: WindowRead, lag: str | None) -> WindowToLoad | None:
        """Take in a window at or after the bound; the last one is held, another one given out."""
        self.see(read.records)
        so_far = self.cursor.count_after_bound if self.is_ahead_read else 0
        digest = ""
        is_last = read.window.end_us >= END_US
        if is_last and not self.is_ahead_read:
            digest = digest_records(read.records, read.records.rejected)
        known, found = self.cursor.ahead, DayDigest(so_far + read.messages, digest)
        self.is_ahead_read = True
        if not read.verified:
            self.all_verified = False
            found = DayDigest(found.count, "")
        self.cursor = replace(self.cursor, ahead=found if found.count else None)
        if read.verified and digest and known == self.cursor.ahead:
            return None
        loaded = load_whole(read, self.cursor)
        if is_last:
            self._held.append(_Held(loaded, is_ahead=True))
            return None
        return loaded if lag is None else self._without_proof(_Held(loaded, is_ahead=True), lag)

    def hold_before_lookback(self, read: WindowRead) -> None:
        """Hold what changed of what was read before the span; it is given out before all else.

        Where all of it is one window, its digest tells what is as it was when it was last read.
        """
        end_us, known = read.window.end_us, self.cursor.history
        loaded = load_whole(read, None, has_losses=self.prior is not None)
        found = None
        if read.verified and read.window.start_us == self.cursor.begin_us:
            found = history_of(read, end_us) if read.messages else None
            if known is not None and known.end_us <= end_us:
                if history_of(read, known.end_us) == known:
                    loaded = self._rest_to_load(read, known.end_us)
        self.cursor = replace(self.cursor, history=found)
        self._held.insert(0, _Held(loaded, has_unknown=bool(loaded.ledger)))

    def _rest_to_load(self, read: WindowRead, from_us: int) -> WindowToLoad:
        """Return what left the lookback since the history was read, which is as it was."""
        parts = parts_from(read, from_us)
        ledger = tuple(
            replace(ledger_row(read, part, part.records.received), has_losses=True)
            for part in parts
        )
        return WindowToLoad(parts, ledger, None, True, 1)

    @property
    def holds_unknown(self) -> bool:
        """Whether something is held of which the tables may have more than the cursor knows."""
        return any(held.has_unknown for held in self._held)

    def give_out(self, lag: str | None) -> list[WindowToLoad]:
        """Return what was held. A list that lags behind its counter proves no deletion."""
        held, self._held = self._held, []
        if lag is None:
            return [keeping(part.loaded, self.oldest_us) for part in held]
        return [keeping(self._without_proof(part, lag), self.oldest_us) for part in held]

    def hold_gone_front(self, read: WindowRead, count_before_lookback: int) -> None:
        """Hold the proof that nothing is listed any more before an instant, the window's end."""
        self._held.insert(0, _Held(load_whole(read, None, has_losses=True)))
        self.cursor = replace(
            self.cursor,
            oldest_us=read.window.end_us,
            history=None,
            count_before_lookback=count_before_lookback,
        )

    def see(self, records: Records) -> None:
        """Note what of messages that are listed tells when they arrived, and the oldest in time."""
        late = self.cursor.late
        if records.shape.arrival:
            found = arrived_late(records, self.task.bound_us - LATE_DAYS * DAY_US)
            late = late if found is None else found.joined(late)
            self.cursor = replace(self.cursor, late=late)
        else:
            late = self._see_ids(records)
        self.first_us = earliest(self.first_us, oldest_of(records))
        self.oldest_us = earliest(self.oldest_us, oldest_of(records, late))

    def _see_ids(self, records: Records) -> Late | None:
        """Note the greatest id. Return where messages lie that arrived late, as their ids tell."""
        seen, late = self.task.cursor or Cursor(), self.cursor.late
        known_us = max(seen.newest_us or MIN_US, self.task.read_until_us or MIN_US)
        newest_id = seen.newest_id
        if newest_id is None and seen.newest_us is None:
            newest_id = -1
        # Cursors of earlier versions do not tell the id.
        if newest_id is not None:
            found = late_of(records, known_us - LATE_US, newest_id)
            if found is not None:
                late = Late(*found, self.task.bound_us // DAY_US).joined(late)
        newest_ids = [self.cursor.newest_id or 0, newest_id_of(records) or 0]
        self.cursor = replace(self.cursor, newest_id=max(newest_ids) or None, late=late)
        return late

    def close_before_lookback(self, received: int) -> None:
        """Enter that all before the span was read, and verified."""
        count = received + self.received - self.cursor.count_in_lookback
        self.cursor = replace(
            self.cursor,
            count_before_lookback=count,
            checked_day=self.task.bound_us // DAY_US,
            recheck_from_us=None,
            oldest_us=self.first_us if count else None,
        )

    def reconciled(self, is_agreed: bool) -> Reconciled:
        """Return how far the chat's messages are accounted for."""
        if self.is_unproven:
            return Reconciled.UNCONFIRMED
        if not self.all_verified:
            return Reconciled.NO
        if not is_agreed:
            return Reconciled.UNEXPLAINED
        newest_us, task = self.cursor.newest_us, self.task
        if self.cursor.ahead is not None:
            return Reconciled.YES
        if newest_us is None or newest_us + task.lookback_us < task.bound_us:
            return Reconciled.RESTING
        return Reconciled.YES

    @property
    def all_gone_us(self) -> int | None:
        """The newest message known before, where neither it nor an older one is listed any more."""
        prior = self.prior
        if prior is None or prior.newest_us is None or not self.all_verified:
            return None
        was_listed = prior.count_before_lookback + prior.count_in_lookback > 0
        is_left = self.cursor.count_before_lookback or (
            self.oldest_us is not None and self.oldest_us <= prior.newest_us
        )
        return prior.newest_us if was_listed and not is_left and not self.has_told_lag else None

    def _has_losses(self, read: WindowRead, known: Mapping[Segment, DayDigest]) -> bool:
        """Return whether fewer of the messages known before are left in a window, or may be."""
        if self.prior is None or self.prior.newest_us is None:
            return False
        before = sum(digest.count for digest in known.values())
        is_unknown = self._is_first or any(not d.digest and d.count for d in known.values())
        return is_unknown or count_until(read, self.prior.newest_us) < before

    def _without_proof(self, held: _Held, lag: str) -> WindowToLoad:
        if not held.loaded.ledger:
            return held.loaded
        self.has_told_lag = True
        loaded = prove_nothing(held.loaded, lag)
        self.is_unproven = self.is_unproven or held.has_unknown
        self.cursor = _unproven(self.cursor, held)
        if loaded.cursor is None:
            return loaded
        return replace(loaded, cursor=_unproven(loaded.cursor, held))

    def _lookback_start(self, newest_us: int) -> int:
        """Where the lookback starts; a clock that went back does not move it past the bound."""
        return lookback_start(min(newest_us, self.task.bound_us), self.task.lookback_us)

    @property
    def _is_first(self) -> bool:
        """Whether it was never proved what the chat has, since its reading began."""
        return self.prior is None or self.prior.reconciled in (
            Reconciled.NO,
            Reconciled.UNCONFIRMED,
        )

    def _is_fresh(self, window: Window) -> bool:
        """Return whether nothing of a window can have been read before: it is loaded whole."""
        if self.prior is None or self.prior.newest_us is None:
            return True
        return window.start_us is not None and self.prior.newest_us < window.start_us

    def _counted_before(self, new: Mapping[Segment, DayDigest]) -> int:
        """Return what a larger lookback than before reads again, already counted as before it."""
        lookback_start_us = self.prior.lookback_start_us if self.prior is not None else None
        if lookback_start_us is None:
            return 0
        return sum(
            content.count
            for segment, content in new.items()
            if segment.start_us < lookback_start_us
        )

    def _lies_in(self, instant_us: int, window: Window) -> bool:
        return instant_us in window or (
            window.end_us == self.span.end_us and instant_us >= window.end_us
        )


def _unproven(cursor: Cursor, held: _Held) -> Cursor:
    """Return the cursor, with all that was held to be loaded again once it proves something."""
    if held.has_unknown:
        cursor = replace(cursor, reconciled=Reconciled.UNCONFIRMED, history=None)
    if held.is_ahead:
        return replace(cursor, ahead=DayDigest(cursor.count_after_bound, ""))
    lookback_start_us = cursor.lookback_start_us if cursor.lookback_start_us is not None else MIN_US
    again = {
        segment: replace(cursor.days.get(segment, STALE), digest="")
        for segment in held.touched
        if segment.start_us >= lookback_start_us
    }
    return replace(cursor, days={**cursor.days, **again})


def _start_of(window: Window) -> int:
    return window.end_us if window.start_us is None else window.start_us
