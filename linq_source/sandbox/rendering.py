"""World objects as the JSON of the contract. Pure: nothing here reads a clock or a world."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from linq_source.sandbox.records import (
    Attachment,
    Chat,
    ChatHandle,
    Contact,
    Message,
    PhoneNumber,
    Reaction,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def instant_text(instant_ms: int, utc_offset_minutes: int = 0) -> str:
    """An instant as ISO 8601 with milliseconds in the given offset; UTC is written `Z`."""
    # Wall-clock time under UTC's own suffix, which is then replaced: cheaper than changing zones,
    # and a page of messages has hundreds of instants.
    local = _EPOCH + timedelta(milliseconds=instant_ms + utc_offset_minutes * 60_000)
    text = local.isoformat(timespec="milliseconds").removesuffix("+00:00")
    if utc_offset_minutes == 0:
        return text + "Z"
    hours, minutes = divmod(abs(utc_offset_minutes), 60)
    return f"{text}{'-' if utc_offset_minutes < 0 else '+'}{hours:02d}:{minutes:02d}"


def message_record(message: Message, utc_offset_minutes: int = 0) -> dict[str, object]:
    """A `ChatMessage` of the contract, in the key order of its example."""
    return {
        "id": message.id,
        "text": message.text,
        "sent_at": instant_text(message.sent_at_ms, utc_offset_minutes),
        "delivered_at": _optional_instant(message.delivered_at_ms, utc_offset_minutes),
        "delivery_status": message.delivery_status,
        "edited_at": _optional_instant(message.edited_at_ms, utc_offset_minutes),
        "is_read": message.is_read,
        "sent_from": message.sent_from,
        "chat_handle_id": message.chat_handle_id,
        "attachments": [_attachment_record(item) for item in message.attachments],
        "reactions": [_reaction_record(item, utc_offset_minutes) for item in message.reactions],
        **message.extra,
    }


def chat_record(chat: Chat) -> dict[str, object]:
    """A `Chat` of the contract."""
    return {
        "id": chat.id,
        "display_name": chat.display_name,
        "service": chat.service,
        "group": chat.group,
        "message_count": chat.message_count,
        "chat_handles": [_handle_record(item, chat.utc_offset_minutes) for item in chat.handles],
        **chat.extra,
    }


def phone_number_record(number: PhoneNumber) -> dict[str, object]:
    """A `PhoneNumber` of the contract."""
    return {
        "id": number.id,
        "phone_number": number.phone_number,
        "forwarding_number": number.forwarding_number,
        "response_rate": number.response_rate,
        **number.extra,
    }


def contact_record(contact: Contact) -> dict[str, object]:
    """A `Contact` of the contract."""
    return {
        "id": contact.id,
        "first_name": contact.first_name,
        "last_name": contact.last_name,
        "full_name": contact.full_name,
        "email": contact.email,
        "phone_number": contact.phone_number,
        "company": contact.company,
        "title": contact.title,
        "location": contact.location,
        "image_url": contact.image_url,
        "created_at": instant_text(contact.created_at_ms),
        "updated_at": instant_text(contact.updated_at_ms),
        "contact_owner": contact.owner,
        **contact.extra,
    }


def messages_page_body(
    messages: Iterable[Message], utc_offset_minutes: int, meta: dict[str, int]
) -> bytes:
    """The answer for one page of messages; a message's `raw` stands in for its record."""
    records = [
        json_text(message_record(message, utc_offset_minutes))
        if message.raw is None
        else message.raw
        for message in messages
    ]
    return _page_body(records, meta)


def chats_page_body(chats: Iterable[Chat], meta: dict[str, int]) -> bytes:
    """The answer for one page of chats; a chat's `raw` stands in for its record."""
    return _page_body([_chat_text(chat) for chat in chats], meta)


def contacts_page_body(contacts: Iterable[Contact], meta: dict[str, int]) -> bytes:
    """The answer for one page of contacts, whose envelope is another."""
    records = [json_text(contact_record(c)) if c.raw is None else c.raw for c in contacts]
    sizes = {"current_page": meta["page"], **{n: meta[n] for n in meta if n != "page"}}
    return encoded('{"contacts":[' + ",".join(records) + '],"pagination":' + json_text(sizes) + "}")


def chat_body(chat: Chat) -> bytes:
    """The answer for a single chat."""
    return encoded('{"data":' + _chat_text(chat) + "}")


def phone_numbers_body(numbers: Iterable[PhoneNumber]) -> bytes:
    """The answer that lists the organisation's numbers; it has no pages."""
    records = [
        json_text(phone_number_record(number)) if number.raw is None else number.raw
        for number in numbers
    ]
    return encoded('{"phone_numbers":[' + ",".join(records) + "]}")


def error_body(status: int, code: str, title: str, detail: str) -> bytes:
    """The contract's error envelope with a single error."""
    error = {"status": status, "code": code, "title": title, "detail": detail}
    return encoded(json_text({"errors": [error]}))


def contact_error_body(status: int, code: str, title: str, detail: str) -> bytes:
    """The error envelope that contacts have."""
    return encoded(
        json_text({"status": "error", "error_code": code, "message": title, "errors": [detail]})
    )


def page_meta(page: int, per_page: int, total_count: int) -> dict[str, int]:
    """The `meta` object of a page; nothing at all makes zero pages."""
    return {
        "page": page,
        "total_pages": -(-total_count // per_page),
        "total_count": total_count,
        "per_page": per_page,
    }


def json_text(value: object) -> str:
    """Compact JSON whose non-ASCII characters stay themselves."""
    return _ENCODER.encode(value)


def encoded(text: str) -> bytes:
    r"""UTF-8 bytes; a lone surrogate becomes the JSON escape `\udXXX`, which is how one travels."""
    return text.encode("utf-8", "backslashreplace")


def _page_body(records: list[str], meta: dict[str, int]) -> bytes:
    return encoded('{"data":[' + ",".join(records) + '],"meta":' + json_text(meta) + "}")


def _chat_text(chat: Chat) -> str:
    return json_text(chat_record(chat)) if chat.raw is None else chat.raw


def _optional_instant(instant_ms: int | None, utc_offset_minutes: int) -> str | None:
    return None if instant_ms is None else instant_text(instant_ms, utc_offset_minutes)


def _attachment_record(attachment: Attachment) -> dict[str, object]:
    return {
        "id": attachment.id,
        "url": attachment.url,
        "filename": attachment.filename,
        "mime_type": attachment.mime_type,
        "file_size": attachment.file_size,
        **attachment.extra,
    }


def _reaction_record(reaction: Reaction, utc_offset_minutes: int) -> dict[str, object]:
    return {
        "id": reaction.id,
        "chat_message_id": reaction.chat_message_id,
        "reaction": reaction.reaction,
        "is_from_me": reaction.is_from_me,
        "from_phone": reaction.from_phone,
        "sent_at": instant_text(reaction.sent_at_ms, utc_offset_minutes),
        "created_at": instant_text(reaction.created_at_ms, utc_offset_minutes),
        "updated_at": instant_text(reaction.updated_at_ms, utc_offset_minutes),
        **reaction.extra,
    }


def _handle_record(handle: ChatHandle, utc_offset_minutes: int) -> dict[str, object]:
    return {
        "id": handle.id,
        "phone_number": handle.phone_number,
        "service": handle.service,
        "joined_at": instant_text(handle.joined_at_ms, utc_offset_minutes),
        **handle.extra,
    }
