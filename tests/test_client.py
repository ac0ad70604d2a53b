"""A server on a bad day: what passes is asked again, what does not ends in one clear error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import duckdb
import pytest

from linq_source import ApiContractError, ApiUnavailableError, AuthenticationError
from linq_source.sandbox import DEFAULT_TOKEN, Exchange, Fault, Sandbox, World
from tests.conftest import NOW_MS, Loader

HTML = b"<html><body>Bad gateway</body></html>"
PASSING = {
    "503": Fault(status=503),
    "408": Fault(status=408),
    "429 with a pause": Fault(status=429, headers={"Retry-After": "1"}),
    "connection reset": Fault(action="reset"),
    "closed without an answer": Fault(action="close"),
    "body cut short": Fault(action="truncate"),
    "an HTML page with 200": Fault(status=200, body=HTML),
    "an empty object with 200": Fault(status=200, body=b"{}"),
    "data is not a list": Fault(status=200, body=b'{"data":{},"meta":{"page":1}}'),
    "null with 200": Fault(status=200, body=b"null"),
}


def at(number: int, fault: Fault) -> Callable[[Exchange], Fault | None]:
    """The fault at the n-th request of all."""
    return lambda exchange: fault if exchange.count == number else None


@pytest.fixture
def pages(small: Loader) -> Loader:
    """One chat of four pages: six requests, the first two of them listings."""
    for number in range(40):
        small.world.add_message(1, str(number), sent_at_ms=NOW_MS - 10_000_000 + number)
    return small


@pytest.mark.parametrize("request_number", [2, 6])
@pytest.mark.parametrize("name", list(PASSING))
def test_a_passing_failure_is_asked_again(pages: Loader, name: str, request_number: int) -> None:
    pages.sandbox.faults.append(at(request_number, PASSING[name]))
    report = pages.sync(page_size=10, workers=1)
    assert (report.retries, report.exit_code) == (1, 0)
    pages.assert_equal_world()


def test_an_api_that_is_down_ends_the_run_and_keeps_what_was_read(pages: Loader) -> None:
    world = pages.world
    world.add_chat(chat_id=2)
    world.add_message(2, "never seen", sent_at_ms=NOW_MS - 5000)
    pages.sandbox.faults.append(
        lambda exchange: Fault(status=503) if "/chats/2/" in exchange.path else None
    )
    report = pages.sync(page_size=10, workers=1, request_deadline_s=2)
    assert report.exit_code == 1
    assert report.error is not None
    assert "/chats/2/" in report.error
    assert "503" in report.error
    assert pages.query("SELECT count(*) FROM chat_messages") == [(40,)]
    pages.sandbox.faults.clear()
    again = pages.sync(page_size=10)
    assert (again.messages, again.exit_code) == (1, 0)
    pages.assert_equal_world()


def test_an_api_that_was_never_up_loads_nothing(pages: Loader) -> None:
    pages.sandbox.faults.append(lambda _: Fault(status=502))
    with pytest.raises(ApiUnavailableError, match="502"):
        pages.sync(request_deadline_s=1)
    with duckdb.connect(str(pages.database)) as connection:
        tables = connection.execute("SELECT count(*) FROM information_schema.tables").fetchall()
    assert tables == [(0,)]


def test_a_token_refused_in_mid_run_is_not_asked_again(pages: Loader) -> None:
    pages.sandbox.faults.append(at(3, Fault(status=401)))
    report = pages.sync(page_size=10, workers=1)
    assert report.retries == 0
    assert report.error is not None
    assert "401" in report.error


def test_a_token_refused_at_once_stops_at_once(pages: Loader) -> None:
    pages.sandbox.faults.append(lambda _: Fault(status=401))
    with pytest.raises(AuthenticationError, match="SOURCES__LINQ__API_TOKEN"):
        pages.sync()
    assert len(pages.sandbox.requests_log) == 1


def test_the_token_follows_no_redirect(pages: Loader) -> None:
    seen: list[Any] = []
    with Sandbox(World(now_ms=NOW_MS)) as other:
        other.hooks.append(seen.append)
        pages.sandbox.faults.append(
            lambda exchange: Fault(action="redirect", status=302, location=other.url + "/stolen")
        )
        with pytest.raises(ApiContractError, match="redirected") as caught:
            pages.sync()
    assert seen == []
    assert DEFAULT_TOKEN not in str(caught.value)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_chat_that_cannot_be_read_holds_back_nobody(pages: Loader, status: int) -> None:
    pages.world.add_chat(chat_id=2)
    pages.sandbox.faults.append(
        lambda exchange: Fault(status=status) if "/chats/2/" in exchange.path else None
    )
    report = pages.sync()
    assert [failure.chat_id for failure in report.chats_failed] == [2]
    assert report.exit_code == 3
    assert pages.query("SELECT chat_id FROM sync_windows WHERE error IS NOT NULL") == [(2,)]
    assert pages.query("SELECT count(*) FROM chat_messages") == [(40,)]


def test_compressed_answers_are_read(pages: Loader) -> None:
    pages.sandbox.gzip = True
    pages.sync(page_size=20)
    pages.assert_equal_world()


def test_a_server_without_a_clock_is_read_by_ours(pages: Loader) -> None:
    pages.sandbox.faults.append(lambda _: Fault(action="no_date"))
    assert pages.sync().messages == 40
