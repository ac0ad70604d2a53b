"""What a run says beside its counts: what was repaired, and what is odd."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import dlt
from pendulum import duration

from linq_source.extraction import Extraction
from linq_source.instants import DAY_US, from_us, to_us
from linq_source.source.session import MOST_CLOCK_DRIFT_US
from linq_source.state_keys import SYNCED_AT_US, source_state

_log = logging.getLogger(__name__)


def note(notes: list[str], text: str) -> None:
    """Note what the report is to say, and log it."""
    _log.warning(text)
    notes.append(text)


def note_future(pipeline: dlt.Pipeline, notes: list[str]) -> None:
    """Say that rows bear an instant that has not come: what looks at it sees a run just now."""
    newest_us = int(source_state(pipeline.state).get(SYNCED_AT_US, 0))
    now = datetime.now(UTC)
    if newest_us > to_us(now) + MOST_CLOCK_DRIFT_US:
        note(
            notes,
            f"the newest synced_at, {from_us(newest_us):%Y-%m-%d %H:%M}, is ahead of this "
            "machine's clock: it, or the one that loaded those rows, is wrong; bound in sync_runs "
            "tells when runs were",
        )


def note_oddities(extraction: Extraction | None, notes: list[str]) -> None:
    """Note what was odd in a reading."""
    if extraction is None:
        return
    if extraction.clock_ahead_us:
        note(
            notes,
            "since the last load this machine's clock went "
            f"{duration(seconds=extraction.clock_ahead_us // 1_000_000).in_words()} further than "
            "the API's, which synced_at follows: set the clock",
        )
    if extraction.counts.contacts_failed:
        note(notes, extraction.counts.contacts_failed)
    settings, oldest_days = extraction.settings, extraction.oldest_check_days
    if settings.recheck_share and oldest_days and oldest_days * DAY_US > settings.recheck_us:
        note(
            notes,
            f"the chat checked longest ago was {oldest_days} days ago, more than recheck_days "
            f"({settings.recheck_us // DAY_US}): run more often, or raise recheck_share "
            f"({settings.recheck_share:g})",
        )
    if extraction.counts.cursors_unknown:
        note(
            notes,
            f"the cursors of {extraction.counts.cursors_unknown} chats were written by another "
            "version of linq-source and are not understood: these chats are read from their "
            "beginning",
        )
