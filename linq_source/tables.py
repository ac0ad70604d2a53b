"""The tables this source fills: names, columns, types, keys and descriptions, as data.

Arrow schemas, dlt hints, the README's table and `docs/tables.md` are all made from this module;
nothing about a table is written down a second time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

ColumnType = Literal["bigint", "text", "timestamp", "bool", "double"]
# What of a person a text column holds: a number or address, a name with perhaps one in it, what
# somebody wrote, a link that opens what somebody sent, or JSON with any of these.
PersonalData = Literal["", "phone", "name", "writing", "link", "anything"]

ARROW_TYPES: Mapping[ColumnType, pa.DataType] = {
    "bigint": pa.int64(),
    "text": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "bool": pa.bool_(),
    "double": pa.float64(),
}

SYNCED_AT = "synced_at"
TOMBSTONE = "_tombstone"
# What a row of the ledger tells: a window that was loaded, a chat that could not be read, one that
# is no longer there, an interval whose messages the API may have forgotten before they were read.
READ, FAILED, VANISHED, GAP = "read", "failed", "vanished", "gap"
# What the runs of all chats say that they covered.
ALL_CHATS = "all"
# How versions before 0.2, whose rows have no `event`, told that a chat had vanished.
VANISHED_TEXT = "the chat is no longer in the complete listing"


@dataclass(frozen=True)
class Column:
    """One column.

    `source` is the API field it comes from ("" where this source makes the column), with a dot
    before a member of an object, `fallback` a deprecated one that stands in where that is null;
    `nullable` goes to the destination; `personal_data` decides what the settings `phones` and
    `text` do with it.
    """

    name: str
    type: ColumnType
    description: str
    source: str = ""
    nullable: bool = True
    personal_data: PersonalData = ""
    is_json: bool = False
    is_computed: bool = False
    fallback: str = ""

    @property
    def field(self) -> pa.Field:
        """The Arrow field of this column."""
        return pa.field(self.name, ARROW_TYPES[self.type], nullable=self.nullable)


@dataclass(frozen=True)
class Table:
    """One table.

    `key` identifies a row. `merge_key` is what a merge replaces by: a child table replaces all
    rows of a parent. Both are empty for a table that is only appended to. `parent` names the
    table that the merge key points to. `repeated` are API fields that only repeat what stands
    elsewhere and are not kept; `object.*` means every member of an object that is no column.
    A warehouse that bills what a query reads keeps rows in parts: `partition_by` is an instant
    that never changes, by whose day they are parted, `cluster_by` the columns that they are sorted
    by within a part.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    merge_key: str = ""
    parent: str = ""
    repeated: frozenset[str] = frozenset()
    partition_by: str = ""
    cluster_by: tuple[str, ...] = ()

    @property
    def is_appended(self) -> bool:
        """Whether rows are only ever added (a log)."""
        return not self.key

    @property
    def is_child(self) -> bool:
        """Whether rows belong to a row of another table."""
        return bool(self.parent)

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the rows as they are loaded."""
        return pa.schema([column.field for column in self.columns])

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def source_columns(self) -> tuple[Column, ...]:
        """The columns that come from the API's record."""
        return tuple(column for column in self.columns if column.source)

    @property
    def decoded_columns(self) -> tuple[Column, ...]:
        """The columns that decoded records have: those from the API, and those made of them."""
        return tuple(column for column in self.columns if column.source or column.is_computed)

    @property
    def objects(self) -> frozenset[str]:
        """The API fields that hold an object whose members are columns."""
        sources = (column.source for column in self.source_columns)
        return frozenset(source.partition(".")[0] for source in sources if "." in source)

    def is_repeated(self, field: str) -> bool:
        """Return whether an API field, or a member of an object, is not kept."""
        object_, dot, _ = field.partition(".")
        return field in self.repeated or bool(dot and f"{object_}.*" in self.repeated)


def api_column(
    name: str,
    type_: ColumnType,
    description: str,
    *,
    source: str = "",
    nullable: bool = True,
    personal_data: PersonalData = "",
    is_json: bool = False,
) -> Column:
    """Return a column that holds a field of the API, named like it unless `source` says else."""
    return Column(name, type_, description, source or name, nullable, personal_data, is_json)


