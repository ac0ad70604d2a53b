"""What a test sees of a request, and the misbehaviour it may ask for in return."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Literal

Route = Literal[
    "phone_numbers",
    "chats",
    "chat",
    "chat_messages",
    "message",
    "attachment",
    "contacts",
    "grow",
    "file",
    "unknown",
]
Action = Literal["answer", "reset", "close", "truncate", "stall", "redirect", "no_date"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request, as hooks and faults see it.

    `headers` has lower-case names; a parameter given twice has its last value. `count` is 1 for
    the first request since the sandbox was made. `chat_id` is set on routes of one chat.
    """

    method: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)  # it holds the token
    count: int
    route: Route
    chat_id: int | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """An answer to give instead of the right one.

    `action` is one of:

    - `answer`: `status`, `headers` and `body`; no body means the error envelope of that status.
      Headers replace the usual ones of the same name.
    - `redirect`: to `location`, with `status` when that is a 3xx and 302 otherwise.
    - `reset`: the connection is reset (RST) without an answer.
    - `close`: the connection is closed without an answer.
    - `truncate`: the right answer, of which half of the announced body is sent before the close.
    - `stall`: nothing for `seconds`, then the right answer; cut short when the sandbox stops.
    - `no_date`: the right answer without its `Date` header.
    """

    action: Action = "answer"
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    location: str = ""
    seconds: float = 30.0


@dataclass(slots=True)
class RequestRecord:
    """One line of the request log.

    `status` is 0 as long as there is no answer, and stays so for `reset` and `close`.
    `started_s` and `finished_s` are `time.monotonic()`; an answer is finished just before it is
    sent, so whoever has received it finds it in the log.
    """

    method: str
    path: str
    params: Mapping[str, str]
    route: Route
    count: int
    status: int
    started_s: float
    finished_s: float | None = None


class TokenBucket:
    """A rate limiter which lets bursts of one second's worth through."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._tokens = math.inf
        self._checked_s = time.monotonic()

    def take(self, rate_per_s: float) -> float:
        """Takes a token; returns 0 on success, else the seconds until there is one."""
        with self._lock:
            now_s = time.monotonic()
            refilled = self._tokens + (now_s - self._checked_s) * rate_per_s
            self._tokens = min(refilled, max(1.0, rate_per_s))
            self._checked_s = now_s
            if self._tokens < 1.0:
                return (1.0 - self._tokens) / rate_per_s
            self._tokens -= 1.0
            return 0.0
