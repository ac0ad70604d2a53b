"""Bringing a pipeline and its destination to one state before anything is read."""

from __future__ import annotations

import dlt

from linq_source.destinations.remote import Remote, restore
from linq_source.operations.loading import arrived, load_pending, remember_arrived, state_version
from linq_source.operations.lost_tables import heal_tables
from linq_source.operations.notes import note
from linq_source.operations.packages import drop
from linq_source.state_keys import SECTION

_DATASET_KEY = "linq_place"


def finish_and_agree(pipeline: dlt.Pipeline, remote: Remote, notes: list[str]) -> list[str]:
    """Bring pipeline and destination to one state. Return the ids of packages it had to load."""
    _leave_other_destination(pipeline, remote, notes)
    lost = heal_tables(pipeline, remote)
    if lost:
        note(notes, f"made again, and read again what was in them: {', '.join(lost)}")
    loads = _finish_pending(pipeline, remote, notes)
    _agree_with_destination(pipeline, remote, notes)
    return loads


def _leave_other_destination(pipeline: dlt.Pipeline, remote: Remote, notes: list[str]) -> None:
    """Give up what was kept, or left pending, for another destination under the same name.

    dlt has one working folder per name: messages read for one would be loaded into another.
    """
    key = remote.dataset_key
    try:
        known = pipeline.get_local_state_val(_DATASET_KEY)
    except KeyError:
        known = None
    if known == key:
        return
    if known is not None:
        note(notes, "this pipeline loaded into another destination; going on from what is here")
        drop(pipeline)
    pipeline.set_local_state_val(_DATASET_KEY, key)


def _finish_pending(pipeline: dlt.Pipeline, remote: Remote, notes: list[str]) -> list[str]:
    """Load what a crashed run left behind; dlt would load it instead of new data.

    What is pending builds on what was loaded before. Where the destination no longer holds that,
    loading would hide the loss: the pending packages are given up with the local state.
    """
    pipeline.activate()
    if not pipeline.has_pending_data:
        return []
    if state_version(remote.state()) < arrived(pipeline):
        note(notes, "the destination lost what was loaded before; reading everything again")
        drop(pipeline)
        return []
    loads = load_pending(pipeline)
    note(notes, f"finished {len(loads)} package(s) that an earlier run had left pending")
    return loads


def _agree_with_destination(pipeline: dlt.Pipeline, remote: Remote, notes: list[str]) -> None:
    """Go on from what the destination holds.

    A lost local state is restored. A local state that is ahead (the destination was lost, or a
    package was dropped before it was loaded) would skip what never arrived: it is given up.
    """
    local_state = pipeline.state
    remote_state = remote.state()
    local = local_state.get("sources", {}).get(SECTION)
    there = None if remote_state is None else remote_state.get("sources", {}).get(SECTION)
    if local != there:
        is_newer = state_version(remote_state) >= local_state["_state_version"]
        if local is not None and not is_newer:
            what = "nothing of this pipeline" if there is None else "an earlier state of it"
            note(notes, f"the destination holds {what}; going on from there")
            drop(pipeline)
        if there is not None:
            restore(pipeline)
    remember_arrived(pipeline, state_version(remote_state))
