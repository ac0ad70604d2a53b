"""One request out, one answer back: what the API is sent, and what is taken for an answer."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from urllib.parse import urlsplit

import urllib3
from urllib3 import exceptions

from linq_source.api.connections import ClosedError, Connections
from linq_source.errors import ApiContractError, ConfigurationError
from linq_source.planning.contracts import contract_of
from linq_source.settings import Settings

MAX_BODY_BYTES = 64 * 1024 * 1024


class TransportError(Exception):
    """No answer came, in words that quote no address and no content. Asking again may help."""


class UntrustedError(Exception):
    """The connection cannot be trusted or the address cannot be; asking again will not help."""


@dataclass(frozen=True)
class RawAnswer:
    """What came back, whatever its status. The body is unpacked (gzip) but not looked at.

    Names of headers are found however they are written.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """Connections to one base URL, shared by all workers."""

    def __init__(self, settings: Settings) -> None:
        if not (settings.base_url.isascii() and settings.base_url.isprintable()):
            raise ConfigurationError(
                f"base_url is {settings.base_url!r}: write a host beyond ASCII as xn--..., and a "
                "path with % escapes"
            )
        self._base_url = settings.base_url
        self._deadline_s = settings.request_deadline_s
        token_header, token = contract_of(settings.api).authorization(settings.api_token.reveal())
        self._headers = {
            token_header: token,
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": f"linq-source/{version('linq-source')}",
        }
        self._connections = Connections(settings.workers, urllib3.Timeout(settings.timeout_s))
        self._connections.prepare(self._base_url)

    def __repr__(self) -> str:
        return f"Transport({urlsplit(self._base_url).hostname!r})"

    def close(self) -> None:
        """Close every connection, also those that wait for an answer."""
        self._connections.close()

    def release(self) -> None:
        """Close the connections that nobody uses; more are opened when needed."""
        self._connections.release()

    def get(self, target: str) -> RawAnswer:
        """GET a path with its query, below the base URL. Redirects are not followed.

        Raises `TransportError` or `UntrustedError`, or `ApiContractError` for an answer beyond
        `MAX_BODY_BYTES`.
        """
        try:
            with self._connections.get(
                self._base_url + target, self._headers, self._deadline_s
            ) as response:
                if (response.length_remaining or 0) <= MAX_BODY_BYTES:
                    body = response.read(MAX_BODY_BYTES + 1, decode_content=True)
                    if len(body) <= MAX_BODY_BYTES:
                        return RawAnswer(response.status, response.headers, body)
        except ClosedError as error:
            raise TransportError("closed") from error
        except (exceptions.HTTPError, OSError, ValueError) as error:
            raise _plain(error) from error
        raise ApiContractError(
            f"{self._base_url}{target.partition('?')[0]}: an answer is larger than "
            f"{MAX_BODY_BYTES} bytes; take a smaller page_size",
            status=response.status,
        )


def _plain(error: BaseException) -> Exception:
    """Return what went wrong, without the addresses and contents that urllib3's errors quote."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return UntrustedError(f"its certificate is refused: {cause.verify_message}")
    if any(_is_of_proxy(cause) for cause in causes):
        return _proxy_error(causes)
    if isinstance(error, (exceptions.LocationParseError, UnicodeError)):
        return UntrustedError("the address cannot be used")
    if isinstance(error, exceptions.NewConnectionError):
        return TransportError("no connection")
    if isinstance(error, exceptions.ConnectTimeoutError):
        return TransportError("no connection in time")
    if isinstance(error, (exceptions.TimeoutError, TimeoutError)):
        return TransportError("no answer in time")
    if isinstance(error, exceptions.DecodeError):
        return TransportError("the answer's compression is broken")
    for cause in causes:
        if isinstance(cause, ssl.SSLError) and not isinstance(
            cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError)
        ):
            return TransportError(f"no TLS connection ({cause.reason})")
    return TransportError("the connection broke")


def _is_of_proxy(cause: BaseException) -> bool:
    return isinstance(cause, exceptions.ProxyError) or type(cause).__module__ == "socks"


def _proxy_error(causes: list[BaseException]) -> Exception:
    for cause in causes:
        refused = re.match(r"Tunnel connection failed: (\d{3})", str(cause))
        if refused is not None and refused[1] == "407":
            return UntrustedError("the proxy wants other credentials (407)")
        if refused is not None:
            return TransportError(f"the proxy opens no tunnel (HTTP {refused[1]})")
    return TransportError("the proxy cannot be reached")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it wraps or came from."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        found = waiting.pop()
        if isinstance(found, BaseException) and id(found) not in seen:
            seen.add(id(found))
            yield found
            waiting += [found.__cause__, found.__context__, *found.args]
