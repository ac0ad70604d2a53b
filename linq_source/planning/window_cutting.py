"""Reading an interval of a chat of API v2, of any size, as windows of at most `MAX_ROWS` rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from linq_source.decoding.pages import decode_pages
from linq_source.decoding.records import MESSAGE
from linq_source.planning.readings import ChatTask, Reading, WindowToLoad
from linq_source.planning.requests_v2 import MessagesRequest
from linq_source.planning.window_reading import WindowRead, arrange, reach, read_window
from linq_source.planning.windows import Asking, Window, ask, cut_before

# An interval is never read as more windows than this, whatever its answers claim.
MAX_WINDOWS = 10_000
# Windows that stay unverified move no cursor: after this many the rest is left to the next run.
MAX_UNVERIFIED = 50

Accept: TypeAlias = Callable[[WindowRead], Reading[WindowToLoad | None]]


def read(span: Window, task: ChatTask, accept: Accept, *, only_one: bool = False) -> Reading[bool]:
    """Read a span, giving every window to `accept`. Return whether it was read to its end.

    What `accept` returns is given out; None: the window waits until more is known. Where
    `only_one` the reading ends after the first.

    It ends because every cut lies behind the one before; after as many windows as twice the
    messages first counted need; and, where what is counted is not plausible, after `MAX_WINDOWS`
    or `MAX_UNVERIFIED`. What is within reach of the rest is then one more window, unverified.
    """
    start_us, per_page = span.start_us, task.per_page
    if start_us is not None and start_us >= span.end_us:
        return True
    limit: int | None = None
    done = unverified = 0
    while True:
        rest = Window(span.chat_id, start_us, span.end_us)
        (first,) = yield from ask(MessagesRequest(rest, 1, per_page))
        deepest = reach(first, per_page)
        if first.envelope.total_pages <= deepest:
            yield from _give_out((yield from read_window(rest, per_page, first)), task, accept)
            return True
        if limit is None:
            limit = min(10 + 2 * first.envelope.total_pages // max(deepest // 2, 1), MAX_WINDOWS)
        done += 1
        cut_us: int | None = None
        if done <= limit and unverified < MAX_UNVERIFIED:
            cut_us = yield from _find_cut(rest, per_page, deepest)
        part_first = None
        while cut_us is not None:
            # Many messages at the cut itself are received along with the part: cut earlier then.
            part = Window(span.chat_id, start_us, cut_us)
            (part_first,) = yield from ask(MessagesRequest(part, 1, per_page))
            is_within_reach = part_first.envelope.total_pages <= reach(part_first, per_page)
            if is_within_reach or deepest == 1:
                break
            deepest //= 2
            cut_us = yield from _find_cut(rest, per_page, deepest)
        if cut_us is None:
            # What lies within reach is read; the counts then say that it is not all.
            yield from _give_out((yield from read_window(rest, per_page, first)), task, accept)
            return True
        window = yield from read_window(part, per_page, part_first)
        unverified += not window.verified
        go_on = yield from _give_out(window, task, accept)
        if cut_us < span.end_us and (only_one or not go_on):
            return False
        start_us = cut_us


def _give_out(window: WindowRead, task: ChatTask, accept: Accept) -> Reading[bool]:
    """Give out what is to be loaded of a window. Return whether to go on."""
    # From here on nobody sees what is not to be kept: digests are made of it, too.
    kept = replace(window, records=task.privacy.protect(window.records))
    loaded = yield from accept(kept)
    if loaded is None:
        return True
    return (yield loaded) is not False or task.in_one_go


def _find_cut(rest: Window, per_page: int, page: int) -> Asking[int | None]:
    """Return an instant that leaves fewer pages before it than `page`; a midnight if one fits.

    Where all pages lie at one instant, that instant becomes a window of its own. None where the
    deepest page allowed holds nothing of the interval.
    """
    (last,) = yield from ask(MessagesRequest(rest, page, per_page))
    records, _, _ = arrange(decode_pages([last.body], MESSAGE), rest)
    return cut_before(records.instants[0].as_py(), rest.start_us) if len(records) else None
