"""World objects as the JSON of the contract of v3. Pure, as `rendering` is."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from linq_source.sandbox.records import Attachment, Chat, ChatHandle, Message, PhoneNumber, Reaction
from linq_source.sandbox.rendering import encoded, instant_text, json_text

Kind = Literal["line", "chat", "handle", "own handle", "message", "reaction"]
_KINDS: tuple[Kind, ...] = ("line", "chat", "handle", "own handle", "message", "reaction")
# What v2 says of a message that was not delivered.
_STATUSES = {"service_unavailable": "failed", "rate_limit_exceeded": "failed", "paused": "queued"}
_DOCS = "https://docs.linqapp.com"


def uuid_of(kind: Kind, number: int) -> str:
    """A world's number as the UUID that v3 has for it."""
    digits = f"{number:016x}"
    prefix = f"{_KINDS.index(kind) + 1:08x}-{digits[:4]}-4{digits[4:7]}-8{digits[7:10]}"
    return f"{prefix}-000000{digits[10:]}"


def number_of(kind: Kind, uuid: str) -> int | None:
    """The world's number behind a UUID; None for one of nothing of the kind."""
    try:
        parts = uuid.lower().split("-")
        number = int(parts[1] + parts[2][1:] + parts[3][1:] + parts[4][6:], 16)
    except (IndexError, ValueError):
        return None
    return number if uuid_of(kind, number) == uuid.lower() else None


def line_record(line: PhoneNumber) -> dict[str, object]:
    """A `PhoneNumber` of the contract."""
    return {
        "id": uuid_of("line", line.id),
        "phone_number": line.phone_number,
        "forwarding_number": line.forwarding_number,
        "line_type": "iMessage",
        "reputation": {"status": "HEALTHY", "doc_url": f"{_DOCS}/phone-reputation#healthy"},
        **line.extra,
    }


def chat_record(
    chat: Chat, lines: Iterable[PhoneNumber], messages: Collection[Message]
) -> dict[str, object]:
    """A `Chat` of the contract; `lines` are those that see it."""
    begin_ms = min(
        [handle.joined_at_ms for handle in chat.handles] + [m.sent_at_ms for m in messages],
        default=0,
    )
    own = [_own_handle(line, chat, begin_ms) for line in lines]
    others = [handle_record(handle) for handle in chat.handles]
    created_at = instant_text(begin_ms)
    return {
        "id": uuid_of("chat", chat.id),
        "display_name": chat.display_name or None,
        "service": chat.service,
        "is_group": chat.group,
        "is_archived": False,
        "handles": own + others,
        "health_status": {
            "status": "HEALTHY",
            "doc_url": f"{_DOCS}/chat-health#healthy",
            "updated_at": created_at,
        },
        "group_chat_icon": None,
        "created_at": created_at,
        "updated_at": instant_text(max((_updated_ms(m) for m in messages), default=begin_ms)),
        **chat.extra,
    }


def message_record(
    message: Message, chat: Chat, lines: Mapping[str, PhoneNumber]
) -> dict[str, object]:
    """A `Message` of the contract; `lines` are the organisation's, by their numbers.

    The world keeps one list of reactions for a message: they are those of its first part.
    """
    line = lines.get(message.sent_from)
    sender = next((h for h in chat.handles if h.id == message.chat_handle_id), None)
    from_handle = None if sender is None else handle_record(sender)
    if line is not None:
        from_handle = _own_handle(line, chat, message.sent_at_ms)
    parts: list[dict[str, object]] = []
    if message.text is not None:
        parts.append({"type": "text", "value": message.text, "reactions": None,
                      "text_decorations": None, "mention": None, "mention_range": None,
                      "mentions": None, "inline_stickers": None})  # fmt: skip
    parts += [_media_part(attachment) for attachment in message.attachments]
    if parts and message.reactions:
        parts[0]["reactions"] = [_reaction(item, chat, lines) for item in message.reactions]
    status = _status(message, is_from_me=line is not None)
    sent_at = instant_text(message.sent_at_ms)
    delivered_ms = message.delivered_at_ms
    return {
        "id": uuid_of("message", message.id),
        "chat_id": uuid_of("chat", chat.id),
        "service": chat.service,
        "preferred_service": None,
        "from": message.sent_from,
        "from_handle": from_handle,
        "parts": parts,
        "reply_to": None,
        "is_from_me": line is not None,
        "is_delivered": status in ("delivered", "read"),
        "is_read": status == "read",
        "delivery_status": status,
        "created_at": sent_at,
        "updated_at": instant_text(_updated_ms(message)),
        "sent_at": sent_at,
        "delivered_at": None if delivered_ms is None else instant_text(delivered_ms),
        "read_at": None,
        "effect": None,
        **message.extra,
    }