_SYNCED_AT = Column(
    SYNCED_AT, "timestamp", "Instant of the run that last loaded this row.", nullable=False
)
_TOMBSTONE = Column(
    TOMBSTONE,
    "bool",
    "Technical: marks a staged row that only removes its parent's old children; null in loaded "
    "rows.",
)
_MESSAGE_ID = Column(
    "chat_message_id", "bigint", "The message: `chat_messages.id`.", nullable=False
)
_CHAT_ID = Column("chat_id", "bigint", "The chat: `chats.id`.", nullable=False)

PHONE_NUMBERS = Table(
    name="phone_numbers",
    description="The organisation's phone numbers.",
    key=("id",),
    columns=(
        api_column("id", "bigint", "The number's id in Linq.", nullable=False),
        api_column("phone_number", "text", "The number, E.164.", personal_data="phone"),
        api_column(
            "forwarding_number", "text", "Where calls are forwarded to.", personal_data="phone"
        ),
        api_column("response_rate", "bigint", "Response rate as the API reports it, percent."),
        _SYNCED_AT,
    ),
)

CHATS = Table(
    name="chats",
    description="Conversations, each once, however many of the organisation's numbers see it.",
    key=("id",),
    columns=(
        api_column("id", "bigint", "The chat's id in Linq.", nullable=False),
        api_column("display_name", "text", "The chat's name.", personal_data="name"),
        api_column("service", "text", "iMessage, SMS, RCS, ... (open list)."),
        api_column(
            "is_group", "bool", "Whether it has more than two participants.", source="group"
        ),
        api_column("message_count", "bigint", "Number of messages as the API counts them."),
        Column(
            "deleted_at",
            "timestamp",
            "`synced_at` of the run in which the chat was neither in the complete listing nor "
            "found by its id, while the API was shown to keep what is older; null otherwise.",
        ),
        Column(
            "expired_at",
            "timestamp",
            "`synced_at` of the run in which the chat was gone and nothing proves that somebody "
            "deleted it; null otherwise.",
        ),
        _SYNCED_AT,
    ),
)

CHAT_HANDLES = Table(
    name="chats__chat_handles",
    description="Participants of a chat, as of its last load.",
    key=("chat_id", "id"),
    merge_key="chat_id",
    parent="chats",
    cluster_by=("chat_id",),
    columns=(
        _CHAT_ID,
        api_column("id", "bigint", "The participant's id in Linq.", nullable=False),
        api_column(
            "phone_number",
            "text",
            "Phone number or e-mail of the participant.",
            personal_data="phone",
        ),
        api_column("service", "text", "iMessage, SMS, RCS, ... (open list)."),
        api_column("joined_at", "timestamp", "When the participant joined."),
        _SYNCED_AT,
        _TOMBSTONE,
    ),
)

CHAT_PHONE_NUMBERS = Table(
    name="chats__phone_numbers",
    description="Which of the organisation's phone numbers list a chat, when all were last asked.",
    key=("chat_id", "phone_number_id"),
    merge_key="chat_id",
    parent="chats",
    cluster_by=("chat_id",),
    columns=(
        _CHAT_ID,
        api_column("phone_number_id", "bigint", "The number: `phone_numbers.id`.", nullable=False),
        api_column("phone_number", "text", "The number, E.164.", personal_data="phone"),
        _SYNCED_AT,
        _TOMBSTONE,
    ),
)

CHAT_MESSAGES = Table(
    name="chat_messages",
    description="Messages, one row each, with their latest known state.",
    key=("id",),
    partition_by="sent_at",
    cluster_by=("chat_id",),
    columns=(
        api_column("id", "bigint", "The message's id in Linq.", nullable=False),
        _CHAT_ID,
        api_column(
            "text", "text", "Text; null for a message of attachments only.", personal_data="writing"
        ),
        api_column("sent_at", "timestamp", "When it was sent. Never changes.", nullable=False),
        api_column("delivered_at", "timestamp", "When it was delivered; null until then."),
        api_column(
            "delivery_status", "text", "pending, delivered, service_unavailable, ... (open)."
        ),
        api_column("edited_at", "timestamp", "When it was last edited; null if never."),
        api_column("is_read", "bool", "Whether it was read."),
        api_column(
            "sent_from",
            "text",
            "The sender: a phone number or other identifier.",
            personal_data="phone",
        ),
        api_column(
            "chat_handle_id", "bigint", "The sending participant: `chats__chat_handles.id`."
        ),
        Column(
            "deleted_at",
            "timestamp",
            "`synced_at` of the verified window that proved the message gone while the API was "
            "shown to keep older ones; null otherwise.",
        ),
        Column(
            "expired_at",
            "timestamp",
            "`synced_at` of the verified window that lacked the message when nothing as old was "
            "listed: the API forgot it. It and its children stay as they were last seen.",
        ),
        _SYNCED_AT,
    ),
)

