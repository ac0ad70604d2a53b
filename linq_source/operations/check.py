"""`check`: what a first load will take and need, found out without loading anything."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any, Unpack

import dlt

from linq_source.destinations.failures import plain_errors
from linq_source.destinations.kinds import restored_destination_of
from linq_source.errors import LinqError
from linq_source.extraction import Extraction
from linq_source.instants import DAY_US, to_us
from linq_source.operations.report import Kept, kept_by
from linq_source.planning.forecast import first_requests
from linq_source.settings import Id, SourceOptions, id_order
from linq_source.source import open_source

# Chats of a line that are asked for their oldest message: those with the smallest ids.
ASKED_OF_A_LINE = 3
# Where nothing tells when a long chat began.
_UNKNOWN_SPAN_US = 365 * DAY_US


@dataclass(frozen=True)
class CheckReport:
    """What is to be loaded, what that takes, and what stands in its way.

    `messages` are as many as the API counts; None: it does not (v3), and `requests` is what is
    needed at the least. `requests` is what a first load asks, at
    `requests_per_second`: as many as `latency_s` lets the workers ask, or as was allowed. `seconds`
    is how long that takes; writing comes on top. `kept` tells what the API was seen to keep, line
    by line, `failures` what could not be listed. `error` says why the destination cannot be
    written.
    """

    lines: int
    chats: int
    messages: int | None
    requests: int
    requests_per_second: float
    latency_s: float
    kept: tuple[Kept, ...] = ()
    failures: tuple[str, ...] = ()
    error: str | None = None

    @property
    def seconds(self) -> float:
        """How long the requests of a first load take."""
        return self.requests / self.requests_per_second

    @property
    def exit_code(self) -> int:
        """0 ready; 1 the destination cannot be written; 3 not all could be listed."""
        if self.error:
            return 1
        return 3 if self.failures else 0

    def to_dict(self) -> dict[str, Any]:
        """The outcome as plain values for JSON."""
        kept = [kept.to_dict() for kept in self.kept]
        return asdict(self) | {"seconds": self.seconds, "kept": kept}


def check(
    pipeline: dlt.Pipeline,
    *,
    table_format: str | None = None,
    **options: Unpack[SourceOptions],
) -> CheckReport:
    """Ask the API what a first load would read, and the destination whether it can be written.

    Takes the options of `linq_source`, and `sync`'s `table_format`. Loads nothing. Raises what a
    run would end with where the API cannot be asked: `AuthenticationError`,
    `ApiUnavailableError`, `ConfigurationError`.
    """
    settings = open_source(**options)[1].settings
    extraction = Extraction(settings, lambda: to_us(datetime.now(UTC)))
    try:
        started_s = time.monotonic()
        listing = extraction.listing.chats()
        client, evidence = extraction.client, extraction.evidence
        listing_requests = client.requests - client.retries
        listed_s = (time.monotonic() - started_s) / max(client.requests, 1)
        chat_ids = sorted(listing.marks, key=id_order)
        is_counted = extraction.contract.count_messages is None
        counts = [count or 0 for count in listing.marks.values()] if is_counted else None
        asked = _chats_to_ask(extraction, [i for i in chat_ids if listing.marks[i] != 0])
        with ThreadPoolExecutor(settings.workers) as threads:
            times_s = [
                time_s
                for of_line in threads.map(lambda ids: _ask(extraction, ids), asked)
                for time_s in of_line
            ]
        bound_us = extraction.listing.bound_us
        oldest_us = min(evidence.oldest_us.values(), default=bound_us - _UNKNOWN_SPAN_US)
        latency_s = max(median(times_s) if times_s else listed_s, 1e-6)
        allowed = settings.max_requests_per_second or float("inf")
        report = CheckReport(
            lines=len(extraction.listing.all_lines),
            chats=len(chat_ids),
            messages=None if counts is None else sum(counts),
            requests=listing_requests
            + (
                len(chat_ids)
                if counts is None
                else first_requests(counts, oldest_us, bound_us, settings.page_size)
            ),
            requests_per_second=min(settings.workers / latency_s, allowed),
            latency_s=latency_s,
            kept=kept_by(evidence, bound_us),
            failures=tuple(_failures(extraction)),
        )
    finally:
        extraction.close()
    try:
        with plain_errors(pipeline):
            restored_destination_of(pipeline).check_writable(table_format)
    except LinqError as error:
        return CheckReport(**{**vars(report), "error": str(error)})
    return report


def _chats_to_ask(extraction: Extraction, chat_ids: Iterable[Id]) -> Iterable[Sequence[Id]]:
    """For each line the first of the chats that it alone sees."""
    asked: dict[str, list[Id]] = {}
    seen: Counter[str] = Counter()
    for chat_id in chat_ids:
        lines = extraction.listing.lines_of(chat_id)
        line = next(iter(lines), "")
        if len(lines) == 1 and seen[line] < ASKED_OF_A_LINE:
            seen[line] += 1
            asked.setdefault(line, []).append(chat_id)
    return asked.values()


def _ask(extraction: Extraction, chat_ids: Iterable[Id]) -> list[float]:
    """Ask chats of one line for their oldest messages; gives how long each answer took."""
    times_s = []
    for chat_id in chat_ids:
        started_s = time.monotonic()
        extraction.evidence.ask_some([chat_id])
        times_s.append(time.monotonic() - started_s)
    return times_s


def _failures(extraction: Extraction) -> Iterable[str]:
    counts = extraction.counts
    yield from counts.numbers_failed
    yield from (counts.chats_failed[chat_id] for chat_id in sorted(counts.chats_failed))
    if counts.rejected:
        yield f"{counts.rejected} records of the lists cannot be read; a run tells which"
