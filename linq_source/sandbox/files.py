"""The files behind attachments: links that are signed and expire, and bytes of the stated size."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

from linq_source.sandbox.records import Attachment, Message
from linq_source.sandbox.world import World

FILES_PREFIX = "/sandbox/files"
VALID_MS = 3_600_000
_KEY = b"linq-sandbox"
# What a program looks at to tell the type; the rest of a file means nothing.
_BEGINNINGS = {
    "application/pdf": b"%PDF-1.4\n",
    "image/jpeg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/gif": b"GIF89a",
    "image/heic": b"\x00\x00\x00\x18ftypheic",
    "video/mp4": b"\x00\x00\x00\x18ftypmp42",
    "video/quicktime": b"\x00\x00\x00\x14ftypqt  ",
    "audio/mp4": b"\x00\x00\x00\x18ftypM4A ",
    "text/vcard": b"BEGIN:VCARD\r\n",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": b"PK\x03\x04",
}


def with_links(message: Message, base_url: str, now_ms: int) -> Message:
    """The message with links to the sandbox itself, signed now and valid for an hour."""
    linked = [
        replace(item, url=base_url + _signed(_path_of(message.id, item), now_ms + VALID_MS))
        for item in message.attachments
    ]
    return replace(message, attachments=linked) if linked else message


def file_at(path: str, params: Mapping[str, str], world: World) -> tuple[int, bytes, str]:
    """Status, bytes and media type for a link: 403 for one that expired or was never given."""
    if not hmac.compare_digest(_signature(path, params.get("expires", "")), _signed_by(params)):
        return 403, b"", "text/plain"
    if int(params["expires"]) < world.now_ms:
        return 403, b"", "text/plain"
    message_id = path.removeprefix(f"{FILES_PREFIX}/").partition("/")[0]
    message = world.messages.get(int(message_id))
    for item in message.attachments if message is not None else ():
        if _path_of(int(message_id), item) == path:
            return 200, content_of(item), item.mime_type
    return 404, b"", "text/plain"


def content_of(attachment: Attachment) -> bytes:
    """The bytes of a file: as many as its record says, the same every time."""
    block = hashlib.sha512(attachment.id.encode()).digest()
    begin = _BEGINNINGS.get(attachment.mime_type, b"")
    return (begin + block * (attachment.file_size // len(block) + 1))[: attachment.file_size]


def _path_of(message_id: int, attachment: Attachment) -> str:
    name = quote(attachment.filename, safe="")
    return f"{FILES_PREFIX}/{message_id}/{quote(attachment.id, safe='')}/{name}"


def _signed(path: str, expires_ms: int) -> str:
    return f"{path}?expires={expires_ms}&signature={_signature(path, str(expires_ms))}"


def _signature(path: str, expires: str) -> str:
    return hmac.digest(_KEY, f"{path}\n{expires}".encode(), "sha256").hex()


def _signed_by(params: Mapping[str, str]) -> str:
    given = params.get("signature", "")
    return given if given.isascii() else ""
