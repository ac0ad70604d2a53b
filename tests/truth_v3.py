"""What the tables must hold of API v3, computed from the records that the sandbox serves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from linq_source.sandbox import World
from linq_source.sandbox.rendering_v3 import chat_record, line_record, message_record
from tests.truth import LIVE_TABLES, Row, Tables, assert_equal_rows, ordered

LIVE_TABLES_V3 = (*LIVE_TABLES, "chat_messages__parts")

PLAIN_PARTS = ("text", "media", "link")
JSON_PARTS = ("text_decorations", "mentions", "inline_stickers")


def world_tables_v3(world: World) -> Tables:
    """The rows that live in the world, by table, without `synced_at`, as v3 tells them."""
    snapshot = world.copy()
    lines = {line.phone_number: line for line in snapshot.phone_numbers.values()}
    chats, messages = [], []
    for chat in snapshot.chats.values():
        own = [snapshot.phone_numbers[i] for i in chat.phone_number_ids]
        of_chat = snapshot.messages_of(chat.id)
        chats.append((chat_record(chat, own, of_chat), own))
        messages += [
            json.loads(m.raw) if m.raw is not None else message_record(m, chat, lines)
            for m in of_chat
        ]
    return tables_of([line_record(n) for n in snapshot.phone_numbers.values()], chats, messages)


def assert_equal_world_v3(loaded: Tables, world: World) -> None:
    """Every live row of every table equals what v3 tells of the world, value by value."""
    name = "chat_messages__parts"
    assert_equal_rows(loaded | {name: with_json(loaded[name])}, world_tables_v3(world))


def tables_of(lines: list[Any], chats: list[Any], messages: list[Any]) -> Tables:
    """The rows of records as they are served."""
    result: Tables = {
        "phone_numbers": [
            {
                "id": line["id"],
                "phone_number": line["phone_number"],
                "forwarding_number": line["forwarding_number"],
                "response_rate": None,
                "line_type": line["line_type"],
                "reputation": line["reputation"]["status"],
            }
            for line in lines
        ],
        "chats": [],
        "chats__chat_handles": [],
        "chats__phone_numbers": [],
        "chat_messages": [],
        "chat_messages__parts": [],
        "chat_messages__attachments": [],
        "chat_messages__reactions": [],
    }
    for chat, own in chats:
        result["chats"].append(
            {name: chat[name] for name in ("id", "display_name", "service", "is_group")}
            | {"is_archived": chat["is_archived"], "group_chat_icon": chat["group_chat_icon"]}
            | {
                "message_count": None,
                "health_status": chat["health_status"]["status"],
                "health_updated_at": instant(chat["health_status"]["updated_at"]),
                "created_at": instant(chat["created_at"]),
                "updated_at": instant(chat["updated_at"]),
            }
        )
        result["chats__chat_handles"] += [
            {name: handle[name] for name in ("id", "service", "status", "is_me", "line_type")}
            | {
                "chat_id": chat["id"],
                "phone_number": handle["handle"],
                "joined_at": instant(handle["joined_at"]),
                "left_at": instant(handle["left_at"]),
            }
            for handle in chat["handles"]
        ]
        result["chats__phone_numbers"] += [
            {
                "chat_id": chat["id"],
                "phone_number_id": line_record(line)["id"],
                "phone_number": line.phone_number,
            }
            for line in own
        ]
    for message in messages:
        _add_message(result, message)
    return {name: ordered(rows) for name, rows in result.items()}


def _add_message(tables: Tables, message: Mapping[str, Any]) -> None:
    parts = message.get("parts") or []
    texts = [part["value"] for part in parts if part["type"] in ("text", "link")]
    parent = {"chat_message_id": message["id"], "chat_id": message["chat_id"]}
    reply, effect = message.get("reply_to") or {}, message.get("effect") or {}
    as_they_are = ("id", "chat_id", "delivery_status", "is_read", "is_from_me", "is_delivered")
    tables["chat_messages"].append(
        {name: message.get(name) for name in (*as_they_are, "service", "preferred_service")}
        | {
            name: instant(message.get(name))
            for name in (
                "sent_at",
                "delivered_at",
                "created_at",
                "updated_at",
                "read_at",
                "reconciled_at",
            )
        }
        | {
            "text": "\n".join(texts) if texts else None,
            "edited_at": None,
            "sent_from": message.get("from"),
            "chat_handle_id": (message.get("from_handle") or {}).get("id"),
            "reply_to_message_id": reply.get("message_id"),
            "reply_to_part_position": reply.get("part_index"),
            "effect_type": effect.get("type"),
            "effect_name": effect.get("name"),
        }
    )
    for position, part in enumerate(parts):
        place = parent | {"position": position}
        is_plain = part["type"] in PLAIN_PARTS
        payload = {name: value for name, value in part.items() if name != "reactions"}
        tables["chat_messages__parts"].append(
            place
            | {
                "type": part["type"],
                "value": part.get("value") if part["type"] in ("text", "link") else None,
                "attachment_id": part["id"] if part["type"] == "media" else None,
                "payload": None if is_plain else payload,
            }
            | {name: part.get(name) if is_plain else None for name in JSON_PARTS}
        )
        if part["type"] == "media":
            names = {"id": "id", "url": "url", "filename": "filename", "mime_type": "mime_type"}
            tables["chat_messages__attachments"].append(
                place
                | {name: part[source] for name, source in names.items()}
                | {"file_size": part["size_bytes"]}
            )
        for number, reaction in enumerate(part.get("reactions") or []):
            tables["chat_messages__reactions"].append(
                parent | {"part_position": position, "position": number} | _reaction(reaction)
            )


def _reaction(reaction: Mapping[str, Any]) -> Row:
    sticker = reaction.get("sticker") or {}
    return {
        "id": reaction.get("id"),
        "reaction": reaction["type"],
        "is_from_me": reaction["is_me"],
        "from_phone": reaction["handle"]["handle"],
        "chat_handle_id": reaction["handle"]["id"],
        "custom_emoji": reaction.get("custom_emoji"),
        "sticker_url": sticker.get("url"),
        "sticker_file_name": sticker.get("file_name"),
        "sticker_mime_type": sticker.get("mime_type"),
        "sticker_width": sticker.get("width"),
        "sticker_height": sticker.get("height"),
        "sent_at": None,
        "created_at": None,
        "updated_at": None,
    }


def instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)


def with_json(rows: list[Row]) -> list[Row]:
    """Rows of parts, with what is JSON text as the values that it says."""
    return [
        {
            name: json.loads(value)
            if name in (*JSON_PARTS, "payload") and value is not None
            else value
            for name, value in row.items()
        }
        for row in rows
    ]
