"""The workers' common brake: threads wait here for their turn, as `pacing` decides."""

from __future__ import annotations

import math
import threading
import time
from random import Random

from linq_source.reading.pacing import Pacing


class Throttle:
    """Lets requests start when the pacing allows. Close it to end every wait."""

    def __init__(self, workers: int, max_per_s: float | None) -> None:
        self._pacing = Pacing(workers, max_per_s, Random().random)  # noqa: S311 - jitter
        self._condition = threading.Condition()
        self._is_closed = False

    def close(self) -> None:
        """End every wait; nothing starts any more."""
        with self._condition:
            self._is_closed = True
            self._condition.notify_all()

    def enter(self) -> float | None:
        """Wait for one's turn; gives the instant of the start, none once closed."""
        with self._condition:
            while not self._is_closed:
                now_s = time.monotonic()
                wait_s = self._pacing.wait_s(now_s)
                if wait_s <= 0:
                    self._pacing.start(now_s)
                    return now_s
                self._condition.wait(None if wait_s == math.inf else wait_s)
        return None

    def leave(self) -> None:
        """A request that entered ended."""
        with self._condition:
            self._pacing.end()
            self._condition.notify_all()

    def succeeded(self, started_s: float) -> None:
        """It was answered."""
        with self._condition:
            self._pacing.succeeded(started_s, time.monotonic())

    def refused(self, started_s: float, asked_s: float) -> None:
        """It was refused for its rate (429); the server asks for a pause, 0 for none."""
        with self._condition:
            self._pacing.refused(started_s, time.monotonic(), asked_s)

    def pause(self, asked_s: float) -> None:
        """The server asks everybody for a pause."""
        with self._condition:
            self._pacing.pause(time.monotonic(), asked_s)

    @property
    def pause_left_s(self) -> float:
        """Seconds until anything may start."""
        with self._condition:
            return max(0.0, self._pacing.paused_until_s - time.monotonic())
