"""The four numbers around a page, read without parsing the page.

`meta` stands at the end of the body, so a regular expression anchored at the end finds it in
microseconds. A body that is laid out otherwise is parsed in full, once.
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from dataclasses import dataclass
from typing import Any

from linq_source.decoding.scanning import NOT_JSON, TooDeep, members

# The usual layout: the list `data` from the start to right before `"meta":{...}}` at the end.
# Inside a JSON string the quotes would be escaped, so a message's text cannot imitate it.
_HEAD = re.compile(rb"(?:%b)?" % BOM_UTF8 + rb'\s*\{\s*"data"\s*:\s*\[')
_TAIL = re.compile(rb'\]\s*,\s*"meta"\s*:\s*(\{[^{}]*\})\s*\}\s*\Z')
_TAIL_BYTES = 400
# Of v3: the list first, the cursor last. A list that ends in a record holds no text at its end.
_V3_HEAD = rb'(?:\xef\xbb\xbf)?\s*\{\s*"%b"\s*:\s*\['
_CURSOR_TAIL = re.compile(rb'[\[\}]\s*\]\s*,\s*"next_cursor"\s*:\s*("[^"\\]*"|null)\s*\}\s*\Z')
_LONGEST_CURSOR = 2_000
_TRACE_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
# The object that tells the sizes of a list, and the member of it that is the number of the page.
_META = {"data": ("meta", "page"), "contacts": ("pagination", "current_page")}
_LIMIT = 2**53


@dataclass(frozen=True, slots=True)
class Envelope:
    """`meta` of a page: its number (from 1), and sizes in messages or chats."""

    page: int
    total_pages: int
    total_count: int
    per_page: int

    @property
    def is_beyond_the_end(self) -> bool:
        """Whether the counts leave nothing for the page."""
        return (self.page - 1) * self.per_page >= self.total_count


def read_envelope(body: bytes, key: str = "data") -> Envelope:
    """Return the `meta` of a page's body whose list is `data`; of `contacts` the `pagination`.

    Raises `ValueError`, with a reason that quotes no content, when the body is not an object
    with a list and an object of four counts. Where the counts leave nothing for the page, the
    list may be null: some servers write an empty list so.
    """
    match = _TAIL.search(body, max(0, len(body) - _TAIL_BYTES))
    if key == "data" and match is not None and _HEAD.match(body):
        return _envelope(json.loads(match.group(1)), *_META[key])
    answer = _load(body)
    is_null = key in answer and answer[key] is None
    if not is_null:
        _check_list(answer, key)
    name, page = _META[key]
    meta = answer.get(name)
    if not isinstance(meta, dict):
        raise ValueError(f"no object '{name}' in the answer")
    envelope = _envelope(meta, name, page)
    if is_null and not envelope.is_beyond_the_end:
        _check_list(answer, key)
    return envelope


def read_next_cursor(body: bytes, key: str) -> str | None:
    """Return the `next_cursor` of a page of v3 whose list is `key`; None on the last page.

    Raises `ValueError`, with a reason that quotes no content, when the body is not an object with
    such a list, or the cursor is none that can be asked for.
    """
    match = _CURSOR_TAIL.search(body, max(0, len(body) - _TAIL_BYTES - _LONGEST_CURSOR))
    if match is not None and re.match(_V3_HEAD % key.encode(), body):
        cursor = json.loads(match.group(1))
    else:
        answer = _load(body)
        _check_list(answer, key)
        cursor = answer.get("next_cursor")
    if isinstance(cursor, int) and not isinstance(cursor, bool):
        cursor = str(cursor)
    if cursor is not None and (not isinstance(cursor, str) or len(cursor) > _LONGEST_CURSOR):
        raise ValueError("next_cursor is no cursor")
    return cursor or None


def check_list(body: bytes, key: str) -> None:
    """Check that a body is an object with a list under `key`. Raises `ValueError` if not."""
    _check_list(_load(body), key)


def object_text(body: bytes, key: str) -> bytes:
    """The text of the object that a body has under `key`. Raises `ValueError` without one."""
    found = [text for name, _, text in members(_text_of(body), _DECODER) if name == key]
    if not found or not found[-1].startswith("{"):
        raise ValueError(f"no object '{key}' in the answer")
    return found[-1].encode(errors="surrogateescape")


def text_member(text: str, key: str) -> str | None:
    """The text or the number under `key` of an object, as text; None if there is neither."""
    try:
        found = [value for name, value, _ in members(text, _DECODER) if name == key]
    except ValueError:
        return None
    value = found[-1] if found else None
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def refusal_text(body: bytes) -> str:
    """Return what to add to a refusal's status: v3's code and trace id; "" where there are none.

    Both are plain by the contract; what is not is left out.
    """
    try:
        answer = _load(body)
    except ValueError:
        return ""
    error = answer.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    trace_id = answer.get("trace_id")
    told = f", code {code}" if type(code) is int else ""
    if isinstance(trace_id, str) and _TRACE_ID.fullmatch(trace_id):
        told += f", trace_id {trace_id}"
    return told


def _envelope(meta: dict[str, Any], name: str, page: str) -> Envelope:
    values = []
    for member in (page, "total_pages", "total_count", "per_page"):
        value = meta.get(member)
        if type(value) is not int or not 0 <= value < _LIMIT:
            raise ValueError(f"{name}.{member} is not a count")
        values.append(value)
    envelope = Envelope(*values)
    if envelope.per_page < 1 and envelope.total_count > 0:
        raise ValueError(f"{name}.per_page is 0")
    return envelope


def _check_list(answer: dict[str, Any], key: str) -> None:
    value = answer.get(key)
    if not (isinstance(value, list) or (isinstance(value, TooDeep) and value.is_list)):
        raise ValueError(f"no list '{key}' in the answer")


def _parse_int(text: str) -> float:
    # Python refuses thousands of digits; those of a record are the decoder's affair.
    return int(text) if len(text) < 20 else float(text)


_DECODER = json.JSONDecoder(parse_int=_parse_int)


def _text_of(body: bytes) -> str:
    if b"\0" in body[:4]:
        raise ValueError("the answer is not in UTF-8")
    # Bytes that are not UTF-8 are their record's own affair.
    return body.decode("utf-8-sig", errors="surrogateescape")


def _load(body: bytes) -> dict[str, Any]:
    text = _text_of(body)
    try:
        answer, end = _DECODER.raw_decode(text, len(text) - len(text.lstrip()))
        if text[end:].strip():
            raise ValueError(NOT_JSON)
    except RecursionError:
        answer = {name: value for name, value, _ in members(text, _DECODER)}
    except ValueError as error:
        kind = "an HTML page" if text.lstrip()[:1] == "<" else None
        raise ValueError(f"the answer is {kind}" if kind else NOT_JSON) from error
    if not isinstance(answer, dict):
        raise ValueError("the answer is not a JSON object")
    return answer
