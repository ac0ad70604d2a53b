"""`media`: every current attachment fetched once into a bucket, and recorded."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import dlt

from linq_source.destinations.base import Destination
from linq_source.destinations.dataset_tables import api_of
from linq_source.destinations.failures import plain_errors
from linq_source.destinations.kinds import restored_destination_of
from linq_source.errors import ConfigurationError, DestinationError, LinqError
from linq_source.media.catalog import Entry, erase_records, open_entries, orphans
from linq_source.media.choosing import Attachment, Choice, attempts_before
from linq_source.media.fetching import (
    MAX_FAILED_FILES,
    Fetched,
    Fetcher,
    FetchError,
    GivenUp,
    Limits,
    Stopped,
)
from linq_source.media.fresh_links import FreshLinks
from linq_source.media.keys import file_key
from linq_source.media.links import LinkRules, link_hash
from linq_source.media.recording import Outcome, Records
from linq_source.media.storing import Bucket
from linq_source.state_keys import PRIVACY, source_state

WORKERS = 4
MAX_FILE_BYTES = 2 * 1024**3
TIMEOUT_S = 30.0
# So often it is looked whether records are due, though no file gets done.
_WAIT_S = 1.0
_MAX_REASONS = 20

Listener = Callable[["MediaReport"], None]


@dataclass(frozen=True)
class MediaReport:
    """Counts of one run. `stored` are files fetched, `found` files the bucket already had.

    `refused` are links that are not safe to follow. `left_out` are attachments without a file
    that this run did not try: their links are known to be of no use and are still the same, or
    they are too large. `given_up` are files of hosts that failed too often to be asked on; the
    next run asks again. `erased` are files of forgotten messages, removed from the bucket.
    `reasons` says how many files could not be had for what, the most frequent first.
    """

    stored: int = 0
    found: int = 0
    expired: int = 0
    failed: int = 0
    wrong_size: int = 0
    refused: int = 0
    skipped: int = 0
    left_out: int = 0
    given_up: int = 0
    erased: int = 0
    stored_bytes: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    loads: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def missing(self) -> int:
        """Files that this run tried to fetch and could not."""
        return self.expired + self.failed + self.wrong_size + self.refused + self.given_up

    @property
    def exit_code(self) -> int:
        """0 done, 3 there are files that could not be had."""
        return 3 if self.missing else 0

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values for JSON."""
        return asdict(self)


def media(
    pipeline: dlt.Pipeline,
    bucket_url: str,
    *,
    workers: int = WORKERS,
    max_file_bytes: int = MAX_FILE_BYTES,
    timeout_s: float = TIMEOUT_S,
    retry_failed: bool = False,
    erase_forgotten: bool = False,
    allow_plain_http: bool = False,
    allow_private_hosts: bool = False,
    listener: Listener | None = None,
    api_token: str | None = None,
    base_url: str | None = None,
) -> MediaReport:
    """Fetch the pipeline's current attachments, each once, into a bucket.

    Args:
        pipeline: A pipeline that loaded messages.
        bucket_url: A local folder, `s3://...`, `gs://...` or what else fsspec knows.
        workers: Files fetched at once.
        max_file_bytes: Larger files are recorded as skipped.
        timeout_s: Seconds to wait for each part of an answer.
        retry_failed: Ask again for files known to be expired, failed or of a wrong size.
        erase_forgotten: Remove the files of messages that `forget` erased from the destination.
        allow_plain_http: Follow http links; they are followed to this machine in any case.
        allow_private_hosts: Follow links to private, loopback and link-local addresses.
        listener: Called with the counts so far whenever a file is done.
        api_token: Of messages of API v3, ask the API with it for another link where one expired.
        base_url: Where the API is, if not at its usual address.

    Raises:
        ConfigurationError: A setting cannot be used, or there are no attachments in the dataset.
        DestinationError: The destination or the bucket cannot be opened, read or written.
        AuthenticationError: The token is refused.
        ApiUnavailableError: The API does not answer.
    """
    if not 1 <= workers <= 64:
        raise ConfigurationError(f"workers is {workers}: use 1 to 64")
    if max_file_bytes < 1:
        raise ConfigurationError(f"max_file_bytes is {max_file_bytes}: use 1 or more")
    if timeout_s <= 0:
        raise ConfigurationError(f"timeout_s is {timeout_s}: use more than 0")
    _check_privacy(pipeline)
    rules = LinkRules(allow_plain_http, allow_private_hosts)
    started_s = time.monotonic()
    with plain_errors(pipeline):
        destination = restored_destination_of(pipeline)
        records = Records(pipeline, destination)
        bucket = Bucket(bucket_url, pipeline.dataset_name or "")
        links = FreshLinks.of(api_of(destination.tables), api_token, base_url)
        choice = Choice(max_file_bytes, retry_failed, links is not None)
        fetcher = Fetcher(rules, Limits(max_file_bytes, timeout_s), workers)
        run = _Run(
            pipeline, destination, bucket, fetcher, links, choice, records, listener, started_s
        )
        try:
            records.finish_pending()
            destination.merge_log()
            if erase_forgotten:
                run.erase_forgotten()
            run.work(workers)
            destination.merge_log()
        finally:
            if links is not None:
                links.close()
            fetcher.close()
            bucket.close()
    return run.report()


