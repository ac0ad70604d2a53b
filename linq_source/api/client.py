"""One client for all workers: checked answers, sorted errors, bounded retries.

The request itself is sent by `transport`.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import quote

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    wait_exponential,
    wait_random,
)

from linq_source.api.throttle import Deadline, Throttle, ThrottleTimeout
from linq_source.api.transport import RawAnswer, Transport, TransportError, UntrustedError
from linq_source.decoding.envelope import refusal_text
from linq_source.errors import (
    ApiContractError,
    ApiUnavailableError,
    AuthenticationError,
)
from linq_source.instants import SECOND_US, parse_http_date, to_us
from linq_source.settings import Settings

MAX_PAUSE_S = 60.0
# Until the API has answered once, a wrong address is likelier than an outage.
FIRST_ANSWER_DEADLINE_S = 15.0

_BACKOFF = wait_exponential(multiplier=0.5, max=20) + wait_random(0, 0.5)

# A request that is asked once waits no longer than this for its turn.
_ONCE_DEADLINE_S = 60.0

_PASSING = (408, 425, 429)

T = TypeVar("T")


class _PassingError(Exception):
    """A failure that may pass when asked again, after the pause that the server asked for.

    One that `holds_all` waits in the throttle, with everybody else.
    """

    def __init__(self, reason: str, asked_s: float = 0.0, *, holds_all: bool = False) -> None:
        super().__init__(reason)
        self.asked_s = asked_s
        self.holds_all = holds_all


class Client:
    """Asks the API, from several threads at once. Close it when done."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._transport = Transport(settings)
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._answered = False
        self._throttle = Throttle(settings.workers, settings.max_requests_per_second)
        self.requests = 0
        self.retries = 0

    def release(self) -> None:
        """Close the connections that nobody uses; the client stays usable."""
        self._transport.release()

    def close(self) -> None:
        """Close all connections and end every wait; nothing is asked any more."""
        self._closed.set()
        self._throttle.close()
        self._transport.close()

    def _wait(self, seconds: float) -> None:
        self._closed.wait(seconds)

    def get(
        self,
        path: str,
        parameters: Mapping[str, str],
        check: Callable[[bytes], T],
        *,
        once: bool = False,
    ) -> tuple[str, T]:
        """GET a path below the base URL; `check` reads what it needs of the body.

        Return the answer's `Date` header ("" if there was none) and what `check` returned.
        A `ValueError` of `check` counts as a failed answer and is asked again. Raises
        `AuthenticationError`, `ApiContractError`, or `ApiUnavailableError` at the end of the
        request's deadline; after the first failure if it is to be asked but `once`.
        """
        target = path + _query(parameters)
        started_s = time.monotonic()
        deadline = Deadline(started_s + _ONCE_DEADLINE_S if once else math.inf)
        try:
            return self._get_once(path, target, check, deadline)
        except _PassingError as error:
            if once:
                raise self._no_better_answer(path, error, started_s) from error
            return self._get_again(path, target, check, error)

    def _get_again(
        self, path: str, target: str, check: Callable[[bytes], T], first: _PassingError
    ) -> tuple[str, T]:
        """Repeat a request whose first try failed with `first`, until the deadline."""
        deadline_s = self._settings.request_deadline_s
        if not self._answered:
            deadline_s = min(deadline_s, FIRST_ANSWER_DEADLINE_S)
        started_s = time.monotonic()
        deadline = Deadline(started_s + deadline_s)
        failures = [first]

        def attempt() -> tuple[str, T]:
            if failures:
                raise failures.pop()
            return self._get_once(path, target, check, deadline)

        def out_of_time(state: RetryCallState) -> bool:
            return (
                self._closed.is_set()
                or self._throttle.is_paused_beyond(deadline)
                or time.monotonic() + state.upcoming_sleep > deadline.until_s
            )

        retrying = Retrying(
            retry=retry_if_exception_type(_PassingError),
            wait=_pause_s,
            stop=out_of_time,
            before_sleep=self._count_retry,
            sleep=self._wait,
            reraise=True,
        )
        try:
            return retrying(attempt)
        except _PassingError as error:
            raise self._no_better_answer(path, error, started_s) from error

    def _no_better_answer(
        self, path: str, error: _PassingError, started_s: float
    ) -> ApiUnavailableError:
        return ApiUnavailableError(
            f"{self._settings.base_url}{path}: {error}, and no better answer within "
            f"{time.monotonic() - started_s:.0f} s; check base_url and the network, "
            "or run again later"
        )

    def _count_retry(self, _: RetryCallState) -> None:
        with self._lock:
            self.retries += 1

    def _get_once(
        self, path: str, target: str, check: Callable[[bytes], T], deadline: Deadline
    ) -> tuple[str, T]:
        answer = self._exchange(target, deadline)
        self._answered = True
        if answer.status != 200:
            raise self._refusal(answer, path)
        try:
            value = check(answer.body)
        except ValueError as error:
            raise _PassingError(str(error)) from error
        return answer.headers.get("Date", ""), value

    def _exchange(self, target: str, deadline: Deadline) -> RawAnswer:
        """Send one request when it is its turn, and tell the throttle how it went."""
        try:
            started_s = self._throttle.enter(deadline)
        except ThrottleTimeout as error:
            raise _PassingError("the server asks everybody to pause (429 or 503)") from error
        with self._lock:
            self.requests += 1
        try:
            answer = self._transport.get(target)
            if answer.status == 429:
                self._throttle.refused(started_s, _retry_after_s(answer.headers))
            elif answer.status == 503 and (asked_s := _retry_after_s(answer.headers)):
                self._throttle.pause(asked_s)
            elif answer.status < 500:
                self._throttle.succeeded(started_s)
            return answer
        except UntrustedError as error:
            raise ApiContractError(
                f"{self._settings.base_url}: {error}; check base_url (REQUESTS_CA_BUNDLE names "
                "certificates of your own)"
            ) from error
        except TransportError as error:
            raise _PassingError(str(error)) from error
        finally:
            self._throttle.leave()

    def _refusal(self, answer: RawAnswer, path: str) -> Exception:
        """Return what an answer other than 200 means, as an exception."""
        status, told = answer.status, refusal_text(answer.body)
        if status == 401:
            return AuthenticationError(
                f"the API refuses the token (401{told}): check SOURCES__LINQ__API_TOKEN or "
                "api_token under [sources.linq] in .dlt/secrets.toml, and that it is one of API "
                f"{self._settings.api}"
            )
        if status in _PASSING or status >= 500:
            asked_s = _retry_after_s(answer.headers)
            holds_all = status == 429 or (status == 503 and asked_s > 0)
            return _PassingError(f"HTTP {status}{told}", asked_s, holds_all=holds_all)
        where = f"{self._settings.base_url}{path}"
        if 300 <= status < 400:
            return ApiContractError(
                f"{where}: redirected (HTTP {status}); the token is sent to no other address: set "
                "base_url to the API's own",
                status=status,
            )
        check = "the token's rights and base_url" if status == 403 else "base_url"
        return ApiContractError(f"{where}: HTTP {status}{told}; check {check}", status=status)


def _query(parameters: Mapping[str, str]) -> str:
    """A query; values are numbers, instants and phone numbers, so few characters need care."""
    if not parameters:
        return ""
    return "?" + "&".join(f"{name}={quote(value, safe=':')}" for name, value in parameters.items())


def _pause_s(state: RetryCallState) -> float:
    """Exponential with jitter, or as asked; 0 where the throttle holds everybody."""
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, _PassingError):
        return _BACKOFF(state)
    return 0.0 if error.holds_all else max(_BACKOFF(state), error.asked_s)


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """`Retry-After` in seconds, from either of its forms (RFC 9110, 10.2.3), capped."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return 0.0
    if text.isdecimal():
        return min(float(text), MAX_PAUSE_S)
    try:
        now_us = parse_http_date(headers["Date"])
    except (KeyError, ValueError):
        now_us = to_us(datetime.now(UTC))
    try:
        pause_s = (parse_http_date(text) - now_us) / SECOND_US
    except ValueError:
        return 0.0
    return min(max(pause_s, 0.0), MAX_PAUSE_S)