ATTACHMENTS = Table(
    name="chat_messages__attachments",
    description="Files attached to messages; current when `synced_at` equals the message's.",
    key=("chat_message_id", "position"),
    merge_key="chat_message_id",
    parent="chat_messages",
    cluster_by=("chat_message_id",),
    columns=(
        _MESSAGE_ID,
        Column("position", "bigint", "Place in the message's list, from 0.", nullable=False),
        _CHAT_ID,
        api_column("id", "text", "The attachment's id in Linq (a UUID)."),
        api_column(
            "url", "text", "Where the file can be fetched; links may expire.", personal_data="link"
        ),
        api_column("filename", "text", "The file's name.", personal_data="writing"),
        api_column("mime_type", "text", "The file's media type."),
        api_column("file_size", "bigint", "The file's size in bytes."),
        _SYNCED_AT,
        _TOMBSTONE,
    ),
)

REACTIONS = Table(
    name="chat_messages__reactions",
    description="Reactions to messages; current when `synced_at` equals the message's.",
    key=("chat_message_id", "id"),
    merge_key="chat_message_id",
    parent="chat_messages",
    cluster_by=("chat_message_id",),
    repeated=frozenset({"chat_message_id"}),
    columns=(
        _MESSAGE_ID,
        api_column("id", "bigint", "The reaction's id in Linq.", nullable=False),
        _CHAT_ID,
        api_column(
            "reaction", "text", "love, like, dislike, laugh, emphasize, question, ... (open)."
        ),
        api_column("is_from_me", "bool", "Whether the organisation reacted."),
        api_column(
            "from_phone", "text", "Phone number or e-mail of who reacted.", personal_data="phone"
        ),
        api_column("sent_at", "timestamp", "When the reaction was sent."),
        api_column("created_at", "timestamp", "When Linq recorded it."),
        api_column("updated_at", "timestamp", "When Linq last changed it."),
        _SYNCED_AT,
        _TOMBSTONE,
    ),
)

MESSAGE_PARTS = Table(
    name="chat_messages__parts",
    description="What messages of API v3 are made of; current when `synced_at` equals the "
    "message's.",
    key=("chat_message_id", "position"),
    merge_key="chat_message_id",
    parent="chat_messages",
    cluster_by=("chat_message_id",),
    columns=(
        Column("chat_message_id", "text", "The message: `chat_messages.id`.", nullable=False),
        Column("position", "bigint", "Place in the message's list, from 0.", nullable=False),
        Column("chat_id", "text", "The chat: `chats.id`.", nullable=False),
        api_column("type", "text", "text, media, link, imessage_app, app_clip, ... (open list)."),
        api_column("value", "text", "What was written, or the link.", personal_data="writing"),
        Column(
            "attachment_id",
            "text",
            "Of media: `chat_messages__attachments.id`.",
            is_computed=True,
        ),
        api_column(
            "text_decorations",
            "text",
            "Which ranges are bold, ...: JSON.",
            personal_data="writing",
            is_json=True,
        ),
        api_column(
            "mentions",
            "text",
            "Who is mentioned in which range: JSON.",
            personal_data="anything",
            is_json=True,
        ),
        api_column(
            "inline_stickers",
            "text",
            "Stickers in the text: JSON.",
            personal_data="anything",
            is_json=True,
        ),
        Column(
            "payload",
            "text",
            "The whole part as JSON, without reactions, where it is neither text, media nor link.",
            personal_data="anything",
            is_computed=True,
        ),
        _SYNCED_AT,
        _TOMBSTONE,
    ),
    # What `mentions` has, of one person only.
    repeated=frozenset({"mention", "mention_range"}),
)

