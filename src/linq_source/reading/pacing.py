"""How fast to ask a server that refuses what is too fast (HTTP 429): a policy over values.

No clock, no threads: instants come in as seconds of any steady clock. Three things limit requests
together, all shared by every worker:

- a refusal **pauses** everybody, as long as the server asks (`Retry-After`), or by an exponential
  backoff with jitter where it asks for nothing;
- the number **in flight** is halved by a refusal and grows by one a round of answers (additive
  increase, multiplicative decrease: Chiu and Jain, 1989);
- a **pace** is learned from the first refusal on: what the server granted lately, pauses
  included, tells the rate it allows. The pace starts a little below that rate, reaches it after
  some seconds and then probes beyond it, ever faster while nothing is refused, so that a server
  that grows more generous is followed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

# How far below the learned rate the pace starts, and how long it takes to reach it: the first
# time, when the rate is known least, sooner than later.
_BELOW = 0.05
_FIRST_PROBE_S = 10.0
_PROBE_S = 20.0
# After that the pace doubles every so often.
_DOUBLING_S = 3.0
# What sleeping too long may lose is caught up within this.
_CATCH_UP_S = 0.1
_FIRST_IN_FLIGHT = 4
_BACKOFF_S = 1.0
_MAX_BACKOFF_S = 20.0
# Successes are counted in slots this long; so many slots are remembered.
_SLOT_S = 0.25
_SLOTS = 256


class Pacing:
    """When the next request may start, and how many may be under way.

    `max_per_s` is a ceiling from the first request on. `random` gives numbers from 0 to 1.
    """

    def __init__(self, workers: int, max_per_s: float | None, random: Callable[[], float]) -> None:
        self._workers = workers
        self._ceiling_per_s = max_per_s or math.inf
        self._random = random
        self._limit = float(min(workers, _FIRST_IN_FLIGHT))
        self._in_flight = 0
        self._next_s = -math.inf
        self._paused_until_s = -math.inf
        self._rate_per_s: float | None = None
        self._lessons = 0
        self._refusals_in_a_row = 0
        # One request looks whether the server answers again, before the others follow.
        self._is_probing = False
        self._granted: deque[list[float]] = deque(maxlen=_SLOTS)

    @property
    def limit(self) -> int:
        """How many requests may be under way."""
        return int(self._limit)

    @property
    def paused_until_s(self) -> float:
        """The instant before which nothing starts."""
        return self._paused_until_s

    def wait_s(self, now_s: float) -> float:
        """Seconds until a request may start: 0 now, infinite until another one ends."""
        if self._in_flight >= self.limit:
            return math.inf
        return max(0.0, self._paused_until_s - now_s, self._next_s - now_s)

    def pace_per_s(self, now_s: float) -> float:
        """Requests a second that are thought to be allowed; infinite while nothing tells."""
        if self._rate_per_s is None:
            return self._ceiling_per_s
        probe_s = _FIRST_PROBE_S if self._lessons == 1 else _PROBE_S
        since_s = now_s - self._paused_until_s
        if since_s < probe_s:
            factor = 1 - _BELOW * (1 - max(0.0, since_s) / probe_s)
        else:
            factor = 2 ** min(60.0, (since_s - probe_s) / _DOUBLING_S)
        return min(self._ceiling_per_s, self._rate_per_s * factor)

    def start(self, now_s: float) -> None:
        """A request starts."""
        self._in_flight += 1
        if self._is_probing:
            self._next_s = now_s + _BACKOFF_S
            return
        pace = self.pace_per_s(now_s)
        if pace < math.inf:
            self._next_s = max(self._next_s, now_s - _CATCH_UP_S) + 1 / pace

    def end(self) -> None:
        """A request ended, however."""
        self._in_flight -= 1

    def succeeded(self, started_s: float, now_s: float) -> None:
        """A request that started then was answered."""
        if started_s < self._paused_until_s:
            return
        self._refusals_in_a_row = 0
        if self._is_probing:
            self._is_probing = False
            self._next_s = max(now_s, started_s + 1 / self.pace_per_s(now_s))
        if self._granted and now_s - self._granted[-1][0] < _SLOT_S:
            self._granted[-1][1] += 1
        else:
            self._granted.append([now_s, 1])
        # The start is quicker: nothing has been refused yet.
        step = 1 / self.limit if self._lessons else 0.5
        self._limit = min(float(self._workers), self._limit + step)

    def pause(self, now_s: float, asked_s: float) -> None:
        """The server asks everybody to wait, for another reason than the rate."""
        self._paused_until_s = max(self._paused_until_s, now_s + asked_s)

    def refused(self, started_s: float, now_s: float, asked_s: float) -> None:
        """A request that started then was refused; the server asks for a pause, 0 for none.

        Those already under way when a pause began belong to the refusal that began it.
        """
        if started_s < self._paused_until_s:
            if asked_s:
                self.pause(now_s, asked_s)
            return
        backoff_s = min(_BACKOFF_S * 2**self._refusals_in_a_row, _MAX_BACKOFF_S)
        pause_s = asked_s or backoff_s * (1 + 0.25 * self._random())
        self._refusals_in_a_row = min(self._refusals_in_a_row + 1, 10)
        self._limit = float(max(1, self.limit // 2))
        rate = self._learn(now_s, pause_s, asked_s or _BACKOFF_S)
        if rate:
            self._rate_per_s = rate
            self._lessons += 1
        self._granted.clear()
        self._paused_until_s = now_s + pause_s
        self._is_probing = not asked_s or self._rate_per_s is None
        if not self._is_probing:
            self._next_s = self._paused_until_s

    def _learn(self, now_s: float, pause_s: float, window_s: float) -> float:
        """The rate that the successes since the last pause show; 0 for none.

        Limits count over some window: over one of `window_s` before the first refusal; later over
        any stretch of a second or more, this pause included, so that a limit per ten seconds is
        not taken for one per second.
        """
        if not self._granted:
            return 0.0
        window_s = max(1.0, window_s)
        if not self._lessons:
            return sum(n for at_s, n in self._granted if now_s - at_s < window_s) / window_s
        count = lowest = recent = 0.0
        is_recent = True
        for at_s, n in reversed(self._granted):
            count += n
            since_s = now_s - at_s
            lowest = max(lowest, count / (since_s + pause_s))
            if is_recent:
                recent = max(recent, count / max(since_s, 1.0))
                is_recent = since_s < 1.0
        return min(recent, max(1.05 * lowest, 0.8 * recent))
