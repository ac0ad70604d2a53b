"""Which attachments there are, and what is recorded of their files.

This is all that is read from the destination.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dlt.common.destination.exceptions import DestinationUndefinedEntity

from linq_source import tables
from linq_source.destinations.base import Destination
from linq_source.destinations.erasing import Erasure
from linq_source.destinations.reading import Reader
from linq_source.errors import ConfigurationError
from linq_source.media.choosing import Attachment, Known
from linq_source.settings import Id
from linq_source.tables import Table

Entry = tuple[Attachment, Known | None]

# No connection stays open while files are fetched.
_COLUMNS: Mapping[Table, Sequence[str]] = {
    tables.ATTACHMENTS: (
        "chat_message_id", "position", "chat_id", "id", "url", "filename", "file_size", "synced_at",
    ),
    tables.CHAT_MESSAGES: ("id", "chat_id", "synced_at", "deleted_at"),
    tables.CHATS: ("id", "deleted_at"),
    tables.ATTACHMENT_FILES: (
        "chat_message_id", "position", "attachment_id", "status", "url_hash", "size_bytes",
        "attempts", "bucket_path",
    ),
}  # fmt: skip


def open_entries(destination: Destination) -> Iterator[Entry]:
    """Current attachments whose file is not stored, with what is recorded of it, by place.

    Current are the children of messages and chats that are not deleted.
    """
    after: tuple[Id, int] | None = None
    most = destination.attachments_at_once
    while True:
        with destination.reading(_COLUMNS) as reader:
            rows = _read(reader, after, most)
        for row in rows:
            attachment = Attachment(*row[:7])
            known = None if row[8] is None else Known(*row[7:12])
            yield attachment, known
        if len(rows) < most:
            return
        after = (rows[-1][0], rows[-1][1])


def orphans(destination: Destination) -> list[tuple[Id, str | None]]:
    """Files whose message is no longer in the destination at all: message, path.

    A message deleted upstream is still there, marked; only `forget` erases one.
    """
    with destination.reading(_COLUMNS) as reader:
        rows = reader.ask(
            "SELECT f.chat_message_id, f.bucket_path FROM {attachment_files} AS f"
            " WHERE NOT EXISTS (SELECT 1 FROM {chat_messages} AS m WHERE m.id = f.chat_message_id)"
        )
    return [(message, path) for message, path in rows]


def erase_records(destination: Destination, messages: Iterable[Id]) -> None:
    """Erase what is recorded of the files of messages that are no longer there."""
    found = list(dict.fromkeys(messages))
    if found:
        destination.erase(Erasure(destination.tables, files_of=found))


def _read(reader: Reader, after: tuple[Id, int] | None, most: int) -> list[tuple[Any, ...]]:
    condition, values = "", () if after is None else (after[0], *after)
    if after is not None:
        condition = " AND (a.chat_message_id > %s OR (a.chat_message_id = %s AND a.position > %s))"
    try:
        return reader.rows(_sql(reader, condition, most, has_files=True), *values)
    except DestinationUndefinedEntity:
        pass
    try:
        return reader.rows(_sql(reader, condition, most, has_files=False), *values)
    except DestinationUndefinedEntity:
        raise ConfigurationError(
            "the destination has no chat_messages__attachments: run linq-source first, or check "
            "where to load, the dataset and the pipeline's name"
        ) from None


def _sql(reader: Reader, condition: str, most: int, *, has_files: bool) -> str:
    name = reader.name
    known, join = "NULL, NULL, NULL, NULL, NULL", ""
    if has_files:
        known = "f.attachment_id, f.status, f.url_hash, f.size_bytes, f.attempts"
        join = (
            f" LEFT JOIN {name(tables.ATTACHMENT_FILES)} AS f"
            " ON f.chat_message_id = a.chat_message_id AND f.position = a.position"
        )
        condition += (
            " AND (f.status IS NULL OR f.status <> 'stored'"
            " OR COALESCE(f.attachment_id, '') <> COALESCE(a.id, ''))"
        )
    return (
        "SELECT a.chat_message_id, a.position, a.chat_id, a.id, a.url, a.filename, a.file_size,"
        f" {known} FROM {name(tables.ATTACHMENTS)} AS a"
        f" JOIN {name(tables.CHAT_MESSAGES)} AS m"
        " ON m.id = a.chat_message_id AND m.synced_at = a.synced_at AND m.deleted_at IS NULL"
        f" LEFT JOIN {name(tables.CHATS)} AS c ON c.id = m.chat_id{join}"
        f" WHERE c.deleted_at IS NULL{condition}"
        f" ORDER BY a.chat_message_id, a.position LIMIT {most}"
    )