CONTACTS = Table(
    name="contacts",
    description="Names for numbers, where they are asked for (`contacts`).",
    key=("id",),
    columns=(
        api_column("id", "text", "The contact's id in Linq, a number or a text.", nullable=False),
        api_column("first_name", "text", "First name.", personal_data="name"),
        api_column("last_name", "text", "Last name.", personal_data="name"),
        api_column("full_name", "text", "First and last name.", personal_data="name"),
        api_column("email", "text", "E-mail address.", personal_data="phone"),
        api_column("phone_number", "text", "Phone number.", personal_data="phone"),
        api_column("company", "text", "Where the contact works.", personal_data="name"),
        api_column("title", "text", "What the contact works as.", personal_data="name"),
        api_column("location", "text", "Where the contact is.", personal_data="name"),
        api_column("image_url", "text", "Where a picture can be fetched.", personal_data="link"),
        api_column("created_at", "timestamp", "When it was made."),
        api_column("updated_at", "timestamp", "When it was last changed."),
        api_column("owner_id", "text", "Whose contact it is: id.", source="contact_owner.id"),
        api_column(
            "owner_email",
            "text",
            "Whose contact it is: e-mail address.",
            source="contact_owner.email",
            personal_data="phone",
        ),
        api_column(
            "owner_first_name",
            "text",
            "Whose contact it is: first name.",
            source="contact_owner.first_name",
            personal_data="name",
        ),
        api_column(
            "owner_last_name",
            "text",
            "Whose contact it is: last name.",
            source="contact_owner.last_name",
            personal_data="name",
        ),
        api_column(
            "owner_name",
            "text",
            "Whose contact it is: name.",
            source="contact_owner.name",
            personal_data="name",
        ),
        Column(
            "deleted_at",
            "timestamp",
            "`synced_at` of the run in which a complete list no longer had it; null otherwise.",
        ),
        _SYNCED_AT,
    ),
)

SYNC_WINDOWS = Table(
    name="sync_windows",
    description="The ledger: every window of `sent_at` that was loaded, or failed.",
    partition_by=SYNCED_AT,
    cluster_by=("chat_id",),
    columns=(
        _CHAT_ID,
        Column("window_start", "timestamp", "First instant; null: from the beginning."),
        Column("window_end", "timestamp", "First instant after the window."),
        Column("total_count", "bigint", "Messages the API says the window has."),
        Column("messages", "bigint", "Messages of it that were loaded."),
        Column("pages", "bigint", "Pages read for it."),
        Column("requests", "bigint", "Requests made for it, repeated readings included."),
        Column("attempts", "bigint", "How often it was read until it was verified or given up."),
        Column("verified", "bool", "Whether counts prove that the window was read completely."),
        Column("error", "text", "Why it could not be read, or proves nothing; null if neither."),
        Column(
            "event",
            "text",
            "read, failed (a chat that could not be read), vanished (one no longer there), gap "
            "(what was sent in it may have been forgotten by the API before it was read); null in "
            "rows of earlier versions.",
        ),
        Column(
            "kept_since",
            "timestamp",
            "`sent_at` of the oldest message that the API was shown to keep, in this reading, of "
            "the chat or of the lines that see it: what is gone and younger was deleted. The year "
            "1 where `retention` is `forever`.",
        ),
        _SYNCED_AT,
    ),
)

SYNC_RUNS = Table(
    name="sync_runs",
    description="One row per run: what was read, skipped and unchanged.",
    columns=(
        Column("bound", "timestamp", "Upper end of every window of the run, server's clock."),
        Column("chats", "bigint", "Chats the run was about."),
        Column("chats_skipped", "bigint", "Chats proved unchanged without asking for messages."),
        Column("chats_failed", "bigint", "Chats that could not be read."),
        Column("chats_unlisted", "bigint", "Known chats that were not listed and are not gone."),
        Column("windows_read", "bigint", "Windows read from the API."),
        Column("windows_unchanged", "bigint", "Days read whose content had not changed."),
        Column("windows_unverified", "bigint", "Windows whose counts never agreed."),
        Column("messages", "bigint", "Messages loaded."),
        Column("rejected", "bigint", "Records that could not be loaded exactly as they came."),
        Column("gaps", "bigint", "Chats of which messages may have been forgotten unread."),
        Column("chats_rechecked", "bigint", "Chats read again from their beginning, unasked."),
        Column(
            "oldest_check",
            "timestamp",
            "The day of the oldest reading from the beginning of any chat, when the run ended;"
            " null: one had none, or the run was about an interval.",
        ),
        Column("requests", "bigint", "Requests sent, repeated ones included."),
        Column("retries", "bigint", "Requests repeated after a failure."),
        Column("seconds", "double", "Duration of reading, seconds."),
        Column(
            "covered",
            "text",
            "The chats that were all read to the bound, or proved unchanged: `all`, or a shard such"
            " as `0/4`; null where the run was about some chats or an interval, or did not get"
            " through, and in rows of earlier versions.",
        ),
        _SYNCED_AT,
    ),
)

