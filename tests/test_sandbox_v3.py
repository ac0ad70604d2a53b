"""The sandbox keeps to the contract of v3, over the same world."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import yaml
from jsonschema import Draft202012Validator

from linq_source.sandbox import DEFAULT_TOKEN, Fault, Sandbox, World, seeded_world
from linq_source.sandbox.rendering_v3 import number_of, uuid_of
from tests.sandboxed import DATA, sandbox, world

__all__ = ["sandbox", "world"]

CONTRACT = yaml.safe_load((DATA / "linq_api_v3.openapi.yaml").read_text())
CHAT = uuid_of("chat", 1)
Get = Callable[..., requests.Response]


def validate(answer: Any, schema: str) -> None:
    """Checks an answer against a schema of the contract."""
    named = {"$ref": f"#/components/schemas/{schema}", "components": CONTRACT["components"]}
    checker = Draft202012Validator.FORMAT_CHECKER
    Draft202012Validator(named, format_checker=checker).validate(answer)


@pytest.fixture
def get(sandbox: Sandbox) -> Iterator[Get]:
    """Gets a path below v3's prefix of `sandbox`, or of the sandbox given as `of`."""
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {DEFAULT_TOKEN}"

        def get(path: str, of: Sandbox = sandbox, **params: Any) -> requests.Response:
            return session.get(f"{of.url}/api/partner/v3{path}", params=params, timeout=10)

        yield get


def walk(get: Get, path: str, name: str, schema: str, **options: Any) -> Iterator[dict[str, Any]]:
    """The records of all pages, each page checked."""
    cursor: dict[str, str] = {}
    while True:
        answer = get(path, **options, **cursor)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        validate(page, schema)
        yield from page[name]
        if page["next_cursor"] is None:
            return
        cursor = {"cursor": page["next_cursor"]}


@pytest.mark.parametrize("cursors", ["keyset", "offset"])
def test_every_page_of_the_seeded_world_is_valid_and_complete(get: Get, cursors: Any) -> None:
    world = seeded_world()
    with Sandbox(world) as seeded:
        seeded.cursors = cursors
        lines = get("/phone_numbers", seeded).json()
        validate(lines, "PhoneNumberList")
        assert [line["phone_number"] for line in lines["phone_numbers"]] == [
            number.phone_number for number in world.phone_numbers.values()
        ]
        chats = list(walk(get, "/chats", "chats", "ChatPage", of=seeded, limit=7))
        assert [number_of("chat", chat["id"]) for chat in chats] == sorted(world.chats)
        for chat in chats:
            assert get(f"/chats/{chat['id']}", seeded).json() == chat
            path = f"/chats/{chat['id']}/messages"
            messages = list(walk(get, path, "messages", "MessagePage", of=seeded, limit=100))
            known = world.messages_of(number_of("chat", chat["id"]) or 0)
            assert [number_of("message", m["id"]) for m in messages] == [
                m.id for m in reversed(known)
            ]
            assert [[p["value"] for p in m["parts"] if p["type"] == "text"] for m in messages] == [
                [] if m.text is None else [m.text] for m in reversed(known)
            ]
            assert [[p["id"] for p in m["parts"] if p["type"] == "media"] for m in messages] == [
                [a.id for a in m.attachments] for m in reversed(known)
            ]
            assert [sum(len(p["reactions"] or ()) for p in m["parts"]) for m in messages] == [
                len(m.reactions) for m in reversed(known)
            ]
    assert seeded.failures == []


def test_who_wrote_and_how_it_went(get: Get, sandbox: Sandbox) -> None:
    world = sandbox.world
    handle = world.add_handle(1, "mara@example.com", joined_at_ms=0)
    sent = world.add_message(1, "out", sent_from="+15550100001", is_read=True)
    got = world.add_message(1, "in", sent_from="mara@example.com", chat_handle_id=handle.id)
    world.add_reaction(sent.id, "love", from_phone="mara@example.com")
    newest, before = get(f"/chats/{CHAT}/messages", limit=2).json()["messages"]
    assert (newest["id"], newest["is_from_me"]) == (uuid_of("message", got.id), False)
    assert newest["from_handle"]["id"] == uuid_of("handle", handle.id)
    assert newest["delivery_status"] == "received"
    assert (before["is_from_me"], before["delivery_status"], before["is_read"]) == (
        True,
        "read",
        True,
    )
    assert before["from_handle"]["is_me"]
    (reaction,) = before["parts"][0]["reactions"]
    assert (reaction["type"], reaction["handle"]["handle"]) == ("love", "mara@example.com")
    assert get(f"/messages/{before['id']}").json() == before


