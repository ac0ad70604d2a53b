"""Records of files, loaded into `attachment_files` beside the messages.

A pipeline of its own, `<name>_media`, loads them into the same dataset: state and schema of the
messages' pipeline are not touched, nor are packages that wait in it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dlt
import pyarrow as pa

from linq_source.destinations.base import Destination
from linq_source.destinations.load_dialect import in_the_dialect
from linq_source.media.choosing import Attachment, Status
from linq_source.operations.loading import load_pending
from linq_source.operations.packages import heal_packages
from linq_source.rows.hints import WriteStrategy, table_hints
from linq_source.tables import ATTACHMENT_FILES, Table

# Records that a crash may lose are few; the files they tell of are found again in the bucket.
BATCH_FILES = 200
BATCH_S = 30.0


@dataclass(frozen=True)
class Outcome:
    """What became of one file; `was_there` if the bucket had it already."""

    attachment: Attachment
    status: Status
    attempts: int
    url_hash: str
    sha256: str | None = None
    size_bytes: int | None = None
    content_type: str | None = None
    bucket_path: str | None = None
    fetched_at: datetime | None = None
    http_status: int | None = None
    error: str | None = None
    was_there: bool = False

    def row(self, synced_at: datetime) -> dict[str, Any]:
        """The row of `attachment_files`."""
        return {
            "chat_message_id": self.attachment.chat_message_id,
            "position": self.attachment.position,
            "chat_id": self.attachment.chat_id,
            "attachment_id": self.attachment.id,
            "status": self.status,
            "sha256": self.sha256,
            "size_bytes": self.size_bytes,
            "content_type": self.content_type,
            "bucket_path": self.bucket_path,
            "fetched_at": self.fetched_at,
            "http_status": self.http_status,
            "error": self.error,
            "attempts": self.attempts,
            "url_hash": self.url_hash,
            "synced_at": synced_at,
        }


class Records:
    """Outcomes gathered and loaded, every `BATCH_FILES` files or `BATCH_S` seconds."""

    def __init__(self, pipeline: dlt.Pipeline, destination: Destination) -> None:
        self._messages_pipeline = pipeline
        self._destination = destination
        self._outcomes: list[Outcome] = []
        self._loaded_s = time.monotonic()
        self.loads: list[str] = []
        self._pipeline = dlt.pipeline(
            f"{pipeline.pipeline_name}_media",
            destination=pipeline.destination,
            dataset_name=pipeline.dataset_name,
            pipelines_dir=pipeline.pipelines_dir,
        )
        pipeline.activate()

    def finish_pending(self) -> None:
        """Load what a killed run had extracted and not loaded."""
        try:
            self._pipeline.activate()
            heal_packages(self._pipeline)
            if self._pipeline.has_pending_data:
                self.loads += load_pending(self._pipeline)
        finally:
            self._messages_pipeline.activate()

    def add(self, outcome: Outcome) -> None:
        """Remember an outcome."""
        self._outcomes.append(outcome)

    def load_if_due(self) -> None:
        """Load what was gathered, if it is much or was long ago."""
        if len(self._outcomes) >= BATCH_FILES or time.monotonic() - self._loaded_s >= BATCH_S:
            self.load()

    def load(self) -> None:
        """Load everything gathered."""
        if not self._outcomes:
            return
        now = datetime.now(UTC)
        rows = [outcome.row(now) for outcome in self._outcomes]
        try:
            self._pipeline.activate()
            destination = self._destination
            table = destination.tables[ATTACHMENT_FILES.name]
            self._pipeline.extract(
                records_source(table, rows, destination.write_strategy, destination.table_format)
            )
            self.loads += load_pending(self._pipeline)
        finally:
            self._messages_pipeline.activate()
        self._outcomes = []
        self._loaded_s = time.monotonic()


def records_source(
    table: Table,
    rows: list[dict[str, Any]],
    write_strategy: WriteStrategy = "delete-insert",
    table_format: str | None = None,
) -> Any:
    """The dlt source of one resource, `attachment_files`, with rows as `Outcome.row` makes them."""

    def generate() -> Iterator[Any]:
        yield in_the_dialect(pa.Table.from_pylist(rows, schema=table.schema), table)

    @dlt.source(name="linq_media", section="linq_media")
    def source() -> Any:
        resource = dlt.resource(generate, name=table.name)
        hints: dict[str, Any] = table_hints(table, write_strategy=write_strategy)
        if table_format is not None:
            hints["table_format"] = table_format
        resource.apply_hints(create_table_variant=True, **hints)
        return resource

    return source()
