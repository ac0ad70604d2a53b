"""TLS and proxies over real sockets: the token reaches one host, in one header, and nobody else."""

from __future__ import annotations

import base64
import http.client
import logging
import os
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import trustme

from linq_source import ApiContractError, ApiUnavailableError, ConfigurationError
from linq_source.api.client import Client
from linq_source.planning.listings import PHONE_NUMBERS_PATH, decode_phone_numbers
from linq_source.sandbox import DEFAULT_TOKEN, Fault
from linq_source.settings import check_settings
from tests.conftest import NOW_MS, Loader

ENVIRONMENT = (
    "http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle", "curl_ca_bundle",
    "netrc",
)  # fmt: skip
PASSWORD = "pass word/4711"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower() in ENVIRONMENT]:
        monkeypatch.delenv(name)


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


def ask(base_url: str, *, deadline_s: float = 20.0) -> None:
    """One request, without a pipeline around it."""
    settings = check_settings(
        api_token=DEFAULT_TOKEN, base_url=base_url, chat_ids=None, phone_numbers=None, start=None,
        end=None, lookback_days=7, page_size=10, workers=1, max_messages=None, shard=None,
        timeout_s=10.0, request_deadline_s=deadline_s,
    )  # fmt: skip
    client = Client(settings)
    try:
        client.get(PHONE_NUMBERS_PATH, {}, decode_phone_numbers)
    finally:
        client.close()


def assert_one_clear_line(error: BaseException, *words: str) -> None:
    text = str(error)
    assert "\n" not in text
    assert DEFAULT_TOKEN not in text
    assert [word for word in words if word not in text] == []


# -- certificates ---------------------------------------------------------------------------------


def test_a_certificate_of_an_unknown_authority_is_refused_before_the_token_is_sent(
    pages: Loader, network: Network
) -> None:
    front = network.front()
    with pytest.raises(ApiContractError) as caught:
        pages.sync(base_url=front.url)
    assert_one_clear_line(caught.value, front.url, "certificate is refused", "REQUESTS_CA_BUNDLE")
    assert caught.value.exit_code == 1
    assert front.accepted == 1
    assert front.seen == []
    assert pages.sandbox.requests_log == []


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_an_authority_of_ones_own_is_trusted_when_the_environment_says_so(
    pages: Loader, network: Network, bundle: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, bundle)
    assert pages.sync(base_url=network.front().url, page_size=10).exit_code == 0
    pages.assert_equal_world()


@pytest.mark.parametrize(
    ("names", "certificate", "words"),
    [
        (("other.example",), {}, "certificate is not valid for '127.0.0.1'"),
        (("127.0.0.2",), {}, "certificate is not valid for '127.0.0.1'"),
        ((), {"not_after": datetime(2020, 1, 1, tzinfo=UTC)}, "certificate has expired"),
    ],
    ids=["another name", "another address", "expired"],
)
def test_a_certificate_for_something_else_is_refused(
    network: Network, bundle: str, monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, ...], certificate: dict[str, Any], words: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    front = network.front(*names, **certificate)
    with pytest.raises(ApiContractError) as caught:
        ask(front.url)
    assert_one_clear_line(caught.value, words)
    assert front.seen == []


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_certificates_that_cannot_be_read_are_a_matter_of_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    path = tmp_path / "wrong.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    with pytest.raises(ConfigurationError) as caught:
        ask("https://127.0.0.1:9")
    assert_one_clear_line(caught.value, str(path), "REQUESTS_CA_BUNDLE")
    assert caught.value.exit_code == 2


