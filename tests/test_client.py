"""A server with its own ways, read as it is; how failures end is in `test_faults.py`."""

from __future__ import annotations

import pytest

from linq_source import ApiUnavailableError
from linq_source.api import client
from linq_source.sandbox import Fault
from tests.conftest import NOW_MS, Loader


@pytest.fixture
def pages(small: Loader) -> Loader:
    """One chat of four pages."""
    for number in range(40):
        small.world.add_message(1, str(number), sent_at_ms=NOW_MS - 10_000_000 + number)
    return small


def test_compressed_answers_are_read(pages: Loader) -> None:
    pages.sandbox.gzip = True
    pages.sync(page_size=20)
    pages.assert_equal_world()


def test_a_server_without_a_clock_is_read_by_ours(pages: Loader) -> None:
    pages.sandbox.faults.append(lambda _: Fault(action="no_date"))
    assert pages.sync().messages == 40


def test_an_address_that_never_answered_is_given_up_sooner(
    small: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "FIRST_ANSWER_DEADLINE_S", 0.2)
    small.sandbox.stop()
    with pytest.raises(ApiUnavailableError, match="check base_url and the network"):
        small.sync(request_deadline_s=3600)
    small.sandbox.start()
