"""The one law: after every completed run the tables equal the world, whatever happened before.

A state machine drives the sandbox's world and a real pipeline into DuckDB. The world may forget:
then no message that was ever there goes, and none that it forgot is marked deleted. What may
differ, and is left out here: edits and reactions older than the lookback (they change no count),
and an addition and a deletion that cancel each other in the counts before anything is read.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from linq_source.planning import windows
from linq_source.sandbox import Exchange, Sandbox, World, lagging
from tests.conftest import DAY_MS, HOUR_MS, NOW_MS, Loader
from tests.destinations import Lake
from tests.truth import Row

LOOKBACK_DAYS = 2
STEPS = {"steps": 0, "runs": 0, "examples": 0}

ages_ms = st.one_of(
    st.integers(0, 2 * HOUR_MS),
    st.integers(0, 2 * DAY_MS),
    st.integers(0, 90 * DAY_MS),
    st.integers(0, 60).map(lambda days: days * DAY_MS + 12 * HOUR_MS),
)
picks = st.integers(0, 10**6)
KINDS = (
    "add", "add", "add", "delete", "delete_a_day", "edit", "react", "take_reactions_back",
    "new_chat", "remove_chat", "return_chat", "count_otherwise", "time_passes", "clock_goes_back",
    "keep_otherwise",
)  # fmt: skip


class Truth(RuleBasedStateMachine):
    """World and pipeline side by side."""

    api = "v2"
    divides = False
    # Whether the API forgets what is older than its lines keep.
    forgets = False

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="linq-truth-"))
        world = World(now_ms=NOW_MS)
        world.add_phone_number("+15550000001")
        world.add_chat(chat_id=1)
        world.add_phone_number("+15550000002")
        self.sandbox = Sandbox(world)
        self.sandbox.start()
        self.loader = Loader(self.sandbox, self.folder, api=self.api)
        self.page_size = 5
        self.workers = 3
        self.shards = 1
        # In which direction a chat's old messages changed since the last run; both at once may
        # cancel out, which no count can show.
        self.direction: dict[int, int] = {}
        # Chats whose count was at some time another than that of their messages.
        self.otherwise: set[int] = set()
        self.equal = True
        self.has_run = False
        # Messages that were there when all was equal, and those that people removed.
        self.seen: set[int] = set()
        self.removed: set[int] = set()
        self.vanished: dict[int, Any] = {}
        STEPS["examples"] += 1

    @property
    def world(self) -> World:
        return self.sandbox.world

    def chat(self, pick: int) -> int | None:
        ids = sorted(self.world.chats)
        return ids[pick % len(ids)] if ids else None

    def message(self, pick: int) -> Any:
        ids = sorted(self.world.messages)
        return self.world.messages[ids[pick % len(ids)]] if ids else None

    def recent(self, pick: int) -> Any:
        """A message that every next run reads: inside the lookback before now."""
        since_ms = self.world.now_ms - LOOKBACK_DAYS * DAY_MS
        ids = sorted(i for i, m in self.world.messages.items() if m.sent_at_ms >= since_ms)
        return self.world.messages[ids[pick % len(ids)]] if ids else None

    def may(self, chat_id: int, direction: int) -> bool:
        return self.direction.setdefault(chat_id, direction) == direction

    def add(self, pick: int, age_ms: int) -> None:
        chat_id = self.chat(pick)
        if chat_id is not None and self.may(chat_id, 1):
            for _ in range((1, 1, 2, 7)[pick % 4]):
                message = self.world.add_message(
                    chat_id, "text", sent_at_ms=self.world.now_ms - 2000 - age_ms
                )
            self.world.add_reaction(message.id, "love", from_phone="+15550000009")

    def delete(self, pick: int, _: int) -> None:
        message = self.message(pick)
        if message is not None and self.may(message.chat_id, -1):
            self.remove(message.id)

    def remove(self, message_id: int) -> None:
        self.removed.add(message_id)
        self.world.delete_message(message_id)

    def delete_a_day(self, pick: int, _: int) -> None:
        message = self.message(pick)
        if message is not None and self.may(message.chat_id, -1):
            day = message.sent_at_ms // DAY_MS
            for other in self.world.messages_of(message.chat_id):
                if other.sent_at_ms // DAY_MS == day:
                    self.remove(other.id)

    def edit(self, pick: int, _: int) -> None:
        message = self.recent(pick)
        if message is not None:
            self.world.edit_message(message.id, f"edited {pick}")

    def react(self, pick: int, _: int) -> None:
        message = self.recent(pick)
        if message is not None:
            self.world.add_reaction(message.id, "laugh", from_phone=f"+1{pick}")

    def take_reactions_back(self, pick: int, _: int) -> None:
        message = self.recent(pick)
        if message is not None:
            for reaction in list(message.reactions):
                self.world.remove_reaction(message.id, reaction.id)

    def new_chat(self, pick: int, age_ms: int) -> None:
        if len(self.world.chats) < 4:
            chat = self.world.add_chat(phone_number_ids=[[1], [2], [1, 2]][pick % 3])
            self.world.add_message(chat.id, sent_at_ms=self.world.now_ms - 2000 - age_ms)

    def remove_chat(self, pick: int, _: int) -> None:
        chat_id = self.chat(pick)
        if chat_id is not None and len(self.world.chats) > 2:
            self.vanished = {chat_id: self.world.copy()}
            self.world.remove_chat(chat_id)

    def return_chat(self, pick: int, _: int) -> None:
        """The chat that was removed last comes back as it was."""
        for chat_id, was in self.vanished.items():
            chat = was.chats[chat_id]
            self.world.add_chat(chat_id=chat_id, phone_number_ids=chat.phone_number_ids)
            for message in was.messages_of(chat_id):
                self.world.add_message(
                    chat_id, message.text, sent_at_ms=message.sent_at_ms, message_id=message.id
                )
        self.vanished = {}

    def keep_otherwise(self, pick: int, _: int) -> None:
        """From now on a line keeps its messages for longer, or for less long."""
        if self.forgets:
            self.flush()
            keeps = (None, 2 * HOUR_MS, DAY_MS, 10 * DAY_MS, 60 * DAY_MS)
            self.world.phone_numbers[1 + pick % 2].keeps_ms = keeps[pick % 5]
            self.pass_time(0)

    def flush(self) -> None:
        """What was added and what expires must not cancel each other in the counts."""
        if self.forgets and any(self.direction.values()):
            self.run(None)

    def pass_time(self, ms: int) -> None:
        before = {i: message.chat_id for i, message in self.world.messages.items()}
        self.world.advance(ms)
        for chat_id in {chat for i, chat in before.items() if i not in self.world.messages}:
            self.direction[chat_id] = -1

    def count_otherwise(self, pick: int, _: int) -> None:
        chat_id = self.chat(pick)
        if chat_id is not None and self.direction.get(chat_id) is None:
            self.direction[chat_id] = 0
            self.otherwise.add(chat_id)
            self.world.chats[chat_id].count_offset = (0, 3, -2)[pick % 3]

    def time_passes(self, pick: int, _: int) -> None:
        self.flush()
        self.pass_time((1, 5, 24, 24 * 9, 24 * 40)[pick % 5] * HOUR_MS)

    def clock_goes_back(self, pick: int, _: int) -> None:
        self.world.now_ms -= (1, 30)[pick % 2] * HOUR_MS

    @rule(
        changes=st.lists(st.tuples(st.sampled_from(KINDS), picks, ages_ms), min_size=1, max_size=7),
        max_messages=st.sampled_from([None, None, 3]),
    )
    def changes_then_a_run(
        self, changes: list[tuple[str, int, int]], max_messages: int | None
    ) -> None:
        for kind, pick, age_ms in changes:
            STEPS["steps"] += 1
            getattr(self, kind)(pick, age_ms)
        self.run(max_messages)

    @rule(page_size=st.sampled_from([2, 5, 100]), workers=st.sampled_from([1, 3]))
    def read_otherwise(self, page_size: int, workers: int) -> None:
        self.page_size, self.workers = page_size, workers

    @rule(shards=st.sampled_from([1, 2, 3]))
    def divide_otherwise(self, shards: int) -> None:
        """From now on by other pipelines: so many shards, each on an empty disk."""
        if self.divides:
            self.shards = shards

    @rule(inclusive=st.booleans())
    def before_and_after_mean_otherwise(self, inclusive: bool) -> None:
        self.sandbox.inclusive = inclusive

    def run(self, max_messages: int | None) -> None:
        report = self.sync(max_messages=max_messages)
        for _ in range(4):
            # Only hours tell a count that differs from a list that lags.
            if report.exit_code == 3 and self.otherwise:
                self.world.advance(7 * HOUR_MS)
                report = self.sync(max_messages=max_messages)
        # Where all of a chat is deleted, nothing tells that it was not forgotten.
        assert report.exit_code == 0 or report.gaps, report
        self.direction.clear()
        # Where the listing counts less than there is, no count tells of a message ahead.
        ahead = [m for m in self.world.messages.values() if m.sent_at_ms >= self.world.now_ms - 999]
        self.equal = not ahead or not self.otherwise

    @rule(
        what=st.sampled_from(["no chat", "all but one chat", "no message", "all but one", "old"]),
        runs=st.integers(1, 2),
        pick=picks,
        age_ms=ages_ms,
    )
    def run_while_an_answer_lags(self, what: str, runs: int, pick: int, age_ms: int) -> None:
        """For some runs a list is empty, short or old: nothing is lost, and the run says so."""
        self.run(None)
        chat_id = self.chat(pick)
        if chat_id is None or chat_id in self.otherwise:
            return
        is_of_chats = self.let_lag(what, chat_id, pick)
        self.world.add_message(chat_id, "new", sent_at_ms=self.world.now_ms - 2000 - age_ms)
        for _ in range(runs):
            before = self.live_ids()
            report = self.sync()
            after = self.live_ids()
            assert before <= after
            assert report.exit_code == 3 or self.world.messages.keys() == after
            assert report.exit_code == 3 or not is_of_chats
            self.world.advance(HOUR_MS)
        self.sandbox.views.clear()
        self.run(None)

    def let_lag(self, what: str, chat_id: int, pick: int) -> bool:
        """From now on a list is empty, short or old. Return whether it is that of the chats."""
        copy = self.world.copy()
        if what == "no chat":
            copy.chats.clear()
        elif what == "all but one chat":
            del copy.chats[chat_id]
        elif what != "old":
            messages = copy.messages_of(chat_id)
            for message in messages if what == "no message" else messages[pick % 7 :][:1]:
                copy.delete_message(message.id)
        is_of_chats = what.endswith("chat")
        view = lagging(copy, "chats") if is_of_chats else lagging(copy, "chat_messages", chat_id)
        self.sandbox.views.append(view)
        return is_of_chats

    def live_ids(self) -> set[int]:
        return {self.number(row) for row in self.loader.live_tables()["chat_messages"]}

    def number(self, message: Row) -> int:
        """The world's number of a loaded message."""
        return int(message["id"])

    @rule(request=st.integers(1, 6), pick=picks, deletes=st.booleans())
    def run_while_the_list_moves(self, request: int, pick: int, deletes: bool) -> None:
        chat_id = self.chat(pick)
        if chat_id is None or not self.may(chat_id, -1 if deletes else 1):
            return

        def change() -> None:
            messages = self.world.messages_of(chat_id)
            if deletes and messages:
                self.remove(messages[pick % len(messages)].id)
            elif not deletes:
                at_ms = self.world.now_ms - 3000 - pick % (3 * DAY_MS)
                self.world.add_message(chat_id, "moved in", sent_at_ms=at_ms)

        self.sandbox.hooks.append(at_request(request, change))
        self.sync()
        self.sandbox.hooks.clear()
        self.equal = False

    @rule(step=st.sampled_from(["extract", "normalize"]))
    def crash(self, step: str) -> None:
        """A run that ends after a step; the next one finds what it left."""
        pipeline = self.loader.pipeline
        if pipeline.has_pending_data:
            return
        pipeline.extract(self.loader.source(**self.options()), **self.loader.options)
        if step == "normalize":
            pipeline.normalize()
        self.equal = False

    @rule()
    def lose_the_local_state(self) -> None:
        shutil.rmtree(self.folder / "pipelines", ignore_errors=True)

    @invariant()
    def tables_equal_the_world(self) -> None:
        STEPS["steps"] += 1
        if not self.equal or not self.has_run:
            return
        self.loader.assert_equal_world()
        self.seen |= self.world.messages.keys()
        rows = self.loader._place.rows("chat_messages")
        assert self.seen <= {self.number(row) for row in rows}
        deleted = {self.number(row) for row in rows if row["deleted_at"] is not None}
        assert deleted <= self.removed, deleted - self.removed

    def options(self) -> dict[str, Any]:
        return {
            "lookback_days": LOOKBACK_DAYS, "page_size": self.page_size, "workers": self.workers,
        }  # fmt: skip

    def sync(self, **more: Any) -> Any:
        STEPS["runs"] += 1
        self.has_run = True
        if self.shards == 1:
            return self.loader.sync(**self.options(), **more)
        reports = self.loader.sync_shards(self.shards, **self.options(), **more)
        return SimpleNamespace(
            exit_code=max(report.exit_code for report in reports),
            messages=sum(report.messages for report in reports),
            gaps=sum(report.gaps for report in reports),
            deleted=sum(report.deleted for report in reports),
        )

    def teardown(self) -> None:
        try:
            self.direction.clear()
            self.world.advance(60 * HOUR_MS)
            self.run(None)
            self.tables_equal_the_world()
            again = self.sync()
            assert (again.messages, again.deleted) == (0, 0)
        finally:
            self.sandbox.stop()
            shutil.rmtree(self.folder)


