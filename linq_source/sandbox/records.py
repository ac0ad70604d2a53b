"""The things a sandbox world is made of.

Every instant is an integer count of milliseconds since 1970-01-01T00:00:00Z and its name ends in
`_ms`. `extra` holds keys that are merged into the rendered JSON object, replacing those of the
contract when the names meet: an API whose schema drifts. `raw` is JSON text (or text that is not
JSON at all) served in place of the rendered record: an API that sends a bad record.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MessageKey = tuple[int, int]
"""`(sent_at_ms, id)`: the order in which a chat's messages are served."""


@dataclass(slots=True)
class PhoneNumber:
    """A number of the organisation; `response_rate` is a percentage.

    With `keeps_ms`, messages that only such numbers see are forgotten when they are older.
    """

    id: int
    phone_number: str
    forwarding_number: str | None = None
    response_rate: int | None = None
    keeps_ms: int | None = None
    extra: dict[str, object] = field(default_factory=dict)
    raw: str | None = None


@dataclass(slots=True)
class ChatHandle:
    """A participant of a chat; `phone_number` may hold an e-mail address."""

    id: int
    phone_number: str
    service: str
    joined_at_ms: int
    extra: dict[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class Attachment:
    """A file sent with a message; `id` is a UUID and `file_size` is in bytes."""

    id: str
    url: str
    filename: str
    mime_type: str
    file_size: int
    extra: dict[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class Reaction:
    """What somebody felt about a message."""

    id: int
    chat_message_id: int
    reaction: str
    is_from_me: bool
    from_phone: str
    sent_at_ms: int
    created_at_ms: int
    updated_at_ms: int
    extra: dict[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class Message:
    """A message of one chat.

    `sent_at_ms` and `chat_id` place the message in its chat's order, so they are changed through
    `World.move_message` only; the other fields may be set freely.
    """

    id: int
    chat_id: int
    text: str | None
    sent_at_ms: int
    delivered_at_ms: int | None
    delivery_status: str
    edited_at_ms: int | None
    is_read: bool
    sent_from: str
    chat_handle_id: int | None
    attachments: list[Attachment] = field(default_factory=list)
    reactions: list[Reaction] = field(default_factory=list)
    extra: dict[str, object] = field(default_factory=dict)
    raw: str | None = None


@dataclass(slots=True)
class Contact:
    """A name for a number; `owner` is an object of the contract, whose contact it is."""

    id: int | str
    first_name: str | None
    last_name: str | None
    created_at_ms: int
    updated_at_ms: int
    email: str | None = None
    phone_number: str | None = None
    company: str | None = None
    title: str | None = None
    location: str | None = None
    image_url: str | None = None
    owner: dict[str, object] | None = None
    extra: dict[str, object] = field(default_factory=dict)
    raw: str | None = None

    @property
    def full_name(self) -> str | None:
        """First and last name, as far as there are any."""
        return " ".join(filter(None, (self.first_name, self.last_name))) or None


@dataclass(slots=True)
class Chat:
    """A conversation, seen by every number listed in `phone_number_ids`.

    `utc_offset_minutes` is the offset in which the chat's instants are rendered. `message_keys`
    is the chat's sorted index and belongs to the world.
    """

    id: int
    display_name: str
    service: str
    group: bool
    phone_number_ids: list[int]
    utc_offset_minutes: int = 0
    count_offset: int = 0
    handles: list[ChatHandle] = field(default_factory=list)
    extra: dict[str, object] = field(default_factory=dict)
    raw: str | None = None
    message_keys: list[MessageKey] = field(default_factory=list, repr=False)

    @property
    def message_count(self) -> int:
        """The count the API states: what is there, plus `count_offset` for an API that errs."""
        return len(self.message_keys) + self.count_offset
