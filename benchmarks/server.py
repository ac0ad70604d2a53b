"""A fast loopback server of the benchmark's world, in a process of its own.

Prints `ready <port>` once it listens. Besides the API it answers
`/control/change?share=0.01` (see `World.change`), `/control/counts` (rows per table) and
`/control/requests` (answered until now, by kind).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote_plus

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.world import PageQuery, World

API = "/api/partner/v2/"
_MAX_PER_PAGE = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found"}


class Refusal(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, title: str) -> None:
        super().__init__(title)
        self.status = status


requests: Counter[str] = Counter()


def answer(world: World, target: str) -> bytes:
    """The body for a request target. Raises `Refusal`."""
    path, _, query = target.partition("?")
    try:
        parameters = _parameters(query)
        if path.startswith("/control/"):
            return _control(world, path, parameters)
        if not path.startswith(API):
            raise Refusal(404, "no such path")
        body = _read(world, path[len(API) :].split("/"), parameters)
    except ValueError as error:
        raise Refusal(400, "a parameter cannot be read") from error
    if body is None:
        raise Refusal(404, "no such path or chat")
    return body


def _read(world: World, parts: list[str], parameters: dict[str, str]) -> bytes | None:
    match parts:
        case ["chats", chat_id, "chat_messages"]:
            requests["messages"] += 1
            page, per_page = _page(parameters)
            before, after = parameters.get("before"), parameters.get("after")
            query = PageQuery(
                chat_id=int(chat_id),
                page=page,
                per_page=per_page,
                before_us=None if before is None else _instant_us(before),
                after_us=None if after is None else _instant_us(after),
                newest_first=parameters.get("sort") == "desc",
            )
            return world.messages_body(query)
        case ["chats"]:
            requests["chats"] += 1
            return world.chats_body(parameters["phone_number"], *_page(parameters))
        case ["chats", chat_id]:
            requests["chat"] += 1
            return world.chat_body(int(chat_id))
        case ["phone_numbers"]:
            requests["phone_numbers"] += 1
            return world.phone_numbers_body()
    return None


def _control(world: World, path: str, parameters: dict[str, str]) -> bytes:
    if path == "/control/counts":
        return json.dumps(asdict(world.counts)).encode()
    if path == "/control/requests":
        return json.dumps(requests).encode()
    if path == "/control/change":
        changed = world.change(float(parameters["share"]), time.time_ns() // 1_000)
        return json.dumps({"chats": changed}).encode()
    raise Refusal(404, "no such control")


def _parameters(query: str) -> dict[str, str]:
    """The query's parameters; several times faster than `parse_qsl`."""
    parameters = {}
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        parameters[name] = unquote_plus(value) if "%" in value or "+" in value else value
    return parameters


def _page(parameters: dict[str, str]) -> tuple[int, int]:
    page, per_page = int(parameters.get("page", 1)), int(parameters.get("per_page", 25))
    if page < 1 or not 1 <= per_page <= _MAX_PER_PAGE:
        raise ValueError("page or per_page out of range")
    return page, per_page


@lru_cache(maxsize=10_000)
def _instant_us(text: str) -> int:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return (at - _EPOCH) // timedelta(microseconds=1)


@lru_cache(maxsize=4)
def _head(status: int, second: int) -> bytes:
    return (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nDate: {formatdate(second, usegmt=True)}\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    ).encode()


class Connection(asyncio.Protocol):
    """One keep-alive connection. Requests have no bodies; answers come in order."""

    def __init__(self, world: World, latency_s: float) -> None:
        self._world = world
        self._latency_s = latency_s
        self._rest = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        # A page should leave in one system call, however slow the reader is.
        transport.set_write_buffer_limits(high=1 << 24)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        data = self._rest + data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            target = data[: data.index(b"\r\n")].split(b" ", 2)[1].decode("latin-1")
            is_last = b"connection: close" in data[:end].lower()
            data = data[end + 4 :]
            if self._latency_s:
                loop = asyncio.get_running_loop()
                loop.call_later(self._latency_s, self._send, target, is_last)
            else:
                self._send(target, is_last)
        self._rest = data

    def _send(self, target: str, is_last: bool) -> None:
        status = 200
        try:
            body = answer(self._world, target)
        except Refusal as refusal:
            status = refusal.status
            error = {"status": status, "code": str(status), "title": str(refusal), "detail": ""}
            body = json.dumps({"errors": [error]}).encode()
        head = _head(status, int(time.time()))
        self._transport.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))
        if is_last:
            self._transport.close()


async def serve(world: World, port: int, latency_s: float) -> None:
    """Serve until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(world, latency_s), "127.0.0.1", port, backlog=1024
    )
    print(f"ready {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Build the world and serve it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chats", type=int, default=100)
    parser.add_argument("--messages-per-chat", type=int, default=2_000)
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="wait before every answer")
    parser.add_argument(
        "--quiet-days", type=float, default=0.0, help="how long ago the newest messages were sent"
    )
    arguments = parser.parse_args()
    newest_us = (int(time.time() - arguments.quiet_days * 86_400) - 2) * 1_000_000 + 123_000
    world = World(arguments.chats, arguments.messages_per_chat, newest_us)
    world.render_all()
    # The world lives as long as the process: nothing in it is ever garbage.
    gc.collect()
    gc.freeze()
    asyncio.run(serve(world, arguments.port, arguments.latency_ms / 1_000))


if __name__ == "__main__":
    main()
