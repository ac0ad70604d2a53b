"""Fetching one file: chunks over HTTP, from a host that is told nothing about us.

The storage host is a stranger. It gets the link, a user agent and nothing else: no token, no
cookies, nothing of `~/.netrc`. Where it sends us is judged by `links`, name and address.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import urllib3
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)
from urllib3.exceptions import HTTPError, LocationParseError, SSLError

from linq_source.api.connections import ClosedError, Connections
from linq_source.destinations.failures import find_cause
from linq_source.media.links import (
    MAX_REDIRECTS,
    LinkRules,
    RefusedLink,
    check_address,
    checked,
    host_of,
    redirected,
)

MAX_ATTEMPTS = 4
MAX_PAUSE_S = 30.0
# A host of which so many files in a row could not be had is asked for no more in this run.
MAX_FAILED_FILES = 5
CHUNK_BYTES = 262_144
# A host may send slower than this for a minute; after that the file is given up for this time.
_MIN_BYTES_PER_S = 16_384
_GRACE_S = 60.0

_BACKOFF = wait_exponential(multiplier=0.5, max=8) + wait_random(0, 0.5)
_EXPIRED = (401, 403, 404, 410)
_PASSING = (408, 425, 429, 500, 502, 503, 504)
# S3 says `aws-chunked` of files that are not encoded.
_NO_ENCODING = ("", "identity", "aws-chunked")
_REDIRECTS = (301, 302, 303, 307, 308)


class FetchError(Exception):
    """Why a file was not fetched; `status` is the outcome to record, `http_status` if any."""

    def __init__(
        self,
        reason: str,
        *,
        status: str = "failed",
        http_status: int | None = None,
        size_bytes: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.http_status = http_status
        self.size_bytes = size_bytes


class _PassingError(FetchError):
    """A failure that asking again may mend, after the pause the host asks for."""

    asked_s = 0.0


class GivenUp(Exception):
    """The file's host failed too often in this run to be asked again."""


class Stopped(Exception):
    """The run ends; what was begun is given up."""


@dataclass(frozen=True)
class Limits:
    """How much and how long: bytes of one file, seconds to wait for a part of an answer."""

    max_file_bytes: int
    timeout_s: float


@dataclass(frozen=True)
class Fetched:
    """What the host said about a file that was received whole."""

    size_bytes: int
    content_type: str | None
    http_status: int


