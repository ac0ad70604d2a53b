"""The sandbox itself: a real HTTP server in front of a world, with knobs and faults."""

from __future__ import annotations

import gzip
import math
import socket
import socketserver
import struct
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread, current_thread
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from linq_source.sandbox import answers_v3
from linq_source.sandbox.answers import (
    CONTRACT_MAX_PER_PAGE,
    Answer,
    answer_to,
    error_answer,
    route_of,
)
from linq_source.sandbox.exchange import Action, Exchange, Fault, RequestRecord, TokenBucket
from linq_source.sandbox.lagging import View
from linq_source.sandbox.world import World

DEFAULT_TOKEN = "sandbox-token"  # noqa: S105 - it opens nothing but a sandbox
_TOKEN_HEADER = "x-linq-integration-token"  # noqa: S105 - the name of a header
_ACCEPT = "accept-encoding"
_GZIP_MIN_BYTES = 1024
_JOIN_TIMEOUT_S = 10.0


@dataclass(slots=True)
class _Handling:
    """A request on its way through the sandbox; no `answer` means to close the connection."""

    exchange: Exchange
    record: RequestRecord
    fault: Fault | None = None
    answer: Answer | None = None
    now_ms: int = 0

    @property
    def action(self) -> Action | None:
        return None if self.fault is None else self.fault.action


