"""The sandbox keeps to the contract."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import requests
from jsonschema import ValidationError

import linq_source.sandbox as sandbox_package
from linq_source.sandbox import (
    DEFAULT_TOKEN,
    SEEDED_NOW_MS,
    Message,
    Sandbox,
    World,
    grow,
    seeded_world,
)
from tests.sandboxed import (
    API,
    DATA,
    DAY_MS,
    EPOCH,
    Get,
    get,
    ids,
    sandbox,
    text_of,
    validate,
    world,
)

__all__ = ["get", "sandbox", "world"]


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
        contacts: dict[Any, Any] = {}
        for page in range(1, 4):
            answer = get("/contacts", seeded, page=page, per_page=12).json()
            validate(answer, "/contacts")
            assert answer["pagination"]["current_page"] == page
            contacts |= {contact["id"]: contact for contact in answer["contacts"]}
        assert set(contacts) == set(world.contacts)
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
    validate(response.json(), "Error")
    assert response.json()["errors"][0]["status"] == status


def test_contacts_have_an_error_envelope_of_their_own(sandbox: Sandbox, get: Get) -> None:
    refused = requests.get(f"{sandbox.url}{API}/contacts", timeout=10)
    for response, status in ((get("/contacts", page=0), 400), (refused, 401)):
        assert response.status_code == status
        validate(response.json(), "ContactError")


def test_other_methods_get_404(sandbox: Sandbox) -> None:
    headers = {"X-LINQ-INTEGRATION-TOKEN": DEFAULT_TOKEN}
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        url = f"{sandbox.url}{API}/phone_numbers"
        response = requests.request(method, url, headers=headers, data=b"{}", timeout=10)
        assert response.status_code == 404
        validate(response.json(), "Error")


@pytest.mark.parametrize("headers", [{}, {"X-LINQ-INTEGRATION-TOKEN": "guess"}])
@pytest.mark.parametrize("path", ["/phone_numbers", "/chats/99", "/webhooks"])
def test_the_token_is_needed_for_everything(
    sandbox: Sandbox, path: str, headers: dict[str, str]
) -> None:
    response = requests.get(f"{sandbox.url}{API}{path}", headers=headers, timeout=10)
    assert response.status_code == 401
    validate(response.json(), "Error")


def test_rate_limit_answers_429_until_there_is_a_token(sandbox: Sandbox, get: Get) -> None:
    sandbox.rate_limit_per_s = 2.0
    responses = [get("/phone_numbers") for _ in range(6)]
    assert [response.status_code for response in responses][:2] == [200, 200]
    limited = responses[-1]
    assert limited.status_code == 429
    assert limited.headers["Retry-After"] == "1"
    validate(limited.json(), "Error")
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