def _check_privacy(pipeline: dlt.Pipeline) -> None:
    fingerprint = source_state(pipeline.state).get(PRIVACY)
    if fingerprint is not None and "text=plain" not in fingerprint:
        raise ConfigurationError(
            "this dataset was loaded without links (text=hash or drop): its files cannot be "
            "fetched; load into another dataset with text=plain"
        )


class _Run:
    """One run: entries come in, outcomes are counted and recorded."""

    def __init__(
        self,
        pipeline: dlt.Pipeline,
        destination: Destination,
        bucket: Bucket,
        fetcher: Fetcher,
        links: FreshLinks | None,
        choice: Choice,
        records: Records,
        listener: Listener | None,
        started_s: float,
    ) -> None:
        self._pipeline = pipeline
        self._destination = destination
        self._bucket = bucket
        self._fetcher = fetcher
        self._links = links
        self._choice = choice
        self._records = records
        self._listener = listener
        self._started_s = started_s
        self._counts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()

    def work(self, workers: int) -> None:
        """Fetch everything that is wanted; what is done is recorded however this ends."""
        entries = self._wanted()
        under_way: set[Future[Outcome | None]] = set()
        with ThreadPoolExecutor(workers, "linq-media") as executor:
            try:
                for entry in entries:
                    under_way.add(executor.submit(self._outcome, entry))
                    while len(under_way) >= 2 * workers:
                        under_way = self._take(under_way)
                while under_way:
                    under_way = self._take(under_way)
            except BaseException:
                self._fetcher.abort()
                raise
            finally:
                self._records.load()

    def erase_forgotten(self) -> None:
        """Remove files whose messages were erased; their records go last, so none is overlooked."""
        found = orphans(self._destination)
        for _, path in found:
            if path is not None:
                self._bucket.remove(path)
                self._counts["erased"] += 1
        erase_records(self._destination, [message for message, _ in found])

    def _wanted(self) -> Iterator[Entry]:
        for attachment, known in open_entries(self._destination):
            if self._choice.wants(attachment, known):
                yield attachment, known
            else:
                self._counts["left_out"] += 1

    def _take(self, under_way: set[Future[Outcome | None]]) -> set[Future[Outcome | None]]:
        done, rest = wait(under_way, timeout=_WAIT_S, return_when=FIRST_COMPLETED)
        for future in done:
            outcome = future.result()
            if outcome is None:
                self._counts["given_up"] += 1
                continue
            if outcome.error is not None:
                self._reasons[f"{outcome.status}: {outcome.error}"] += 1
            self._counts["found" if outcome.was_there else outcome.status] += 1
            if outcome.status == "stored" and not outcome.was_there:
                self._counts["stored_bytes"] += outcome.size_bytes or 0
            self._records.add(outcome)
            if self._listener is not None:
                self._listener(self.report())
        self._records.load_if_due()
        return rest

    def report(self) -> MediaReport:
        """The counts so far."""
        return MediaReport(
            **self._counts,
            reasons=dict(self._reasons.most_common(_MAX_REASONS)),
            notes=tuple(
                f"{host}: asked for no more files in this run, {MAX_FAILED_FILES} in a row could "
                f"not be had ({reason}); run again when it answers"
                for host, reason in dict(self._fetcher.given_up).items()
            ),
            loads=tuple(self._records.loads),
            seconds=round(time.monotonic() - self._started_s, 3),
        )

    def _outcome(self, entry: Entry) -> Outcome | None:
        """Store one file, or say why not; None if its host is given up. Runs in a worker."""
        attachment, known = entry
        asked = [attempts_before(attachment, known)]
        key = file_key(
            self._pipeline.dataset_name or "",
            attachment.chat_message_id,
            attachment.position,
            attachment.id,
            attachment.filename,
        )
        hash_ = link_hash(attachment.url)
        try:
            return self._stored(entry, key, hash_, asked)
        except FetchError as error:
            return Outcome(
                attachment,
                error.status,  # type: ignore[arg-type]
                asked[0],
                hash_,
                http_status=error.http_status,
                size_bytes=error.size_bytes,
                error=str(error),
            )
        except GivenUp:
            return None
        except (Stopped, LinqError):
            raise
        except Exception as error:
            # Their texts quote paths, and so names of files.
            reason = getattr(error, "strerror", None) or "see --debug"
            raise DestinationError(
                f"the bucket: {type(error).__name__}: {reason}; "
                "check its address, rights and room, then run again"
            ) from error

    def _stored(self, entry: Entry, key: str, hash_: str, asked: list[int]) -> Outcome:
        attachment, _ = entry

        def count() -> None:
            asked[0] += 1

        size = self._bucket.stored_size(key)
        if size is not None and attachment.file_size in (None, size):
            return Outcome(
                attachment, "stored", asked[0], hash_,
                sha256=self._bucket.stored_hash(key), size_bytes=size, bucket_path=key,
                fetched_at=datetime.now(UTC), was_there=True,
            )  # fmt: skip
        if attachment.file_size is not None and attachment.file_size > self._choice.max_file_bytes:
            raise FetchError(
                f"larger than max_file_bytes {self._choice.max_file_bytes}",
                status="skipped", size_bytes=attachment.file_size,
            )  # fmt: skip
        with self._bucket.incoming() as file:
            fetched = self._fetched(attachment, file.restart, count)
            sha256 = file.finish()
            self._bucket.put(file, key)
        return Outcome(
            attachment, "stored", asked[0], hash_,
            sha256=sha256, size_bytes=fetched.size_bytes, content_type=fetched.content_type,
            bucket_path=key, fetched_at=datetime.now(UTC), http_status=fetched.http_status,
        )  # fmt: skip

    def _fetched(
        self,
        attachment: Attachment,
        start: Callable[[], Callable[[bytes], None]],
        count: Callable[[], None],
    ) -> Fetched:
        """Fetch a file, by another link where its own expired and another can be had."""
        try:
            if not attachment.url:
                raise FetchError("there is no link")
            return self._fetcher.fetch(attachment.url, attachment.file_size, start, count)
        except FetchError as error:
            is_useless = error.status == "expired" or not attachment.url
            link = self._links.link_to(attachment.id) if self._links and is_useless else None
            if link is None:
                raise
        return self._fetcher.fetch(link, attachment.file_size, start, count)
