"""Connections to the API and to the hosts of files: urllib3's pools, with nothing added.

Nothing is done that was not asked for: no redirect is followed, no cookie kept, no `~/.netrc`
read, no address logged. What the environment says about proxies and certificates is read by
`requests`. A request that takes longer than its deadline is ended, however its bytes drip in.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar
from urllib.parse import urlsplit

import certifi
import urllib3

from linq_source.errors import ConfigurationError

_WATCH_S = 0.25
_PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
_AUTHORITIES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


class ClosedError(Exception):
    """The connections were closed; nothing is asked any more."""


@dataclass
class _Exchange:
    """A request under way in one thread."""

    ends_s: float | None
    connection: Any = None
    # urllib3 lets go of the socket as soon as an answer says that it is the last one.
    sock: Any = None
    is_late: bool = False

    def end(self) -> None:
        """Wake the thread that waits for the answer."""
        sock = self.sock or getattr(self.connection, "sock", None)
        sock = getattr(sock, "socket", sock)  # TLS through a proxy that is reached by TLS itself
        if sock is not None:
            with suppress(OSError):
                # An SSL socket's own `shutdown` first forgets its key: what another thread is
                # about to send would leave in clear.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


class Connections:
    """Connections to any host, for several threads at once.

    `judge` is given the address of every direct connection before anything is sent to it, and
    raises what it has against it.
    """

    def __init__(
        self, workers: int, timeout: urllib3.Timeout, judge: Callable[[str], None] | None = None
    ) -> None:
        self._options: dict[str, Any] = {"maxsize": workers, "timeout": timeout, "retries": False}
        self._judge = judge
        self._lock = threading.Condition()
        self._managers: dict[tuple[str, str | None], urllib3.PoolManager] = {}
        self._proxies: dict[str, str | None] = {}
        self._exchanges: dict[int, _Exchange] = {}
        self._watcher: threading.Thread | None = None
        self._closed = False
        _silence_urllib3()

    @contextmanager
    def get(
        self, url: str, headers: Mapping[str, str], deadline_s: float | None = None
    ) -> Iterator[Any]:
        """The answer to a GET of exactly `url`, as urllib3's response; its body is not yet read.

        Raises what urllib3 raises, `TimeoutError` at the deadline, `ClosedError`, and
        `ConfigurationError` where the environment names what cannot be used.
        """
        manager = self._manager(url)
        exchange = _Exchange(None if deadline_s is None else time.monotonic() + deadline_s)
        try:
            with self._under_way(exchange):
                response = manager.urlopen(
                    "GET", url, headers=headers, redirect=False, preload_content=False,
                    decode_content=False,
                )  # fmt: skip
                try:
                    yield response
                finally:
                    # An answer that was not read to its end leaves a connection nobody can use.
                    response.close()
            if exchange.is_late:
                raise TimeoutError("no answer in time")
        except (urllib3.exceptions.HTTPError, OSError) as error:
            if exchange.is_late:
                raise TimeoutError("no answer in time") from error
            raise

    def prepare(self, url: str) -> None:
        """Find out how a host is reached. Raises `ConfigurationError`."""
        self._manager(url)

    def release(self) -> None:
        """Close the connections that nobody uses; more are opened when needed."""
        with self._lock:
            managers = list(self._managers.values())
        for manager in managers:
            manager.clear()

    def close(self) -> None:
        """Close every connection, also those that wait for an answer."""
        with self._lock:
            self._closed = True
            for exchange in self._exchanges.values():
                exchange.end()
            self._lock.notify_all()
        self.release()

    def _manager(self, url: str) -> urllib3.PoolManager:
        """Direct connections, or those through the proxy that the environment names."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        with self._lock:
            if origin not in self._proxies:
                # Plain http is for this machine: a proxy would be given the token in clear.
                self._proxies[origin] = _proxy_of(url) if parts.scheme == "https" else None
            proxy = self._proxies[origin]
            key = (parts.scheme, proxy)
            if key not in self._managers:
                self._managers[key] = self._new_manager(*key)
            return self._managers[key]

    def _new_manager(self, scheme: str, proxy: str | None) -> urllib3.PoolManager:
        options = dict(self._options)
        if scheme == "https":
            options["ssl_context"] = _tls_context()
        if proxy is None:
            manager = urllib3.PoolManager(**options)
        elif proxy.startswith("socks"):
            manager = _socks_manager(proxy, options)
        else:
            manager = urllib3.ProxyManager(
                proxy,
                proxy_headers=_credentials(proxy),
                proxy_ssl_context=options["ssl_context"],
                **options,
            )
        watched = {"connections": self, "judge": self._judge if proxy is None else None}
        pools: dict[str, Any] = dict(manager.pool_classes_by_scheme)
        for name, pool in pools.items():
            connection = type(pool.ConnectionCls.__name__, (_Watched, pool.ConnectionCls), watched)
            pools[name] = type(pool.__name__, (pool,), {"ConnectionCls": connection})
        manager.pool_classes_by_scheme = pools
        return manager

    @contextmanager
    def _under_way(self, exchange: _Exchange) -> Iterator[None]:
        thread = threading.get_ident()
        _silent.active = True
        with self._lock:
            if self._closed:
                raise ClosedError
            self._exchanges[thread] = exchange
            if self._watcher is None and exchange.ends_s is not None:
                self._watcher = threading.Thread(
                    target=self._end_late_ones, name="linq-deadlines", daemon=True
                )
                self._watcher.start()
        try:
            yield
        finally:
            _silent.active = False
            with self._lock:
                del self._exchanges[thread]

    def _end_late_ones(self) -> None:
        with self._lock:
            while self._exchanges and not self._closed:
                now_s = time.monotonic()
                for exchange in self._exchanges.values():
                    if exchange.ends_s is not None and exchange.ends_s <= now_s:
                        exchange.is_late = True
                        exchange.end()
                self._lock.wait(_WATCH_S)
            self._watcher = None

    def is_used(self, connection: Any) -> None:
        """Note which connection this thread's request uses. Raises `ClosedError`."""
        with self._lock:
            if self._closed:
                raise ClosedError
            exchange = self._exchanges.get(threading.get_ident())
            if exchange is not None:
                exchange.connection = connection
                exchange.sock = connection.sock


