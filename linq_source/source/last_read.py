"""Up to where a pipeline read everything, from run to run: what tells a gap.

A run that finds nothing changes no state, so the instant stands in dlt's local state, which needs
no load. A worker that starts with an empty disk takes it from `sync_runs`.
"""

from __future__ import annotations

from collections.abc import Iterable

import dlt

from linq_source.extraction import Extraction
from linq_source.extraction.evidence import LastRead
from linq_source.settings import id_of, id_order
from linq_source.state_keys import UNREAD

_LOCAL = "linq_read_until_us"


def knows_last_read(pipeline: dlt.Pipeline) -> bool:
    """Whether this machine knows up to where the pipeline read everything."""
    try:
        pipeline.get_local_state_val(_LOCAL)
    except KeyError:
        return False
    return True


def last_read(found_us: int | None) -> LastRead:
    """Return what the pipeline under way remembers; `found_us` where this machine does not."""
    try:
        until_us = dlt.current.pipeline().get_local_state_val(_LOCAL)
    except KeyError:
        until_us = found_us
    return LastRead(until_us, dict(dlt.current.source_state().get(UNREAD, {})))


def remember_read(extraction: Extraction, known: Iterable[str]) -> None:
    """Note that a run read everything to its bound, but for the chats that it could not read.

    Of the chats that are `known`, those that were not listed were not read either.
    """
    listing = extraction.listing
    if listing.settings.is_stateless or not listing.settings.lists_everything:
        return
    state, before = dlt.current.source_state(), extraction.last_read
    unlisted = set(map(id_of, known)) - listing.chats().marks.keys() - set(extraction.vanished)
    missing = extraction.unread | set(filter(listing.settings.is_of_shard, unlisted))
    unread = {str(chat_id): before.of(chat_id) or 0 for chat_id in sorted(missing, key=id_order)}
    if unread != state.get(UNREAD, {}):
        state[UNREAD] = unread
    dlt.current.pipeline().set_local_state_val(_LOCAL, listing.bound_us)
