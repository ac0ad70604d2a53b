"""The workers' common brake: threads wait here for their turn, as `pacing` decides."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from dataclasses import dataclass
from random import Random

from linq_source.api.pacing import Pacing


class ThrottleTimeout(Exception):
    """Nothing may start any more, or not before the deadline."""


@dataclass
class Deadline:
    """Until when a request is tried. Waiting for one's turn costs none, a pause does."""

    until_s: float = math.inf


class Throttle:
    """Lets requests start, in the order of their coming, when the pacing allows."""

    def __init__(self, workers: int, max_per_s: float | None) -> None:
        self._pacing = Pacing(workers, max_per_s, Random().random)  # noqa: S311 - jitter
        self._lock = threading.Lock()
        # One condition each: only the first in the queue watches the time.
        self._queue: deque[threading.Condition] = deque()
        self._is_closed = False

    def close(self) -> None:
        """End every wait; nothing starts any more."""
        with self._lock:
            self._is_closed = True
            self._wake_all()

    def enter(self, deadline: Deadline) -> float:
        """Wait for one's turn. Return the instant of the start. Raises `ThrottleTimeout`."""
        with self._lock:
            now_s = time.monotonic()
            if self._is_closed or self._queue or self._pacing.wait_s(now_s) > 0:
                now_s = self._wait(deadline, now_s)
            self._pacing.start(now_s)
            return now_s

    def _wait(self, deadline: Deadline, now_s: float) -> float:
        turn = threading.Condition(self._lock)
        self._queue.append(turn)
        try:
            while True:
                paused_until_s = self._pacing.paused_until_s
                if self._is_closed or paused_until_s > deadline.until_s:
                    raise ThrottleTimeout
                wait_s = self._pacing.wait_s(now_s) if self._queue[0] is turn else math.inf
                if wait_s <= 0:
                    return now_s
                turn.wait(None if wait_s == math.inf else wait_s)
                waited_from_s, now_s = now_s, time.monotonic()
                deadline.until_s += max(0.0, now_s - max(waited_from_s, paused_until_s))
        finally:
            self._queue.remove(turn)
            self._wake_first()

    def leave(self) -> None:
        """Note that a request that entered ended."""
        with self._lock:
            self._pacing.end()
            self._wake_first()

    def succeeded(self, started_s: float) -> None:
        """Note that it was answered."""
        with self._lock:
            self._pacing.succeeded(started_s, time.monotonic())

    def refused(self, started_s: float, asked_s: float) -> None:
        """Note that it was refused for its rate (429); `asked_s` is 0 for no pause."""
        with self._lock:
            self._pacing.refused(started_s, time.monotonic(), asked_s)
            self._wake_all()

    def pause(self, asked_s: float) -> None:
        """Hold everybody, as the server asks."""
        with self._lock:
            self._pacing.pause(time.monotonic(), asked_s)
            self._wake_all()

    def is_paused_beyond(self, deadline: Deadline) -> bool:
        """Return whether nothing starts before the deadline."""
        with self._lock:
            return self._pacing.paused_until_s > deadline.until_s

    def _wake_first(self) -> None:
        if self._queue:
            self._queue[0].notify()

    def _wake_all(self) -> None:
        for turn in self._queue:
            turn.notify()