class Sandbox:
    """Serves a world over HTTP on a loopback port while entered.

    The attributes named here may be changed at any time, also while requests are running:

    - `inclusive`: whether `before` and `after` include messages of the instant itself.
    - `max_per_page`: a lower maximum than the contract's 100 clamps `per_page`, or v3's `limit`,
      without an error, and says so in `meta.per_page`.
    - `cursors`: what the cursors of v3 are made of, "keyset" or "offset"; what is deleted from a
      list that is read by offset hides another record.
    - `newest_first`: whether v3 lists the newest messages first, or the oldest.
    - `latency_s`: how long every request waits before anything else happens to it.
    - `rate_limit_per_s`: a positive number; requests beyond it get 429 with `Retry-After`.
    - `serves_files`: links to attachments lead to the sandbox, are signed, and expire an hour
      later by the world's clock; what they lead to asks for no token.
    - `gzip`: compress bodies over 1 KiB for clients that accept it.
    - `hooks`: called with each `Exchange` before the answer is computed. A hook may change the
      world or wait; one that raises makes the answer a 500 and lands in `failures`.
    - `faults`: asked after the hooks, in order; the first `Fault` returned decides the answer,
      ahead of the check of the token.
    - `views`: asked in order; the first world returned is the one that the answer is computed
      from (see `lagging`). The `Date` header stays that of the sandbox's own world.
    - `requests_log`: a `RequestRecord` per request, in the order of arrival.
    """

    def __init__(
        self, world: World, token: str = DEFAULT_TOKEN, port: int = 0, host: str = "127.0.0.1"
    ) -> None:
        self.world = world
        self.token = token
        self.host = host
        self.port = port
        self.inclusive = False
        self.max_per_page = CONTRACT_MAX_PER_PAGE
        self.cursors: answers_v3.Cursors = "keyset"
        self.newest_first = True
        self.latency_s = 0.0
        self.rate_limit_per_s: float | None = None
        self.serves_files = False
        self.gzip = False
        self.hooks: list[Callable[[Exchange], None]] = []
        self.faults: list[Callable[[Exchange], Fault | None]] = []
        self.views: list[View] = []
        self.requests_log: list[RequestRecord] = []
        self.failures: list[Exception] = []
        self._bucket = TokenBucket()
        self._lock = Lock()
        self._count = 0
        self._in_flight = 0
        self._max_in_flight = 0
        self._stopping = Event()
        self._server: _Server | None = None
        self._thread: Thread | None = None

    @property
    def url(self) -> str:
        """The address of the sandbox, without a slash at the end; known once it serves."""
        if self.port == 0:
            raise RuntimeError("the sandbox has no address before it was started")
        return f"http://{self.host}:{self.port}"

    @property
    def max_in_flight(self) -> int:
        """The highest number of requests which were being handled at the same time."""
        return self._max_in_flight

    def reset_max_in_flight(self) -> None:
        """Observe `max_in_flight` from now on."""
        with self._lock:
            self._max_in_flight = self._in_flight

    def start(self) -> None:
        """Binds the port and serves from a thread; after `stop` it serves the same port again.

        Raises `OSError` when the port is taken, `RuntimeError` when it already serves.
        """
        if self._server is not None:
            raise RuntimeError("the sandbox is serving already")
        self._stopping.clear()
        self._server = _Server((self.host, self.port), self)
        self.port = self._server.server_address[1]
        self._thread = Thread(
            # shutdown() waits for one poll, hence a short one
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.02},
            name="linq-sandbox",
            daemon=True,
        )
        self._thread.start()

    def stop(self) -> None:
        """Closes the port and every connection, and waits for the threads that served them."""
        if self._server is None or self._thread is None:
            return
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.close_connections()
        self._server.server_close()
        self._server = self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _begin(self, method: str, target: str, headers: Mapping[str, str]) -> _Handling:
        """Takes note of a request that has arrived."""
        split = urlsplit(target)
        params = dict(parse_qsl(split.query, keep_blank_values=True))
        is_v3 = method == "GET" and split.path.startswith(f"{answers_v3.PREFIX}/")
        find = answers_v3.route_of if is_v3 else partial(route_of, method)
        route, chat_id = find(split.path)
        with self._lock:
            self._count += 1
            self._in_flight += 1
            self._max_in_flight = max(self._max_in_flight, self._in_flight)
            exchange = Exchange(method, split.path, params, headers, self._count, route, chat_id)
            record = RequestRecord(
                method, split.path, params, route, self._count, 0, time.monotonic()
            )
            self.requests_log.append(record)
        return _Handling(exchange, record)

    def _decide(self, handling: _Handling) -> None:
        """Finds out what to do about a request: its fault, its answer, and the time it is."""
        try:
            if self.latency_s > 0:
                self._stopping.wait(self.latency_s)
            for hook in tuple(self.hooks):
                hook(handling.exchange)
            faults = (ask(handling.exchange) for ask in tuple(self.faults))
            handling.fault = next((fault for fault in faults if fault is not None), None)
            if handling.fault is not None and handling.action == "stall":
                self._stopping.wait(handling.fault.seconds)
            if self._stopping.is_set():
                return
            with self.world.lock:  # the Date header tells the moment of the data
                handling.now_ms = self.world.now_ms
                handling.answer = self._answer(handling.exchange, handling.fault)
        except Exception as error:  # whatever a test's hook raises must not hang its client
            self.failures.append(error)
            handling.now_ms = self.world.now_ms
            handling.answer = error_answer(500, f"the sandbox failed: {error!r}")

    def _end(self, handling: _Handling) -> None:
        # Before the answer is sent: a client that has its answer must not still be in flight.
        with self._lock:
            handling.record.status = 0 if handling.answer is None else handling.answer.status
            handling.record.finished_s = time.monotonic()
            self._in_flight -= 1

    def _answer(self, exchange: Exchange, fault: Fault | None) -> Answer | None:
        if fault is not None and fault.action in ("reset", "close"):
            return None
        if fault is not None and fault.action == "redirect":
            status = fault.status if 300 <= fault.status < 400 else 302
            return Answer(status, b"", {**fault.headers, "Location": fault.location})
        if fault is not None and fault.action == "answer":
            if fault.body is None:
                return _refusal(exchange, fault.status, "a fault was asked for", fault.headers)
            return Answer(fault.status, fault.body, fault.headers)
        is_v3 = _is_v3(exchange)
        name, token = _TOKEN_HEADER, self.token
        if is_v3:
            name, token = "authorization", f"Bearer {self.token}"
        if exchange.route != "file" and exchange.headers.get(name) != token:
            return _refusal(exchange, 401, f"{name.upper()} is missing or wrong")
        if self.rate_limit_per_s is not None:
            wait_s = self._bucket.take(self.rate_limit_per_s)
            if wait_s > 0:
                retry_after = {"Retry-After": str(math.ceil(wait_s))}
                return _refusal(exchange, 429, "too many requests", retry_after)
        found = (view(exchange) for view in tuple(self.views))
        world = next((world for world in found if world is not None), self.world)
        files_url = self.url if self.serves_files else None
        if is_v3:
            return answers_v3.answer_to(
                exchange,
                world,
                max_per_page=self.max_per_page,
                cursors=self.cursors,
                newest_first=self.newest_first,
                files_url=files_url,
            )
        return answer_to(
            exchange,
            world,
            max_per_page=self.max_per_page,
            inclusive=self.inclusive,
            files_url=files_url,
        )


