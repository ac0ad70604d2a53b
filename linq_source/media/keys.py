"""Where a file stands in the bucket. Pure: names in, a key out.

File names and ids come from strangers. A key made here has no part that leads out of its folder,
that a file system or an object store refuses, or that hides what kind of file it is; and no two
attachments share one.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

from linq_source.settings import Id

# Bytes of UTF-8: file systems allow 255, and temporary names and others' suffixes need room.
MAX_NAME_BYTES = 150
_MAX_EXTENSION_BYTES = 20
_PLAIN_ID = re.compile(r"[0-9a-z][0-9a-z-]{0,63}")
# What file systems, shells, globs or addresses give a meaning of its own.
_SPECIAL = frozenset("/\\:*?\"<>|#%[]{}~$&;`'!")
# Characters that are not seen, break lines, turn the direction of writing or are nobody's.
_UNSEEN = ("C", "Zl", "Zp")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE | re.DOTALL)


def file_key(
    dataset: str, chat_message_id: Id, position: int, attachment_id: str | None, name: str | None
) -> str:
    """The key of an attachment's file in its bucket.

    The same attachment always has the same key; another id at the same place has another one.
    """
    identity = f"{_safe_id(str(chat_message_id))}-{position}"
    if attachment_id:
        identity = f"{identity}-{_safe_id(attachment_id)}"
    folder = hashlib.sha256(identity.encode()).hexdigest()[:2]
    return f"{dataset}/files/{folder}/{identity}/{safe_name(name)}"


def safe_name(name: str | None) -> str:
    """A file name that is only a name, at most `MAX_NAME_BYTES` long, its extension kept."""
    text = unicodedata.normalize("NFC", name or "")
    text = "".join("_" if _is_unsafe(character) else character for character in text)
    text = text.strip(" .")
    if _RESERVED.fullmatch(text):
        text = "_" + text
    return _shortened(text) or "file"


def _is_unsafe(character: str) -> bool:
    return character in _SPECIAL or unicodedata.category(character).startswith(_UNSEEN)


def _shortened(text: str) -> str:
    if len(text.encode()) <= MAX_NAME_BYTES:
        return text
    stem, dot, extension = text.rpartition(".")
    if not stem or len(extension.encode()) > _MAX_EXTENSION_BYTES:
        stem, dot, extension = text, "", ""
    room = MAX_NAME_BYTES - len((dot + extension).encode())
    return stem.encode()[:room].decode(errors="ignore").rstrip(" .") + dot + extension


def _safe_id(attachment_id: str) -> str:
    """The id where it is as plain as a UUID, otherwise a hash that nothing plain equals."""
    if _PLAIN_ID.fullmatch(attachment_id):
        return attachment_id
    return "_" + hashlib.sha256(attachment_id.encode("utf-8", "surrogatepass")).hexdigest()
