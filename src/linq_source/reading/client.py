"""One HTTP client for all workers: checked answers, sorted errors, bounded retries.

The session's adapter is used directly: environment, proxies and certificates are looked up once,
no cookies are kept, and a redirect is never followed (`requests` would carry a custom header,
and so the token, to another host).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential_jitter

from linq_source.errors import (
    ApiContractError,
    ApiUnavailableError,
    AuthenticationError,
    ChatUnavailableError,
)
from linq_source.settings import Settings

TOKEN_HEADER = "X-LINQ-INTEGRATION-TOKEN"  # noqa: S105 - the header's name
MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_PAUSE_S = 60.0
# Until the API has answered once, a wrong address is likelier than an outage.
FIRST_ANSWER_DEADLINE_S = 15.0

_CHAT_GONE = (403, 404, 410)
_PASSING = (408, 425, 429)

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """A successful answer's body and its `Date` header ("" if there was none)."""

    body: bytes
    date: str


class _PassingError(Exception):
    """A failure that asking again may mend. `pause_s` is what the server asked for."""

    def __init__(self, reason: str, pause_s: float = 0.0) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


class Client:
    """Asks the API, from several threads at once. Close it when done."""

    def __init__(self, settings: Settings, sleep: Callable[[float], None] | None = None) -> None:
        self._settings = settings
        self._base_path = urlsplit(settings.base_url).path
        self._closed = threading.Event()
        self._sleep = sleep or self._wait
        self._lock = threading.Lock()
        self._answered = False
        self.requests = 0
        self.retries = 0
        session = requests.Session()
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=settings.workers, pool_block=True)
        session.mount(settings.base_url, adapter)
        environment = session.merge_environment_settings(settings.base_url, {}, True, None, None)
        self._options: dict[str, Any] = {
            "timeout": settings.timeout_s,
            "verify": environment["verify"],
            "cert": environment["cert"],
            "proxies": environment["proxies"],
        }
        self._adapter = adapter
        self._session = session
        self._prepared = session.prepare_request(
            requests.Request(
                "GET",
                settings.base_url,
                headers={
                    TOKEN_HEADER: settings.api_token.reveal(),
                    "Accept": "application/json",
                    "User-Agent": f"linq-source/{version('linq-source')}",
                },
            )
        )

    def close(self) -> None:
        """Close connections and end every wait."""
        self._closed.set()
        self._session.close()

    def _wait(self, seconds: float) -> None:
        self._closed.wait(seconds)

    def get(
        self, path: str, parameters: Mapping[str, str], check: Callable[[bytes], T]
    ) -> tuple[Answer, T]:
        """GET a path below the base URL; `check` reads what it needs of the body.

        A `ValueError` of `check` counts as a failed answer and is asked again. Raises
        `AuthenticationError`, `ChatUnavailableError`, `ApiContractError`, or, at the end of the
        request's deadline, `ApiUnavailableError`.
        """
        started_s = time.monotonic()
        deadline_s = self._settings.request_deadline_s
        if not self._answered:
            deadline_s = min(deadline_s, FIRST_ANSWER_DEADLINE_S)

        def out_of_time(state: RetryCallState) -> bool:
            return self._closed.is_set() or (
                time.monotonic() - started_s + state.upcoming_sleep > deadline_s
            )

        retrying = Retrying(
            retry=retry_if_exception_type(_PassingError),
            wait=_pause_s,
            stop=out_of_time,
            before_sleep=self._count_retry,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return retrying(self._get_once, path, parameters, check)
        except _PassingError as error:
            raise ApiUnavailableError(
                f"{self._settings.base_url}{path}: {error}, and no better answer within "
                f"{time.monotonic() - started_s:.0f} s; check base_url and the network, "
                "or run again later"
            ) from error

    def _count_retry(self, _: RetryCallState) -> None:
        with self._lock:
            self.retries += 1

    def _get_once(
        self, path: str, parameters: Mapping[str, str], check: Callable[[bytes], T]
    ) -> tuple[Answer, T]:
        request = self._prepared.copy()
        query = f"?{urlencode(parameters)}" if parameters else ""
        request.url = f"{self._settings.base_url}{path}{query}"
        with self._lock:
            self.requests += 1
        try:
            response = self._adapter.send(request, stream=True, **self._options)
            body = _read_body(response)
        except (requests.exceptions.SSLError, requests.exceptions.InvalidURL) as error:
            raise ApiContractError(
                f"{self._settings.base_url}: no trusted connection ({_kind(error)}); check the "
                "address and the certificate (REQUESTS_CA_BUNDLE names your own)"
            ) from error
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError) as e:
            raise _PassingError(_kind(e)) from e
        self._answered = True
        if response.status_code != 200:
            raise self._refusal(response, path)
        try:
            value = check(body)
        except ValueError as error:
            raise _PassingError(str(error)) from error
        return Answer(body, response.headers.get("Date", "")), value

    def _refusal(self, response: requests.Response, path: str) -> Exception:
        """What an answer other than 200 means, as an exception."""
        status = response.status_code
        if status == 401:
            return AuthenticationError(
                "the API refuses the token (401): check SOURCES__LINQ__API_TOKEN or api_token "
                "under [sources.linq] in .dlt/secrets.toml"
            )
        if status in _PASSING or status >= 500:
            return _PassingError(f"HTTP {status}", _retry_after_s(response.headers))
        if status in _CHAT_GONE and "/chats/" in path:
            chat_id = path.split("/chats/")[1].split("/")[0]
            return ChatUnavailableError(
                f"chat {chat_id}: HTTP {status}; it does not exist or the token may not read it",
                status=status,
            )
        if 300 <= status < 400:
            return ApiContractError(
                f"{self._settings.base_url}{path}: redirected (HTTP {status}); the token is sent "
                "to no other address: set base_url to the API's own"
            )
        return ApiContractError(
            f"{self._settings.base_url}{path}: HTTP {status}; check base_url and the parameters"
        )


