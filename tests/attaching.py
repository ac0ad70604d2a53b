"""Messages with files, the run that fetches them, and what it left in bucket and table."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from linq_source.media import MediaReport, media
from linq_source.sandbox.records import Message
from tests.conftest import DAY_MS, NOW_MS, Loader
from tests.files import Answer, FileHost, content
from tests.truth import Row

AT_MS = NOW_MS - 2 * DAY_MS
SECRET = "signature-not-to-be-seen"


def attach(
    loader: Loader,
    host: FileHost,
    path: str,
    size: int = 1000,
    *,
    answer: Answer | list[Answer] | None = None,
    file_size: int | None = None,
    **options: Any,
) -> Message:
    """A message with one attachment, served by the host under a path."""
    message = loader.world.add_message(1, "see this", sent_at_ms=AT_MS)
    add_file(loader, host, message, path, size, answer=answer, file_size=file_size, **options)
    return message


def add_file(
    loader: Loader,
    host: FileHost,
    message: Message,
    path: str,
    size: int = 1000,
    *,
    answer: Answer | list[Answer] | None = None,
    file_size: int | None = None,
    **options: Any,
) -> None:
    body = content(path, size)
    host.answers[path] = answer or Answer(body, headers={"Content-Type": "application/pdf"})
    options.setdefault("filename", path.rpartition("/")[2])
    loader.world.add_attachment(
        message.id,
        url=host.url(path) + f"?sig={SECRET}",
        file_size=size if file_size is None else file_size,
        **options,
    )


def fetch(loader: Loader, **options: Any) -> MediaReport:
    options.setdefault("allow_private_hosts", True)
    return media(loader.pipeline, str(bucket_of(loader)), **options)


def bucket_of(loader: Loader) -> Path:
    return loader.folder / "bucket"


def records_of(loader: Loader) -> list[Row]:
    rows = loader.query(
        "SELECT chat_message_id, position, attachment_id, status, sha256, size_bytes, bucket_path,"
        " http_status, error, attempts FROM attachment_files ORDER BY 1, 2"
    )
    names = ("message", "position", "id", "status", "sha256", "size", "path", "http", "error",
             "attempts")  # fmt: skip
    return [dict(zip(names, row, strict=True)) for row in rows]


def files_of(loader: Loader) -> dict[str, bytes]:
    """Every file in the bucket by its path."""
    bucket = bucket_of(loader)
    return {
        path.relative_to(bucket).as_posix(): path.read_bytes()
        for path in bucket.rglob("*")
        if path.is_file()
    }


def assert_bucket_is_recorded(loader: Loader, expected: dict[int, bytes]) -> None:
    """The bucket holds exactly the expected files, by message, and the records say so."""
    stored = [row for row in records_of(loader) if row["status"] == "stored"]
    files = files_of(loader)
    assert {row["message"]: files[row["path"]] for row in stored} == expected
    assert len(files) == len(stored)
    for row in stored:
        body = files[row["path"]]
        assert (row["sha256"], row["size"]) == (hashlib.sha256(body).hexdigest(), len(body))
