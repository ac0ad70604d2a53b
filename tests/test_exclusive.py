"""Two runs of one pipeline at the same time: the second is refused and does nothing."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from linq_source import forget
from linq_source.errors import AlreadyRunningError
from linq_source.sandbox import Exchange
from tests.conftest import Loader


class Gate:
    """Lets the first list of chats wait until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        if exchange.route == "chats" and not self.reached.is_set():
            self.reached.set()
            assert self.opened.wait(120)


def test_a_second_run_of_a_pipeline_is_refused_until_the_first_has_ended(seeded: Loader) -> None:
    gate = Gate()
    seeded.sandbox.faults.append(gate)
    reports: list[Any] = []
    first = threading.Thread(target=lambda: reports.append(seeded.sync()))
    first.start()
    assert gate.reached.wait(120)
    try:
        with pytest.raises(AlreadyRunningError, match="another run of the pipeline") as caught:
            seeded.sync()
        assert caught.value.exit_code == 1
        with pytest.raises(AlreadyRunningError):
            forget(seeded.pipeline, chat_ids=[1])
        asked = [record.route for record in seeded.sandbox.requests_log]
        assert asked.count("phone_numbers") == 1
    finally:
        gate.opened.set()
        first.join(120)
    assert [report.messages for report in reports] == [700]
    # The lock's file stays; a lock that nobody holds holds nobody back.
    assert (seeded.folder / "pipelines" / f"{seeded.name}.lock").exists()
    assert seeded.sync().messages == 0
    seeded.assert_equal_world()
