"""The common brake over real sockets: one refusal holds everybody, the rate allowed is reached."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from linq_source.decoding.envelope import check_list
from linq_source.errors import ApiUnavailableError
from linq_source.reading.client import Client
from linq_source.reading.throttle import Throttle
from linq_source.sandbox import DEFAULT_TOKEN, Exchange, Fault, Sandbox, World
from linq_source.settings import check_settings
from tests.conftest import NOW_MS

PATH = "/api/partner/v2/phone_numbers"
WORKERS = 8


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001")
    with Sandbox(world) as running:
        yield running


@pytest.fixture
def connect(sandbox: Sandbox) -> Iterator[Callable[..., Client]]:
    clients = []

    def start(
        max_requests_per_second: float | None = None, request_deadline_s: float = 30.0
    ) -> Client:
        settings = check_settings(
            api_token=DEFAULT_TOKEN, base_url=sandbox.url, chat_ids=None, phone_numbers=None,
            start=None, end=None, lookback_days=7.0, page_size=100, workers=WORKERS,
            max_messages=None, shard=None, timeout_s=5.0, request_deadline_s=request_deadline_s,
            max_requests_per_second=max_requests_per_second,
        )  # fmt: skip
        clients.append(Client(settings))
        return clients[-1]

    yield start
    for client in clients:
        client.close()


def ask_for(client: Client, seconds: float) -> None:
    """Every worker asks, again and again."""
    ends_s = time.monotonic() + seconds

    def work() -> None:
        while time.monotonic() < ends_s:
            client.get(PATH, {}, lambda body: check_list(body, "phone_numbers"))

    threads = [threading.Thread(target=work) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_limited_server_is_asked_as_fast_as_it_allows(
    sandbox: Sandbox, connect: Callable[..., Client]
) -> None:
    sandbox.rate_limit_per_s = 25
    sandbox.latency_s = 0.005
    reached = []
    # A machine that has no time for us is no fault of the pace: three tries.
    for _ in range(3):
        sandbox.requests_log.clear()
        client = connect()
        ask_for(client, 8)
        log = sandbox.requests_log
        refused = sum(record.status == 429 for record in log)
        assert (client.refused, client.requests) == (refused, len(log))
        seconds = log[-1].started_s - log[0].started_s
        reached.append(((len(log) - refused) / seconds / 25, refused / len(log)))
        if 0.85 <= reached[-1][0] <= 1.15 and reached[-1][1] < 0.05:
            return
        time.sleep(1)
    raise AssertionError(f"rate reached, share refused: {reached}")


def test_a_limit_of_ones_own_is_kept(sandbox: Sandbox, connect: Callable[..., Client]) -> None:
    ask_for(connect(max_requests_per_second=20), 3)
    starts_s = [record.started_s for record in sandbox.requests_log]
    for first_s in starts_s:
        assert sum(first_s <= at_s < first_s + 1 for at_s in starts_s) <= 20 + 0.1 * 20 + 2
    assert len(starts_s) > 0.5 * 3 * 20


def test_one_refusal_holds_every_worker(sandbox: Sandbox, connect: Callable[..., Client]) -> None:
    sandbox.faults.append(
        lambda exchange: (
            Fault(status=429, headers={"Retry-After": "1"}) if exchange.count == 50 else None
        )
    )
    ask_for(connect(), 2)
    log = sandbox.requests_log
    refused = next(record for record in log if record.status == 429)
    assert refused.finished_s is not None
    # What was under way may still arrive; afterwards nobody asks for a second.
    after = [r.started_s for r in log if r.started_s > refused.finished_s + 0.2]
    assert min(after) >= refused.finished_s + 0.99


def test_a_server_that_always_refuses_ends_at_the_deadline(
    sandbox: Sandbox, connect: Callable[..., Client]
) -> None:
    sandbox.faults.append(lambda _: Fault(status=429))
    client = connect(request_deadline_s=2.0)
    started_s = time.monotonic()
    with pytest.raises(ApiUnavailableError, match=f"{PATH}: HTTP 429"):
        client.get(PATH, {}, lambda body: check_list(body, "phone_numbers"))
    assert time.monotonic() - started_s < 4
    assert client.refused == client.requests


def test_a_pause_beyond_the_deadline_is_not_waited_for(
    sandbox: Sandbox, connect: Callable[..., Client]
) -> None:
    sandbox.faults.append(lambda _: Fault(status=429, headers={"Retry-After": "50"}))
    started_s = time.monotonic()
    with pytest.raises(ApiUnavailableError, match="429"):
        connect(request_deadline_s=5.0).get(PATH, {}, lambda body: None)
    assert time.monotonic() - started_s < 3
    assert len(sandbox.requests_log) == 1


def test_a_503_that_names_a_pause_holds_everybody_too(
    sandbox: Sandbox, connect: Callable[..., Client]
) -> None:
    def fault(exchange: Exchange) -> Fault | None:
        gone = {"Retry-After": "1"}
        return Fault(status=503, headers=gone) if exchange.count == 20 else None

    sandbox.faults.append(fault)
    client = connect()
    ask_for(client, 1.5)
    assert client.refused == 0
    log = sandbox.requests_log
    at_s = next(r.finished_s for r in log if r.status == 503)
    assert at_s is not None
    assert min(r.started_s for r in log if r.started_s > at_s + 0.2) >= at_s + 0.99


def test_closing_ends_every_wait_at_once(sandbox: Sandbox, connect: Callable[..., Client]) -> None:
    sandbox.faults.append(lambda _: Fault(status=429, headers={"Retry-After": "20"}))
    client = connect(request_deadline_s=60.0)
    errors: list[Exception] = []

    def work() -> None:
        try:
            client.get(PATH, {}, lambda body: None)
        except ApiUnavailableError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while not sandbox.requests_log:
        time.sleep(0.01)
    time.sleep(0.2)
    started_s = time.monotonic()
    client.close()
    for thread in threads:
        thread.join(timeout=5)
    assert time.monotonic() - started_s < 1
    assert len(errors) == 4


def test_the_throttle_costs_next_to_nothing_while_nothing_limits() -> None:
    throttle = Throttle(WORKERS, None)
    started_s = time.thread_time()
    for _ in range(20_000):
        at_s = throttle.enter()
        assert at_s is not None
        throttle.succeeded(at_s)
        throttle.leave()
    assert (time.thread_time() - started_s) / 20_000 < 100e-6
