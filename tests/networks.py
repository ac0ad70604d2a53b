"""Servers that speak TLS and proxies, each with a log of what reached it."""

from __future__ import annotations

import http.client
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.conftest import NOW_MS, Loader

ENVIRONMENT = (
    "http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle", "curl_ca_bundle",
    "netrc",
)  # fmt: skip
PASSWORD = "pass word/4711"


class Front(ThreadingHTTPServer):
    """A TLS server that passes requests on to a sandbox; `seen` are the headers that arrived.

    The first `breaks` connections end in the middle of their first answer.
    """

    daemon_threads = False

    def __init__(self, port: int, tls: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Forward)
        self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.to_port = port
        self.accepted = 0
        self.breaks = 0
        self.seen: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server_address[1]}"

    def get_request(self) -> Any:
        request = super().get_request()
        self.accepted += 1
        return request

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that trust nobody are what is tested here."""


class _Forward(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    server: Front

    def do_GET(self) -> None:
        self.server.seen.append(dict(self.headers))
        onward = http.client.HTTPConnection("127.0.0.1", self.server.to_port)
        try:
            onward.request("GET", self.path, headers=dict(self.headers))
            answer = onward.getresponse()
            body = answer.read()
        finally:
            onward.close()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            self.send_header(name, value)
        self.end_headers()
        if self.server.breaks:
            self.server.breaks -= 1
            self.close_connection = True
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing to say."""


class Proxy(socketserver.ThreadingTCPServer):
    """An HTTP proxy that opens tunnels; `heads` and `passed` are all it was told and passed on."""

    daemon_threads = False

    def __init__(self, status: int, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.scheme = "http"
        if tls is not None:
            self.scheme = "https"
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.status = status
        self.heads: list[str] = []
        self.passed = bytearray()

    def address(self, credentials: str = "") -> str:
        return f"{self.scheme}://{credentials}127.0.0.1:{self.server_address[1]}"


class SocksProxy(Proxy):
    """A SOCKS5 proxy (RFC 1928) that wants a name and a password (RFC 1929)."""

    def __init__(self) -> None:
        super().__init__(200)
        self.scheme = "socks5h"
        self.RequestHandlerClass = _SocksTunnel


class _Tunnel(socketserver.StreamRequestHandler):
    timeout = 20
    server: Proxy

    def handle(self) -> None:
        lines = []
        while (line := self.rfile.readline(65_536)) not in (b"\r\n", b""):
            lines.append(line.decode("latin-1"))
        self.server.heads.append("".join(lines))
        method, target, _ = lines[0].split()
        if method != "CONNECT" or self.server.status != 200:
            self.wfile.write(b"HTTP/1.1 %d Refused\r\n\r\n" % self.server.status)
            return
        host, _, port = target.rpartition(":")
        self.tunnel(host, int(port), b"HTTP/1.1 200 Connection established\r\n\r\n")

    def tunnel(self, host: str, port: int, answer: bytes) -> None:
        with socket.create_connection((host, port), timeout=20) as onward:
            self.wfile.write(answer)
            back = threading.Thread(target=self._pump, args=(onward, self.connection))
            back.start()
            self._pump(self.connection, onward)
            back.join()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                self.server.passed += data
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class _SocksTunnel(_Tunnel):
    def handle(self) -> None:
        _, methods = self.rfile.read(2)
        self.rfile.read(methods)
        self.wfile.write(b"\x05\x02")
        _, length = self.rfile.read(2)
        name = self.rfile.read(length).decode()
        password = self.rfile.read(self.rfile.read(1)[0]).decode()
        self.wfile.write(b"\x01\x00")
        _, _, _, kind = self.rfile.read(4)
        assert kind == 3  # a name: the proxy looks it up
        host = self.rfile.read(self.rfile.read(1)[0]).decode()
        port = int.from_bytes(self.rfile.read(2), "big")
        self.server.heads.append(f"{name} {password} {host}:{port}")
        self.tunnel(host, port, b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")


@contextmanager
def running(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> str:
    """A file with the certificate of the authority."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def pages(small: Loader) -> Loader:
    """One chat of four pages."""
    for number in range(40):
        small.world.add_message(1, str(number), sent_at_ms=NOW_MS - 10_000_000 + number)
    return small


@dataclass
class Network:
    """Starts servers in front of a sandbox; `stack` ends them."""

    sandbox_port: int
    authority: trustme.CA
    stack: ExitStack

    def front(self, *names: str, **certificate: Any) -> Front:
        """A TLS server with a certificate for these names."""
        front = Front(self.sandbox_port, self._tls(*(names or ("127.0.0.1",)), **certificate))
        self.stack.enter_context(running(front))
        return front

    def proxy(self, status: int = 200, *, is_secured: bool = False) -> Proxy:
        """A proxy that gives tunnels, or answers with another status."""
        return self._started(Proxy(status, self._tls("127.0.0.1") if is_secured else None))

    def socks_proxy(self) -> Proxy:
        """A SOCKS5 proxy."""
        return self._started(SocksProxy())

    def _started(self, proxy: Proxy) -> Proxy:
        self.stack.enter_context(running(proxy))
        return proxy

    def _tls(self, *names: str, **certificate: Any) -> ssl.SSLContext:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*names, **certificate).configure_cert(tls)
        return tls


@pytest.fixture
def network(pages: Loader, authority: trustme.CA) -> Iterator[Network]:
    with ExitStack() as stack:
        yield Network(pages.sandbox.port, authority, stack)
