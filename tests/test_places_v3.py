"""What reads a dataset of API v3, over rows written down one by one.

Ids are texts, and `created_at` stands where v2 has `sent_at`, which is null of what was never sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dlt
import pyarrow as pa
import pytest

from linq_source import ConfigurationError, forget, settle
from linq_source.destinations.bucket import Bucket
from linq_source.destinations.kinds import destination_of
from linq_source.destinations.lake import check_lake, rebuild_lake
from linq_source.destinations.live_counts import gaps_since, live_messages
from linq_source.destinations.load_dialect import in_the_dialect
from linq_source.destinations.remote import connected
from linq_source.errors import AuthenticationError
from linq_source.operations.status import reading_for_status, status
from linq_source.operations.views import make_views
from linq_source.reporting.making import whole_name
from linq_source.reporting.questions import READ_FOR_REPORT, read_figures
from linq_source.rows.hints import table_hints
from linq_source.sandbox import DEFAULT_TOKEN, World, seeded_world
from linq_source.sandbox.rendering_v3 import Kind, uuid_of
from linq_source.settings import Shard
from linq_source.tables_v3 import CHAT_MESSAGES, TABLES
from tests.attaching import fetch
from tests.conftest import HOUR_MS, Loader
from tests.destinations import KINDS, Place, kinds
from tests.truth import Row

FIRST = datetime(2026, 2, 1, tzinfo=UTC)
SECOND = FIRST + timedelta(hours=1)
LINE, ANN, BOB = "+15550000001", "+15550000002", "+15550000003"
DAY = timedelta(days=1)


def uuid(kind: int, number: int) -> str:
    return f"{kind:08x}-0000-4000-8000-{number:012x}"


OF_ANN, OF_BOB, GROUP = (uuid(1, number) for number in (0xA0, 0xB1, 0xC2))


class Rows:
    """Rows of one package, by table."""

    def __init__(self, synced_at: datetime) -> None:
        self.synced_at = synced_at
        self.by_table: dict[str, list[Row]] = {}

    def add(self, table: str, **row: Any) -> None:
        self.by_table.setdefault(table, []).append({**row, "synced_at": self.synced_at})

    def chat(self, chat_id: str, *numbers: str) -> None:
        self.add("chats", id=chat_id, is_group=len(numbers) > 1, service="iMessage")
        self.add(
            "chats__phone_numbers", chat_id=chat_id, phone_number_id=uuid(2, 1), phone_number=LINE
        )
        for place, number in enumerate((LINE, *numbers)):
            self.add(
                "chats__chat_handles", chat_id=chat_id, id=uuid(3, place), phone_number=number,
                is_me=place == 0,
            )  # fmt: skip

    def message(
        self, chat_id: str, number: int, sender: str, created_at: datetime,
        *, is_sent: bool = True, reactions: int = 0, mentions: str | None = None,
    ) -> None:  # fmt: skip
        message_id = uuid(4, number)
        of_message = {"chat_message_id": message_id, "chat_id": chat_id}
        self.add(
            "chat_messages", id=message_id, chat_id=chat_id, text=f"text {number}",
            created_at=created_at, sent_at=created_at if is_sent else None, sent_from=sender,
            is_from_me=sender == LINE, chat_handle_id=uuid(3, 0 if sender == LINE else 1),
            delivery_status="delivered" if is_sent else "failed",
        )  # fmt: skip
        self.add(
            "chat_messages__parts", **of_message, position=0, type="text", value=f"text {number}",
            mentions=mentions,
        )  # fmt: skip
        self.add("chat_messages__parts", **of_message, position=1, type="media",
                 attachment_id=uuid(5, number))  # fmt: skip
        self.add("chat_messages__attachments", **of_message, position=1, id=uuid(5, number),
                 url="https://files.example/a", mime_type="image/png", file_size=9)  # fmt: skip
        for place in range(reactions):
            self.add("chat_messages__reactions", **of_message, part_position=0, position=place,
                     reaction="like", from_phone=sender, is_from_me=False)  # fmt: skip
        if not reactions:
            self.add("chat_messages__reactions", **of_message, part_position=-1, position=-1,
                     _tombstone=True)  # fmt: skip

    def window(self, chat_id: str, end: datetime, **more: Any) -> None:
        row = {"verified": True, "event": "read", "kept_since": datetime(1, 1, 1, tzinfo=UTC)}
        self.add("sync_windows", chat_id=chat_id, window_end=end, **{**row, **more})

    def run(self) -> None:
        self.add("sync_runs", bound=self.synced_at, chats=3, chats_failed=0, covered="all",
                 windows_unverified=0, messages=7)  # fmt: skip


def first_package() -> Rows:
    rows = Rows(FIRST)
    rows.add("phone_numbers", id=uuid(2, 1), phone_number=LINE)
    rows.chat(OF_ANN, ANN)
    rows.message(OF_ANN, 1, ANN, FIRST - 40 * DAY, reactions=2)
    rows.message(OF_ANN, 2, LINE, FIRST - 3 * DAY, is_sent=False, reactions=1)
    rows.message(OF_ANN, 3, ANN, FIRST - 2 * DAY)
    rows.chat(OF_BOB, BOB)
    rows.message(OF_BOB, 4, LINE, FIRST - 40 * DAY, is_sent=False)
    rows.message(OF_BOB, 5, BOB, FIRST - 2 * DAY)
    rows.chat(GROUP, ANN, BOB)
    rows.message(GROUP, 6, ANN, FIRST - 2 * DAY, mentions=f'[{{"handle": "{BOB}"}}]')
    rows.message(GROUP, 7, BOB, FIRST - DAY)
    for chat_id in (OF_ANN, OF_BOB, GROUP):
        rows.window(chat_id, FIRST)
    rows.run()
    return rows


def second_package() -> Rows:
    """The newest of Ann's lost its reactions, what was not sent is gone; of Bob's all but late."""
    rows = Rows(SECOND)
    rows.message(OF_ANN, 1, ANN, FIRST - 40 * DAY)
    rows.window(OF_ANN, FIRST - 41 * DAY)
    rows.window(OF_ANN, FIRST - DAY * 2, window_start=FIRST - 41 * DAY)
    rows.window(OF_BOB, SECOND, window_start=FIRST - 30 * DAY, kept_since=FIRST - DAY)
    rows.add("sync_windows", chat_id=GROUP, window_start=FIRST - 9 * DAY, window_end=FIRST,
             verified=False, event="gap")  # fmt: skip
    rows.run()
    return rows


class Dataset:
    """A pipeline of a place, into which rows are loaded."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place = place
        self._folder = folder

    def pipeline(self, name: str = "test_linq") -> dlt.Pipeline:
        return dlt.pipeline(
            name, destination=self.place.destination(), dataset_name="linq",
            pipelines_dir=str(self._folder / "pipelines"),
        )  # fmt: skip

    def load(self, rows: Rows) -> None:
        pipeline = self.pipeline()
        table_format: Any = self.place.options.get("table_format")
        write_strategy = (
            destination_of(pipeline).write_strategy if table_format is None else "upsert"
        )

        def generate() -> Iterator[Any]:
            dlt.current.source_state()["synced_at_us"] = int(rows.synced_at.timestamp() * 1e6)
            for name, table in TABLES.items():
                found = rows.by_table.get(name, [])
                if write_strategy == "upsert":
                    found = [row for row in found if "_tombstone" not in row]
                if found or (name == "rejected_records" and rows.synced_at == FIRST):
                    yield in_the_dialect(pa.Table.from_pylist(found, schema=table.schema), table)

        @dlt.source(name="linq", section="linq")
        def source() -> Any:
            resource = dlt.resource(generate, name="chat_messages")
            for table in TABLES.values():
                hints: dict[str, Any] = table_hints(table, write_strategy=write_strategy)
                resource.apply_hints(create_table_variant=True, table_format=table_format, **hints)
            return resource

        destination = destination_of(pipeline)
        pipeline.extract(source(), table_format=table_format)
        pipeline.normalize()
        with destination.loading():
            pipeline.load()

    def ids(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        return sorted(tuple(row[name] for name in columns) for row in self.place.rows(table))

    def marks(self) -> dict[int, str]:
        """What became of messages, by number."""
        return {
            int(row["id"][-12:], 16): "deleted" if row["deleted_at"]
            else "expired" if row["expired_at"] else "live"
            for row in self.place.rows("chat_messages")
        }  # fmt: skip

    def children(self, table: str) -> Mapping[int, int]:
        """How many children messages have, by number."""
        counts: dict[int, int] = {}
        for row in self.place.rows(table):
            number = int(row["chat_message_id"][-12:], 16)
            counts[number] = counts.get(number, 0) + 1
        return counts


@pytest.fixture(params=kinds())
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Dataset]:
    """A dataset in each destination in turn, with two packages."""
    folder = tmp_path / "place"
    folder.mkdir()
    with KINDS[request.param](folder) as place:
        found = Dataset(place, folder)
        found.load(first_package())
        yield found