def test_a_tls_connection_that_breaks_is_made_again(
    pages: Loader, network: Network, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    front = network.front()
    front.breaks = 1
    report = pages.sync(base_url=front.url)
    assert (report.retries, report.exit_code) == (1, 0)
    pages.assert_equal_world()


def test_https_where_plain_http_is_spoken_is_no_matter_of_certificates(pages: Loader) -> None:
    with pytest.raises(ApiUnavailableError) as caught:
        ask(pages.sandbox.url.replace("http", "https"), deadline_s=0.1)
    assert_one_clear_line(caught.value, "check base_url")
    assert "certificate" not in str(caught.value)
    assert pages.sandbox.requests_log == []


# -- proxies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_passes_on_what_it_cannot_read(
    pages: Loader, network: Network, bundle: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    front, proxy = network.front(), network.proxy()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    monkeypatch.setenv(name, proxy.address())
    assert pages.sync(base_url=front.url, workers=1).exit_code == 0
    pages.assert_equal_world()
    target = front.url.removeprefix("https://")
    (head,) = proxy.heads
    assert head.startswith(f"CONNECT {target} HTTP/1.")
    assert DEFAULT_TOKEN not in head
    assert len(front.seen) == len(pages.sandbox.requests_log) > 2
    assert len(proxy.passed) > 1000
    assert DEFAULT_TOKEN.encode() not in proxy.passed


def test_a_proxy_is_given_the_credentials_of_its_address(
    network: Network, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    front, proxy = network.front(), network.proxy()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    monkeypatch.setenv("HTTPS_PROXY", proxy.address("somebody:pass%20word%2F4711@"))
    ask(front.url)
    (head,) = proxy.heads
    expected = base64.b64encode(f"somebody:{PASSWORD}".encode()).decode()
    assert f"\r\nproxy-authorization: basic {expected}\r\n".lower() in head.lower()
    assert "Proxy-Authorization" not in front.seen[0]


@pytest.mark.parametrize(("status", "kind"), [(407, ApiContractError), (403, ApiUnavailableError)])
def test_a_proxy_that_refuses_is_named_and_its_password_is_not(
    network: Network, monkeypatch: pytest.MonkeyPatch, status: int, kind: type[Exception]
) -> None:
    proxy = network.proxy(status)
    monkeypatch.setenv("HTTPS_PROXY", proxy.address("somebody:pass%20word%2F4711@"))
    with pytest.raises(kind) as caught:
        ask("https://api.example.com", deadline_s=0.1)
    assert_one_clear_line(caught.value, "the proxy", str(status))
    assert "pass" not in str(caught.value)
    assert DEFAULT_TOKEN not in "".join(proxy.heads)


@pytest.mark.parametrize(
    "address",
    [
        "ftp://somebody:secret@127.0.0.1:21",
        "http://somebody:secret@host:abc",
        "http://somebody:secret@host:99999",
        "http://somebody:secret@:8080",
        "somebody:secret@host:abc",
        "http://[::1",
        "://",
    ],
)
def test_a_proxy_that_cannot_be_used_is_a_matter_of_configuration(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", address)
    with pytest.raises(ConfigurationError) as caught:
        ask("https://api.example.com")
    assert_one_clear_line(caught.value, address.rpartition("@")[2], "HTTPS_PROXY")
    assert "secret" not in str(caught.value)


def test_a_proxy_may_be_reached_by_tls_itself(
    network: Network, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    front, proxy = network.front(), network.proxy(is_secured=True)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    monkeypatch.setenv("HTTPS_PROXY", proxy.address())
    ask(front.url)
    assert len(proxy.heads) == len(front.seen) == 1


def test_a_socks_proxy_is_given_name_and_password(
    network: Network, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    front, proxy = network.front("localhost"), network.socks_proxy()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    monkeypatch.setenv("ALL_PROXY", proxy.address("somebody:pass%20word%2F4711@"))
    port = front.server_address[1]
    ask(f"https://localhost:{port}")
    assert proxy.heads == [f"somebody {PASSWORD} localhost:{port}"]
    assert len(front.seen) == 1
    assert DEFAULT_TOKEN.encode() not in proxy.passed


def test_plain_http_goes_through_no_proxy(
    pages: Loader, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = network.proxy()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy.address())
    assert pages.sync().exit_code == 0
    pages.assert_equal_world()
    assert proxy.heads == []


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_hosts_without_a_proxy_are_reached_without_one(
    network: Network, bundle: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    front, proxy = network.front(), network.proxy()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    monkeypatch.setenv("HTTPS_PROXY", proxy.address())
    monkeypatch.setenv(name, "example.com,127.0.0.1")
    ask(front.url)
    assert proxy.heads == []
    assert len(front.seen) == 1


# -- what is sent, and what is not ----------------------------------------------------------------


def test_nothing_is_sent_but_what_a_request_needs(
    pages: Loader, network: Network, bundle: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = tmp_path / "netrc"
    keys.write_text("machine 127.0.0.1 login somebody password secret\ndefault login a password b")
    monkeypatch.setenv("NETRC", str(keys))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    cookie = {"Set-Cookie": "session=4711; Path=/"}
    first = pages.sandbox.faults
    first.append(lambda e: Fault(status=503, headers=cookie) if e.count == 1 else None)
    front = network.front()
    pages.sync(base_url=front.url)
    assert len(front.seen) > 2
    for headers in front.seen:
        assert headers == {
            "Host": front.url.removeprefix("https://"),
            "X-LINQ-INTEGRATION-TOKEN": DEFAULT_TOKEN,
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": f"linq-source/{version('linq-source')}",
        }


@pytest.mark.parametrize("workers", [1, 3])
def test_connections_are_kept(
    pages: Loader, network: Network, bundle: str, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    front = network.front()
    pages.sync(base_url=front.url, page_size=2, workers=workers)
    assert len(front.seen) > 20
    assert front.accepted <= workers


def test_an_address_that_no_request_can_carry_is_a_matter_of_configuration() -> None:
    with pytest.raises(ConfigurationError) as caught:
        ask("https://bücher.example")
    assert_one_clear_line(caught.value, "bücher", "xn--")


def test_no_log_record_of_any_logger_has_a_phone_number_or_the_token(
    pages: Loader, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("canary").debug("records are seen")
        pages.sandbox.faults.append(lambda e: Fault(status=503) if e.count == 2 else None)
        assert pages.sync().retries == 1
    assert "records are seen" in caplog.text
    for record in caplog.records:
        for text in (record.getMessage(), repr(record.__dict__)):
            assert DEFAULT_TOKEN not in text
            assert "5550000001" not in text
