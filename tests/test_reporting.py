"""What a report counts, against the same counted from rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from linq_source.destinations.reading import FilesReader
from linq_source.operations.status import reading_for_status
from linq_source.operations.status_report import Status
from linq_source.reporting.figures import (
    BY_DAY,
    BY_WEEK,
    CHART_DAYS,
    WAITS,
    Figures,
    Hour,
    Share,
    kind_of,
    period_of,
    summed,
)
from linq_source.reporting.making import masked_name, whole_name
from linq_source.reporting.questions import READ_FOR_REPORT, read_figures
from linq_source.sandbox import World, grow, seeded_world
from tests.conftest import Loader
from tests.destinations import KINDS, kinds
from tests.truth import Row

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
OURS, ANN, BOB = "+15550100001", "+15550200001", "+15550200002"


# What tells a figure: the same, counted from the rows.


@pytest.fixture(params=kinds(fast=["duckdb"]))
def placed(
    request: pytest.FixtureRequest, serve: Callable[[World], Loader], tmp_path: Path
) -> Iterator[Loader]:
    """A loader of a believable world into each destination in turn."""
    loader = serve(seeded_world(chats=8, messages=400))
    folder = tmp_path / "place"
    folder.mkdir()
    with KINDS[request.param](folder) as place:
        loader.place = place
        yield loader


def figures_of(loader: Loader) -> Figures:
    now = datetime.fromtimestamp(loader.world.now_ms / 1000, UTC)
    with reading_for_status(loader.pipeline, READ_FOR_REPORT, now) as (reader, status):
        return read_figures(reader, status, "linq", whole_name)


@pytest.mark.parametrize("placed", kinds(fast=["duckdb"]), indirect=True)
def test_every_figure_is_what_the_rows_say(placed: Loader) -> None:
    placed.sync()
    grow(placed.world)
    placed.world.remove_chat(max(placed.world.chats))
    placed.sync(retention="forever")
    found = figures_of(placed)
    assert placed.place is not None
    rows = Counted(placed.place.rows, found.until)
    assert found.messages == len(rows.messages)
    assert (found.lines, found.chats) == (3, len(rows.chats))
    assert {(h.number, h.received, h.sent) for h in found.hours} == rows.hours()
    assert [h.number for h in found.hours] == sorted(h.number for h in found.hours)
    expected = rows.responses(found.period.seconds, found.period.origin_s)
    assert [(r.period, r.turns) for r in found.responses] == [each[:2] for each in expected]
    times_s = [(r.median_s, r.p90_s) for r in found.responses]
    assert times_s == [pytest.approx(each[2:], abs=1e-3) for each in expected]
    assert list(found.answered) == rows.answered()
    assert list(found.unanswered) == rows.unanswered()
    assert [(w.chat, w.since) for w in found.waiting] == rows.waiting()
    assert {(d.status, d.sent, d.delivered, d.read) for d in found.deliveries} == rows.deliveries()
    assert {(r.name, *r.values) for r in found.reactions} == rows.reactions()
    assert {(a.name, *a.values) for a in found.attachments} == rows.attachments()
    assert [(b.name, *b.values) for b in found.busiest] == rows.busiest()


class Counted:
    """The figures again, from the rows of the tables, one row after the other."""

    def __init__(self, rows: Callable[[str], list[Row]], until: datetime) -> None:
        self.until = until
        own = {row["phone_number"] for row in rows("phone_numbers")}
        self.names = {row["id"]: row["display_name"] for row in rows("chats")}
        self.chats = {row["id"] for row in rows("chats") if row["deleted_at"] is None}
        self.messages = [
            {**row, "is_sent": row["sent_from"] in own}
            for row in rows("chat_messages")
            if row["deleted_at"] is None and row["chat_id"] in self.chats
        ]
        self.children = rows
        self.lately = {
            row["id"]: row
            for row in self.messages
            if row["sent_at"] > until - timedelta(days=CHART_DAYS)
        }

    def hours(self) -> set[tuple[int, int, int]]:
        found: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        for row in self.messages:
            found[int(row["sent_at"].timestamp() // 3600)][row["is_sent"]] += 1
        return {(hour, received, sent) for hour, (received, sent) in found.items()}

    def turns(self) -> list[tuple[int, datetime, datetime | None]]:
        """Chat, first message received, and the answer."""
        turns: list[tuple[int, datetime, datetime | None]] = []
        for chat_id in self.chats:
            began = None
            of_chat = [row for row in self.messages if row["chat_id"] == chat_id]
            for row in sorted(of_chat, key=lambda row: (row["sent_at"], row["id"])):
                if row["is_sent"] and began is not None:
                    turns.append((chat_id, began, row["sent_at"]))
                    began = None
                elif not row["is_sent"] and began is None:
                    began = row["sent_at"]
            if began is not None:
                turns.append((chat_id, began, None))
        return turns

    def responses(self, period_s: int, origin_s: int) -> list[tuple[int, int, float, float]]:
        found = defaultdict(list)
        for _, began, ended in self.turns():
            if ended is not None:
                number = int((began.timestamp() - origin_s) // period_s)
                found[number].append((ended - began).total_seconds())
        return [
            (number, len(waits), median(waits), sorted(waits)[ceil(0.9 * len(waits)) - 1])
            for number, waits in sorted(found.items())
        ]  # fmt: skip

    def answered(self) -> list[int]:
        since = self.until - timedelta(days=CHART_DAYS)
        return by_wait(e - b for _, b, e in self.turns() if e is not None and b > since)

    def unanswered(self) -> list[int]:
        return by_wait(self.until - b for _, b, e in self.turns() if e is None)

    def waiting(self) -> list[tuple[str, datetime]]:
        since = self.until - timedelta(days=7)
        open_ = sorted((b, chat_id) for chat_id, b, e in self.turns() if e is None and b > since)
        return [(self.names[chat_id], began) for began, chat_id in open_[:10]]

    def deliveries(self) -> set[tuple[str, int, int, int]]:
        found: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        for row in self.lately.values():
            if row["is_sent"]:
                arrived = row["delivered_at"] or row["delivery_status"] == "delivered"
                steps = (True, arrived, arrived and row["is_read"])
                for step, is_reached in enumerate(steps):
                    found[row["delivery_status"]][step] += bool(is_reached)
        return {
            (status, sent, delivered, read) for status, (sent, delivered, read) in found.items()
        }

    def current(self, table: str) -> list[Row]:
        return [
            row
            for row in self.children(table)
            if row["chat_message_id"] in self.lately
            and row["synced_at"] == self.lately[row["chat_message_id"]]["synced_at"]
        ]

    def reactions(self) -> set[tuple[str, int, int, int]]:
        rows = self.current("chat_messages__reactions")
        all_ = Counter(row["reaction"] for row in rows)
        own = Counter(row["reaction"] for row in rows if row["is_from_me"])
        return {(name, n, n - own[name], own[name]) for name, n in all_.items()}

    def attachments(self) -> set[tuple[str, int, int]]:
        rows = self.current("chat_messages__attachments")
        sizes: Counter[str] = Counter()
        for row in rows:
            sizes[kind_of(row["mime_type"])] += row["file_size"]
        files = Counter(kind_of(row["mime_type"]) for row in rows)
        return {(name, count, sizes[name]) for name, count in files.items()}

    def busiest(self) -> list[tuple[str, int, int, int]]:
        all_ = Counter(row["chat_id"] for row in self.lately.values())
        sent = Counter(row["chat_id"] for row in self.lately.values() if row["is_sent"])
        ordered = sorted(all_.items(), key=lambda item: (-item[1], item[0]))[:10]
        return [(self.names[i], count, count - sent[i], sent[i]) for i, count in ordered]


def by_wait(waits: Any) -> list[int]:
    found = Counter(
        next(place for place, (end_s, _) in enumerate(WAITS) if wait.total_seconds() < end_s)
        for wait in waits
    )
    return [found[place] for place in range(len(WAITS))]


# Turns, from messages written down one by one.


class Written:
    """Tables with a few rows, that a report reads."""

    def __init__(self) -> None:
        self.connection = duckdb.connect()
        for table, columns in READ_FOR_REPORT.items():
            schema = pa.schema([field for field in table.schema if field.name in columns])
            self.connection.register("_empty", schema.empty_table())
            self.connection.execute(f"CREATE TABLE {table.name} AS SELECT * FROM _empty")
        self.connection.execute(f"INSERT INTO phone_numbers VALUES ('{OURS}')")
        self.ids = iter(range(1, 1000))

    def message(self, chat_id: int, who: str | None, minute: float, **more: Any) -> int:
        """A message so many minutes before now; gives its id."""
        id_ = next(self.ids)
        row = {
            "id": id_, "chat_id": chat_id, "sent_at": NOW - timedelta(minutes=minute),
            "sent_from": who, "chat_handle_id": None if who == OURS else 1, "is_read": False,
            "delivery_status": "delivered", "synced_at": NOW, **more,
        }  # fmt: skip
        names, places = ", ".join(row), ", ".join("?" * len(row))
        self.connection.execute(
            f"INSERT INTO chat_messages ({names}) VALUES ({places})", [*row.values()]
        )
        return id_

    def figures(self, status: Status | None = None) -> Figures:
        return read_figures(
            FilesReader(self.connection, {table: table.name for table in READ_FOR_REPORT}),
            status or status_at(NOW),
            "linq",
            masked_name,
        )


def status_at(now: datetime) -> Status:
    return Status(now, now, now, now, 1, 1, None)


def times_of(figures: Figures) -> tuple[int, float, float]:
    assert figures.recent is not None
    return figures.recent.turns, figures.recent.median_s, figures.recent.p90_s


@pytest.mark.quick
def test_a_turn_begins_with_the_first_message_and_ends_with_the_answer() -> None:
    written = Written()
    for who, minute in ((ANN, 100), (ANN, 99), (OURS, 90), (OURS, 80), (ANN, 70), (OURS, 68)):
        written.message(1, who, minute)
    assert times_of(written.figures()) == (2, 6 * 60, 10 * 60)


@pytest.mark.quick
def test_a_group_has_one_turn_whoever_writes() -> None:
    written = Written()
    for who, minute in ((ANN, 50), (BOB, 49), (ANN, 48), (OURS, 45)):
        written.message(1, who, minute)
    assert times_of(written.figures()) == (1, 5 * 60, 5 * 60)


@pytest.mark.quick
def test_messages_of_one_instant_are_in_the_order_of_their_ids() -> None:
    written = Written()
    for who in (OURS, ANN, OURS):
        written.message(1, who, 30)
    written.message(2, ANN, 30)
    written.message(2, OURS, 30)
    assert times_of(written.figures()) == (2, 0, 0)


@pytest.mark.quick
def test_what_was_deleted_is_no_message_and_what_expired_is() -> None:
    written = Written()
    written.message(1, ANN, 50, deleted_at=NOW)
    written.message(1, ANN, 40)
    written.message(1, OURS, 30)
    written.connection.execute("INSERT INTO chats (id, deleted_at) VALUES (2, now()), (1, NULL)")
    written.message(2, ANN, 20)
    figures = written.figures()
    assert times_of(figures) == (1, 600, 600)
    assert (figures.messages, figures.chats, sum(figures.unanswered)) == (2, 1, 0)


@pytest.mark.quick
def test_who_has_no_number_is_told_by_the_handle() -> None:
    """As where `phones` is `drop`."""
    written = Written()
    written.message(1, None, 50, chat_handle_id=7)
    written.message(1, None, 40, chat_handle_id=None)
    assert times_of(written.figures()) == (1, 600, 600)


@pytest.mark.quick
def test_children_of_an_earlier_version_do_not_count() -> None:
    written = Written()
    id_ = written.message(1, ANN, 50)
    written.connection.execute(
        "INSERT INTO chat_messages__reactions VALUES (?, 'love', false, ?), (?, 'like', true, ?)",
        [id_, NOW, id_, NOW - timedelta(days=1)],
    )
    assert written.figures().reactions == (Share("love", (1, 1, 0)),)


@pytest.mark.quick
def test_numbers_in_names_are_shown_by_their_ends() -> None:
    written = Written()
    written.connection.execute(
        f"INSERT INTO chats (id, display_name) VALUES (1, 'Ann {ANN}'), (2, 'ann@example.com')"
    )
    for chat_id in (1, 1, 2, 2, 3):
        written.message(chat_id, ANN, 5)
    names = [share.name for share in written.figures().busiest]
    assert names == ["Ann ...0001", "....com", "Chat 3"]
    assert whole_name(1, f"Ann {ANN}") == f"Ann {ANN}"
    assert whole_name(1, "a" * 80) == "a" * 80
    assert whole_name(1, "a" * 81) == f"{'a' * 77}..."
    assert masked_name(1, f"{'a' * 70} {ANN}") == f"{'a' * 70} ...0001"


@pytest.mark.quick
def test_a_newer_run_of_some_chats_does_not_move_the_end() -> None:
    written = Written()
    written.message(1, ANN, 30)
    written.message(2, ANN, 10)
    written.message(2, ANN, -60)
    status = replace(status_at(NOW), bound=NOW + timedelta(days=60))
    figures = written.figures(status)
    assert figures.until == NOW
    assert figures.traffic(0, 30).received == 2
    assert sum(figures.unanswered) == len(figures.waiting) == 2
    assert written.figures(replace(status, read_until=None)).until == status.bound


@pytest.mark.quick
def test_a_single_wrong_instant_does_not_stretch_the_charts() -> None:
    written = Written()
    written.message(1, ANN, 5)
    written.message(1, ANN, 0, sent_at=datetime(1, 1, 2, tzinfo=UTC))
    written.message(1, ANN, 0, sent_at=datetime(9998, 1, 1, tzinfo=UTC))
    figures = written.figures()
    assert (figures.messages, len(figures.hours)) == (3, 1)
    assert len(figures.traffic_by_period()) == 1


@pytest.mark.quick
def test_a_long_history_is_shown_by_weeks_from_monday_on() -> None:
    def hour(days: int) -> Hour:
        return Hour(24 * (20_500 + days), 1, 2)

    assert period_of([]) == BY_DAY
    assert period_of([hour(0), hour(100)]) == BY_DAY
    assert period_of([hour(0), hour(101)]) == BY_WEEK
    assert BY_WEEK.start_of(0).strftime("%A %Y-%m-%d") == "Monday 1970-01-05"
    figures = Figures("linq", status_at(NOW), 1, 1, 1, BY_DAY, (hour(0), hour(2)))
    assert [traffic.messages for _, traffic in figures.traffic_by_period()] == [3, 0, 3]


@pytest.mark.quick
def test_kinds_are_added_up_the_most_frequent_first() -> None:
    assert summed([("a", 1, 5), ("b", 2, 1), ("a", 3, 1)]) == (
        Share("a", (4, 6)),
        Share("b", (2, 1)),
    )
    kinds_ = ["image/jpeg", "text/vcard", "text/plain", "application/vnd.ms-excel", None, "x/y"]
    assert list(map(kind_of, kinds_)) == [
        "Images", "Contacts", "Text", "Office documents", "Other", "Other",
    ]  # fmt: skip