def load_and_settle(dataset: Dataset) -> int:
    dataset.load(second_package())
    return settle(dataset.pipeline())


def test_what_windows_of_created_at_prove_gone_is_marked(dataset: Dataset) -> None:
    assert settle(dataset.pipeline()) == 0
    assert set(dataset.marks().values()) == {"live"}
    assert load_and_settle(dataset) == 1
    marks = {1: "live", 2: "deleted", 3: "live", 4: "live", 5: "expired", 6: "live", 7: "live"}
    assert dataset.marks() == marks
    assert dataset.children("chat_messages__reactions") == {2: 1}
    assert dataset.children("chat_messages__parts") == dict.fromkeys(range(1, 8), 2)
    assert dataset.children("chat_messages__attachments") == dict.fromkeys(range(1, 8), 1)
    assert settle(dataset.pipeline()) == 0
    live = live_messages(dataset.pipeline("another"))
    assert {chat_id: found.messages for chat_id, found in live.items()} == {
        OF_ANN: 2, OF_BOB: 1, GROUP: 2,
    }  # fmt: skip
    assert live[OF_BOB].oldest.astimezone(UTC) == FIRST - 40 * DAY
    (gap,) = gaps_since(dataset.pipeline(), FIRST, Shard(0xC2 % 3, 3))
    assert (gap.chat_id, gap.start) == (GROUP, FIRST - 9 * DAY)
    found = status(dataset.pipeline("another"), now=SECOND)
    assert [(t.chat_id, t.event) for t in found.troubles] == [(GROUP, "gap")]


