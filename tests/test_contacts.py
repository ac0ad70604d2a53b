"""Contacts: an optional resource, another envelope, and rows that are marked when they are gone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from dlt.common.pipeline import LoadInfo

from linq_source import forget
from linq_source.planning import window_reading
from linq_source.sandbox import Contact, Exchange, Fault, World
from tests.conftest import HOUR_MS, NOW_MS, Loader
from tests.truth import instant

OWNER = {"id": 9, "email": "ada@example.com", "first_name": "Ada", "last_name": "Okoye",
         "name": "Ada Okoye"}  # fmt: skip
KEY = "a key that is long enough"


@pytest.fixture
def five(small: Loader) -> Loader:
    """A chat with a message, and five contacts with ids of both kinds."""
    small.world.add_message(1, "hello", sent_at_ms=NOW_MS - HOUR_MS)
    for number in range(4):
        small.world.add_contact(f"First {number}", "Last", phone_number=f"+1555123000{number}")
    small.world.add_contact(
        "Eve", None, contact_id="c_5", email="eve@example.com", company="Acme", title="CEO",
        location="Oslo", image_url="https://example.com/5.png?signed=1", owner=dict(OWNER),
    )  # fmt: skip
    return small


def rows(loader: Loader, columns: str = "id, deleted_at IS NOT NULL") -> list[tuple[Any, ...]]:
    return loader.query(f"SELECT {columns} FROM contacts ORDER BY id")


def sync(loader: Loader, **options: Any) -> Any:
    return loader.sync(contacts=True, **options)


def refuse(loader: Loader, status: int) -> None:
    def fault(exchange: Exchange) -> Fault | None:
        return Fault(status=status) if exchange.route == "contacts" else None

    loader.sandbox.faults.append(fault)


def test_every_value_arrives_and_a_second_run_changes_nothing(five: Loader) -> None:
    report = sync(five)
    assert (report.contacts, report.exit_code) == (5, 0)
    expected = [
        (str(c.id), c.first_name, c.last_name, c.full_name, c.email, c.phone_number, c.company,
         c.title, c.location, c.image_url, instant(c.created_at_ms), instant(c.updated_at_ms),
         None, *(["9", *list(OWNER.values())[1:]] if c.owner else [None] * 5))
        for c in five.world.sorted_contacts()
    ]  # fmt: skip
    columns = (
        "id, first_name, last_name, full_name, email, phone_number, company, title, location, "
        "image_url, created_at, updated_at, deleted_at, owner_id, owner_email, owner_first_name, "
        "owner_last_name, owner_name"
    )
    assert rows(five, columns) == expected
    state = five.pipeline.state
    before = rows(five, "*")
    five.world.contacts["c_5"].image_url = "https://example.com/5.png?signed=2"
    assert sync(five).exit_code == 0
    assert rows(five, "*") == before
    assert five.pipeline.state["_state_version"] == state["_state_version"]


def test_what_changed_is_loaded_what_is_gone_is_marked_and_what_is_back_is_live(
    five: Loader,
) -> None:
    sync(five)
    world = five.world
    world.contacts[1].first_name = "Changed"
    gone = world.contacts.pop("c_5")
    assert sync(five).exit_code == 0
    assert rows(five) == [("1", False), ("2", False), ("3", False), ("4", False), ("c_5", True)]
    names = "first_name, owner_name, deleted_at = synced_at"
    assert rows(five, names)[0] == ("Changed", None, None)
    assert rows(five, names)[-1] == ("Eve", "Ada Okoye", True)
    before = rows(five, "*")
    sync(five)
    assert rows(five, "*") == before
    world.contacts["c_5"] = gone
    sync(five)
    assert ("c_5", False) in rows(five)


def test_a_new_field_becomes_a_column_and_stays_where_the_contact_is_gone(five: Loader) -> None:
    contact = five.world.contacts[1]
    contact.extra["mood"] = "calm"
    contact.owner = OWNER | {"team": {"id": 4}}
    assert sync(five).exit_code == 0
    del five.world.contacts[1]
    sync(five)
    found = rows(five, "mood, contact_owner_team, first_name, deleted_at IS NOT NULL")
    assert found[0] == ("calm", '{"id":4}', "First 0", True)


def test_contacts_are_asked_for_only_where_they_are_wanted(five: Loader) -> None:
    def asked(call: Callable[[], Any]) -> bool:
        return any(route == "contacts" for route, _ in five.requests_of(call))

    assert not asked(five.sync)
    assert not asked(lambda: five.pipeline.run(five.source()))
    assert "contacts" not in five.pipeline.default_schema.tables
    assert asked(lambda: five.pipeline.run(five.source().with_resources("contacts")))
    assert len(rows(five)) == 5
    del five.world.contacts[2]
    assert asked(lambda: five.pipeline.run(five.source(contacts=True)))
    assert ("2", True) in rows(five)


@pytest.mark.parametrize("status", [403, 404])
def test_an_account_without_contacts_loses_nothing_else(five: Loader, status: int) -> None:
    sync(five)
    before = rows(five, "*")
    refuse(five, status)
    five.world.add_message(1, "new", sent_at_ms=NOW_MS - HOUR_MS)
    report = sync(five)
    assert (report.messages, report.exit_code) == (2, 3)
    (note,) = report.notes
    assert note.startswith("contacts could not be read")
    assert f"HTTP {status}" in note
    assert rows(five, "*") == before
    assert five.sync().exit_code == 0
    info = five.pipeline.run(five.source(contacts=True))
    assert isinstance(info, LoadInfo)


def test_contacts_that_never_answer_lose_nothing_else(five: Loader) -> None:
    refuse(five, 500)
    report = sync(five, request_deadline_s=0.5)
    assert (report.messages, report.exit_code) == (1, 3)
    assert "contacts could not be read" in report.notes[0]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"first_name": "nobody"}, "id: missing"),
        ({"id": "1", "contact_owner": "Ada"}, "contact_owner: not an object, left out"),
        ({"id": 1, "created_at": "yesterday"}, "created_at: "),
        ({"id": "1", "email": ["a"]}, "email: an object or list"),
        ("null", "not an object"),
    ],
)
def test_bad_records_are_kept_whole_and_no_contact_taken_for_gone(
    five: Loader, raw: Any, reason: str
) -> None:
    sync(five)
    five.world.contacts[1].raw = text = raw if isinstance(raw, str) else json.dumps(raw)
    for _ in range(2):
        report = sync(five)
        assert (report.rejected, report.exit_code) == (1, 3)
        ((why, payload),) = five.query(
            "SELECT reason, payload FROM rejected_records WHERE table_name = 'contacts'"
        )
        assert why.startswith(reason)
        assert payload == text
    assert rows(five) == [(id_, False) for id_ in ("1", "2", "3", "4", "c_5")]


def test_one_id_twice_is_one_row_and_said(five: Loader) -> None:
    five.world.contacts[2].raw = json.dumps({"id": "1", "first_name": "Another"})
    report = sync(five)
    assert (report.rejected, report.exit_code) == (1, 3)
    assert [id_ for id_, _ in rows(five)] == ["1", "3", "4", "c_5"]


def test_a_list_that_moves_is_read_again(five: Loader) -> None:
    sync(five)
    asked = 0

    def hook(exchange: Exchange) -> None:
        nonlocal asked
        asked += exchange.route == "contacts"
        if asked == 3 and exchange.route == "contacts":
            del five.world.contacts[1]

    five.sandbox.hooks.append(hook)
    assert sync(five, page_size=1, workers=1).exit_code == 0
    assert [id_ for id_, is_gone in rows(five) if is_gone] == ["1"]


def moving(loader: Loader) -> Callable[[Exchange], None]:
    def hook(exchange: Exchange) -> None:
        if exchange.route == "contacts":
            loader.world.add_contact("Another", None)

    return hook


def test_a_list_that_never_stands_still_marks_nothing_until_it_does(five: Loader) -> None:
    sync(five)
    del five.world.contacts[1]
    five.sandbox.hooks.append(moving(five))
    report = sync(five, page_size=2)
    assert report.exit_code == 3
    assert "none of them was marked deleted" in report.notes[0]
    assert ("1", False) in rows(five)
    five.sandbox.hooks.clear()
    assert sync(five).exit_code == 0
    assert [id_ for id_, is_gone in rows(five) if is_gone] == ["1"]
    assert len(rows(five)) == len(five.world.contacts) + 1


@pytest.mark.parametrize("claim", [{"total_count": 2**50, "total_pages": 2**50}, {"per_page": 1}])
def test_a_walk_ends_whatever_the_counts_claim(five: Loader, claim: dict[str, int]) -> None:
    def fault(exchange: Exchange) -> Fault | None:
        if exchange.route != "contacts":
            return None
        page = int(exchange.params["page"])
        records = [{"id": c.id} for c in five.world.sorted_contacts()] if page == 1 else []
        sizes = {"current_page": page, "per_page": 100, "total_pages": 1, "total_count": 5}
        body = json.dumps({"contacts": records, "pagination": sizes | claim})
        return Fault(status=200, body=body.encode())

    five.sandbox.faults.append(fault)
    requests = five.requests_of(lambda: sync(five))
    asked = sum(route == "contacts" for route, _ in requests)
    assert asked <= window_reading.ATTEMPTS * (1 + window_reading.CHUNK_PAGES)
    assert len(rows(five)) == 5
    assert window_reading.CHUNK_PAGES < asked if "total_count" in claim else asked == 1


def test_an_interrupted_marking_is_done_by_the_next_run(five: Loader) -> None:
    sync(five)
    del five.world.contacts[1]
    five.world.contacts[2].first_name = "Changed"
    source = five.source().with_resources("contacts")
    source.resources["contacts"].add_limit(1, count_rows=False)
    five.pipeline.run(source)
    assert rows(five, "first_name, deleted_at")[1] == ("Changed", None)
    assert ("1", False) in rows(five)
    five.pipeline.run(five.source().with_resources("contacts"))
    assert [id_ for id_, is_gone in rows(five) if is_gone] == ["1"]


def test_only_the_first_shard_loads_contacts(five: Loader) -> None:
    five.sync_shards(2, contacts=True)
    five.sync_shards(2, contacts=True)
    assert five.query("SELECT count(*), count(DISTINCT id) FROM linq.contacts") == [(5, 5)]


def test_what_another_pipeline_loaded_or_marked_is_loaded_again(five: Loader) -> None:
    sync(five)
    other = Loader(five.sandbox, five.folder, "another")
    before = dict(five.world.contacts)
    del five.world.contacts["c_5"]
    five.world.contacts[1].first_name = "Changed"
    sync(other)
    sync(other)
    five.world.contacts |= before
    five.world.contacts[1].first_name = "First 0"
    sync(five)
    assert rows(five, "first_name, deleted_at")[0] == ("First 0", None)
    assert ("c_5", False) in rows(five)


@pytest.mark.parametrize("phones", ["hash", "drop"])
def test_private_values_are_hashed_or_dropped(five: Loader, phones: str) -> None:
    five.world.contacts[1].raw = json.dumps({"id": 1, "email": "x@example.com", "title": []})
    key = {"privacy_key": KEY} if phones == "hash" else {}
    sync(five, phones=phones, text="drop", **key)
    found = repr(rows(five, "*")) + repr(five.query("SELECT * FROM rejected_records"))
    for private in ("+1555", "example.com", "ada@"):
        assert private not in found
    assert "Eve" in found
    assert "Acme" in found
    is_there = rows(five, "phone_number IS NOT NULL, email IS NOT NULL, image_url IS NOT NULL")
    assert is_there[1] == (phones == "hash", False, False)
    assert is_there[-1] == (False, phones == "hash", False)


@pytest.mark.parametrize(
    ("number", "id_"), [("+1 (555) 123-0000", "1"), ("Eve@Example.com", "c_5")]
)
def test_a_forgotten_person_s_contact_is_erased_and_not_loaded_again(
    five: Loader, number: str, id_: str
) -> None:
    sync(five)
    assert forget(five.pipeline, phone_numbers=[number]).erased["contacts"] == 1
    left = sorted({"1", "2", "3", "4", "c_5"} - {id_})
    for _ in range(2):
        assert [found for found, _ in rows(five)] == left
        five.world.add_contact("Someone", None, contact_id="z")
        sync(five)
        del five.world.contacts["z"]
        left = sorted({*left, "z"})


def test_an_owner_who_is_forgotten_is_masked(five: Loader) -> None:
    sync(five)
    forget(five.pipeline, phone_numbers=["ada@example.com"])
    sync(five)
    assert rows(five, "id, owner_email")[-1] == ("c_5", None)


def test_the_sandbox_changes_a_contact_by_its_own_object(small: Loader) -> None:
    contact = small.world.add_contact("One", None)
    assert isinstance(contact, Contact)
    with pytest.raises(ValueError, match="in use"):
        small.world.add_contact("Two", None, contact_id=contact.id)


def test_a_copy_of_a_world_has_contacts_of_its_own() -> None:
    world = World(NOW_MS)
    world.add_contact("One", None)
    copy = world.copy()
    copy.contacts[1].first_name = "Two"
    assert world.contacts[1].first_name == "One"
