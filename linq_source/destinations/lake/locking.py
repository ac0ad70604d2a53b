"""One settler at a time: two that rewrite the same partition would undo each other's work.

A lock is a file that only one can create. Its owner renews it; one that is not renewed any more
(its owner was killed) is taken over after the lease, at once where the owner was a process of
this machine that is no more.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from linq_source.destinations.bucket import Bucket
from linq_source.destinations.lake.layout import LOCK
from linq_source.errors import DestinationError

LEASE_S = 120.0
_RENEW_S = 30.0
_POLL_S = 1.0
_SETTLE_S = 0.5


class Lock:
    """The lock while it is held."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._own = {
            "owner": secrets.token_hex(8), "host": socket.gethostname(), "place": _place(),
        }  # fmt: skip
        self._lost = threading.Event()

    def check(self) -> None:
        """To be called before anything is replaced.

        Raises `DestinationError` where the lock was taken over: this process slept too long.
        """
        if self._lost.is_set():
            raise DestinationError(
                f"{self._bucket.root}/{LOCK}: another process took over; nothing of it was "
                "touched: run again"
            )

    def acquire(self, patience_s: float) -> None:
        """Wait for the lock and take it."""
        give_up_s = time.monotonic() + patience_s
        # By our own clock, from when it was first seen so: the holder's clock may be another.
        seen: tuple[Any, float] | None = None
        took_over = False
        while True:
            if self._bucket.create_json(LOCK, self._stamped()):
                if took_over:
                    # Another may have removed what it took for the old lock: look again.
                    time.sleep(_SETTLE_S)
                if not took_over or self._is_ours():
                    return
            holder = self._holder()
            now_s = time.monotonic()
            if holder is not None:
                if seen is None or seen[0] != holder:
                    seen = (holder, now_s)
                if _is_dead(holder) or now_s - seen[1] > LEASE_S:
                    self._bucket.remove(LOCK)
                    took_over = True
                    continue
                if now_s > give_up_s:
                    raise DestinationError(
                        f"{self._bucket.root}/{LOCK}: process {holder.get('pid')} on "
                        f"{holder.get('host')} is settling this lake: run again when it has ended"
                    )
                time.sleep(_POLL_S)

    def renew(self, stop: threading.Event) -> None:
        """Renew until told to stop."""
        while not stop.wait(_RENEW_S):
            with suppress(DestinationError):
                if not self._is_ours():
                    self._lost.set()
                    return
                self._bucket.write_json(LOCK, self._stamped())

    def release(self) -> None:
        """Give it back."""
        with suppress(DestinationError):
            if self._is_ours():
                self._bucket.remove(LOCK)

    def _is_ours(self) -> bool:
        holder = self._holder()
        return holder is not None and holder.get("owner") == self._own["owner"]

    def _holder(self) -> dict[str, Any] | None:
        """Who has the lock; none if nobody has. Nothing is known of one who is just taking it."""
        try:
            holder = self._bucket.read_json(LOCK)
        except ValueError:
            return {}
        return holder if holder is None or isinstance(holder, dict) else {}

    def _stamped(self) -> dict[str, Any]:
        return self._own | {"pid": os.getpid(), "renewed_at": time.time()}


@contextmanager
def locked(bucket: Bucket, *, patience_s: float = 2 * LEASE_S) -> Iterator[Lock]:
    """Hold the lake's lock.

    Raises `DestinationError` where another holds it for longer than `patience_s`.
    """
    lock = Lock(bucket)
    lock.acquire(patience_s)
    stop = threading.Event()
    renewer = threading.Thread(target=lock.renew, args=(stop,), daemon=True)
    renewer.start()
    try:
        yield lock
    finally:
        stop.set()
        renewer.join()
        lock.release()


def _place() -> str:
    """Where a process number means the same process: one boot of one machine, one container."""
    found = [socket.gethostname(), f"{uuid.getnode():x}"]
    with suppress(OSError):
        found.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        found.append(str(os.stat("/proc/self/ns/pid").st_ino))
    return "/".join(found)


def _is_dead(holder: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that has ended."""
    if holder.get("place") != _place() or not isinstance(holder.get("pid"), int):
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
