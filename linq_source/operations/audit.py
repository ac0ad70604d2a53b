"""`audit`: live rows in the destination against the API's own counts, chat by chat."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Unpack

import dlt

from linq_source.destinations.failures import plain_errors
from linq_source.destinations.live_counts import Gap, gaps_since, live_messages
from linq_source.destinations.remote import forgotten_in
from linq_source.extraction import Extraction
from linq_source.extraction.api_counts import count_messages
from linq_source.instants import to_us
from linq_source.operations.report import Kept, Report, kept_by
from linq_source.operations.sync import sync
from linq_source.settings import Id, SourceOptions
from linq_source.source import open_source

# Long enough that somebody sees them who looks once a week.
GAPS_REPEATED = timedelta(days=7)


@dataclass(frozen=True)
class Difference:
    """A chat whose live rows are not as many as the API counts; None: not listed at all."""

    chat_id: Id
    live_rows: int
    message_count: int | None


@dataclass(frozen=True)
class AuditReport:
    """The outcome of an audit. `repair` is what a deep audit loaded, before comparing again.

    `gaps` are those of the last seven days: what was sent in them may be lost. `kept` tells what
    the API was seen to keep, line by line.

    `forgotten_in` are chats with fewer rows than the API counts because people in them were
    forgotten: their counts prove nothing. `failures` tell what could not be compared, and why.
    """

    chats: int
    messages: int
    differences: tuple[Difference, ...]
    repair: Report | None = None
    forgotten_in: tuple[Id, ...] = ()
    failures: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    kept: tuple[Kept, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 everything agrees; 3 there are differences, gaps, or chats that could not be asked."""
        return 3 if self.problems() else 0

    def problems(self) -> list[str]:
        """Return what does not agree, in words: chats that differ or were not asked, then gaps."""
        return [
            *(
                f"chat {found.chat_id} has {found.live_rows} live rows where the API "
                + (
                    "lists no such chat"
                    if found.message_count is None
                    else f"counts {found.message_count}"
                )
                for found in self.differences
            ),
            *(f"not compared: {text}" for text in self.failures),
            *(
                f"chat {gap.chat_id} may lack messages from {gap.start.isoformat()} to "
                f"{gap.end.isoformat()}: run more often"
                for gap in self.gaps
            ),
        ]

    def to_dict(self) -> dict[str, Any]:
        """The outcome as plain values for JSON."""
        return {
            "chats": self.chats,
            "messages": self.messages,
            "differences": [vars(difference) for difference in self.differences],
            "forgotten_in": list(self.forgotten_in),
            "failures": list(self.failures),
            "gaps": [
                {"chat_id": gap.chat_id, "start": gap.start.isoformat(), "end": gap.end.isoformat()}
                for gap in self.gaps
            ],
            "kept": [kept.to_dict() for kept in self.kept],
            "repair": None if self.repair is None else self.repair.to_dict(),
        }


def audit(
    pipeline: dlt.Pipeline,
    *,
    deep: bool = False,
    looks: int = 0,
    **options: Unpack[SourceOptions],
) -> AuditReport:
    """Compare, per chat, the live rows with the API's `message_count`, of v3 with its lists.

    Takes the options of `linq_source`. People may write between a load and its audit: chats that
    differ are loaded and compared again, so many times as `looks` says. With `deep`, those that
    still differ are read again in full and repaired, then compared once more. Changes nothing
    otherwise.
    """
    report = _compare(pipeline, options)
    for _ in range(looks):
        if not report.differences:
            break
        sync(pipeline, **_of_those(report, options))
        differing = {difference.chat_id for difference in report.differences}
        report = _compare(pipeline, options)
        lasting = tuple(d for d in report.differences if d.chat_id in differing)
        report = replace(report, differences=lasting)
    readable = [d for d in report.differences if d.message_count is not None]
    if not deep or not readable:
        return report
    wanted = _of_those(replace(report, differences=tuple(readable)), options)
    wanted["end"] = _FOREVER
    repair = sync(pipeline, **wanted)
    return replace(_compare(pipeline, options), repair=repair)


# Later than any message: a deep audit reads whole chats, without cursors.
_FOREVER = "9999-01-01T00:00:00Z"


def _of_those(report: AuditReport, options: SourceOptions) -> SourceOptions:
    """Options that read the chats that differ; all, where the API does not list one of them."""
    if any(difference.message_count is None for difference in report.differences):
        return options
    chat_ids = [difference.chat_id for difference in report.differences]
    return {**options, "chat_ids": chat_ids, "phone_numbers": ()}


def _compare(pipeline: dlt.Pipeline, options: SourceOptions) -> AuditReport:
    settings = open_source(**options)[1].settings
    with plain_errors(pipeline):
        forgotten = forgotten_in(pipeline)
    extraction = Extraction(settings, lambda: 0, forgotten=forgotten)
    try:
        listing = extraction.listing.chats()
        counts = count_messages(extraction)
    finally:
        extraction.close()
    with plain_errors(pipeline):
        live = live_messages(pipeline)
        gaps = gaps_since(pipeline, datetime.now(UTC) - GAPS_REPEATED, settings.shard)
    evidence = extraction.evidence
    differences = []
    excused = []
    for chat_id, count in counts.items():
        rows = live[chat_id].messages if chat_id in live else 0
        if count is None or rows == count:
            if rows:
                evidence.see(chat_id, to_us(live[chat_id].oldest))
        elif chat_id in forgotten.partly and rows < count:
            excused.append(chat_id)
        else:
            differences.append(Difference(chat_id, rows, count))
    if listing.complete:
        for chat_id, found in live.items():
            if chat_id not in counts and settings.is_of_shard(chat_id):
                differences.append(Difference(chat_id, found.messages, None))
    differences.sort(key=lambda difference: difference.chat_id)
    compared = {*counts, *(difference.chat_id for difference in differences)}
    failed = extraction.counts.chats_failed
    return AuditReport(
        len(counts),
        sum(found.messages for chat_id, found in live.items() if chat_id in compared),
        tuple(differences),
        forgotten_in=tuple(sorted(excused)),
        failures=(*extraction.counts.numbers_failed, *(failed[key] for key in sorted(failed))),
        gaps=tuple(gaps),
        kept=kept_by(evidence, extraction.listing.bound_us),
    )
