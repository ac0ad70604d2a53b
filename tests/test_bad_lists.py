"""Records of the listings that break the contract: nothing of them is swallowed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from linq_source.sandbox import World
from tests.conftest import DAY_MS, NOW_MS, Loader

HANDLE = {"id": 7, "phone_number": "+15551230007", "service": "SMS", "joined_at": "2026-01-01"}
CHAT: dict[str, Any] = {
    "id": 2, "display_name": "Two", "service": "SMS", "group": False, "message_count": 1,
    "chat_handles": [HANDLE],
}  # fmt: skip
NUMBER: dict[str, Any] = {
    "id": 2, "phone_number": "+15550000002", "forwarding_number": None, "response_rate": 75,
}  # fmt: skip


@pytest.fixture
def two(small: Loader) -> Loader:
    """Two numbers with one chat each, and a message in each chat."""
    add_second_number(small.world)
    for chat_id in (1, 2):
        small.world.add_message(chat_id, f"in {chat_id}", sent_at_ms=NOW_MS - DAY_MS)
    return small


def add_second_number(world: World) -> None:
    world.add_phone_number("+15550000002")
    world.add_chat(display_name="Two", chat_id=2, phone_number_ids=[2])


def rejected(loader: Loader) -> list[tuple[Any, ...]]:
    return loader.query(
        "SELECT table_name, chat_id, message_id, reason, payload FROM rejected_records"
    )


def texts(loader: Loader) -> list[str]:
    found = loader.query("SELECT text FROM chat_messages WHERE deleted_at IS NULL ORDER BY id")
    return [text for (text,) in found]


@pytest.mark.parametrize(
    ("raw", "rows", "reason"),
    [
        (json.dumps({k: v for k, v in NUMBER.items() if k != "id"}), [], "id: missing"),
        (json.dumps(NUMBER | {"id": "pn_0f9e3c1a"}), [], "id: not a whole number"),
        (json.dumps(NUMBER | {"id": 1}), [], "id: stands twice in one answer, the first"),
        (json.dumps(NUMBER | {"response_rate": "75%"}), [(2, None)], "response_rate: not a whole"),
        (
            '{"more": ' + "[" * 3_000 + "]" * 3_000 + "," + json.dumps(NUMBER)[1:],
            [],
            "nested too deeply",
        ),
    ],
    ids=["no id", "a text as id", "another's id", "a rate with a sign", "nested deeply"],
)
def test_a_number_is_asked_for_its_chats_whatever_its_record_is_like(
    two: Loader, raw: str, rows: list[Any], reason: str
) -> None:
    two.world.phone_numbers[2].raw = raw
    for _ in range(2):
        report = two.sync()
        assert (report.rejected, report.exit_code, report.deleted) == (1, 3, 0)
        assert texts(two) == ["in 1", "in 2"]
        assert two.query("SELECT id, response_rate FROM phone_numbers WHERE id = 2") == rows
        ((table, chat_id, message_id, why, payload),) = rejected(two)
        assert (table, chat_id, message_id, payload) == ("phone_numbers", -1, -1, raw)
        assert why.startswith(reason)


@pytest.mark.parametrize("number", [None, "", " ", {"e164": "+15550000002"}])
def test_a_number_that_cannot_be_asked_for_is_said_and_no_chat_taken_for_vanished(
    two: Loader, number: Any
) -> None:
    assert two.sync().exit_code == 0
    two.world.phone_numbers[2].raw = raw = json.dumps(NUMBER | {"phone_number": number})
    report = two.sync()
    assert (report.rejected, report.exit_code) == (1, 3)
    assert [row[4] for row in rejected(two)] == [raw]
    assert two.query("SELECT id FROM chats WHERE deleted_at IS NULL ORDER BY id") == [(1,), (2,)]


@pytest.mark.parametrize("raw", [json.dumps(CHAT | {"id": "c_2"}), "null", json.dumps({})])
def test_a_chat_that_cannot_be_told_is_said_and_no_chat_taken_for_vanished(
    two: Loader, raw: str
) -> None:
    assert two.sync().exit_code == 0
    two.world.chats[2].raw = raw
    reports: list[Any] = []
    for _ in range(2):
        requests = two.requests_of(lambda: reports.append(two.sync()))
        assert [route for route, _ in requests].count("chats") == 2
    assert [(r.rejected, r.exit_code, r.deleted) for r in reports] == [(1, 3, 0)] * 2
    ((table, chat_id, _, _, payload),) = rejected(two)
    assert (table, chat_id, payload) == ("chats", -1, raw)
    assert two.query("SELECT id FROM chats WHERE deleted_at IS NULL ORDER BY id") == [(1,), (2,)]
    assert texts(two) == ["in 1", "in 2"]
    two.world.chats[2].raw = None
    assert two.sync().exit_code == 0


@pytest.mark.parametrize(
    ("changed", "rows", "reason"),
    [
        ({"group": "true"}, [("Two", None, 1)], "group: not true or false"),
        ({"message_count": "many"}, [("Two", False, 1)], "message_count: not a whole number"),
        (
            {"chat_handles": [HANDLE | {"joined_at": ""}]},
            [("Two", False, 1)],
            "chat_handles[0].joined_at: not an ISO 8601",
        ),
        (
            {"chat_handles": [HANDLE, {"phone_number": "+15551230008"}]},
            [("Two", False, 1)],
            "chat_handles[1]: no usable id, left out",
        ),
        (
            {"chat_handles": [HANDLE, HANDLE | {"service": "RCS"}]},
            [("Two", False, 1)],
            "chat_handles[1]: id stands twice, the first kept",
        ),
    ],
    ids=["group", "count", "joined_at", "participant without id", "participant twice"],
)
def test_what_of_a_chat_was_repaired_is_loaded_and_said_once(
    two: Loader, changed: dict[str, Any], rows: list[Any], reason: str
) -> None:
    two.world.chats[2].raw = raw = json.dumps(CHAT | changed)
    for _ in range(2):
        report = two.sync()
        assert (report.rejected, report.exit_code) == (1, 3)
        found = two.query(
            "SELECT display_name, is_group, count(h.id) FROM chats AS c"
            " JOIN chats__chat_handles AS h ON h.chat_id = c.id WHERE c.id = 2 GROUP BY ALL"
        )
        assert found == rows
        assert texts(two) == ["in 1", "in 2"]
        ((table, chat_id, message_id, why, payload),) = rejected(two)
        assert (table, chat_id, message_id, payload) == ("chats", 2, -1, raw)
        assert why.startswith(reason)
    two.world.chats[2].raw = raw = json.dumps(CHAT | changed | {"display_name": "2"})
    assert two.sync().rejected == 1
    assert [row[4] for row in rejected(two)][1:] == [raw]


def test_a_repaired_chat_does_not_hold_back_the_deletions_in_it(two: Loader) -> None:
    message = two.world.add_message(2, "goes", sent_at_ms=NOW_MS - DAY_MS + 5)
    assert two.sync().exit_code == 0
    two.world.delete_message(message.id)
    two.world.chats[2].raw = json.dumps(CHAT | {"group": "true"})
    report = two.sync()
    assert (report.deleted, report.rejected) == (1, 1)
    assert texts(two) == ["in 1", "in 2"]


def test_one_id_twice_in_a_list_is_one_row_and_said(two: Loader) -> None:
    two.world.add_chat(display_name="Three", chat_id=3, phone_number_ids=[2])
    two.world.chats[3].raw = raw = json.dumps(CHAT | {"display_name": "Three"})
    report = two.sync()
    assert (report.rejected, report.exit_code) == (1, 3)
    assert two.query("SELECT id, display_name FROM chats ORDER BY id") == [(1, "One"), (2, "Two")]
    assert [(row[0], row[1], row[4]) for row in rejected(two)] == [("chats", 2, raw)]
    # What is missing is known by its id, so the list is whole: a chat that goes is noticed.
    two.world.remove_chat(1)
    two.sync()
    assert two.query("SELECT id FROM chats WHERE expired_at IS NOT NULL") == [(1,)]


def test_one_id_on_two_pages_of_a_list_is_one_row_and_said(two: Loader) -> None:
    two.world.phone_numbers[1].raw = json.dumps({"id": 1, "phone_number": "+15550000002"})
    two.world.add_chat(display_name="Three", chat_id=3, phone_number_ids=[2])
    two.world.chats[3].raw = json.dumps(CHAT | {"display_name": "Three"})
    for _ in range(2):
        report = two.sync(page_size=1)
        assert (report.rejected, report.exit_code) == (1, 3)
        assert two.query("SELECT id, display_name FROM chats") == [(2, "Three")]
        ((table, chat_id, _, reason, payload),) = rejected(two)
        assert (table, chat_id) == ("chats", 2)
        assert reason == "id: stands twice in the list, the last one kept"
        assert json.loads(payload)["display_name"] == "Two"


def test_shards_tell_a_record_once_together(two: Loader) -> None:
    two.world.phone_numbers[2].raw = json.dumps(NUMBER | {"response_rate": "75%"})
    two.world.chats[1].raw = json.dumps(CHAT | {"id": 1, "group": "true"})
    two.world.chats[2].raw = json.dumps(CHAT | {"id": "c_2"})
    reports = two.sync_shards(2)
    assert [report.rejected for report in reports] == [2, 1]
    assert sorted((row[0], row[1]) for row in rejected(two)) == [
        ("chats", -1),
        ("chats", 1),
        ("phone_numbers", -1),
    ]


def test_resources_by_themselves_keep_what_they_reject(two: Loader) -> None:
    two.world.chats[2].raw = json.dumps(CHAT | {"group": "true"})
    two.pipeline.run(two.source().with_resources("chats"))
    assert [(row[0], row[1]) for row in rejected(two)] == [("chats", 2)]


def test_a_chat_asked_for_by_its_id_is_said_too(two: Loader) -> None:
    two.world.chats[2].raw = raw = json.dumps(CHAT | {"id": "c_2"})
    report = two.sync(chat_ids=[1, 2])
    assert (report.rejected, report.exit_code) == (1, 3)
    assert texts(two) == ["in 1"]
    assert [row[4] for row in rejected(two)] == [raw]


BROKEN: dict[str, Any] = {
    "null": None, "true": True, "fraction": 1.5, "word": "x", "empty": "", "object": {"a": 1},
    "list": [1], "overlong": "9" * 400, "beyond": 10**30, "year 0": "0000-00-00T00:00:00Z",
}  # fmt: skip
TYPES: dict[str, dict[str, str]] = {
    "chat": {
        "id": "key", "display_name": "text", "service": "text", "group": "bool",
        "message_count": "bigint",
    },
    "chat_handles": {
        "id": "key", "phone_number": "text", "service": "text", "joined_at": "timestamp",
    },
    "message": {
        "id": "key", "text": "text", "sent_at": "key", "delivered_at": "timestamp",
        "delivery_status": "text", "edited_at": "timestamp", "is_read": "bool",
        "sent_from": "text", "chat_handle_id": "bigint",
    },
    "attachments": {
        "id": "text", "url": "text", "filename": "text", "mime_type": "text",
        "file_size": "bigint",
    },
    "reactions": {
        "id": "key", "reaction": "text", "is_from_me": "bool", "from_phone": "text",
        "sent_at": "timestamp", "created_at": "timestamp", "updated_at": "timestamp",
    },
    "number": {"id": "key", "forwarding_number": "text", "response_rate": "bigint"},
}  # fmt: skip


def is_faithful(type_: str, value: Any) -> bool:
    """Whether a column of the type can hold the value as it came."""
    if type_ == "key":
        return False
    if value is None:
        return True
    return (
        not isinstance(value, dict | list) if type_ == "text" else type_ == "bool" and value is True
    )


def broken(kind: str, good: dict[str, Any]) -> list[tuple[dict[str, Any], bool]]:
    """The good record with each field wrong in each way, and whether that can be held as it is."""
    found: list[tuple[dict[str, Any], bool]] = []
    for field, type_ in TYPES[kind].items():
        found.append(({k: v for k, v in good.items() if k != field}, is_faithful(type_, None)))
        found += [(good | {field: value}, is_faithful(type_, value)) for value in BROKEN.values()]
    return found


def test_every_field_wrong_in_every_way_disturbs_nothing_and_is_said(small: Loader) -> None:
    world = small.world
    expected: list[tuple[str, str]] = []
    loadable: dict[str, int] = {"phone_numbers": 1, "chats": 1, "chat_messages": 1}

    def enter(table: str, record: dict[str, Any], is_faithful: bool, is_key: bool) -> str:
        raw = json.dumps(record)
        loadable[table] += not is_key
        if not is_faithful:
            expected.append((table, raw))
        return raw

    for number, (record, faithful) in enumerate(broken("number", NUMBER), start=100):
        record = {k: number if k == "id" and v == NUMBER["id"] else v for k, v in record.items()}
        world.add_phone_number(f"+1555{number}", phone_number_id=number)
        record["phone_number"] = f"+1555{number}"
        raw = enter("phone_numbers", record, faithful, record.get("id") != number)
        world.phone_numbers[number].raw = raw
    # Its list is empty, too.
    chat = CHAT | {"message_count": 0}
    handles = [
        (chat | {"chat_handles": [HANDLE, record]}, faithful)
        for record, faithful in broken("chat_handles", HANDLE | {"id": 8})
    ]
    for number, (record, faithful) in enumerate([*broken("chat", chat), *handles], start=100):
        record = {k: number if k == "id" and v == chat["id"] else v for k, v in record.items()}
        world.add_chat(chat_id=number)
        raw = enter("chats", record, faithful, record.get("id") != number)
        world.chats[number].raw = raw
    good = {
        "id": 0, "text": "t", "sent_at": "2026-02-14T12:00:00Z", "is_read": True,
        "attachments": [], "reactions": [],
    }  # fmt: skip
    children = [
        (good | {field: [{"id": 4}, record]}, faithful)
        for field in ("attachments", "reactions")
        for record, faithful in broken(field, {"id": 5})
    ]
    everything = [*broken("message", good), *children]
    for number, (record, faithful) in enumerate(everything, start=100):
        is_key = record.get("id") != 0 or record.get("sent_at") != good["sent_at"]
        record = {k: number if k == "id" and v == 0 else v for k, v in record.items()}
        raw = enter("chat_messages", record, faithful, is_key)
        world.add_message(1, message_id=number, sent_at_ms=NOW_MS - DAY_MS, raw=raw)
    world.add_message(1, "good", message_id=99, sent_at_ms=NOW_MS - DAY_MS)
    for run in range(2):
        report = small.sync(request_deadline_s=5)
        assert report.exit_code == 3
        found = small.query("SELECT table_name, payload FROM rejected_records")
        assert sorted(found) == sorted(expected)
        lists = [table for table, _ in expected if table != "chat_messages"]
        assert report.rejected == (len(lists) if run else len(expected))
        for table, count in loadable.items():
            assert small.query(f"SELECT count(*) FROM {table}") == [(count,)]
        assert report.windows_unverified == 0
    assert small.query("SELECT text FROM chat_messages WHERE id = 99") == [("good",)]
