"""A fixed number of workers drives many readings at once.

A reading is a generator that yields `Ask` and outputs. Whichever worker brings the last page of
an `Ask` takes the reading further, so decoding runs in the workers too. A new reading starts only
when no started one waits for a page: few are under way at a time, and with them few windows of
pages in memory. Never more requests are in flight than there are workers.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from linq_source.errors import ChatUnavailableError, LinqError, PhoneNumberUnavailableError
from linq_source.planning.windows import Ask

Key = TypeVar("Key")

# What concerns one reading alone.
_CONFINED = (ChatUnavailableError, PhoneNumberUnavailableError)


@dataclass(frozen=True)
class Output(Generic[Key]):
    """Something a reading yielded on its way."""

    key: Key
    value: Any


@dataclass(frozen=True)
class Finished(Generic[Key]):
    """A reading ended; `value` is what it returned."""

    key: Key
    value: Any


@dataclass(frozen=True)
class Failed(Generic[Key]):
    """A reading ended with an error that concerns it alone.

    One that is no `LinqError` was raised by the reading itself, about the answers it got.
    """

    key: Key
    error: Exception


@dataclass
class _Reading(Generic[Key]):
    key: Key
    generator: Generator[Any, Any, Any]
    answers: list[Any] = field(default_factory=list)
    waiting: int = 0
    error: Exception | None = None


_Item = Output[Key] | Finished[Key] | Failed[Key]


class WorkerGovernor:
    """How many workers are worth having: as many as keep a processor busy while others wait.

    A request that waits a hundred times longer than it computes is worth many workers. One that
    mostly computes is worth two: more would only take turns at the interpreter's lock.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._wait_s = 0.0
        self._cpu_s = 0.0
        self.workers = min(2, most)

    def note(self, wall_s: float, cpu_s: float) -> bool:
        """Take in one request; the shortest of late tells the wait that is not contention.

        Return whether more workers are worth having than before.
        """
        before = self.workers
        self._wait_s = min(wall_s, self._wait_s * 1.05) if self._wait_s else wall_s
        self._cpu_s += 0.1 * (cpu_s - self._cpu_s) if self._cpu_s else cpu_s
        worth = math.ceil(self._wait_s / max(self._cpu_s, 1e-6))
        self.workers = min(max(2, worth), self._most)
        return self.workers > before


class Pool(Generic[Key]):
    """Runs readings over `workers` threads and gives what they yield, in order per reading.

    `fetch` answers one request. `reply` answers an output (for a chat: whether to go on).
    `on_stop` is called when the readings end early, to end waits inside `fetch`.
    """

    def __init__(
        self,
        readings: Iterable[tuple[Key, Generator[Any, Any, Any]]],
        fetch: Callable[[Any], Any],
        reply: Callable[[Any], Any],
        workers: int,
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._readings = iter(readings)
        self._fetch = fetch
        self._reply = reply
        self._workers = workers
        self._on_stop = on_stop
        lock = threading.RLock()
        self._condition = threading.Condition(lock)
        # Workers that are not worth having now wait apart, where no page wakes them.
        self._spare = threading.Condition(lock)
        self._requests: deque[tuple[_Reading[Key], int, Any]] = deque()
        self._active = 0
        self._governor = WorkerGovernor(workers)
        self._stopped = False
        self._fatal: BaseException | None = None
        self._items: queue.Queue[_Item[Key] | None] = queue.Queue(maxsize=2 * workers)

    def run(self) -> Iterator[_Item[Key]]:
        """Everything the readings yield and how they end.

        Raises the first error that concerns more than one reading, after all workers stopped;
        what was yielded until then is whole.
        """
        threads = [
            threading.Thread(
                target=self._work, args=(number,), name=f"linq-reader-{number}", daemon=True
            )
            for number in range(self._workers)
        ]
        for thread in threads:
            thread.start()
        running = len(threads)
        try:
            while running:
                item = self._items.get()
                if item is None:
                    running -= 1
                else:
                    yield item
        finally:
            self._stop(None)
            if running:
                self._on_stop()
            while running:
                running -= self._items.get() is None
            for thread in threads:
                thread.join()
        if self._fatal is not None:
            raise self._fatal

    def _stop(self, error: BaseException | None) -> None:
        with self._condition:
            self._stopped = True
            self._fatal = self._fatal or error
            self._wake_all()

    def _wake_all(self) -> None:
        self._condition.notify_all()
        self._spare.notify_all()

    def _work(self, number: int) -> None:
        try:
            while (job := self._next_job(number)) is not None:
                reading, index, request = job
                if request is None:
                    self._advance(reading, None)
                else:
                    self._answer(reading, index, request)
        except BaseException as error:
            self._stop(error)
            self._on_stop()
        finally:
            self._items.put(None)

    def _next_job(self, number: int) -> tuple[_Reading[Key], int, Any] | None:
        with self._condition:
            while not self._stopped:
                is_spare = number >= self._governor.workers
                if not is_spare:
                    job = self._find_job()
                    if job is not None:
                        return job
                if self._active == 0 and not is_spare:
                    # No reading is left or under way.
                    self._stopped = True
                    self._wake_all()
                    return None
                (self._spare if is_spare else self._condition).wait()
            return None

    def _find_job(self) -> tuple[_Reading[Key], int, Any] | None:
        if self._requests:
            return self._requests.popleft()
        started = next(self._readings, None)
        if started is None:
            return None
        self._active += 1
        return _Reading(*started), 0, None

    def _timed_fetch(self, request: Any) -> Any:
        started_s, started_cpu_s = time.monotonic(), time.thread_time()
        answer = self._fetch(request)
        if self._governor.note(time.monotonic() - started_s, time.thread_time() - started_cpu_s):
            with self._condition:
                self._spare.notify_all()
        return answer

    def _answer(self, reading: _Reading[Key], index: int, request: Any) -> None:
        """Fetch one of several requests; the last one to come back takes the reading further."""
        try:
            reading.answers[index] = self._timed_fetch(request)
        except _CONFINED as error:
            reading.error = error
        with self._condition:
            reading.waiting -= 1
            if reading.waiting:
                return
        if reading.error is not None:
            self._end(reading, None, reading.error)
        else:
            self._advance(reading, reading.answers)

    def _advance(self, reading: _Reading[Key], value: Any) -> None:
        """Send a value to a reading and go on until it waits for several pages, or ends."""
        while not self._stopped:
            try:
                event = reading.generator.send(value)
            except StopIteration as end:
                self._end(reading, end.value, None)
                return
            except LinqError:
                raise
            except Exception as error:
                # Answers that nobody foresaw must not keep all others from being read.
                self._end(reading, None, error)
                return
            if not isinstance(event, Ask):
                self._items.put(Output(reading.key, event))
                value = self._reply(event)
                continue
            if len(event.requests) == 1:
                try:
                    value = [self._timed_fetch(event.requests[0])]
                except _CONFINED as error:
                    self._end(reading, None, error)
                    return
                continue
            with self._condition:
                reading.waiting = len(event.requests)
                reading.answers = [None] * len(event.requests)
                self._requests.extend(
                    (reading, index, request) for index, request in enumerate(event.requests)
                )
                self._condition.notify_all()
            return

    def _end(self, reading: _Reading[Key], value: Any, error: Exception | None) -> None:
        reading.generator.close()
        if error is not None:
            self._items.put(Failed(reading.key, error))
        else:
            self._items.put(Finished(reading.key, value))
        with self._condition:
            self._active -= 1
            self._condition.notify_all()
