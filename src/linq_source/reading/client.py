"""One client for all workers: checked answers, sorted errors, bounded retries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import quote

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    wait_exponential,
    wait_random,
)

from linq_source.errors import (
    ApiContractError,
    ApiUnavailableError,
    AuthenticationError,
    ChatUnavailableError,
)
from linq_source.reading.answers import RawAnswer
from linq_source.reading.transport import Transport, TransportError, UntrustedError
from linq_source.settings import Settings

MAX_PAUSE_S = 60.0
# Until the API has answered once, a wrong address is likelier than an outage.
FIRST_ANSWER_DEADLINE_S = 15.0

_BACKOFF = wait_exponential(multiplier=0.5, max=20) + wait_random(0, 0.5)

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
        self._transport = Transport(settings)
        self._closed = threading.Event()
        self._sleep = sleep or self._wait
        self._lock = threading.Lock()
        self._answered = False
        self.requests = 0
        self.retries = 0

    def close(self) -> None:
        """Close connections and end every wait."""
        self._closed.set()
        self._transport.close()

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
        target = path + _query(parameters)
        try:
            return self._get_once(path, target, check)
        except _PassingError as error:
            return self._get_again(path, target, check, error)

    def _get_again(
        self, path: str, target: str, check: Callable[[bytes], T], first: _PassingError
    ) -> tuple[Answer, T]:
        """Repeat a request whose first try failed with `first`, until the deadline."""
        started_s = time.monotonic()
        failures = [first]

        def attempt() -> tuple[Answer, T]:
            if failures:
                raise failures.pop()
            return self._get_once(path, target, check)

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
            return retrying(attempt)
        except _PassingError as error:
            raise ApiUnavailableError(
                f"{self._settings.base_url}{path}: {error}, and no better answer within "
                f"{time.monotonic() - started_s:.0f} s; check base_url and the network, "
                "or run again later"
            ) from error

    def _count_retry(self, _: RetryCallState) -> None:
        with self._lock:
            self.retries += 1

    def _get_once(self, path: str, target: str, check: Callable[[bytes], T]) -> tuple[Answer, T]:
        with self._lock:
            self.requests += 1
        try:
            answer = self._transport.get(target)
        except UntrustedError as error:
            raise ApiContractError(
                f"{self._settings.base_url}: {error}; check base_url (REQUESTS_CA_BUNDLE names "
                "certificates of your own)"
            ) from error
        except TransportError as error:
            raise _PassingError(str(error)) from error
        self._answered = True
        if answer.status != 200:
            raise self._refusal(answer, path)
        try:
            value = check(answer.body)
        except ValueError as error:
            raise _PassingError(str(error)) from error
        return Answer(answer.body, answer.headers.get("Date", "")), value

    def _refusal(self, answer: RawAnswer, path: str) -> Exception:
        """What an answer other than 200 means, as an exception."""
        status = answer.status
        if status == 401:
            return AuthenticationError(
                "the API refuses the token (401): check SOURCES__LINQ__API_TOKEN or api_token "
                "under [sources.linq] in .dlt/secrets.toml"
            )
        if status in _PASSING or status >= 500:
            return _PassingError(f"HTTP {status}", _retry_after_s(answer.headers))
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


def _query(parameters: Mapping[str, str]) -> str:
    """A query; values are numbers, instants and phone numbers, so few characters need care."""
    if not parameters:
        return ""
    return "?" + "&".join(f"{name}={quote(value, safe=':')}" for name, value in parameters.items())


def _pause_s(state: RetryCallState) -> float:
    """Exponential with jitter, from half a second; longer where the server asked for it."""
    backoff_s = _BACKOFF(state)
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
