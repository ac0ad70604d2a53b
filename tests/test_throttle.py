"""The common brake over real sockets: one refusal holds everybody, the rate allowed is reached."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from linq_source.api.client import Client
from linq_source.api.throttle import Deadline, Throttle, ThrottleTimeout
from linq_source.decoding.envelope import check_list
from linq_source.errors import ApiUnavailableError
from linq_source.sandbox import DEFAULT_TOKEN, Exchange, Fault, Sandbox, World
from linq_source.sandbox.exchange import RequestRecord
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


def assert_held(log: list[RequestRecord], at_s: float) -> None:
    """In the second after `at_s` only that arrives which was asked before the answer was heard.

    A busy machine lets the others ask some more until it wakes the one who hears it; where nobody
    was held, hundreds would arrive.
    """
    during = [record for record in log if at_s < record.started_s < at_s + 0.99]
    assert len(during) < 5 * WORKERS
    assert log[-1].started_s > at_s + 0.99


# A busy machine wakes threads late: asking too slowly is believed when seen this often.
ATTEMPTS = 3


@pytest.mark.long
def test_a_limited_server_is_asked_as_fast_as_it_allows(
    sandbox: Sandbox, connect: Callable[..., Client]
) -> None:
    sandbox.rate_limit_per_s = 40
    sandbox.latency_s = 0.005
    shares = []
    for _ in range(ATTEMPTS):
        sandbox.requests_log.clear()
        client = connect()
        ask_for(client, 10)
        log = sandbox.requests_log
        seconds = log[-1].started_s - log[0].started_s
        refused = sum(record.status == 429 for record in log)
        granted = len(log) - refused
        shares.append(granted / seconds / 40)
        assert shares[-1] <= 1.15
        assert refused / len(log) < 0.05
        assert client.requests == len(log)
        if shares[-1] >= 0.85:
            break
    assert max(shares) >= 0.85


def test_a_limit_of_ones_own_is_kept(sandbox: Sandbox, connect: Callable[..., Client]) -> None:
    shares = []
    for _ in range(ATTEMPTS):
        sandbox.requests_log.clear()
        ask_for(connect(max_requests_per_second=50), 1.5)
        log = sandbox.requests_log
        seconds = log[-1].started_s - log[0].started_s
        shares.append((len(log) - 1) / seconds / 50)
        assert shares[-1] <= 1.06
        if shares[-1] >= 0.4:
            break
    assert max(shares) >= 0.4


def test_one_refusal_holds_every_worker(sandbox: Sandbox, connect: Callable[..., Client]) -> None:
    sandbox.faults.append(
        lambda exchange: (
            Fault(status=429, headers={"Retry-After": "1"}) if exchange.count == 50 else None
        )
    )
    ask_for(connect(), 1.5)
    log = sandbox.requests_log
    refused = next(record for record in log if record.status == 429)
    assert refused.finished_s is not None
    assert_held(log, refused.finished_s)


def test_a_server_that_always_refuses_ends_at_the_deadline(
    sandbox: Sandbox, connect: Callable[..., Client]
) -> None:
    sandbox.faults.append(lambda _: Fault(status=429))
    client = connect(request_deadline_s=2.0)
    started_s = time.monotonic()
    with pytest.raises(ApiUnavailableError, match=f"{PATH}: HTTP 429"):
        client.get(PATH, {}, lambda body: check_list(body, "phone_numbers"))
    assert time.monotonic() - started_s < 60  # the default deadline is 120
    assert {record.status for record in sandbox.requests_log} == {429}


def test_a_pause_beyond_the_deadline_is_not_waited_for(
    sandbox: Sandbox, connect: Callable[..., Client]
) -> None:
    sandbox.faults.append(lambda _: Fault(status=429, headers={"Retry-After": "50"}))
    started_s = time.monotonic()
    with pytest.raises(ApiUnavailableError, match="429"):
        connect(request_deadline_s=5.0).get(PATH, {}, lambda body: None)
    assert time.monotonic() - started_s < 40  # of the 50 that it named
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
    log = sandbox.requests_log
    at_s = next(r.finished_s for r in log if r.status == 503)
    assert at_s is not None
    assert_held(log, at_s)


def test_closing_ends_every_wait_at_once(sandbox: Sandbox, connect: Callable[..., Client]) -> None:
    sandbox.faults.append(lambda _: Fault(status=429, headers={"Retry-After": "200"}))
    client = connect(request_deadline_s=600.0)
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
        thread.join(timeout=100)
    assert time.monotonic() - started_s < 100
    assert len(errors) == 4


def test_the_throttle_costs_next_to_nothing_while_nothing_limits() -> None:
    throttle = Throttle(WORKERS, None)
    started_s = time.thread_time()
    for _ in range(20_000):
        at_s = throttle.enter(Deadline())
        throttle.succeeded(at_s)
        throttle.leave()
    assert (time.thread_time() - started_s) / 20_000 < 100e-6


@pytest.mark.parametrize("retry_after", ["0", "soon"])
def test_a_503_without_a_real_pause_is_not_asked_again_at_once(
    sandbox: Sandbox, connect: Callable[..., Client], retry_after: str
) -> None:
    sandbox.faults.append(lambda _: Fault(status=503, headers={"Retry-After": retry_after}))
    with pytest.raises(ApiUnavailableError, match="503"):
        connect(request_deadline_s=1.2).get(PATH, {}, lambda body: None)
    assert len(sandbox.requests_log) <= 3


def test_other_failures_are_asked_again_after_the_pause_asked_for(
    sandbox: Sandbox, connect: Callable[..., Client]
) -> None:
    fault = Fault(status=500, headers={"Retry-After": "1"})
    sandbox.faults.append(lambda exchange: fault if exchange.count == 1 else None)
    connect().get(PATH, {}, lambda body: None)
    first, second = sandbox.requests_log
    assert second.started_s - first.started_s > 0.95


def test_waiting_for_ones_turn_costs_no_patience() -> None:
    throttle = Throttle(WORKERS, 4.0)
    throttle.enter(Deadline())
    deadline = Deadline(time.monotonic() + 0.05)
    until_s = deadline.until_s
    throttle.enter(deadline)
    assert deadline.until_s > until_s + 0.1


def test_a_pause_that_outlasts_the_patience_ends_the_wait_at_once() -> None:
    throttle = Throttle(2, None)
    at_s = throttle.enter(Deadline())
    throttle.refused(at_s, 0.3)
    ended: list[float] = []

    def wait() -> None:
        with pytest.raises(ThrottleTimeout):
            throttle.enter(Deadline(time.monotonic() + 100))
        ended.append(time.monotonic())

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    began_s = time.monotonic()
    throttle.pause(500.0)
    thread.join(timeout=200)
    assert ended[0] - began_s < 60
