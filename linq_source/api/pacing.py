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

# How far below the learned rate the pace starts, and how long it takes to reach it.
_BELOW = 0.05
_HOLD_S = 15.0
# After that the pace doubles every so often.
_DOUBLING_S = 2.0
# What sleeping too long may lose is caught up within this.
_CATCH_UP_S = 0.05
# The number in flight grows by half a round of answers until the first refusal, then by one. A
# round is at least this long: what a server bears for milliseconds says little.
_FIRST_IN_FLIGHT = 4
_ROUND_S = 0.05
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
        self._limit = min(workers, _FIRST_IN_FLIGHT)
        self._round_started_s = -math.inf
        self._round_successes = 0
        self._in_flight = 0
        self._next_s = -math.inf
        self._paused_until_s = -math.inf
        self._rate_per_s: float | None = None
        self._has_refused = False
        self._refusals_in_a_row = 0
        # One request looks whether the server answers again, before the others follow.
        self._is_probing = False
        self._granted: deque[list[float]] = deque(maxlen=_SLOTS)

    @property
    def limit(self) -> int:
        """How many requests may be under way."""
        return self._limit

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
        since_s = now_s - self._paused_until_s
        if since_s < _HOLD_S:
            factor = 1 - _BELOW * (1 - max(0.0, since_s) / _HOLD_S)
        else:
            factor = 2 ** min(60.0, (since_s - _HOLD_S) / _DOUBLING_S)
        return min(self._ceiling_per_s, self._rate_per_s * factor)

    def start(self, now_s: float) -> None:
        """Note that a request starts."""
        self._in_flight += 1
        if self._is_probing:
            self._next_s = now_s + max(_BACKOFF_S, 1 / self.pace_per_s(now_s))
            return
        pace = self.pace_per_s(now_s)
        if pace < math.inf:
            self._next_s = max(self._next_s, now_s - _CATCH_UP_S) + 1 / pace

    def end(self) -> None:
        """Note that a request ended, however."""
        self._in_flight -= 1

    def succeeded(self, started_s: float, now_s: float) -> None:
        """Note that a request that started then was answered."""
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
        self._round_successes += 1
        if self._round_successes >= self._limit and now_s - self._round_started_s >= _ROUND_S:
            grown = self._limit + 1 if self._has_refused else math.ceil(1.5 * self._limit)
            self._limit = min(grown, self._workers)
            self._begin_round(now_s)

    def pause(self, now_s: float, asked_s: float) -> None:
        """Hold everybody, as the server asks for another reason than the rate."""
        self._hold(now_s + asked_s, probe=True)

    def refused(self, started_s: float, now_s: float, asked_s: float) -> None:
        """Note that a request that started then was refused; `asked_s` is 0 for no pause.

        Those already under way when a pause began belong to the refusal that began it.
        """
        if started_s < self._paused_until_s:
            self._hold(now_s + asked_s, probe=self._is_probing)
            return
        backoff_s = min(_BACKOFF_S * 2**self._refusals_in_a_row, _MAX_BACKOFF_S)
        pause_s = asked_s or backoff_s * (1 + 0.25 * self._random())
        self._refusals_in_a_row = min(self._refusals_in_a_row + 1, 10)
        self._has_refused = True
        self._limit = max(1, self._limit // 2)
        self._begin_round(now_s + pause_s)
        self._rate_per_s = self._learn(now_s, pause_s, asked_s) or self._rate_per_s
        self._granted.clear()
        # After a pause that the server asked for, a paced request is as good as a probe.
        self._hold(now_s + pause_s, probe=not asked_s or self._rate_per_s is None)

    def _begin_round(self, now_s: float) -> None:
        self._round_started_s = now_s
        self._round_successes = 0

    def _hold(self, until_s: float, *, probe: bool) -> None:
        """Nothing starts before `until_s`."""
        if until_s > self._paused_until_s:
            self._paused_until_s = until_s
            self._next_s = max(self._next_s, until_s)
            self._is_probing = probe

    def _learn(self, now_s: float, pause_s: float, asked_s: float) -> float:
        """Return the rate that the successes since the last pause show; 0 where they show nothing.

        Nobody knows how the server counts. In a window, fixed or sliding, it grants its rate times
        the window: what it granted lately, in a second or in the pause it asks for, is the rate. A
        token bucket grants more until it is empty, and refills while we pause: there the rate is
        what was granted, by the time from pause to pause. The first refusal is read the first way.
        So are later ones, as far as the second way allows: a rate too high is found out at once
        and lowered, one too low stays until the pace grows again.
        """
        window_s = 1.0 if self._rate_per_s is not None else max(1.0, asked_s)
        count = sustained = recent = 0.0
        is_recent = True
        for at_s, n in reversed(self._granted):
            count += n
            since_s = now_s - at_s
            sustained = max(sustained, count / (since_s + pause_s))
            if is_recent:
                recent = max(recent, count / max(since_s, window_s))
                is_recent = since_s < window_s
        if self._rate_per_s is None:
            return recent
        return min(recent, max(1.1 * sustained, 0.9 * recent))