def test_pages_by_offset_hide_what_a_deletion_moves_and_pages_by_key_do_not(
    get: Get, sandbox: Sandbox
) -> None:
    seen = {}
    for cursors in ("keyset", "offset"):
        sandbox.cursors = cursors
        first = get(f"/chats/{CHAT}/messages", limit=3).json()
        newest = sandbox.world.messages_of(1)[-1]
        sandbox.world.delete_message(newest.id)
        rest = get(f"/chats/{CHAT}/messages", limit=100, cursor=first["next_cursor"]).json()
        listed = {m["id"] for m in first["messages"] + rest["messages"]}
        there = {uuid_of("message", m.id) for m in sandbox.world.messages_of(1)}
        seen[cursors] = len(there - listed)
    assert seen == {"keyset": 0, "offset": 1}


def test_oldest_first_where_asked_for(get: Get, sandbox: Sandbox) -> None:
    sandbox.newest_first = False
    messages = list(walk(get, f"/chats/{CHAT}/messages", "messages", "MessagePage", limit=3))
    assert [number_of("message", m["id"]) for m in messages] == list(range(1, 11))


def test_chats_of_a_line_and_with_somebody(get: Get, sandbox: Sandbox) -> None:
    other = sandbox.world.add_phone_number("+15550100002")
    chat = sandbox.world.add_chat(phone_number_ids=[other.id])
    sandbox.world.add_handle(1, "mara@example.com", joined_at_ms=0)
    for query, expected in (
        ({"from": "+15550100002"}, chat.id),
        ({"to": "mara@example.com"}, 1),
    ):
        found = get("/chats", **query).json()["chats"]
        assert [number_of("chat", chat["id"]) for chat in found] == [expected]


def test_an_attachment_has_a_fresh_link(get: Get, sandbox: Sandbox) -> None:
    attachment = sandbox.world.add_attachment(1, file_size=100)
    sandbox.serves_files = True
    answer = get(f"/attachments/{attachment.id}").json()
    validate(answer, "Attachment")
    assert len(requests.get(answer["download_url"], timeout=10).content) == 100


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        (f"/chats/{uuid_of('chat', 9)}", {}, 404, 2001),
        ("/chats/nobody/messages", {}, 404, 2001),
        (f"/messages/{uuid_of('message', 99)}", {}, 404, 2002),
        ("/attachments/none", {}, 404, 2003),
        (f"/chats/{CHAT}/messages", {"limit": "101"}, 400, 1002),
        (f"/chats/{CHAT}/messages", {"limit": "0"}, 400, 1002),
        (f"/chats/{CHAT}/messages", {"cursor": "3"}, 400, 1003),
        ("/nothing", {}, 404, 2001),
    ],
)
def test_what_is_wrong_is_told_as_the_contract_says(
    get: Get, path: str, query: dict[str, str], status: int, code: int
) -> None:
    answer = get(path, **query)
    assert answer.status_code == status
    validate(answer.json(), "Error")
    assert (answer.json()["error"]["status"], answer.json()["error"]["code"]) == (status, code)


def test_a_wrong_token_too_many_requests_and_faults(get: Get, sandbox: Sandbox) -> None:
    url = f"{sandbox.url}/api/partner/v3/phone_numbers"
    # The token of v2 stands in another header.
    refused = requests.get(url, headers={"X-LINQ-INTEGRATION-TOKEN": DEFAULT_TOKEN}, timeout=10)
    validate(refused.json(), "Error")
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, 2004)
    sandbox.rate_limit_per_s = 1
    limited = [get("/phone_numbers") for _ in range(4)][-1]
    validate(limited.json(), "Error")
    assert limited.headers["Retry-After"] == str(limited.json()["error"]["retry_after"])
    sandbox.rate_limit_per_s = None
    sandbox.faults.append(lambda exchange: Fault(status=503) if exchange.route == "chats" else None)
    failed = get("/chats")
    validate(failed.json(), "Error")
    assert (failed.status_code, failed.json()["error"]["code"]) == (503, 3001)


def test_a_number_and_its_uuid_are_the_same_both_ways() -> None:
    for number in (1, 2**40 + 7, 2**63 - 1):
        assert number_of("message", uuid_of("message", number)) == number
    assert number_of("chat", uuid_of("message", 1)) is None
    assert number_of("chat", "7c1d2a34-1111-4111-8111-111111111111") is None


def test_the_world_forgets_in_v3_too(get: Get) -> None:
    world = World(now_ms=10_000)
    world.add_phone_number("+15550100001", keeps_ms=1_000)
    world.add_chat()
    world.add_message(1, sent_at_ms=9_500)
    with Sandbox(world) as forgetful:
        assert len(get(f"/chats/{CHAT}/messages", forgetful).json()["messages"]) == 1
        world.advance(1_000)
        assert get(f"/chats/{CHAT}/messages", forgetful).json() == {
            "messages": [],
            "next_cursor": None,
        }
