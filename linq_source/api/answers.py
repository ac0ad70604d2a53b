"""The bytes of an HTTP/1.1 answer, read strictly: what is odd is refused, never guessed.

Two answers on one connection must never be taken for each other: messages do not name their chat,
so a connection that is one answer ahead would file every message under another chat. Hence every
answer says where it ends, and bytes behind that end make it a broken one (RFC 9112, 6 and 9).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MAX_HEAD_BYTES = 65_536
_END_OF_HEAD = b"\r\n\r\n"
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\r\n]*)?")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\r\n\0]*?)[ \t]*")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")
_MAX_INTERIM = 5

Receive = Callable[[], bytes]


class BrokenAnswer(Exception):
    """The bytes are not an answer by HTTP/1.1. Its text quotes nothing of them."""


class TooLarge(Exception):
    """The answer's body goes beyond the limit."""


@dataclass(frozen=True)
class RawAnswer:
    """What came back, whatever its status. The body is decoded (gzip) but not looked at.

    Names of headers are written like `Content-Length`, however they came.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    keeps_connection: bool


def read_answer(receive: Receive, max_body_bytes: int) -> RawAnswer:
    """Read one answer; `receive` gives the next bytes, none at the end of the connection.

    Raises `BrokenAnswer`, `TooLarge`, or what `receive` raises.
    """
    source = _Source(receive)
    for _ in range(_MAX_INTERIM):
        minor, status, headers = _read_head(source)
        if status >= 200:
            break
    else:
        raise BrokenAnswer("interim answers without end")
    body, has_end = _read_body(source, status, headers, max_body_bytes)
    if has_end and source.rest():
        raise BrokenAnswer("bytes behind the answer's end")
    tokens = {token.strip().lower() for token in headers.get("Connection", "").split(",")}
    keeps = has_end and "close" not in tokens and (minor == 1 or "keep-alive" in tokens)
    return RawAnswer(status, headers, _decoded(body, headers, max_body_bytes), keeps)


def read_head(receive: Receive) -> int:
    """The status of an answer without a body, such as a proxy's to CONNECT."""
    source = _Source(receive)
    _, status, _ = _read_head(source)
    if source.rest():
        raise BrokenAnswer("bytes behind the answer's end")
    return status


class _Source:
    """Bytes as they arrive, taken in pieces."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._buffer = bytearray()

    def rest(self) -> bytes:
        """What has arrived and was not taken."""
        return bytes(self._buffer)

    def until(self, end: bytes, limit_bytes: int) -> bytes:
        """Everything before `end`, which is taken, too."""
        searched = 0
        while (at := self._buffer.find(end, searched)) < 0:
            if len(self._buffer) > limit_bytes:
                raise BrokenAnswer("a head without end")
            searched = max(0, len(self._buffer) - len(end) + 1)
            self._more()
        if at > limit_bytes:
            raise BrokenAnswer("a head without end")
        found = bytes(self._buffer[:at])
        del self._buffer[: at + len(end)]
        return found

    def exactly(self, size_bytes: int) -> bytes:
        """That many bytes."""
        while len(self._buffer) < size_bytes:
            self._more()
        found = bytes(self._buffer[:size_bytes])
        del self._buffer[:size_bytes]
        return found

    def until_close(self, limit_bytes: int) -> bytes:
        """Everything to the end of the connection."""
        while len(self._buffer) <= limit_bytes:
            more = self._receive()
            if not more:
                return self.rest()
            self._buffer += more
        raise TooLarge

    def _more(self) -> None:
        more = self._receive()
        if not more:
            raise BrokenAnswer("the connection broke")
        self._buffer += more


def _read_head(source: _Source) -> tuple[int, int, dict[str, str]]:
    lines = source.until(_END_OF_HEAD, MAX_HEAD_BYTES).split(b"\r\n")
    match = _STATUS_LINE.fullmatch(lines[0])
    if match is None:
        raise BrokenAnswer("no HTTP/1.1 answer")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise BrokenAnswer("a header that is none")
        name = field[1].decode("ascii").title()
        value = field[2].decode("latin-1")
        if name not in headers:
            headers[name] = value
        elif name == "Content-Length" and headers[name] != value:
            raise BrokenAnswer("two lengths for one answer")
        else:
            headers[name] += f", {value}" if name != "Content-Length" else ""
    return int(match[1]), int(match[2]), headers


def _read_body(
    source: _Source, status: int, headers: Mapping[str, str], limit_bytes: int
) -> tuple[bytes, bool]:
    """The body as sent, and whether the answer says where it ends."""
    if status in (204, 304):
        return b"", True
    coding = headers.get("Transfer-Encoding")
    length = headers.get("Content-Length")
    if coding is not None:
        if length is not None or coding.lower() != "chunked":
            raise BrokenAnswer("an answer that says twice where it ends")
        return _read_chunks(source, limit_bytes), True
    if length is None:
        return source.until_close(limit_bytes), False
    if not (length.isascii() and length.isdecimal()):
        raise BrokenAnswer("a length that is none")
    if len(length) > 15 or int(length) > limit_bytes:
        raise TooLarge
    return source.exactly(int(length)), True


def _read_chunks(source: _Source, limit_bytes: int) -> bytes:
    body = bytearray()
    while True:
        match = _CHUNK_SIZE.fullmatch(source.until(b"\r\n", MAX_HEAD_BYTES))
        if match is None:
            raise BrokenAnswer("a chunk without size")
        size = int(match[1], 16)
        if size == 0:
            break
        if len(body) + size > limit_bytes:
            raise TooLarge
        body += source.exactly(size)
        if source.exactly(2) != b"\r\n":
            raise BrokenAnswer("a chunk longer than it said")
    # Trailers say nothing we need, but end with an empty line.
    for _ in range(100):
        if not source.until(b"\r\n", MAX_HEAD_BYTES):
            return bytes(body)
    raise BrokenAnswer("trailers without end")


def _decoded(body: bytes, headers: Mapping[str, str], limit_bytes: int) -> bytes:
    coding = headers.get("Content-Encoding", "").lower()
    if coding in ("", "identity"):
        return body
    if coding not in ("gzip", "x-gzip"):
        raise BrokenAnswer("a compression that was not asked for")
    parts = bytearray()
    while body:
        inflater = zlib.decompressobj(wbits=31)
        try:
            parts += inflater.decompress(body, limit_bytes + 1 - len(parts))
        except zlib.error as error:
            raise BrokenAnswer("the answer's compression is broken") from error
        if len(parts) > limit_bytes:
            raise TooLarge
        if not inflater.eof:
            raise BrokenAnswer("the answer's compression is broken")
        body = inflater.unused_data
    return bytes(parts)
