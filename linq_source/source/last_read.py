"""Up to where a pipeline read everything, from run to run: what tells a gap.

A run that finds nothing changes no state, so the instant stands in dlt's local state, which needs
no load, and in the state as of the newest package, for a worker that starts with an empty disk.
"""

from __future__ import annotations

import dlt

from linq_source.extraction import Extraction
from linq_source.extraction.retention import LastRead
from linq_source.state import READ_UNTIL, UNREAD

_LOCAL = "linq_read_until_us"


def last_read() -> LastRead:
    """Return what the pipeline under way remembers; nothing where there is none."""
    state = dlt.current.source_state()
    try:
        local_us = dlt.current.pipeline().get_local_state_val(_LOCAL)
    except KeyError:
        local_us = 0
    until_us = max(int(local_us), int(state.get(READ_UNTIL, 0)))
    return LastRead(until_us or None, dict(state.get(UNREAD, {})))


def remember_read(extraction: Extraction, *, changes_state: bool) -> None:
    """Note that a run read everything to its bound, but for the chats that it could not read."""
    listing = extraction.listing
    is_whole = listing.settings.lists_everything and listing.chats().complete
    if listing.settings.is_stateless or not is_whole:
        return
    state = dlt.current.source_state()
    before = extraction.last_read
    unread = {
        str(chat_id): until_us
        for chat_id in sorted(extraction.unread)
        if (until_us := before.of(chat_id)) is not None
    }
    if unread != state.get(UNREAD, {}):
        state[UNREAD] = unread
    dlt.current.pipeline().set_local_state_val(_LOCAL, listing.bound_us)
    if changes_state:
        state[READ_UNTIL] = listing.bound_us