def at_request(number: int, change: Callable[[], None]) -> Callable[[Exchange], None]:
    seen = 0

    def hook(exchange: Exchange) -> None:
        nonlocal seen
        if exchange.route == "chat_messages":
            seen += 1
            if seen == number:
                change()

    return hook


# Some histories for everybody, more for those who have time.
@pytest.mark.parametrize(
    "histories", [0, *(pytest.param(n, marks=pytest.mark.deep) for n in (1, 2, 3))]
)
@pytest.mark.parametrize(
    ("place", "divides", "forgets", "max_rows", "inclusive", "examples"),
    [
        ("duckdb", False, False, 24, False, 2),
        ("duckdb", True, True, 60, True, 1),
        ("parquet", True, False, 40, False, 1),
        ("duckdb", False, True, 42, False, 1),
    ],
)
def test_the_tables_equal_the_world(
    place: str,
    divides: bool,
    forgets: bool,
    max_rows: int,
    inclusive: bool,
    examples: int,
    histories: int,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    # Windows of few messages split as they do in a world of millions.
    monkeypatch.setattr(windows, "MAX_ROWS", max_rows)
    STEPS.update(steps=0, runs=0, examples=0)

    class Variant(Truth):
        """Begins with one meaning of `before` and `after`, so that the variants differ."""

        def __init__(self) -> None:
            super().__init__()
            self.divides, self.forgets = divides, forgets
            self.sandbox.inclusive = inclusive
            if place == "parquet":
                self.loader.place = Lake(self.folder)

    run_state_machine_as_test(
        seed(max_rows * 5 + histories)(Variant),
        settings=settings(
            max_examples=examples + bool(histories), stateful_step_count=14, deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck), phases=[Phase.generate],
        ),
        # Examples begin simple; what is worth finding takes a history.
        _min_steps=10,
    )  # fmt: skip
    record_property(
        "summary", f"truth, {place}: {STEPS['steps']} steps, {STEPS['runs']} runs compared"
    )
    assert STEPS["steps"] >= 12 * examples
