"""Connections to one host: one request out, one answer back, over and over.

Written on sockets for two reasons. A page is all there is to do, a million times, and costs a
fraction here of the processor time that a general client takes. And nothing is done that was not
asked for: no cookies, no redirects, no header the user's environment slips in; the token leaves
in one header to one host. `requests` is asked once what the environment says about proxies and
certificates.
"""

from __future__ import annotations

import base64
import select
import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from urllib.parse import SplitResult, unquote, urlsplit

import certifi

from linq_source.api.answers import (
    BrokenAnswer,
    RawAnswer,
    TooLarge,
    read_answer,
    read_head,
)
from linq_source.errors import ApiContractError, ConfigurationError
from linq_source.settings import Settings

TOKEN_HEADER = "X-LINQ-INTEGRATION-TOKEN"  # noqa: S105 - the header's name
MAX_BODY_BYTES = 64 * 1024 * 1024
_RECEIVE_BYTES = 262_144


class TransportError(Exception):
    """No answer came, in words that quote no address and no content. Asking again may help."""


class UntrustedError(Exception):
    """The connection cannot be trusted or the address cannot be; asking again will not help."""


@dataclass(frozen=True)
class _Route:
    """How to get to the host: directly, or through a proxy's tunnel."""

    host: str
    port: int
    tls: ssl.SSLContext | None = field(repr=False)
    proxy: tuple[str, int] | None
    connect_request: bytes = field(repr=False)


class Transport:
    """Connections to one base URL, shared by all workers."""

    def __init__(self, settings: Settings) -> None:
        if not (settings.base_url.isascii() and settings.base_url.isprintable()):
            raise ConfigurationError(
                f"base_url is {settings.base_url!r}: write a host beyond ASCII as xn--..., and a "
                "path with % escapes"
            )
        self._base_url = settings.base_url
        parts = urlsplit(settings.base_url)
        self._route = _find_route(settings.base_url, parts)
        self._timeout_s = settings.timeout_s
        self._deadline_s = settings.request_deadline_s
        self._prefix = parts.path
        self._head = "".join(
            f"{name}: {value}\r\n"
            for name, value in (
                ("Host", parts.netloc),
                (TOKEN_HEADER, settings.api_token.reveal()),
                ("Accept", "application/json"),
                ("Accept-Encoding", "gzip"),
                ("User-Agent", f"linq-source/{version('linq-source')}"),
            )
        )
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"Transport({self._route.host!r})"

    def close(self) -> None:
        """Close every connection, also those that wait for an answer."""
        with self._lock:
            self._closed = True
            connections = list(self._all)
        for connection in connections:
            connection.close()

    def release(self) -> None:
        """Close the connections that nobody uses; more are opened when needed."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._all.difference_update(idle)
        for connection in idle:
            connection.close()

    def get(self, target: str) -> RawAnswer:
        """GET a path with its query, below the base URL. Redirects are not followed.

        Raises `TransportError` or `UntrustedError`, or `ApiContractError` for an answer beyond
        `MAX_BODY_BYTES`.
        """
        request = f"GET {self._prefix}{target} HTTP/1.1\r\n{self._head}\r\n".encode("ascii")
        try:
            return self._exchange(request)
        except TooLarge as error:
            path = target.partition("?")[0]
            raise ApiContractError(
                f"{self._base_url}{path}: an answer is larger than {MAX_BODY_BYTES} bytes; "
                "take a smaller page_size"
            ) from error
        except BrokenAnswer as error:
            raise TransportError(str(error)) from error
        except TimeoutError as error:
            raise TransportError("no answer in time") from error
        except OSError as error:
            raise TransportError("the connection broke") from error

    def _exchange(self, request: bytes) -> RawAnswer:
        connection = self._take()
        keeps = False
        try:
            answer = connection.exchange(request, self._deadline_s)
            keeps = answer.keeps_connection
            return answer
        finally:
            with self._lock:
                if keeps and not self._closed:
                    self._idle.append(connection)
                else:
                    self._all.discard(connection)
                    connection.close()

    def _take(self) -> _Connection:
        """A connection on which nothing is under way."""
        while (connection := self._idle_one()) is not None:
            if connection.is_quiet():
                return connection
            with self._lock:
                self._all.discard(connection)
            connection.close()
        connection = _Connection(_connect(self._route, self._timeout_s))
        with self._lock:
            if not self._closed:
                self._all.add(connection)
                return connection
        connection.close()
        raise TransportError("closed")

    def _idle_one(self) -> _Connection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None


class _Connection:
    """One kept connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def is_quiet(self) -> bool:
        """Whether nothing came since the last answer: no end, and no answer nobody asked for."""
        try:
            if not select.select([self._socket], [], [], 0)[0]:
                return True
            if not isinstance(self._socket, ssl.SSLSocket):
                return False
            # TLS also sends what is not for us, such as tickets for later sessions.
            timeout_s = self._socket.gettimeout()
            self._socket.settimeout(0)
            self._socket.recv(1)
        except ssl.SSLWantReadError:
            self._socket.settimeout(timeout_s)
            return True
        except (OSError, ValueError):
            return False
        return False

    def exchange(self, request: bytes, deadline_s: float) -> RawAnswer:
        """Send a request, read its answer. The answer as a whole may take `deadline_s`."""
        self._socket.sendall(request)
        return read_answer(_Receiver(self._socket, deadline_s), MAX_BODY_BYTES)

    def close(self) -> None:
        """Close it; a thread that waits on it wakes up."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class _Receiver:
    """Gives the next bytes of a socket until a deadline."""

    def __init__(self, sock: socket.socket, deadline_s: float) -> None:
        self._socket = sock
        self._ends_s = time.monotonic() + deadline_s

    def __call__(self) -> bytes:
        if time.monotonic() > self._ends_s:
            raise TimeoutError
        return self._socket.recv(_RECEIVE_BYTES)


def _connect(route: _Route, timeout_s: float) -> socket.socket:
    """A connection to the route's host, its certificate checked."""
    sock = _connect_plain(route.proxy or (route.host, route.port), timeout_s, route.proxy)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if route.proxy is not None:
            _open_tunnel(sock, route.connect_request, timeout_s)
        if route.tls is None:
            return sock
        return _secure(sock, route.tls, route.host)
    except BaseException:
        sock.close()
        raise


