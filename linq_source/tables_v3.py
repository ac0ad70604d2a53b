"""The tables as API v3 fills them: those of `tables`, with what v3 has otherwise.

Ids are texts (UUIDs). A column of v2 that v3 has no field for stays, always null, so that one
statement asks both. `created_at` takes the place of `sent_at` where windows, partitions and the
ledger need an instant that every message has and that never changes: `sent_at` is null until a
message is sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from linq_source import tables
from linq_source.tables import Column, Table, api_column

# What an id of v3 looks like.
UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
# Technical columns that stand at the end of a table.
_LAST = ("deleted_at", "expired_at", tables.SYNCED_AT, tables.TOMBSTONE)


def _v3(
    table: Table,
    *,
    sources: Mapping[str, str] | None = None,
    absent: Iterable[str] = (),
    replaced: Iterable[Column] = (),
    added: Iterable[Column] = (),
    key: tuple[str, ...] | None = None,
    repeated: frozenset[str] | None = None,
    partition_by: str | None = None,
) -> Table:
    """Return a table as v3 has it.

    `sources` are the fields that have other names, `absent` the columns without any; `replaced`
    stand in for columns of the same name.
    """
    instead = {column.name: column for column in replaced}
    columns = []
    for column in table.columns:
        if column.name in instead:
            columns.append(instead[column.name])
            continue
        if column.type == "bigint" and (column.name == "id" or column.name.endswith("_id")):
            column = replace(column, type="text")
        if column.name in absent:
            column = replace(
                column, source="", description=f"{column.description} Null: v3 does not tell."
            )
        elif sources and column.name in sources:
            column = replace(column, source=sources[column.name])
        columns.append(column)
    place = next(i for i, column in enumerate(columns) if column.name in _LAST)
    columns[place:place] = added
    return replace(
        table,
        columns=tuple(columns),
        key=key or table.key,
        repeated=table.repeated if repeated is None else repeated,
        partition_by=partition_by or table.partition_by,
    )


_IS_ME = api_column("is_me", "bool", "Whether it is one of the organisation's lines.")
_LINE_TYPE = api_column("line_type", "text", "Of a line: iMessage, RCS, ... (open list).")

PHONE_NUMBERS = _v3(
    tables.PHONE_NUMBERS,
    absent={"response_rate"},
    added=(
        _LINE_TYPE,
        api_column(
            "reputation",
            "text",
            "HEALTHY, AT_RISK, CRITICAL, ... (open list).",
            source="reputation.status",
        ),
    ),
    repeated=frozenset({"reputation.doc_url"}),
)

CHATS = _v3(
    tables.CHATS,
    sources={"is_group": "is_group"},
    absent={"message_count"},
    added=(
        api_column("is_archived", "bool", "Whether it is archived."),
        api_column(
            "health_status",
            "text",
            "HEALTHY, AT_RISK, CRITICAL, OPTED_OUT, ... (open list).",
            source="health_status.status",
        ),
        api_column(
            "health_updated_at",
            "timestamp",
            "When its health last changed.",
            source="health_status.updated_at",
        ),
        api_column(
            "group_chat_icon",
            "text",
            "Where the group's picture can be fetched.",
            personal_data="link",
        ),
        api_column("created_at", "timestamp", "When Linq made it."),
        api_column(
            "updated_at", "timestamp", "When Linq last changed it; by what is not documented."
        ),
    ),
    repeated=frozenset({"health_status.doc_url"}),
)

CHAT_HANDLES = _v3(
    tables.CHAT_HANDLES,
    sources={"phone_number": "handle"},
    added=(
        api_column("status", "text", "active, left, removed, ... (open list)."),
        api_column("left_at", "timestamp", "When the participant left; null if not."),
        _IS_ME,
        _LINE_TYPE,
    ),
)

CHAT_PHONE_NUMBERS = _v3(tables.CHAT_PHONE_NUMBERS)

CHAT_MESSAGES = _v3(
    tables.CHAT_MESSAGES,
    sources={"chat_handle_id": "from_handle.id"},
    absent={"edited_at"},
    replaced=(
        # Made of the message's parts.
        Column(
            "text",
            "text",
            "The text and link parts, a line each; null where it has none.",
            personal_data="writing",
            is_computed=True,
        ),
        api_column("sent_at", "timestamp", "When it was sent; null until then, and if it failed."),
        Column(
            "sent_from",
            "text",
            "The sender: a phone number or e-mail address.",
            source="from_handle.handle",
            personal_data="phone",
            fallback="from",
        ),
    ),
    added=(
        api_column(
            "created_at", "timestamp", "When Linq recorded it. Never changes.", nullable=False
        ),
        api_column(
            "updated_at", "timestamp", "When Linq last changed it; by what is not documented."
        ),
        api_column("read_at", "timestamp", "When it was read, where the reader lets it be known."),
        api_column("is_from_me", "bool", "Whether the organisation sent it."),
        api_column("is_delivered", "bool", "Whether it was delivered."),
        api_column("service", "text", "What it was sent by: iMessage, SMS, RCS, ... (open list)."),
        api_column("preferred_service", "text", "What the sender asked for."),
        api_column(
            "reply_to_message_id",
            "text",
            "The message it answers: `chat_messages.id`.",
            source="reply_to.message_id",
        ),
        api_column(
            "reply_to_part_position",
            "bigint",
            "Which part of that message: `chat_messages__parts.position`.",
            source="reply_to.part_index",
        ),
        api_column("effect_type", "text", "screen, bubble, ... (open list).", source="effect.type"),
        api_column("effect_name", "text", "The effect, such as confetti.", source="effect.name"),
        api_column(
            "reconciled_at",
            "timestamp",
            "When Linq recovered it, of a message that was not listed before; null otherwise.",
        ),
    ),
    # The sender stands among the participants of the chat; the chat is that of the list.
    repeated=frozenset({"chat_id", "from", "from_handle.*"}),
    partition_by="created_at",
)

MESSAGE_PARTS = tables.MESSAGE_PARTS

ATTACHMENTS = _v3(
    tables.ATTACHMENTS,
    sources={"file_size": "size_bytes"},
    replaced=(
        Column(
            "position",
            "bigint",
            "The part of the message: `chat_messages__parts.position`.",
            nullable=False,
        ),
    ),
)

REACTIONS = _v3(
    tables.REACTIONS,
    key=("chat_message_id", "part_position", "position"),
    sources={
        "reaction": "type",
        "is_from_me": "is_me",
        "from_phone": "handle.handle",
    },
    absent={"sent_at", "created_at", "updated_at"},
    replaced=(api_column("id", "text", "The reaction's id in Linq; null in older ones."),),
    added=(
        Column(
            "part_position",
            "bigint",
            "The part of the message: `chat_messages__parts.position`.",
            nullable=False,
            is_computed=True,
        ),
        Column("position", "bigint", "Place in the part's list, from 0.", nullable=False),
        api_column(
            "chat_handle_id",
            "text",
            "The participant: `chats__chat_handles.id`.",
            source="handle.id",
        ),
        api_column("custom_emoji", "text", "The emoji of a reaction of the type custom."),
        api_column(
            "sticker_url",
            "text",
            "Where a sticker can be fetched.",
            source="sticker.url",
            personal_data="link",
        ),
        api_column(
            "sticker_file_name",
            "text",
            "The sticker's name.",
            source="sticker.file_name",
            personal_data="writing",
        ),
        api_column(
            "sticker_mime_type", "text", "The sticker's media type.", source="sticker.mime_type"
        ),
        api_column(
            "sticker_width", "bigint", "The sticker's width, pixels.", source="sticker.width"
        ),
        api_column(
            "sticker_height", "bigint", "The sticker's height, pixels.", source="sticker.height"
        ),
    ),
    repeated=frozenset({"handle.*"}),
)

SYNC_WINDOWS = replace(
    _v3(
        tables.SYNC_WINDOWS,
        replaced=(
            Column("total_count", "bigint", "Messages of it that were listed: v3 counts none."),
            Column("verified", "bool", "Whether the list proves that it was read completely."),
            Column(
                "kept_since",
                "timestamp",
                "`created_at` of the oldest message that the API was shown to keep, in this "
                "reading, of the chat or of the lines that see it: what is gone and younger was "
                "deleted. The year 1 where `retention` is `forever`.",
            ),
        ),
    ),
    description="The ledger: every window of `created_at` that was loaded, or failed.",
)
REJECTED_RECORDS = _v3(tables.REJECTED_RECORDS)
ATTACHMENT_FILES = _v3(tables.ATTACHMENT_FILES)

TABLES: Mapping[str, Table] = {
    table.name: table
    for table in (
        PHONE_NUMBERS,
        CHATS,
        CHAT_HANDLES,
        CHAT_PHONE_NUMBERS,
        CHAT_MESSAGES,
        MESSAGE_PARTS,
        ATTACHMENTS,
        REACTIONS,
        SYNC_WINDOWS,
        tables.SYNC_RUNS,
        REJECTED_RECORDS,
        ATTACHMENT_FILES,
    )
}

RESOURCE_TABLES: Mapping[str, tuple[Table, ...]] = {
    resource: tuple(
        table
        for known in tables.RESOURCE_TABLES[resource]
        for table in (
            (CHAT_MESSAGES, MESSAGE_PARTS)
            if known is tables.CHAT_MESSAGES
            else (TABLES[known.name],)
        )
    )
    for resource in ("phone_numbers", "chats", "chat_messages", "attachment_files")
}