REJECTED_RECORDS = Table(
    name="rejected_records",
    description="Records the API sent that could not be loaded exactly as they came, whole.",
    columns=(
        Column(
            "chat_id",
            "bigint",
            "The chat: `chats.id`; -1 where the record tells none.",
            nullable=False,
        ),
        # Never null in other records: a message that cannot be named protects its whole window.
        Column(
            "message_id",
            "bigint",
            "The message's id where it could be read; -1 in records that are not messages.",
        ),
        Column("reason", "text", "What is wrong with the record."),
        Column("payload", "text", "The record's JSON text as it came."),
        Column(
            "table_name", "text", "The table it was meant for; null in rows of earlier versions."
        ),
        _SYNCED_AT,
    ),
)

ATTACHMENT_FILES = Table(
    name="attachment_files",
    description="What `linq-source media` made of each attachment: a file in the bucket, or why "
    "not.",
    key=("chat_message_id", "position"),
    columns=(
        _MESSAGE_ID,
        Column("position", "bigint", "Place in the message's list, from 0.", nullable=False),
        _CHAT_ID,
        Column("attachment_id", "text", "The attachment: `chat_messages__attachments.id`."),
        Column(
            "status",
            "text",
            "stored, expired, failed, wrong_size, refused (an unsafe link), skipped (too large).",
        ),
        Column("sha256", "text", "SHA-256 of the stored file, in hex."),
        Column("size_bytes", "bigint", "Size of the file, or what the host announced."),
        Column("content_type", "text", "The media type that the host stated."),
        Column("bucket_path", "text", "The stored file's path below the bucket's address."),
        Column("fetched_at", "timestamp", "When the file was stored."),
        Column("http_status", "bigint", "The host's last HTTP status; null without an answer."),
        Column("error", "text", "Why there is no file; null if there is."),
        Column("attempts", "bigint", "How often the file was asked for, over all runs."),
        Column("url_hash", "text", "SHA-256 of the link that was used: tells a newer one."),
        _SYNCED_AT,
    ),
)

TABLES: Mapping[str, Table] = {
    table.name: table
    for table in (
        PHONE_NUMBERS,
        CHATS,
        CHAT_HANDLES,
        CHAT_PHONE_NUMBERS,
        CHAT_MESSAGES,
        ATTACHMENTS,
        REACTIONS,
        CONTACTS,
        SYNC_WINDOWS,
        SYNC_RUNS,
        REJECTED_RECORDS,
        ATTACHMENT_FILES,
    )
}

# Every table that a dataset may have, as its name, key and parent go; `tables_v3` has the types
# and columns of one that was loaded from API v3.
ALL_TABLES: Mapping[str, Table] = {**TABLES, MESSAGE_PARTS.name: MESSAGE_PARTS}

# Which tables a resource of the source writes; the first is its own.
RESOURCE_TABLES: Mapping[str, tuple[Table, ...]] = {
    "phone_numbers": (PHONE_NUMBERS, REJECTED_RECORDS),
    "chats": (CHATS, CHAT_HANDLES, CHAT_PHONE_NUMBERS, REJECTED_RECORDS),
    "contacts": (CONTACTS, REJECTED_RECORDS),
    "chat_messages": (
        CHAT_MESSAGES,
        ATTACHMENTS,
        REACTIONS,
        SYNC_WINDOWS,
        SYNC_RUNS,
        REJECTED_RECORDS,
    ),
    "attachment_files": (ATTACHMENT_FILES,),
}