def _connect_plain(
    address: tuple[str, int], timeout_s: float, proxy: tuple[str, int] | None
) -> socket.socket:
    try:
        return socket.create_connection(address, timeout_s)
    except UnicodeError as error:
        raise UntrustedError("the address cannot be used") from error
    except OSError as error:
        if proxy is not None:
            raise TransportError("the proxy cannot be reached") from error
        late = isinstance(error, TimeoutError)
        raise TransportError("no connection in time" if late else "no connection") from error


def _open_tunnel(sock: socket.socket, request: bytes, timeout_s: float) -> None:
    try:
        sock.sendall(request)
        status = read_head(_Receiver(sock, timeout_s))
    except (BrokenAnswer, OSError) as error:
        raise TransportError("the proxy cannot be reached") from error
    if status == 407:
        raise UntrustedError("the proxy wants other credentials (407)")
    if status != 200:
        raise TransportError(f"the proxy opens no tunnel (HTTP {status})")


def _secure(sock: socket.socket, tls: ssl.SSLContext, host: str) -> socket.socket:
    try:
        return tls.wrap_socket(sock, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        raise UntrustedError(f"its certificate is refused: {error.verify_message}") from error
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
        raise TransportError("the connection broke") from error
    except ssl.SSLError as error:
        raise TransportError(f"no TLS connection ({error.reason})") from error


def _find_route(base_url: str, parts: SplitResult) -> _Route:
    """The way to the API, as the environment has it (proxies, certificates)."""
    host, is_https = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if is_https else 80)
    if not is_https:
        # Plain http is for this machine: a proxy would be given the token in clear.
        return _Route(host, port, None, None, b"")
    # Late, for it takes a tenth of a second that a local server or `--help` need not wait.
    import requests
    from requests.utils import select_proxy

    with requests.Session() as session:
        found = session.merge_environment_settings(base_url, {}, True, None, None)
    proxy_url = select_proxy(base_url, found["proxies"])
    tls = _tls(found["verify"], found["cert"])
    if not proxy_url:
        return _Route(host, port, tls, None, b"")
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    proxy, connect_request = _proxy(proxy_url, target)
    return _Route(host, port, tls, proxy, connect_request)


def _tls(verify: bool | str | None, cert: str | tuple[str, str] | None) -> ssl.SSLContext:
    place = verify if isinstance(verify, str) else certifi.where()
    try:
        try:
            context = ssl.create_default_context(cafile=place)
        except IsADirectoryError:
            context = ssl.create_default_context(capath=place)
        if cert is not None:
            context.load_cert_chain(*([cert] if isinstance(cert, str) else cert))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"certificates cannot be read from {place}: check REQUESTS_CA_BUNDLE"
        ) from error
    return context


def _proxy(proxy_url: str, target: str) -> tuple[tuple[str, int], bytes]:
    """Address of a proxy, and the request that opens its tunnel to `host:port`."""
    parts = urlsplit(proxy_url if "://" in proxy_url else f"http://{proxy_url}")
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigurationError(
            f"a proxy of the kind {parts.scheme}:// is not supported: set HTTPS_PROXY to "
            "http://host:port"
        )
    head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        head += f"Proxy-Authorization: Basic {base64.b64encode(pair.encode()).decode()}\r\n"
    return (parts.hostname, parts.port or 80), f"{head}\r\n".encode("ascii")