def _read_body(response: requests.Response) -> bytes:
    """The whole body; a short one raises in urllib3, one beyond all reason here."""
    try:
        body: bytes = response.raw.read(MAX_BODY_BYTES + 1, decode_content=True)
        if len(body) > MAX_BODY_BYTES:
            raise ApiContractError(f"an answer of more than {MAX_BODY_BYTES} bytes was refused")
        # An empty read at the end releases the connection to the pool.
        rest: bytes = response.raw.read(1)
        return body + rest
    except BaseException:
        response.close()
        raise


def _pause_s(state: RetryCallState) -> float:
    """Exponential with jitter, from half a second; longer where the server asked for it."""
    backoff_s = wait_exponential_jitter(initial=0.5, max=20, jitter=0.5)(state)
    error = state.outcome.exception() if state.outcome else None
    asked_s = error.pause_s if isinstance(error, _PassingError) else 0.0
    return max(backoff_s, asked_s)


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """`Retry-After` in seconds, from either of its forms (RFC 9110, 10.2.3), capped."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return 0.0
    if text.isdecimal():
        return min(float(text), MAX_PAUSE_S)
    try:
        now = parsedate_to_datetime(headers["Date"])
        pause_s = (parsedate_to_datetime(text) - now).total_seconds()
    except (KeyError, ValueError):
        return 0.0
    return min(max(pause_s, 0.0), MAX_PAUSE_S)


def _kind(error: BaseException) -> str:
    """A failure in plain words, without addresses or contents."""
    for cause, words in (
        (requests.exceptions.ConnectTimeout, "no connection in time"),
        (requests.exceptions.Timeout, "no answer in time"),
        (urllib3.exceptions.TimeoutError, "no answer in time"),
        (requests.exceptions.SSLError, "certificate not trusted"),
        (requests.exceptions.ProxyError, "the proxy cannot be reached"),
        (requests.exceptions.ConnectionError, "no connection"),
        (urllib3.exceptions.ProtocolError, "the connection broke"),
    ):
        if isinstance(error, cause):
            return words
    return type(error).__name__
