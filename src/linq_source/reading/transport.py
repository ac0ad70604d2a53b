"""One request over a kept connection: bytes out, status, headers and body back.

`requests` looks up proxies, certificates and environment once; after that its connection pool is
used directly. Per request `requests` would look all of that up again, keep cookies, and follow
redirects with the token in a custom header that it does not strip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from linq_source.settings import Settings

TOKEN_HEADER = "X-LINQ-INTEGRATION-TOKEN"  # noqa: S105 - the header's name
MAX_BODY_BYTES = 64 * 1024 * 1024


class TransportError(Exception):
    """No answer came, in words that quote no address and no content. Asking again may help."""


class UntrustedError(Exception):
    """The connection cannot be trusted or the address cannot be; asking again will not help."""


@dataclass(frozen=True)
class RawAnswer:
    """What came back, whatever its status. The body is decoded (gzip) but not looked at."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """Connections to one base URL, shared by all workers."""

    def __init__(self, settings: Settings) -> None:
        base_url = settings.base_url
        self._session = requests.Session()
        environment = self._session.merge_environment_settings(base_url, {}, True, None, None)
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=settings.workers, pool_block=True)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        # Keys of the environment and of the user's netrc are not for this host.
        self._session.trust_env = False
        self._headers = {
            TOKEN_HEADER: settings.api_token.reveal(),
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": f"linq-source/{version('linq-source')}",
        }
        request = self._session.prepare_request(requests.Request("GET", base_url + "/"))
        proxies: Any = environment["proxies"]
        self._pool: Any = adapter.get_connection_with_tls_context(
            request, environment["verify"], proxies=proxies, cert=environment["cert"]
        )
        # Through a plain proxy the whole address is asked for, otherwise the path.
        self._prefix = adapter.request_url(request, proxies).rstrip("/")
        self._timeout = urllib3.Timeout(connect=settings.timeout_s, read=settings.timeout_s)

    def close(self) -> None:
        """Close every connection."""
        self._session.close()

    def get(self, target: str) -> RawAnswer:
        """GET a path with its query, below the base URL. Redirects are not followed.

        Raises `TransportError` or `UntrustedError`.
        """
        try:
            response = self._pool.urlopen(
                "GET",
                self._prefix + target,
                headers=self._headers,
                retries=False,
                redirect=False,
                assert_same_host=False,
                preload_content=False,
                timeout=self._timeout,
            )
            return RawAnswer(response.status, response.headers, _read_body(response))
        except urllib3.exceptions.SSLError as error:
            raise UntrustedError("its certificate is not trusted") from error
        except urllib3.exceptions.LocationValueError as error:
            raise UntrustedError("the address cannot be used") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise TransportError(_words(error)) from error


def _read_body(response: urllib3.BaseHTTPResponse) -> bytes:
    """The whole body. urllib3 raises for one that is shorter than announced."""
    try:
        body = response.read(MAX_BODY_BYTES + 1, decode_content=True)
        if len(body) > MAX_BODY_BYTES:
            raise UntrustedError(f"an answer is larger than {MAX_BODY_BYTES} bytes")
    except BaseException:
        response.close()
        raise
    response.release_conn()
    return body


def _words(error: Exception) -> str:
    for kind, words in (
        (urllib3.exceptions.ConnectTimeoutError, "no connection in time"),
        (urllib3.exceptions.TimeoutError, "no answer in time"),
        (urllib3.exceptions.ProxyError, "the proxy cannot be reached"),
        (urllib3.exceptions.NewConnectionError, "no connection"),
        (urllib3.exceptions.DecodeError, "the answer's compression is broken"),
        (urllib3.exceptions.ProtocolError, "the connection broke"),
    ):
        if isinstance(error, kind):
            return words
    return type(error).__name__