def _is_v3(exchange: Exchange) -> bool:
    return exchange.path.startswith(f"{answers_v3.PREFIX}/")


def _refusal(
    exchange: Exchange, status: int, reason: str, headers: Mapping[str, str] | None = None
) -> Answer:
    """An error in the envelope that the request's version of the API has."""
    if _is_v3(exchange):
        return answers_v3.error_answer(status, reason, headers)
    return error_answer(status, reason, headers, exchange.route)


class _Server(ThreadingHTTPServer):
    """Keeps hold of its connections, so that stopping it leaves neither thread nor socket."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self._connections: dict[Thread, Any] = {}
        self._connections_lock = Lock()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # HTTPServer would look its own name up, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="linq-sandbox-connection",
            daemon=True,
        )
        with self._connections_lock:
            self._connections[thread] = request
        thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._connections_lock:
                del self._connections[current_thread()]

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients which give up, or were reset on purpose, are everyday business here.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def close_connections(self) -> None:
        with self._connections_lock:
            open_connections = dict(self._connections)
        for connection in open_connections.values():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in open_connections:
            thread.join(_JOIN_TIMEOUT_S)


class _Handler(BaseHTTPRequestHandler):
    """One connection: reads requests, and sends each answer in a single write."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    do_PUT = do_PATCH = do_DELETE = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing; `Sandbox.requests_log` is the log."""

    def _handle(self) -> None:
        sandbox = self.server.sandbox
        with suppress(ValueError):  # an unread body would be taken for the next request
            self.rfile.read(max(0, int(self.headers.get("Content-Length", "0"))))
        headers = {name.lower(): value for name, value in self.headers.items()}
        handling = sandbox._begin(self.command, self.path, headers)
        try:
            sandbox._decide(handling)
        finally:
            sandbox._end(handling)
        if handling.answer is None:
            self.close_connection = True
            if handling.action == "reset":
                self._reset()
            return
        body = handling.answer.body
        extra_headers: dict[str, str] = {}
        if sandbox.gzip and len(body) > _GZIP_MIN_BYTES and "gzip" in headers.get(_ACCEPT, ""):
            body = gzip.compress(body, mtime=0)
            extra_headers = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        if handling.action != "no_date":
            extra_headers["Date"] = formatdate(handling.now_ms // 1000, usegmt=True)
        head = _head(handling.answer, len(body), extra_headers)
        if handling.action == "truncate":
            self.close_connection = True
            body = body[: len(body) // 2]
        self.wfile.write(head + body)

    def _reset(self) -> None:
        # Lingering for zero seconds turns the close into a RST. It has to come before
        # socketserver's own shutdown of the socket, which would send an orderly FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.connection.close()


def _head(answer: Answer, body_bytes: int, extra_headers: Mapping[str, str]) -> bytes:
    """The status line and the headers; those of the answer replace the usual ones."""
    usual = {
        "Content-Type": "application/json; charset=utf-8",
        "Content-Length": str(body_bytes),
        **extra_headers,
    }
    replaced = {name.lower() for name in answer.headers}
    headers = {name: value for name, value in usual.items() if name.lower() not in replaced}
    try:
        reason = HTTPStatus(answer.status).phrase
    except ValueError:
        reason = "Unknown"
    lines = [f"HTTP/1.1 {answer.status} {reason}"]
    lines += [f"{name}: {value}" for name, value in (headers | dict(answer.headers)).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
