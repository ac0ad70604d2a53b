"""How many full pages the benchmark's server answers per second, over one connection."""

from __future__ import annotations

import socket
import time
from urllib.parse import urlsplit

from benchmarks.cases import PER_PAGE, WorldSize

_FIRST_CHAT_ID = 100_000
_AHEAD = 50


def pages_per_second(base_url: str, world: WorldSize, pages: int = 20_000) -> float:
    """Ask for pages of `world`, fifty requests ahead, and count whole answers."""
    parts = urlsplit(base_url)
    requests = [
        b"GET /api/partner/v2/chats/%d/chat_messages?page=%d&per_page=%d HTTP/1.1\r\n\r\n"
        % (_FIRST_CHAT_ID + chat, page, PER_PAGE)
        for chat in range(world.chats)
        for page in range(1, world.messages_per_chat // PER_PAGE + 1)
    ]
    with socket.create_connection((str(parts.hostname), parts.port or 80)) as connection:
        reader = _Reader(connection)
        started_s = time.perf_counter()
        for done in range(0, pages, _AHEAD):
            batch = (requests[(done + number) % len(requests)] for number in range(_AHEAD))
            connection.sendall(b"".join(batch))
            for _ in range(_AHEAD):
                reader.skip_answer()
        return pages / (time.perf_counter() - started_s)


class _Reader:
    """Answers read past: only their lengths are looked at, so that the server is measured."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray(1 << 20)
        self._start = self._end = 0

    def skip_answer(self) -> None:
        """Read one answer to its end."""
        while (end := self._buffer.find(b"\r\n\r\n", self._start, self._end)) < 0:
            self._more()
        head = bytes(self._buffer[self._start : end])
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode(errors="replace"))
        left = int(head.rpartition(b"Content-Length: ")[2])
        self._start = end + 4
        while left > self._end - self._start:
            left -= self._end - self._start
            self._start = self._end = 0
            self._more()
        self._start += left

    def _more(self) -> None:
        rest = self._buffer[self._start : self._end]
        self._buffer[: len(rest)] = rest
        self._start, self._end = 0, len(rest)
        with memoryview(self._buffer) as view:
            received = self._connection.recv_into(view[self._end :])
        if not received:
            raise ConnectionError("the server closed the connection")
        self._end += received
