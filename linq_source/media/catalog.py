"""Which attachments there are, and what is recorded of their files.

This is all that is read from the destination.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import dlt
from dlt.common.destination.exceptions import DestinationUndefinedEntity

from linq_source import tables
from linq_source.errors import ConfigurationError
from linq_source.media.choosing import Attachment, Known

Entry = tuple[Attachment, Known | None]

# Attachments read at once; no connection stays open while files are fetched.
_BATCH = 5_000


def open_entries(pipeline: dlt.Pipeline) -> Iterator[Entry]:
    """Current attachments whose file is not stored, with what is recorded of it, by place.

    Current are the children of messages and chats that are not deleted.
    """
    if pipeline.destination is None or "filesystem" in pipeline.destination.destination_type:
        raise ConfigurationError("attachments can be fetched only for a SQL destination so far")
    after = (-1, -1)
    while True:
        with pipeline.sql_client() as client:
            rows = _read(client, after)
        for row in rows:
            attachment = Attachment(*row[:7])
            known = None if row[8] is None else Known(*row[7:12])
            yield attachment, known
        if len(rows) < _BATCH:
            return
        after = (rows[-1][0], rows[-1][1])


def orphans(pipeline: dlt.Pipeline) -> list[tuple[int, int, str | None]]:
    """Files whose message is no longer in the destination at all: message, position, path.

    A message deleted upstream is still there, marked; only `forget` erases one.
    """
    with pipeline.sql_client() as client:
        files = client.make_qualified_table_name(tables.ATTACHMENT_FILES.name)
        messages = client.make_qualified_table_name(tables.CHAT_MESSAGES.name)
        try:
            rows = client.execute_sql(
                f"SELECT f.chat_message_id, f.position, f.bucket_path FROM {files} AS f"
                f" WHERE NOT EXISTS (SELECT 1 FROM {messages} AS m WHERE m.id = f.chat_message_id)"
            )
        except DestinationUndefinedEntity:
            return []
    return [(row[0], row[1], row[2]) for row in rows or ()]


def erase_records(pipeline: dlt.Pipeline, places: Sequence[tuple[int, int]]) -> None:
    """Erase what is recorded of files, by message and position."""
    with pipeline.sql_client() as client:
        files = client.make_qualified_table_name(tables.ATTACHMENT_FILES.name)
        for place in places:
            client.execute_sql(
                f"DELETE FROM {files} WHERE chat_message_id = %s AND position = %s", *place
            )


def _read(client: Any, after: tuple[int, int]) -> list[tuple[Any, ...]]:
    try:
        return list(client.execute_sql(_sql(client, has_files=True), *_parameters(after)) or ())
    except DestinationUndefinedEntity:
        pass
    try:
        return list(client.execute_sql(_sql(client, has_files=False), *_parameters(after)) or ())
    except DestinationUndefinedEntity:
        raise ConfigurationError(
            "the destination has no chat_messages__attachments: run linq-source first, or check "
            "--database, --dataset and --pipeline-name"
        ) from None


def _parameters(after: tuple[int, int]) -> tuple[int, int, int]:
    return after[0], after[0], after[1]


def _sql(client: Any, *, has_files: bool) -> str:
    def name(table: tables.Table) -> str:
        return str(client.make_qualified_table_name(table.name))

    known, join, condition = "NULL, NULL, NULL, NULL, NULL", "", ""
    if has_files:
        known = "f.attachment_id, f.status, f.url_hash, f.size_bytes, f.attempts"
        join = (
            f" LEFT JOIN {name(tables.ATTACHMENT_FILES)} AS f"
            " ON f.chat_message_id = a.chat_message_id AND f.position = a.position"
        )
        condition = (
            " AND (f.status IS NULL OR f.status <> 'stored'"
            " OR COALESCE(f.attachment_id, '') <> COALESCE(a.id, ''))"
        )
    return (
        "SELECT a.chat_message_id, a.position, a.chat_id, a.id, a.url, a.filename, a.file_size,"
        f" {known} FROM {name(tables.ATTACHMENTS)} AS a"
        f" JOIN {name(tables.CHAT_MESSAGES)} AS m"
        " ON m.id = a.chat_message_id AND m.synced_at = a.synced_at AND m.deleted_at IS NULL"
        f" LEFT JOIN {name(tables.CHATS)} AS c ON c.id = m.chat_id{join}"
        " WHERE c.deleted_at IS NULL AND (a.chat_message_id > %s"
        " OR (a.chat_message_id = %s AND a.position > %s))"
        f"{condition} ORDER BY a.chat_message_id, a.position LIMIT {_BATCH}"
    )