@pytest.mark.parametrize("dataset", kinds("duckdb", "postgres", "delta"), indirect=True)
def test_a_shard_settles_its_own_chats(dataset: Dataset) -> None:
    dataset.load(second_package())
    assert settle(dataset.pipeline(), shard="1/2") == 0
    assert {n for n, mark in dataset.marks().items() if mark != "live"} == {5}
    assert settle(dataset.pipeline(), shard="0/2") == 1
    assert {n for n, mark in dataset.marks().items() if mark != "live"} == {2, 5}


def test_a_person_and_a_chat_are_forgotten(dataset: Dataset) -> None:
    load_and_settle(dataset)
    with pytest.raises(ConfigurationError, match="chat id 5"):
        forget(dataset.pipeline(), chat_ids=[5])
    report = forget(dataset.pipeline(), phone_numbers=[BOB])
    assert (report.chats, report.partly) == ((OF_BOB,), (GROUP,))
    assert report.erased["chat_messages__parts"] == 6
    assert dataset.marks().keys() == {1, 2, 3, 6}
    assert dataset.children("chat_messages__parts").keys() == {1, 2, 3, 6}
    assert {row["mentions"] for row in dataset.place.rows("chat_messages__parts")} == {None}
    forget(dataset.pipeline(), chat_ids=[OF_ANN])
    assert dataset.marks().keys() == {6}
    assert dataset.ids("chats", "id") == [(GROUP,)]
    assert dataset.children("chat_messages__attachments").keys() == {6}


@pytest.mark.parametrize("dataset", kinds("duckdb", "parquet", "postgres"), indirect=True)
def test_a_report_counts_what_was_never_sent(dataset: Dataset) -> None:
    load_and_settle(dataset)
    pipeline = dataset.pipeline()
    with reading_for_status(pipeline, READ_FOR_REPORT, SECOND) as (reader, found):
        figures = read_figures(reader, found, "linq", whole_name, CHAT_MESSAGES)
    assert (figures.messages, figures.chats, figures.lines) == (6, 3, 1)
    assert sum(hour.sent for hour in figures.hours) == 1
    assert [waiting.chat for waiting in figures.waiting] == [
        f"Chat {OF_BOB}", f"Chat {GROUP}",
    ]  # fmt: skip