def attachment_record(attachment: Attachment, created_at_ms: int) -> dict[str, object]:
    """An `Attachment` of the contract, with a fresh link."""
    return {
        "id": attachment.id,
        "content_type": attachment.mime_type,
        "created_at": instant_text(created_at_ms),
        "filename": attachment.filename,
        "size_bytes": attachment.file_size,
        "status": "complete",
        "download_url": attachment.url,
    }


def handle_record(handle: ChatHandle) -> dict[str, object]:
    """A `ChatHandle` of the contract: somebody who is not of the organisation."""
    return {
        "id": uuid_of("handle", handle.id),
        "handle": handle.phone_number,
        "service": handle.service,
        "status": "active",
        "joined_at": instant_text(handle.joined_at_ms),
        "left_at": None,
        "is_me": False,
        "line_type": None,
        **handle.extra,
    }


def page_body(name: str, records: Iterable[str], next_cursor: str | None) -> bytes:
    """The answer for one page, of records that are JSON already."""
    return encoded(f'{{"{name}":[{",".join(records)}],"next_cursor":{json_text(next_cursor)}}}')


def error_body(status: int, code: int, message: str, retry_after_s: int | None) -> bytes:
    """The contract's error envelope."""
    error: dict[str, object] = {"status": status, "code": code, "message": message}
    if retry_after_s is not None:
        error["retry_after"] = retry_after_s
    error["doc_url"] = f"{_DOCS}/error/codes/{code // 1000}xxx/{code}/"
    trace_id = hashlib.md5(message.encode(), usedforsecurity=False).hexdigest()
    return encoded(json_text({"success": False, "error": error, "trace_id": trace_id}))


def _own_handle(line: PhoneNumber, chat: Chat, joined_at_ms: int) -> dict[str, object]:
    own = ChatHandle(0, line.phone_number, chat.service, joined_at_ms)
    return {
        **handle_record(own),
        "id": uuid_of("own handle", line.id),
        "is_me": True,
        "line_type": "iMessage",
    }


def _media_part(attachment: Attachment) -> dict[str, object]:
    return {
        "type": "media",
        "id": attachment.id,
        "url": attachment.url,
        "filename": attachment.filename,
        "mime_type": attachment.mime_type,
        "size_bytes": attachment.file_size,
        "reactions": None,
        **attachment.extra,
    }


def _reaction(
    reaction: Reaction, chat: Chat, lines: Mapping[str, PhoneNumber]
) -> dict[str, object]:
    line = lines.get(reaction.from_phone)
    if line is not None:
        handle = _own_handle(line, chat, reaction.sent_at_ms)
    else:
        found = (item for item in chat.handles if item.phone_number == reaction.from_phone)
        stranger = ChatHandle(0, reaction.from_phone, chat.service, reaction.sent_at_ms)
        handle = handle_record(next(found, stranger))
    return {
        "id": uuid_of("reaction", reaction.id),
        "is_me": reaction.is_from_me,
        "handle": handle,
        "type": reaction.reaction,
        "custom_emoji": None,
        "sticker": None,
        **reaction.extra,
    }


def _status(message: Message, *, is_from_me: bool) -> str:
    if not is_from_me:
        return "received"
    if message.delivery_status == "delivered":
        return "read" if message.is_read else "delivered"
    return _STATUSES.get(message.delivery_status, message.delivery_status)


def _updated_ms(message: Message) -> int:
    changes_ms = [message.delivered_at_ms, message.edited_at_ms]
    changes_ms += [reaction.updated_at_ms for reaction in message.reactions]
    return max([message.sent_at_ms, *(at_ms for at_ms in changes_ms if at_ms is not None)])
