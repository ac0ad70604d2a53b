"""`audit`: live rows in the destination against the API's own counts, chat by chat."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import dlt

from linq_source.destinations.counting import live_counts
from linq_source.destinations.failures import plain_errors
from linq_source.destinations.remote import forgotten_in
from linq_source.extraction import Extraction
from linq_source.operations.report import Report
from linq_source.operations.sync import sync
from linq_source.source import linq_source, session_options


@dataclass(frozen=True)
class Difference:
    """A chat whose live rows are not as many as the API counts; none: not listed at all."""

    chat_id: int
    live_rows: int
    message_count: int | None


@dataclass(frozen=True)
class AuditReport:
    """The outcome of an audit. `repair` is what a deep audit loaded, before comparing again.

    `forgotten_in` are chats with fewer rows than the API counts because people in them were
    forgotten: their counts prove nothing. `failures` tell what could not be compared, and why.
    """

    chats: int
    messages: int
    differences: tuple[Difference, ...]
    repair: Report | None = None
    forgotten_in: tuple[int, ...] = ()
    failures: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 everything agrees, 3 there are differences, or chats that could not be asked for."""
        return 3 if self.differences or self.failures else 0

    def to_dict(self) -> dict[str, Any]:
        """The outcome as plain values for JSON."""
        return {
            "chats": self.chats,
            "messages": self.messages,
            "differences": [vars(difference) for difference in self.differences],
            "forgotten_in": list(self.forgotten_in),
            "failures": list(self.failures),
            "repair": None if self.repair is None else self.repair.to_dict(),
        }


def audit(pipeline: dlt.Pipeline, *, deep: bool = False, **source_arguments: Any) -> AuditReport:
    """Compare, per chat, the live rows with the API's `message_count`.

    Takes the arguments of `linq_source`. With `deep`, the chats that differ are read again in
    full and repaired, then compared once more. Changes nothing otherwise.
    """
    report = _compare(pipeline, source_arguments)
    differing = [d.chat_id for d in report.differences if d.message_count is not None]
    if not deep or not differing:
        return report
    repair_arguments = {**source_arguments, "chat_ids": differing, "phone_numbers": ()}
    repair = sync(pipeline, **{**repair_arguments, "end": _FOREVER})
    again = _compare(pipeline, source_arguments)
    return replace(again, repair=repair)


# Later than any message: a deep audit reads whole chats, without cursors.
_FOREVER = "9999-01-01T00:00:00Z"


def _compare(pipeline: dlt.Pipeline, source_arguments: dict[str, Any]) -> AuditReport:
    with session_options(keep=True, listener=None) as sessions:
        linq_source(**source_arguments)
    (session,) = sessions
    with plain_errors(pipeline):
        forgotten = forgotten_in(pipeline)
    extraction = Extraction(session.settings, lambda: 0, forgotten=forgotten)
    try:
        listing = extraction.listing.chats()
    finally:
        extraction.close()
    with plain_errors(pipeline):
        live = live_counts(pipeline)
    differences = []
    excused = []
    for chat_id, count in listing.counts.items():
        if count is None or live.get(chat_id, 0) == count:
            continue
        if chat_id in forgotten.partly and live.get(chat_id, 0) < count:
            excused.append(chat_id)
        else:
            differences.append(Difference(chat_id, live.get(chat_id, 0), count))
    if listing.complete:
        for chat_id, rows in live.items():
            if chat_id not in listing.counts and _in_scope(session.settings, chat_id):
                differences.append(Difference(chat_id, rows, None))
    differences.sort(key=lambda difference: difference.chat_id)
    compared = {*listing.counts, *(difference.chat_id for difference in differences)}
    failed = extraction.counts.chats_failed
    return AuditReport(
        len(listing.counts),
        sum(rows for chat_id, rows in live.items() if chat_id in compared),
        tuple(differences),
        forgotten_in=tuple(sorted(excused)),
        failures=(*extraction.counts.numbers_failed, *(failed[key] for key in sorted(failed))),
    )


def _in_scope(settings: Any, chat_id: int) -> bool:
    return settings.shard is None or chat_id in settings.shard