@pytest.mark.parametrize("dataset", kinds("duckdb", "postgres"), indirect=True)
def test_views_are_of_both_versions(dataset: Dataset) -> None:
    load_and_settle(dataset)
    make_views(dataset.pipeline())
    rows = {row["message_id"]: row for row in dataset.place.rows("messages")}
    assert {int(key[-12:], 16) for key in rows} == {1, 3, 4, 5, 6, 7}
    never_sent = rows[uuid(4, 4)]
    assert never_sent["sent_at"].astimezone(UTC) == FIRST - 40 * DAY
    assert never_sent["direction"] == "outbound"
    turns = [row["turn_id"] for row in dataset.place.rows("responses")]
    assert sorted(turns) == [uuid(4, 1), uuid(4, 5), uuid(4, 6)]


@pytest.mark.parametrize("dataset", kinds("parquet"), indirect=True)
def test_a_lake_is_checked_and_made_again(dataset: Dataset) -> None:
    load_and_settle(dataset)
    before = {name: dataset.place.rows(name) for name in TABLES}
    with connected(dataset.pipeline()) as remote:
        bucket = Bucket.of(remote)
        assert check_lake(bucket, TABLES).findings == ()
        rebuild_lake(bucket, stored=TABLES)
        assert check_lake(bucket, TABLES).findings == ()
    assert {name: dataset.place.rows(name) for name in TABLES} == before
    assert bucket.list("current/contacts") == []


@pytest.mark.long
@pytest.mark.parametrize("is_without", [False, True])
def test_links_that_expired_are_asked_for_again(
    serve: Callable[[World], Loader], is_without: bool
) -> None:
    """Without a token they are recorded as expired, and a later run that has one gets the files."""
    loader = serve(seeded_world(chats=4, messages=100))
    loader.api, loader.sandbox.serves_files = "v3", True
    loader.sync()
    (count,) = loader.query("SELECT count(*) FROM chat_messages__attachments")[0]
    assert count > 5
    loader.world.advance(2 * HOUR_MS)
    if is_without:
        assert fetch(loader).expired == count
    access = {"api_token": DEFAULT_TOKEN, "base_url": loader.sandbox.url}
    gone = next(m for m in loader.world.messages.values() if m.attachments)
    lost = len(gone.attachments)
    gone.attachments.clear()
    report = fetch(loader, **access)
    assert (report.stored, report.expired) == (count - lost, lost)
    with pytest.raises(AuthenticationError, match="SOURCES__LINQ__API_TOKEN"):
        fetch(loader, **{**access, "api_token": "another"})


def test_marts_say_the_same_of_both_versions(serve: Callable[[World], Loader]) -> None:
    of_v2 = serve(seeded_world(chats=6, messages=200))
    of_v3 = Loader(of_v2.sandbox, of_v2.folder / "v3", api="v3")
    of_v3.folder.mkdir()
    columns = (
        "sent_at, direction, line_number, contact_number, is_group, text_length, attachment_count,"
        " reaction_count, state, message_id, chat_id, conversation_id"
    )
    turns = (
        "is_group, line_number, message_count, sender_count, first_sent_at, last_sent_at,"
        " answered_at, response_time_s, chat_id, turn_id, answer_message_id"
    )
    found = []
    for loader in (of_v2, of_v3):
        loader.sync()
        make_views(loader.pipeline)
        found.append(
            [
                sorted(loader.query(f"SELECT {columns} FROM messages"), key=repr),
                sorted(loader.query(f"SELECT {turns} FROM responses"), key=repr),
            ]
        )
    (messages, responses), of_other = found
    assert len(messages) == 200
    assert len(responses) > 10

    def moved(row: tuple[Any, ...], kinds: Sequence[Kind]) -> tuple[Any, ...]:
        ids = row[-len(kinds) :]
        pairs = zip(kinds, ids, strict=True)
        return row[: -len(kinds)] + tuple(i and uuid_of(kind, i) for kind, i in pairs)

    expected = [
        sorted((moved(row, ("message", "chat", "message")) for row in messages), key=repr),
        sorted((moved(row, ("chat", "message", "message")) for row in responses), key=repr),
    ]
    assert of_other == expected
