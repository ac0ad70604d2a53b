"""What to fetch and what not. Pure: an attachment and what is recorded of it in, a verdict out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from linq_source.media.links import link_hash
from linq_source.settings import Id

# A file that fails run after run is given up after so many requests; `retry_failed` asks again.
MAX_ATTEMPTS = 20

Status = Literal["stored", "expired", "failed", "wrong_size", "refused", "skipped"]


@dataclass(frozen=True)
class Attachment:
    """A current attachment, as the destination has it; sizes in bytes."""

    chat_message_id: Id
    position: int
    chat_id: Id
    id: str | None
    url: str | None = field(repr=False)
    filename: str | None = field(repr=False)
    file_size: int | None


@dataclass(frozen=True)
class Known:
    """What is recorded of the file at an attachment's place."""

    attachment_id: str | None
    status: str
    url_hash: str | None
    size_bytes: int | None
    attempts: int


@dataclass(frozen=True)
class Choice:
    """What a run is willing to fetch."""

    max_file_bytes: int
    retry_failed: bool = False
    # Whether another link can be had in place of one that expired.
    has_fresh_links: bool = False

    def wants(self, attachment: Attachment, known: Known | None) -> bool:
        """Whether the file is to be fetched, or its outcome recorded, in this run."""
        if known is None or (known.attachment_id or "") != (attachment.id or ""):
            return True
        if known.status == "stored":
            return False
        if known.status == "skipped":
            size = known.size_bytes if known.size_bytes is not None else attachment.file_size
            return size is None or size <= self.max_file_bytes
        if self.retry_failed or known.url_hash != link_hash(attachment.url):
            return True
        is_passing = known.status == "failed" or (
            known.status == "expired" and self.has_fresh_links
        )
        return is_passing and known.attempts < MAX_ATTEMPTS


def attempts_before(attachment: Attachment, known: Known | None) -> int:
    """How often this very file was asked for in earlier runs."""
    if known is None or (known.attachment_id or "") != (attachment.id or ""):
        return 0
    return known.attempts
