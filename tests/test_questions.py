"""The ten questions are answered as the world itself answers them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from statistics import mean, median
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from linq_source.cli.questions import QUESTIONS
from linq_source.sandbox import Message, World, grow, seeded_world
from tests.conftest import DAY_MS, HOUR_MS, Loader
from tests.dbt import transform
from tests.sandboxed import EPOCH

Answer = list[tuple[Any, ...]]
NEW_YORK = ZoneInfo("America/New_York")


def utc(at_ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=at_ms)


class Expected:
    """The answers, computed from a world's own records; `before_ms` was when it was read before."""

    def __init__(self, world: World, before_ms: int, deleted: int) -> None:
        self.world = world
        self.before_ms = before_ms
        self.deleted = deleted
        self.ours = {number.phone_number for number in world.phone_numbers.values()}
        self.messages = [world.messages[i] for i in sorted(world.messages)]

    def is_ours(self, message: Message) -> bool:
        return message.sent_from in self.ours

    def runs(self, chat_id: int) -> list[tuple[bool, list[Message]]]:
        """A chat's messages, those in a row together whose side is the same."""
        found = self.world.messages_of(chat_id)
        return [(ours, list(group)) for ours, group in groupby(found, key=self.is_ours)]

    def first_responses(self) -> Answer:
        minutes = defaultdict(list)
        for chat_id in self.world.chats:
            runs = self.runs(chat_id)
            for (ours, turn), (_, answer) in pairwise(runs):
                if not ours:
                    waited_ms = answer[0].sent_at_ms - turn[0].sent_at_ms
                    minutes[answer[0].sent_from].append(waited_ms / 60_000)
        return [
            (line, len(minutes[line]), float(int(median(minutes[line]) + 0.5)))
            for line in sorted(minutes)
        ]

    def unanswered(self) -> Answer:
        waiting = []
        for chat in self.world.chats.values():
            runs = self.runs(chat.id)
            if runs and not runs[-1][0]:
                since_ms = runs[-1][1][0].sent_at_ms
                if since_ms < self.world.now_ms - HOUR_MS:
                    waiting.append((since_ms, -chat.id, chat.display_name, len(runs[-1][1])))
        return [
            (name, count, utc(since_ms))
            for since_ms, _, name, count in sorted(waiting, reverse=True)[:5]
        ]

    def busiest_hours(self) -> Answer:
        counts = Counter(
            (utc(m.sent_at_ms).astimezone(NEW_YORK).hour, self.is_ours(m)) for m in self.messages
        )
        rows = [(hour, counts[hour, False], counts[hour, True]) for hour in range(24)]
        return sorted(rows, key=lambda row: (-row[1] - row[2], row[0]))[:5]

    def delivery_failures(self) -> Answer:
        rows = []
        for service in {chat.service for chat in self.world.chats.values()}:
            sent = [
                m for m in self.messages
                if self.is_ours(m) and self.world.chats[m.chat_id].service == service
            ]  # fmt: skip
            failed = sum(
                m.delivered_at_ms is None and m.delivery_status not in ("delivered", "pending")
                for m in sent
            )
            rows.append((service, len(sent), failed, round(100 * failed / len(sent), 1)))
        return sorted(rows, key=lambda row: (-row[3], row[0]))

    def changes(self) -> Answer:
        def since(*instants: int | None) -> int:
            return sum(at_ms is not None and at_ms >= self.before_ms for at_ms in instants)

        return [
            (
                since(*(m.sent_at_ms for m in self.messages)),
                since(*(m.delivered_at_ms for m in self.messages)),
                since(*(m.edited_at_ms for m in self.messages)),
                since(*(r.created_at_ms for m in self.messages for r in m.reactions)),
                self.deleted,
                0,
            )
        ]

    def reactions(self) -> Answer:
        rows = []
        for name, ours in (("to ours", True), ("to theirs", False)):
            found = [m for m in self.messages if self.is_ours(m) is ours]
            kinds = Counter(r.reaction for m in found for r in m.reactions)
            most = min(kinds, key=lambda kind: (-kinds[kind], kind))
            percent = round(100 * sum(bool(m.reactions) for m in found) / len(found), 1)
            rows.append((name, percent, kinds.total(), most))
        return rows

    def new_people(self) -> Answer:
        first: dict[str, datetime] = {}
        for message in self.messages:
            if not self.is_ours(message):
                at = utc(message.sent_at_ms).astimezone(NEW_YORK)
                first[message.sent_from] = min(at, first.get(message.sent_from, at))
        weeks = Counter(at.date() - timedelta(days=at.weekday()) for at in first.values())
        return sorted(weeks.items(), reverse=True)[:5]

    def groups(self) -> Answer:
        rows = []
        for name, group in (("groups", True), ("one to one", False)):
            chats = Counter(
                m.chat_id for m in self.messages if self.world.chats[m.chat_id].group is group
            )
            per_chat = float(int(chats.total() / len(chats) + 0.5))
            rows.append((name, len(chats), chats.total(), per_chat))
        return sorted(rows, key=lambda row: -row[2])

    def people(self) -> Answer:
        sent = defaultdict(list)
        for message in self.messages:
            if not self.is_ours(message):
                sent[message.sent_from].append(message)
        most = sorted(sent, key=lambda number: (-len(sent[number]), number))[:5]
        return [
            (
                number,
                len(sent[number]),
                len({m.chat_id for m in sent[number]}),
                float(int(mean(len(m.text) for m in sent[number] if m.text) + 0.5)),
            )
            for number in most
        ]

    def files(self) -> Answer:
        sizes = defaultdict(list)
        for message in self.messages:
            for attachment in message.attachments:
                sizes[attachment.mime_type.split("/")[0]].append(attachment.file_size)
        rows = [
            (kind, len(found), round(sum(found) / 1e6, 1), round(max(found) / 1e6, 1))
            for kind, found in sizes.items()
        ]
        return sorted(rows, key=lambda row: (-row[1], row[0]))


@pytest.fixture
def asked(serve: Callable[[World], Loader]) -> tuple[Loader, list[Answer]]:
    """A loader of a world that was read over some days, and what the world answers."""
    loader = serve(seeded_world())
    loader.world.advance(-3 * DAY_MS)
    loader.sync()
    loader.world.advance(3 * DAY_MS)
    before_ms = loader.world.now_ms
    loader.sync()
    loader.world.advance(DAY_MS)
    changes = grow(loader.world)
    loader.sync()
    expected = Expected(loader.world, before_ms, changes.deleted_messages)
    return loader, [
        expected.first_responses(), expected.unanswered(), expected.busiest_hours(),
        expected.delivery_failures(), expected.changes(), expected.reactions(),
        expected.new_people(), expected.groups(), expected.people(), expected.files(),
    ]  # fmt: skip


@pytest.mark.quick
def test_each_question_is_answered_as_the_world_answers_it(
    asked: tuple[Loader, list[Answer]],
) -> None:
    loader, answers = asked
    for (question, sql, _), answer in zip(QUESTIONS, answers, strict=True):
        assert answer, question
        assert len(sql.splitlines()) <= 10, question
        assert loader.query(sql) == answer, question


@pytest.mark.long
def test_the_marts_answer_the_same_in_less(asked: tuple[Loader, list[Answer]]) -> None:
    """All columns, or the first of them."""
    loader, answers = asked
    transform(loader, "--database", str(loader.database))
    for (question, sql, marts_sql), answer in zip(QUESTIONS, answers, strict=True):
        if marts_sql is not None:
            assert len(marts_sql) < len(sql), question
            found = loader.query(marts_sql)
            assert found == [row[: len(found[0])] for row in answer], question