class _Watched:
    """What a connection of urllib3 does besides, when `Connections` has opened it."""

    connections: ClassVar[Any]
    judge: ClassVar[Any]
    sock: Any

    def connect(self) -> None:
        self.connections.is_used(self)
        super().connect()  # type: ignore[misc]
        self.connections.is_used(self)

    def request(self, *arguments: Any, **options: Any) -> None:
        self.connections.is_used(self)
        super().request(*arguments, **options)  # type: ignore[misc]

    def _new_conn(self) -> socket.socket:
        sock: socket.socket = super()._new_conn()  # type: ignore[misc]
        if type(self).judge is not None:
            try:
                type(self).judge(str(sock.getpeername()[0]))
            except BaseException:
                sock.close()
                raise
        return sock

    @property
    def is_connected(self) -> bool:
        """Whether the connection can be used again: open, and with nothing left to be read.

        Bytes behind an answer's end must never be taken for the next one, which would file
        messages under another chat. TLS may have unpacked some that `select` does not see.
        """
        connected: bool = super().is_connected  # type: ignore[misc]
        return connected and not (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending())


def _proxy_of(url: str) -> str | None:
    """Return the proxy that the environment names for a URL. Raises `ConfigurationError`."""
    # Late, for it takes a tenth of a second that a local server or `--help` need not wait.
    from requests.utils import get_environ_proxies, select_proxy

    found = select_proxy(url, get_environ_proxies(url))
    if not found:
        return None
    try:
        proxy = found if "://" in found else f"http://{found}"
        parts = urllib3.util.parse_url(proxy)
        usable = parts.scheme in _PROXY_SCHEMES and bool(parts.host)
    except urllib3.exceptions.LocationParseError:
        usable = False
    if not usable:
        place = found.rpartition("@")[2]
        raise ConfigurationError(
            f"the proxy {place!r} cannot be used: set HTTPS_PROXY to http://host:port, "
            "https://host:port or socks5h://host:port"
        )
    return proxy


def _credentials(proxy: str) -> dict[str, str]:
    from requests.utils import get_auth_from_url

    name, password = get_auth_from_url(proxy)
    if not name and not password:
        return {}
    return dict(urllib3.make_headers(proxy_basic_auth=f"{name}:{password}"))


def _socks_manager(proxy: str, options: dict[str, Any]) -> Any:
    if find_spec("socks") is None:
        raise ConfigurationError("a SOCKS proxy needs an extra: pip install 'linq-source[socks]'")
    from urllib3.contrib.socks import SOCKSProxyManager

    return SOCKSProxyManager(proxy, **options)


def _tls_context() -> ssl.SSLContext:
    """Certificates are checked against those that the environment names, or certifi's."""
    name = next((name for name in _AUTHORITIES if os.environ.get(name)), None)
    place = os.environ[name] if name is not None else certifi.where()
    try:
        if os.path.isdir(place):
            return ssl.create_default_context(capath=place)
        return ssl.create_default_context(cafile=place)
    except OSError as error:  # ssl's errors are of this kind, too
        raise ConfigurationError(
            f"certificates cannot be read from {place}: check {name or _AUTHORITIES[0]}"
        ) from error


# -- urllib3's log has the addresses that are asked for, with numbers of people and signed links


_silent = threading.local()


def _silence_urllib3() -> None:
    """Keep out of every log what urllib3 has to say about our requests, and only ours."""
    for name in ("urllib3.connectionpool", "urllib3.connection"):
        logging.getLogger(name).addFilter(_is_of_others)  # adding it twice does nothing


def _is_of_others(_: logging.LogRecord) -> bool:
    return not getattr(_silent, "active", False)
