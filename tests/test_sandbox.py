"""The sandbox keeps to the contract, and breaks it only on command."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from jsonschema import Draft202012Validator, ValidationError

import linq_source.sandbox as sandbox_package
from linq_source.sandbox import (
    DEFAULT_TOKEN,
    SEEDED_NOW_MS,
    Chat,
    Exchange,
    Fault,
    Message,
    Sandbox,
    World,
    grow,
    lagging,
    seeded_world,
)

DATA = Path(__file__).parent / "data"
API = "/api/partner/v2"
DAY_MS = 86_400_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Get = Callable[..., requests.Response]


def json_schema(node: Any) -> Any:
    """OpenAPI 3.0 as JSON Schema, made strict: all the contract's keys and no others."""
    if isinstance(node, list):
        return [json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    converted = {key: json_schema(value) for key, value in node.items() if key != "nullable"}
    if node.get("nullable"):
        converted["type"] = [converted["type"], "null"]
    if node.get("type") == "object" and "properties" in node:
        converted |= {"required": list(node["properties"]), "additionalProperties": False}
    return converted


OPENAPI = json_schema(yaml.safe_load((DATA / "linq_api_v2.openapi.yaml").read_text()))


def validate(answer: object, path: str) -> None:
    """Checks an answer against the contract: a path's 200, or the error envelope for `error`."""
    schema = {"$ref": "#/components/schemas/Error"}
    if path != "error":
        response = OPENAPI["paths"][API + path]["get"]["responses"]["200"]
        schema = response["content"]["application/json"]["schema"]
    schema = {**schema, "components": OPENAPI["components"]}
    checker = Draft202012Validator.FORMAT_CHECKER
    assert {"date-time", "uuid"} <= set(checker.checkers)
    Draft202012Validator(schema, format_checker=checker).validate(answer)


def text_of(instant_us: int) -> str:
    return (EPOCH + timedelta(microseconds=instant_us)).isoformat()


def ids(response: requests.Response) -> list[int]:
    assert response.status_code == 200, response.text
    return [record["id"] for record in response.json()["data"]]


@pytest.fixture
def world() -> World:
    """One number, one chat (id 1) with ten messages: two each at 0, 10, ... 40 seconds."""
    world = World(now_ms=SEEDED_NOW_MS)
    world.add_phone_number("+15550100001")
    chat = world.add_chat(display_name="Ten")
    for position in range(10):
        world.add_message(chat.id, f"m{position}", sent_at_ms=position // 2 * 10_000)
    return world


@pytest.fixture
def sandbox(world: World) -> Iterator[Sandbox]:
    with Sandbox(world) as sandbox:
        yield sandbox
    assert sandbox.failures == []


@pytest.fixture
def get(sandbox: Sandbox) -> Iterator[Get]:
    """Gets a path below the API's prefix of `sandbox`, or of the sandbox given as `of`."""
    with requests.Session() as session:
        session.trust_env = False
        session.headers["X-LINQ-INTEGRATION-TOKEN"] = DEFAULT_TOKEN

        def get(path: str, of: Sandbox = sandbox, **params: object) -> requests.Response:
            url = f"{of.url}{API}{path}"
            return session.get(url, params=params, timeout=10, allow_redirects=False)  # type: ignore[arg-type]

        yield get


def test_exports_are_exact() -> None:
    public = {name for name in vars(sandbox_package) if not name.startswith("_")}
    modules = {name for name in public if isinstance(getattr(sandbox_package, name), type(json))}
    assert public - modules - {"annotations"} == set(sandbox_package.__all__)


def test_the_contracts_own_example_is_valid() -> None:
    example = json.loads((DATA / "chat_messages_example.json").read_text())
    validate(example, "/chats/{chat_id}/chat_messages")
    example["data"][0]["sent_at"] = "2025-05-21 15:30"
    with pytest.raises(ValidationError):
        validate(example, "/chats/{chat_id}/chat_messages")


def test_records_have_the_keys_of_the_example_in_its_order(sandbox: Sandbox, get: Get) -> None:
    message = sandbox.world.messages[1]
    sandbox.world.add_attachment(message.id)
    sandbox.world.add_reaction(message.id)
    example = json.loads((DATA / "chat_messages_example.json").read_text())
    served = get("/chats/1/chat_messages").json()
    assert list(served) == list(example)
    assert list(served["meta"]) == list(example["meta"])
    assert list(served["data"][0]) == list(example["data"][0])
    for part in ("attachments", "reactions"):
        assert list(served["data"][0][part][0]) == list(example["data"][0][part][0])


@pytest.mark.parametrize("grown", [False, True])
def test_every_page_of_the_seeded_world_is_valid_and_complete(get: Get, grown: bool) -> None:
    world = seeded_world()
    if grown:
        grow(world)
    found: dict[int, dict[str, Any]] = {}
    with Sandbox(world) as seeded:
        numbers = get("/phone_numbers", of=seeded).json()
        validate(numbers, "/phone_numbers")
        chats: dict[int, Any] = {}
        for number in numbers["phone_numbers"]:
            for page in range(1, 4):
                answer = get(
                    "/chats", seeded, phone_number=number["phone_number"], page=page, per_page=7
                ).json()
                validate(answer, "/chats")
                chats |= {chat["id"]: chat for chat in answer["data"]}
        assert sorted(chats) == sorted(world.chats)
        for chat_id, chat in chats.items():
            single = get(f"/chats/{chat_id}", of=seeded).json()
            validate(single, "/chats/{chat_id}")
            assert single["data"] == chat
            page, total_pages = 0, 1
            while page < total_pages:
                page += 1
                answer = get(f"/chats/{chat_id}/chat_messages", seeded, page=page, per_page=90)
                validate(answer.json(), "/chats/{chat_id}/chat_messages")
                total_pages = answer.json()["meta"]["total_pages"]
                found |= {record["id"]: record for record in answer.json()["data"]}
    assert set(found) == set(world.messages)
    for message in world.messages.values():
        record = found[message.id]
        assert record["text"] == message.text
        sent_at = datetime.fromisoformat(record["sent_at"])
        assert sent_at == EPOCH + timedelta(milliseconds=message.sent_at_ms)


@pytest.mark.parametrize(
    ("path", "params", "status"),
    [
        ("/chats/99", {}, 404),
        ("/chats/99/chat_messages", {}, 404),
        ("/chats/one/chat_messages", {}, 404),
        ("/webhooks", {}, 404),
        ("/chats", {}, 400),
        ("/chats", {"phone_number": ""}, 400),
        ("/chats", {"phone_number": "+15550100001", "per_page": 101}, 400),
        ("/chats/1/chat_messages", {"page": 0}, 400),
        ("/chats/1/chat_messages", {"page": "two"}, 400),
        ("/chats/1/chat_messages", {"per_page": 0}, 400),
        ("/chats/1/chat_messages", {"per_page": 101}, 400),
        ("/chats/1/chat_messages", {"sort": "newest"}, 400),
        ("/chats/1/chat_messages", {"after": "yesterday"}, 400),
        ("/chats/1/chat_messages", {"after": "2026-01-01T00:00:00"}, 400),
        ("/chats/1/chat_messages", {"after": "2026-02-30T00:00:00Z"}, 400),
        ("/chats/1/chat_messages", {"before": "2026-01-01T00:00:00.1234567Z"}, 400),
    ],
)
def test_what_cannot_be_answered_gets_an_error_envelope(
    get: Get, path: str, params: dict[str, object], status: int
) -> None:
    response = get(path, **params)
    assert response.status_code == status
    validate(response.json(), "error")
    assert response.json()["errors"][0]["status"] == status


def test_other_methods_get_404(sandbox: Sandbox) -> None:
    headers = {"X-LINQ-INTEGRATION-TOKEN": DEFAULT_TOKEN}
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        url = f"{sandbox.url}{API}/phone_numbers"
        response = requests.request(method, url, headers=headers, data=b"{}", timeout=10)
        assert response.status_code == 404
        validate(response.json(), "error")


@pytest.mark.parametrize("headers", [{}, {"X-LINQ-INTEGRATION-TOKEN": "guess"}])
@pytest.mark.parametrize("path", ["/phone_numbers", "/chats/99", "/webhooks"])
def test_the_token_is_needed_for_everything(
    sandbox: Sandbox, path: str, headers: dict[str, str]
) -> None:
    response = requests.get(f"{sandbox.url}{API}{path}", headers=headers, timeout=10)
    assert response.status_code == 401
    validate(response.json(), "error")


def test_rate_limit_answers_429_until_there_is_a_token(sandbox: Sandbox, get: Get) -> None:
    sandbox.rate_limit_per_s = 2.0
    responses = [get("/phone_numbers") for _ in range(6)]
    assert [response.status_code for response in responses][:2] == [200, 200]
    limited = responses[-1]
    assert limited.status_code == 429
    assert limited.headers["Retry-After"] == "1"
    validate(limited.json(), "error")
    sandbox.rate_limit_per_s = None
    assert get("/phone_numbers").status_code == 200


def test_empty_pages(sandbox: Sandbox, get: Get) -> None:
    empty = sandbox.world.add_chat()
    answer = get(f"/chats/{empty.id}/chat_messages").json()
    validate(answer, "/chats/{chat_id}/chat_messages")
    meta = {"page": 1, "total_pages": 0, "total_count": 0, "per_page": 25}
    assert answer == {"data": [], "meta": meta}
    beyond = get("/chats/1/chat_messages", page=10**15, per_page=4).json()
    validate(beyond, "/chats/{chat_id}/chat_messages")
    meta = {"page": 10**15, "total_pages": 3, "total_count": 10, "per_page": 4}
    assert beyond == {"data": [], "meta": meta}
    stranger = get("/chats", phone_number="+15559999999").json()
    validate(stranger, "/chats")
    assert stranger["data"] == []


@pytest.mark.parametrize("per_page", [1, 3, 5, 7, 10, 100])
@pytest.mark.parametrize("sort", ["asc", "desc"])
def test_pages_concatenate_to_the_whole_list(
    world: World, get: Get, per_page: int, sort: str
) -> None:
    whole = [message.id for message in world.messages_of(1)]
    walked: list[int] = []
    for page in range(1, -(-10 // per_page) + 1):
        walked += ids(get("/chats/1/chat_messages", page=page, per_page=per_page, sort=sort))
    assert walked == (whole if sort == "asc" else whole[::-1])


@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize("edge_us", [-1, 0, 1, 999])
def test_before_and_after_compare_microseconds(
    sandbox: Sandbox, get: Get, inclusive: bool, edge_us: int
) -> None:
    sandbox.inclusive = inclusive
    messages = sandbox.world.messages_of(1)
    after_us, before_us = 10_000_000 + edge_us, 30_000_000 + edge_us

    def within(message: Message) -> bool:
        sent_us = message.sent_at_ms * 1000
        if inclusive:
            return after_us <= sent_us <= before_us
        return after_us < sent_us < before_us

    expected = [message.id for message in messages if within(message)]
    bounds = {"after": text_of(after_us), "before": text_of(before_us)}
    response = get("/chats/1/chat_messages", **bounds)
    assert ids(response) == expected
    assert response.json()["meta"]["total_count"] == len(expected)
    assert ids(get("/chats/1/chat_messages", sort="desc", **bounds)) == expected[::-1]
    crossed = {"after": bounds["before"], "before": bounds["after"]}
    assert ids(get("/chats/1/chat_messages", sort="desc", **crossed)) == []


def test_any_offset_names_the_same_instant(get: Get) -> None:
    expected = ids(get("/chats/1/chat_messages", after="1970-01-01T00:00:20Z"))
    assert len(expected) == 4
    for text in ("1970-01-01T05:30:20.0+05:30", "1969-12-31T19:00:20.000000-05:00"):
        assert ids(get("/chats/1/chat_messages", after=text)) == expected


@pytest.mark.parametrize(
    ("offset_minutes", "text"),
    [
        (0, "2026-03-02T12:00:00.007Z"),
        (-300, "2026-03-02T07:00:00.007-05:00"),
        (330, "2026-03-02T17:30:00.007+05:30"),
    ],
)
def test_each_chat_has_its_own_offset(
    world: World, get: Get, offset_minutes: int, text: str
) -> None:
    chat = world.add_chat(utc_offset_minutes=offset_minutes)
    world.add_message(chat.id, sent_at_ms=SEEDED_NOW_MS + 7)
    assert get(f"/chats/{chat.id}/chat_messages").json()["data"][0]["sent_at"] == text


def test_extra_and_raw_are_served_as_given(world: World, get: Get) -> None:
    world.messages[1].extra = {"thread_id": 5, "is_read": "no"}
    world.messages[2].raw = '{"id": 2, "text": 1.50}'
    world.messages[3].text = "half an emoji \ud83d"
    world.chats[1].extra = {"pinned": True}
    response = get("/chats/1/chat_messages")
    first, second, third = response.json()["data"][:3]
    assert (first["thread_id"], first["is_read"]) == (5, "no")
    assert second == {"id": 2, "text": 1.5}
    assert '{"id": 2, "text": 1.50}' in response.text
    assert third["text"] == "half an emoji \ud83d"
    assert get("/chats/1").json()["data"]["pinned"] is True


def test_json_is_compact_utf8(world: World, get: Get) -> None:
    world.messages[1].text = "👩‍🚀 é"
    assert '"text":"👩‍🚀 é",'.encode() in get("/chats/1/chat_messages").content


def test_message_count_is_derived_and_may_err(world: World, get: Get) -> None:
    world.chats[1].count_offset = -4
    world.delete_message(1)
    assert get("/chats/1").json()["data"]["message_count"] == 5
    assert get("/chats/1/chat_messages").json()["meta"]["total_count"] == 9


def test_a_lower_maximum_clamps_and_says_so(sandbox: Sandbox, get: Get) -> None:
    sandbox.max_per_page = 4
    answer = get("/chats/1/chat_messages", per_page=100).json()
    assert len(answer["data"]) == 4
    assert answer["meta"] == {"page": 1, "total_pages": 3, "total_count": 10, "per_page": 4}


def test_several_numbers_may_see_a_chat(world: World, get: Get) -> None:
    second = world.add_phone_number("+15550100002")
    shared = world.add_chat(phone_number_ids=[1, second.id])
    assert ids(get("/chats", phone_number="+15550100001")) == [1, shared.id]
    assert ids(get("/chats", phone_number="+15550100002")) == [shared.id]


def test_the_date_header_is_the_worlds_clock(world: World, get: Get) -> None:
    for now_ms in (SEEDED_NOW_MS + 999, SEEDED_NOW_MS - 30 * DAY_MS):
        world.now_ms = now_ms
        date = parsedate_to_datetime(get("/phone_numbers").headers["Date"])
        assert date == EPOCH + timedelta(seconds=now_ms // 1000)


def test_gzip_only_when_asked_for_and_worth_it(sandbox: Sandbox, get: Get) -> None:
    plain = get("/chats/1/chat_messages")
    sandbox.gzip = True
    packed = get("/chats/1/chat_messages")
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.content == plain.content
    assert "Content-Encoding" not in get("/phone_numbers").headers


def test_changes_of_the_world_show_in_its_order(world: World) -> None:
    moved = world.move_message(1, sent_at_ms=35_000)
    late = world.add_message(1, sent_at_ms=-1)
    order = [message.id for message in world.messages_of(1)]
    assert order[0] == late.id
    assert order.index(moved.id) == 8
    handle = world.add_handle(1, "+15551112222")
    world.remove_handle(1, handle.id)
    reaction = world.add_reaction(2)
    world.remove_reaction(2, reaction.id)
    with pytest.raises(KeyError):
        world.remove_reaction(2, reaction.id)
    with pytest.raises(ValueError, match="in use"):
        world.add_message(1, message_id=2)
    assert world.add_message(1, message_id=500).id + 1 == world.add_message(1).id
    world.remove_chat(1)
    assert world.snapshot() == World(SEEDED_NOW_MS).snapshot() | {
        "phone_numbers": world.snapshot()["phone_numbers"]
    }


# -- seeding and growth --------------------------------------------------------------------


def test_seeding_is_deterministic() -> None:
    assert seeded_world().snapshot() == seeded_world().snapshot()
    assert seeded_world(seed=8).snapshot() != seeded_world().snapshot()


@pytest.mark.parametrize(("chats", "messages"), [(0, 0), (1, 5), (3, 0), (4, 1), (12, 250)])
def test_a_seeded_world_has_the_size_asked_for(chats: int, messages: int) -> None:
    world = seeded_world(chats=chats, messages=messages)
    grow(world, seed=1)
    world = seeded_world(chats=chats, messages=messages)
    assert (len(world.chats), len(world.messages)) == (chats, messages)


def test_a_seeded_world_has_every_kind_of_thing() -> None:
    world = seeded_world()
    chats, messages = list(world.chats.values()), list(world.messages.values())
    reactions = [reaction for message in messages for reaction in message.reactions]
    keys = [chat.message_keys for chat in chats]
    assert len(world.phone_numbers) == 3
    assert any(len(chat.phone_number_ids) == 2 for chat in chats)
    assert {0, 1} <= {chat.message_count for chat in chats}
    assert {chat.group for chat in chats} == {True, False}
    assert {chat.service for chat in chats} == {"iMessage", "SMS", "RCS"}
    assert any("@" in handle.phone_number for chat in chats for handle in chat.handles)
    assert sum(bool(k) and k[-1][0] < world.now_ms - 30 * DAY_MS for k in keys) >= 3
    assert any(a[0] == b[0] for k in keys for a, b in pairwise(k))
    assert all(
        world.now_ms - 120 * DAY_MS <= message.sent_at_ms <= world.now_ms for message in messages
    )
    assert {m.delivery_status for m in messages} >= {"pending", "delivered", "service_unavailable"}
    assert {len(message.attachments) for message in messages} == {0, 1, 2, 3}
    assert {len(message.reactions) for message in messages} == {0, 1, 2, 3, 4, 5}
    assert len({reaction.reaction for reaction in reactions}) == 6
    assert {reaction.is_from_me for reaction in reactions} == {True, False}
    assert all(message.attachments for message in messages if message.text is None)
    assert any(message.text is None for message in messages)
    assert any(message.edited_at_ms for message in messages)
    assert any(len(message.text or "") >= 10_000 for message in messages)
    for piece in ("\n", '"', "\\", "\u200d", "مرحبا", "会議", "e\u0301"):
        assert any(piece in (message.text or "") for message in messages), repr(piece)


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_growth_counts_what_differs_between_snapshots(seed: int | None) -> None:
    world, twin = seeded_world(), seeded_world()
    for _ in range(3):
        old = world.snapshot()
        changes = grow(world, seed)
        assert grow(twin, seed) == changes
        assert twin.snapshot() == world.snapshot()
        new = world.snapshot()
        before = {message["id"]: message for message in old["messages"]}
        after = {message["id"]: message for message in new["messages"]}
        newest = {c.id: c.message_keys[-1][0] for c in world.chats.values() if c.message_keys}

        added = [after[key] for key in after.keys() - before.keys()]
        late = [message for message in added if message["sent_at_ms"] <= old["now_ms"]]
        gone = [before[key] for key in before.keys() - after.keys()]
        changed = [k for k in before.keys() & after.keys() if before[k] != after[k]]

        def differing(name: str, keys: list[int], a: Any = before, b: Any = after) -> int:
            return sum(a[key][name] != b[key][name] for key in keys)

        reactions_before = {r["id"] for m in old["messages"] for r in m["reactions"]}
        reactions_after = {r["id"] for m in new["messages"] for r in m["reactions"]}
        assert changes.advanced_ms == new["now_ms"] - old["now_ms"]
        assert changes.new_messages == len(added) - len(late)
        assert changes.late_messages == len(late) == 1
        assert changes.deleted_messages == len(gone) == 1
        assert changes.edited_messages == differing("text", changed) > 0
        assert changes.edited_messages == differing("edited_at_ms", changed)
        assert changes.deliveries == differing("delivery_status", changed)
        assert changes.reads == differing("is_read", changed)
        assert changes.new_reactions == len(reactions_after - reactions_before) > 0
        assert changes.removed_reactions == len(reactions_before - reactions_after) > 0
        assert changes.new_chats == len(new["chats"]) - len(old["chats"]) == 1
        for message in gone + [before[key] for key in changed]:
            assert message["sent_at_ms"] >= newest[message["chat_id"]] - 5 * DAY_MS
        for message in late:
            assert new["now_ms"] - 3 * DAY_MS <= message["sent_at_ms"]
            assert message["sent_at_ms"] < newest[message["chat_id"]]
        assert all(message["sent_at_ms"] <= new["now_ms"] for message in added)


def test_growth_over_http_is_the_same_growth(world: World, sandbox: Sandbox) -> None:
    before = world.snapshot()
    url = f"{sandbox.url}/sandbox/grow"
    assert requests.post(url, timeout=10).status_code == 401
    assert world.snapshot() == before
    headers = {"X-LINQ-INTEGRATION-TOKEN": DEFAULT_TOKEN}
    counts = requests.post(url, headers=headers, timeout=10).json()
    assert counts["new_messages"] + counts["late_messages"] - counts["deleted_messages"] == (
        len(world.messages) - len(before["messages"])
    )
    assert counts["advanced_ms"] == world.now_ms - before["now_ms"]


# -- watching and breaking -----------------------------------------------------------------


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
    validate(response.json(), "error")
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
    validate(response.json(), "error")
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
