"""A real Chromium without a window, driven over its DevTools protocol.

It takes commands through two pipes: a JSON object and a NUL at a time
(https://chromedevtools.github.io/devtools-protocol/).
"""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE_S = 60.0
PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
MISSING = "no chromium was found: apt-get install chromium"
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip


class Tab:
    """A page that is open; `said` are the errors and warnings it gave, `asked` what it fetched."""

    def __init__(self, to_fd: int, from_fd: int) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self._to, self._from = to_fd, from_fd
        self._rest = b""
        self._numbers = itertools.count(1)
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What a method gives."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        for found in self._messages():
            if found.get("id") == number:
                assert "error" not in found, found["error"]
                result: dict[str, Any] = found["result"]
                return result
            self._note(found)
        raise AssertionError(f"{method}: the browser ended")

    def _messages(self) -> Iterator[dict[str, Any]]:
        while True:
            message, nul, rest = self._rest.partition(b"\0")
            if nul:
                self._rest = rest
                yield json.loads(message)
                continue
            read = os.read(self._from, 1 << 16)
            if not read:
                return
            self._rest += read

    def _note(self, event: dict[str, Any]) -> None:
        method, told = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.said.append(str(told["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning"):
            self.said.append(str(told["args"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.said.append(str(told["entry"]))
        elif method == "Network.requestWillBeSent":
            self.asked.append(told["request"]["url"])

    def show(self, page: Path, *, dark: bool = False, width: int = 1200, zone: str = "UTC") -> None:
        """Open a file as a reader with a theme, a width and a time zone sees it."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=800, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        self.call("Emulation.setTimezoneOverride", timezoneId=zone)
        for address in ("about:blank", page.as_uri()):
            self.call("Page.navigate", url=address)
            self.wait_for(f"location.href === {json.dumps(address)}")
        self.wait_for("document.documentElement?.dataset.drawn !== undefined")

    def wait_for(self, condition: str) -> None:
        """Wait until a condition in JavaScript holds."""
        until_s = time.monotonic() + PATIENCE_S
        while not self.evaluate(condition):
            assert time.monotonic() < until_s, (condition, self.said)
            time.sleep(0.05)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in JavaScript."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def picture(self, height: int | None = None) -> bytes:
        """The page, whole or its upper part, as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"]}
        taken = self.call(
            "Page.captureScreenshot", captureBeyondViewport=True, clip=clip | {"scale": 1}
        )
        return base64.b64decode(taken["data"])


@contextmanager
def chromium(folder: Path) -> Iterator[Tab]:
    """A browser with an empty profile in a folder, and one tab."""
    assert PROGRAM is not None, MISSING
    (to_read, to_write), (from_read, from_write) = os.pipe(), os.pipe()
    # Not 3 or 4, which are its own ends of the pipes.
    theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (to_read, from_write)]

    def place() -> None:
        for fd, wanted in zip(theirs, (3, 4), strict=True):
            os.dup2(fd, wanted)

    with subprocess.Popen(
        [PROGRAM, *_OPTIONS, f"--user-data-dir={folder / 'profile'}"],
        pass_fds=(3, 4),
        preexec_fn=place,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        for fd in (to_read, from_write, *theirs):
            os.close(fd)
        try:
            yield Tab(to_write, from_read)
        finally:
            process.kill()
            os.close(to_write)
            os.close(from_read)
