"""The four numbers around a page, read without parsing the page.

`meta` stands at the end of the body, so a regular expression anchored at the end finds it in
microseconds. A body that is laid out otherwise is parsed in full, once.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

# The usual layout: the list `data` from the start to right before `"meta":{...}}` at the end.
# Inside a JSON string the quotes would be escaped, so a message's text cannot imitate it.
_HEAD = re.compile(rb'\s*\{\s*"data"\s*:\s*\[')
_TAIL = re.compile(rb'\]\s*,\s*"meta"\s*:\s*(\{[^{}]*\})\s*\}\s*\Z')
_TAIL_BYTES = 400
_LIMIT = 2**53


@dataclass(frozen=True, slots=True)
class Envelope:
    """`meta` of a page: its number (from 1), and sizes in messages or chats."""

    page: int
    total_pages: int
    total_count: int
    per_page: int


def read_envelope(body: bytes) -> Envelope:
    """The `meta` of a page's body.

    Raises `ValueError`, with a reason that quotes no content, when the body is not an object
    with a list `data` and an object `meta` of four counts.
    """
    match = _TAIL.search(body, max(0, len(body) - _TAIL_BYTES))
    if match is not None and _HEAD.match(body):
        meta = json.loads(match.group(1))
    else:
        meta = _parse_whole(body)
    values = {}
    for name in ("page", "total_pages", "total_count", "per_page"):
        value = meta.get(name)
        if type(value) is not int or not 0 <= value < _LIMIT:
            raise ValueError(f"meta.{name} is not a count")
        values[name] = value
    if values["per_page"] < 1 and values["total_count"] > 0:
        raise ValueError("meta.per_page is 0")
    return Envelope(**values)


def check_list(body: bytes, key: str) -> None:
    """Check that a body is an object with a list under `key`. Raises `ValueError` if not."""
    answer = _load(body)
    if not isinstance(answer.get(key), list):
        raise ValueError(f"no list '{key}' in the answer")


def _parse_whole(body: bytes) -> dict[str, object]:
    answer = _load(body)
    if not isinstance(answer.get("data"), list):
        raise ValueError("no list 'data' in the answer")
    meta = answer.get("meta")
    if not isinstance(meta, dict):
        raise ValueError("no object 'meta' in the answer")
    return meta


def _load(body: bytes) -> dict[str, object]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        kind = "an HTML page" if body.lstrip()[:1] == b"<" else "not JSON"
        raise ValueError(f"the answer is {kind}") from error
    if not isinstance(answer, dict):
        raise ValueError("the answer is not a JSON object")
    return answer
