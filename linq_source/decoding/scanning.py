"""Walking a JSON text value by value, however deeply a value is nested.

The standard library's parser follows nesting by recursion and gives up some hundreds of levels
down; Arrow's ends the process. Here the end of a value that is nested too deeply is found without
parsing it, so that it costs nothing but itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

NOT_JSON = "the answer is not JSON"
# Within how many lists and objects a value may lie.
DEEPEST = 500

_SPACE = re.compile(r"[ \t\r\n]*")
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)
_STRING_BYTES = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


@dataclass(frozen=True)
class TooDeep:
    """A value that is nested too deeply to be parsed: a list, or else an object."""

    is_list: bool


def is_nested_deeply(body: bytes, levels: int) -> bool:
    """Return whether some value of a JSON text lies within more than so many lists and objects.

    Brackets in texts may make it answer for a flat body only after a second, slower look.
    """
    return _brackets_nest(body, levels) and _brackets_nest(_STRING_BYTES.sub(b"", body), levels)


def _brackets_nest(body: bytes, levels: int) -> bool:
    brackets = body.translate(None, _NO_BRACKETS)
    for _ in range(levels):
        if not brackets:
            return False
        # Every pass takes the innermost level away.
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return bool(brackets)


def members(text: str, decoder: json.JSONDecoder) -> Iterator[tuple[str, Any, str]]:
    """Name, value and JSON text of each member of the outermost object.

    Raises `ValueError` for a text that is not JSON.
    """
    for name, value, own_text in _walk(text, decoder, None):
        if name is not None:
            yield name, value, own_text


def elements(text: str, key: str, decoder: json.JSONDecoder) -> Iterator[tuple[Any, str]]:
    """Value and JSON text of each element of the list under `key` of the outermost object.

    Raises `ValueError` for a text that is not JSON.
    """
    for name, value, own_text in _walk(text, decoder, key):
        if name is None:
            yield value, own_text


def _walk(
    text: str, decoder: json.JSONDecoder, key: str | None
) -> Iterator[tuple[str | None, Any, str]]:
    """The members of the outermost object; in place of a list under `key` its elements."""
    try:
        at = _expect(text, _skip(text, 0), "{")
        while text[at] != "}":
            name, at = decoder.raw_decode(text, at)
            at = _skip(text, _expect(text, _skip(text, at), ":"))
            if name == key and text[at] == "[":
                at = yield from _walk_list(text, at, decoder)
            else:
                value, end = _decode(text, at, decoder)
                yield name, value, text[at:end]
                at = end
            at = _skip(text, at)
            at = _skip(text, at + 1) if text[at] == "," else at
    except IndexError as error:
        raise ValueError(NOT_JSON) from error


def _walk_list(
    text: str, at: int, decoder: json.JSONDecoder
) -> Generator[tuple[None, Any, str], None, int]:
    at = _skip(text, at + 1)
    while text[at] != "]":
        value, end = _decode(text, at, decoder)
        yield None, value, text[at:end]
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
        elif text[at] != "]":
            raise ValueError(NOT_JSON)
    return at + 1


def _decode(text: str, at: int, decoder: json.JSONDecoder) -> tuple[Any, int]:
    try:
        value, end = decoder.raw_decode(text, at)
    except RecursionError:
        return TooDeep(text[at] == "["), _end_of(text, at)
    # How deep the library goes by itself is another matter with every Python.
    if is_nested_deeply(text[at:end].encode(errors="surrogateescape"), DEEPEST):
        return TooDeep(text[at] == "["), end
    return value, end


def _end_of(text: str, at: int) -> int:
    """Where the list or object that begins at `at` ends."""
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text, at):
        bracket = text[match.start()]
        if bracket in "[{":
            depth += 1
        elif bracket in "]}":
            depth -= 1
            if depth == 0:
                return match.end()
    raise ValueError(NOT_JSON)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _expect(text: str, at: int, character: str) -> int:
    if text[at] != character:
        raise ValueError(NOT_JSON)
    return _skip(text, at + 1)
