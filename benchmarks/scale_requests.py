"""How many requests a later reading makes, exactly: the planning of the source as arithmetic.

What a first reading makes is `linq_source.planning.forecast`, which says what is not counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from linq_source.instants import DAY_US
from linq_source.planning.chat_cursors import lookback_start
from linq_source.planning.forecast import Reads, first_reads, span_reads

LOOKBACK_US = 7 * DAY_US


@dataclass(frozen=True)
class Prior:
    """What an earlier run left of a chat: its newest message, and whether it rests since."""

    newest_us: int | None
    rests: bool


def later_reads(
    sent_us: Sequence[int],
    prior: Prior,
    bound_us: int,
    *,
    count_changed: bool = False,
    older_changed: bool = False,
) -> Reads:
    """A chat read before: nothing where it rests and its listed count is the same.

    With `older_changed` messages older than the lookback came or went, so that the count no longer
    agrees: it is asked for once more, and everything older is read again.
    """
    if prior.rests and not count_changed:
        return Reads()
    if prior.newest_us is None:
        return first_reads(sent_us, bound_us)
    start_us = lookback_start(prior.newest_us, LOOKBACK_US)
    reads = span_reads(sent_us, start_us, bound_us).counted
    if older_changed:
        reads += Reads(counts=1) + span_reads(sent_us, None, start_us)
    return reads


def remembered(sent_us: Sequence[int], bound_us: int) -> Prior:
    """What a run to a bound leaves of a chat whose counts agreed."""
    count = bisect_left(sent_us, bound_us)
    newest_us = sent_us[count - 1] if count else None
    return Prior(newest_us, newest_us is None or newest_us + LOOKBACK_US < bound_us)
