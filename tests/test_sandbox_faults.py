"""The sandbox is watched, and breaks only on command."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from linq_source.sandbox import (
    DEFAULT_TOKEN,
    Chat,
    Exchange,
    Fault,
    Sandbox,
    World,
    lagging,
)
from tests.sandboxed import API, Get, get, ids, sandbox, validate, world

__all__ = ["get", "sandbox", "world"]


def once(fault: Fault) -> Callable[[Exchange], Fault | None]:
    """Gives a fault to the first request that asks."""
    left = [fault]
    return lambda exchange: left.pop() if left else None


def test_hooks_see_the_exchange_and_may_change_the_world(sandbox: Sandbox, get: Get) -> None:
    seen: list[Exchange] = []

    def remember(exchange: Exchange) -> None:
        seen.append(exchange)
        if exchange.count == 2:
            sandbox.world.delete_message(1)

    sandbox.hooks.append(remember)
    assert len(ids(get("/chats/1/chat_messages", page=1, per_page=100))) == 10
    assert len(ids(get("/chats/1/chat_messages"))) == 9
    get("/chats/1")
    get("/chats", phone_number="+1")
    get("/phone_numbers")
    get("/webhooks")
    routes = ["chat_messages", "chat_messages", "chat", "chats", "phone_numbers", "unknown"]
    assert [exchange.route for exchange in seen] == routes
    assert [exchange.count for exchange in seen] == [1, 2, 3, 4, 5, 6]
    assert [exchange.chat_id for exchange in seen] == [1, 1, 1, None, None, None]
    assert seen[0].params == {"page": "1", "per_page": "100"}
    assert seen[0].headers["x-linq-integration-token"] == DEFAULT_TOKEN
    assert DEFAULT_TOKEN not in repr(seen[0])


def test_a_hook_that_raises_is_told_of(sandbox: Sandbox, get: Get) -> None:
    def fail(exchange: Exchange) -> None:
        raise KeyError(exchange.route)

    sandbox.hooks.append(fail)
    response = get("/phone_numbers")
    assert response.status_code == 500
    validate(response.json(), "Error")
    assert [type(failure) for failure in sandbox.failures] == [KeyError]
    sandbox.failures.clear()


def test_the_log_knows_every_request(sandbox: Sandbox, get: Get) -> None:
    get("/phone_numbers")
    get("/chats/99", why="not")
    first, second = sandbox.requests_log
    assert (first.method, first.path, first.status) == ("GET", f"{API}/phone_numbers", 200)
    assert (second.route, second.params, second.status) == ("chat", {"why": "not"}, 404)
    assert first.finished_s is not None
    assert first.started_s <= first.finished_s <= second.started_s


def test_latency_and_requests_in_flight_are_observed(sandbox: Sandbox, get: Get) -> None:
    get("/phone_numbers")
    get("/phone_numbers")
    assert sandbox.max_in_flight == 1
    sandbox.latency_s = 0.2
    with ThreadPoolExecutor(4) as pool:
        started_s = time.monotonic()
        headers = {"X-LINQ-INTEGRATION-TOKEN": DEFAULT_TOKEN}
        url = f"{sandbox.url}{API}/phone_numbers"
        ask = [pool.submit(requests.get, url, headers=headers, timeout=10) for _ in range(4)]
        assert [future.result().status_code for future in ask] == [200] * 4
        assert time.monotonic() - started_s >= 0.2
    assert 2 <= sandbox.max_in_flight <= 4
    sandbox.reset_max_in_flight()
    assert sandbox.max_in_flight == 0


def test_fault_answer(sandbox: Sandbox, get: Get) -> None:
    sandbox.faults.append(once(Fault(status=503, headers={"Retry-After": "7"})))
    response = get("/phone_numbers")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "7")
    validate(response.json(), "Error")
    sandbox.faults.append(once(Fault(status=200, headers={"content-type": "text/html"}, body=b"x")))
    response = get("/phone_numbers")
    assert (response.content, response.headers["Content-Type"]) == (b"x", "text/html")
    assert get("/phone_numbers").status_code == 200


def test_fault_redirect_and_no_date(sandbox: Sandbox, get: Get) -> None:
    sandbox.faults.append(once(Fault("redirect", location="http://127.0.0.1:9/elsewhere")))
    response = get("/phone_numbers")
    assert response.status_code == 302
    assert response.headers["Location"] == "http://127.0.0.1:9/elsewhere"
    sandbox.faults.append(once(Fault("no_date")))
    response = get("/phone_numbers")
    assert response.status_code == 200
    assert "Date" not in response.headers
    assert "Date" in get("/phone_numbers").headers


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("reset"), "Connection reset by peer"),
        (Fault("close"), "Remote end closed connection without response"),
        (Fault("truncate"), "IncompleteRead"),
    ],
)
def test_faults_of_the_connection(sandbox: Sandbox, get: Get, fault: Fault, message: str) -> None:
    sandbox.faults.append(once(fault))
    with pytest.raises(requests.RequestException, match=message):
        get("/chats/1/chat_messages")
    assert sandbox.requests_log[0].status == (200 if fault.action == "truncate" else 0)
    assert get("/chats/1/chat_messages").status_code == 200


def test_fault_stall_answers_late(sandbox: Sandbox, get: Get) -> None:
    sandbox.faults.append(once(Fault("stall", seconds=0.15)))
    started_s = time.monotonic()
    assert get("/phone_numbers").status_code == 200
    assert time.monotonic() - started_s >= 0.15


def test_a_stall_ends_when_the_sandbox_stops(world: World) -> None:
    arrived = threading.Event()

    def stall(exchange: Exchange) -> Fault:
        arrived.set()
        return Fault("stall", seconds=600)

    sandbox = Sandbox(world)
    sandbox.faults.append(stall)
    with sandbox, ThreadPoolExecutor(1) as pool:
        future = pool.submit(requests.get, sandbox.url, timeout=30)
        assert arrived.wait(10)
        sandbox.stop()
        with pytest.raises(requests.ConnectionError):
            future.result()


def test_stopping_leaves_nothing_and_starting_again_keeps_the_address(world: World) -> None:
    sandbox = Sandbox(world)
    with pytest.raises(RuntimeError, match="before it was started"):
        _ = sandbox.url
    threads = set(threading.enumerate())
    urls = set()
    for _ in range(2):
        with sandbox, requests.Session() as session:
            session.get(sandbox.url, timeout=10)
            urls.add(sandbox.url)
            with pytest.raises(RuntimeError, match="already"):
                sandbox.start()
            # the session still holds its connection when the sandbox stops
            sandbox.stop()
            assert set(threading.enumerate()) == threads
    assert len(urls) == 1
    with pytest.raises(requests.ConnectionError):
        requests.get(urls.pop(), timeout=10)


def test_a_page_is_one_moment_of_the_world(world: World, get: Get) -> None:
    chat: Chat = world.chats[1]
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            with world.lock:
                for message in world.messages_of(chat.id):
                    world.edit_message(message.id, str(world.now_ms))
                world.advance(1000)

    writer = threading.Thread(target=swap)
    writer.start()
    try:
        for _ in range(20):
            texts = {record["text"] for record in get("/chats/1/chat_messages").json()["data"]}
            assert len(texts) == 1 or texts == {f"m{position}" for position in range(10)}
    finally:
        stop.set()
        writer.join()


def test_a_view_answers_one_route_from_an_old_copy(
    world: World, sandbox: Sandbox, get: Get
) -> None:
    world.add_chat(display_name="Two")
    copy = world.copy()
    for message in copy.messages_of(1)[4:]:
        copy.delete_message(message.id)
    copy.remove_chat(2)
    now, then = get("/chats/1/chat_messages").json(), len(world.messages_of(1))
    assert now["meta"]["total_count"] == then > 4
    sandbox.views.append(lagging(copy, "chat_messages", 1))
    sandbox.views.append(lagging(copy, "chats"))
    assert get("/chats/1/chat_messages").json()["meta"]["total_count"] == 4
    assert get("/chats/1").json()["data"]["message_count"] == then
    listed = get("/chats", phone_number=world.phone_numbers[1].phone_number).json()["data"]
    assert [chat["id"] for chat in listed] == [1]
    assert get("/chats/2").status_code == 200
    sandbox.views.clear()
    assert get("/chats/1/chat_messages").json() == now