class Fetcher:
    """Fetches files; used by all workers at once."""

    def __init__(self, rules: LinkRules, limits: Limits, workers: int) -> None:
        self._rules = rules
        self._limits = limits
        self._stop = threading.Event()
        self._connections = Connections(
            workers,
            urllib3.Timeout(connect=min(limits.timeout_s, 15.0), read=limits.timeout_s),
            judge=lambda address: check_address(address, rules),
        )
        self._lock = threading.Lock()
        self._failed_in_a_row: Counter[str] = Counter()
        # Why hosts are asked for no more, by name.
        self.given_up: dict[str, str] = {}
        self._headers = {
            "User-Agent": f"linq-source/{version('linq-source')}",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
        }

    def abort(self) -> None:
        """End the answers that are being read: the run stops."""
        self._stop.set()
        self._connections.close()

    def close(self) -> None:
        """Close all connections."""
        self._connections.close()

    def fetch(
        self,
        link: str,
        file_size: int | None,
        start: Callable[[], Callable[[bytes], None]],
        asked: Callable[[], None],
    ) -> Fetched:
        """Send the file's chunks to what `start` gives, anew for every attempt.

        `asked` is called before every attempt. Raises `FetchError` with the outcome to record,
        `GivenUp` where the host is asked for no more, `Stopped` when the run ends.
        """
        host = host_of(link)

        def once() -> Fetched:
            if self._stop.is_set():
                raise Stopped
            if host in self.given_up:
                raise GivenUp
            asked()
            return self._once(link, file_size, start)

        retrying = Retrying(
            retry=retry_if_exception_type(_PassingError),
            stop=stop_after_attempt(MAX_ATTEMPTS),
            wait=_pause_s,
            sleep=self._sleep,
            reraise=True,
        )
        reason: str | None = None
        try:
            return retrying(once)
        except _PassingError as error:
            reason = str(error)
            raise
        finally:
            self._judge_host(host, reason)

    def _judge_host(self, host: str, reason: str | None) -> None:
        with self._lock:
            if reason is None:
                self._failed_in_a_row[host] = 0
                return
            self._failed_in_a_row[host] += 1
            if self._failed_in_a_row[host] >= MAX_FAILED_FILES:
                self.given_up.setdefault(host, reason)

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Stopped

    def _once(
        self, link: str, file_size: int | None, start: Callable[[], Callable[[bytes], None]]
    ) -> Fetched:
        try:
            with self._opened(link) as response:
                size = self._checked_size(response, file_size)
                received = self._receive(response, start(), file_size)
                if size is not None and received != size:
                    raise _PassingError(f"the answer ended after {received} of {size} bytes")
                if file_size is not None and received != file_size:
                    raise _wrong_size(received, file_size, response.status)
                return Fetched(received, _content_type(response), response.status)
        except ClosedError:
            raise Stopped from None
        except RefusedLink as error:
            raise FetchError(str(error), status="refused") from None
        except (LocationParseError, UnicodeError):
            raise FetchError("not a link", status="refused") from None
        except SSLError:
            raise FetchError("the host's certificate is not trusted") from None
        except (HTTPError, OSError) as error:
            refused = find_cause(error, RefusedLink)
            if refused is not None:
                raise FetchError(str(refused), status="refused") from None
            # Their texts quote addresses.
            raise _PassingError(f"the connection failed ({type(error).__name__})") from None

    @contextmanager
    def _opened(self, link: str) -> Iterator[Any]:
        """The answer that a link leads to in the end."""
        target = checked(link, self._rules)
        for _ in range(MAX_REDIRECTS + 1):
            with self._connections.get(target, self._headers) as response:
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or location is None:
                    _check_status(response)
                    yield response
                    return
            target = redirected(target, location, self._rules)
        raise FetchError(f"more than {MAX_REDIRECTS} redirects")

    def _checked_size(self, response: Any, file_size: int | None) -> int | None:
        """The size that the answer announces; none if it does not."""
        text = response.headers.get("Content-Length", "")
        size = int(text) if text.isascii() and text.isdigit() else None
        if size is not None and size > self._limits.max_file_bytes:
            raise _too_large(size, self._limits, response.status)
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if encoding not in _NO_ENCODING and file_size is None:
            # Nothing would tell that what is stored is not the file.
            raise FetchError("the host sends the file encoded", http_status=response.status)
        if size is not None and file_size is not None and size != file_size:
            raise _wrong_size(size, file_size, response.status)
        return size

    def _receive(self, response: Any, write: Callable[[bytes], None], file_size: int | None) -> int:
        received = 0
        begun_s = time.monotonic()
        while chunk := response.read1(CHUNK_BYTES, decode_content=False):
            if self._stop.is_set():
                raise Stopped
            received += len(chunk)
            if received > self._limits.max_file_bytes:
                raise _too_large(None, self._limits, response.status)
            if file_size is not None and received > file_size:
                raise _wrong_size(received, file_size, response.status)
            allowed_s = _GRACE_S + received / _MIN_BYTES_PER_S
            if time.monotonic() - begun_s > allowed_s:
                raise _PassingError("the host sends too slowly")
            write(chunk)
        return received


def _check_status(response: Any) -> None:
    status = response.status
    if status == 200:
        return
    if status in _EXPIRED:
        raise FetchError(f"HTTP {status}", status="expired", http_status=status)
    if status in _PASSING:
        error = _PassingError(f"HTTP {status}", http_status=status)
        asked = response.headers.get("Retry-After", "")
        if asked.isascii() and asked.isdigit():
            error.asked_s = min(float(asked), MAX_PAUSE_S)
        raise error
    raise FetchError(f"HTTP {status}", http_status=status)


def _wrong_size(size: int, file_size: int, http_status: int) -> FetchError:
    return FetchError(
        f"{size} bytes instead of file_size {file_size}" if size <= file_size
        else f"more bytes than file_size {file_size}",
        status="wrong_size", http_status=http_status, size_bytes=size,
    )  # fmt: skip


def _too_large(size: int | None, limits: Limits, http_status: int) -> FetchError:
    return FetchError(
        f"larger than max_file_bytes {limits.max_file_bytes}",
        status="skipped", http_status=http_status, size_bytes=size,
    )  # fmt: skip


def _content_type(response: Any) -> str | None:
    text = "".join(c for c in response.headers.get("Content-Type", "") if " " <= c <= "~")
    return text[:200] or None


def _pause_s(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    return max(_BACKOFF(state), getattr(error, "asked_s", 0.0))
