"""The law of test_truth.py over API v3: once all was read again, the tables equal the world.

v3 counts nothing: what is older than the lookback shows when a chat is read from its beginning, so
every run here is followed by one, a day later, that reads all chats again. A list that lags for a
whole run looks like one of which messages are gone; the next run puts that right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from linq_source.sandbox.rendering_v3 import number_of
from tests.conftest import DAY_MS, HOUR_MS
from tests.destinations import Lake
from tests.test_truth import STEPS, Truth, ages_ms, picks
from tests.truth import Row


class TruthV3(Truth):
    """World and pipeline side by side, by API v3."""

    api = "v3"

    def number(self, message: Row) -> int:
        number = number_of("message", message["id"])
        assert number is not None
        return number

    def options(self) -> dict[str, Any]:
        return {**super().options(), "recheck_days": 1, "recheck_share": 1.0}

    def run(self, max_messages: int | None) -> None:
        for wait_ms in (DAY_MS + HOUR_MS, 0):
            report = self.sync(max_messages=max_messages)
            assert report.exit_code == 0 or report.gaps, report
            self.pass_time(wait_ms)
        self.direction.clear()
        # A message that is a little ahead of the server's clock is the next run's.
        newest_ms = max((m.sent_at_ms for m in self.world.messages.values()), default=0)
        self.equal = newest_ms < self.world.now_ms - 999

    @rule(by_offset=st.booleans(), newest_first=st.booleans())
    def list_otherwise(self, by_offset: bool, newest_first: bool) -> None:
        self.sandbox.cursors = "offset" if by_offset else "keyset"
        self.sandbox.newest_first = newest_first

    @rule(
        what=st.sampled_from(["no chat", "all but one chat", "no message", "all but one", "old"]),
        runs=st.integers(1, 2),
        pick=picks,
        age_ms=ages_ms,
    )
    def run_while_an_answer_lags(self, what: str, runs: int, pick: int, age_ms: int) -> None:
        """For some runs a list is empty, short or old: once it is right, so are the tables."""
        self.run(None)
        chat_id = self.chat(pick)
        if chat_id is None:
            return
        is_of_chats = self.let_lag(what, chat_id, pick)
        self.world.add_message(chat_id, "new", sent_at_ms=self.world.now_ms - 2000 - age_ms)
        for _ in range(runs):
            report = self.sync()
            assert report.exit_code == 3 or not is_of_chats
            self.world.advance(HOUR_MS)
        self.sandbox.views.clear()
        self.run(None)


@pytest.mark.parametrize(
    "histories", [0, *(pytest.param(n, marks=pytest.mark.deep) for n in (1, 2, 3))]
)
@pytest.mark.parametrize(
    ("place", "divides", "forgets"),
    [
        ("duckdb", False, False),
        pytest.param("duckdb", True, True, marks=pytest.mark.long),
        pytest.param("parquet", True, False, marks=pytest.mark.long),
        pytest.param("duckdb", False, True, marks=pytest.mark.long),
    ],
)
def test_the_tables_equal_the_world(
    place: str,
    divides: bool,
    forgets: bool,
    histories: int,
    record_property: Callable[[str, object], None],
) -> None:
    STEPS.update(steps=0, runs=0, examples=0)

    class Variant(TruthV3):
        def __init__(self) -> None:
            super().__init__()
            self.divides, self.forgets = divides, forgets
            if place == "parquet":
                self.loader.place = Lake(self.folder)

    run_state_machine_as_test(
        seed(3_000 + 10 * divides + 5 * forgets + histories)(Variant),
        settings=settings(
            max_examples=2, stateful_step_count=14 if histories else 5, deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck), phases=[Phase.generate],
        ),
        _min_steps=10 if histories else 5,
    )  # fmt: skip
    record_property(
        "summary", f"truth of v3, {place}: {STEPS['steps']} steps, {STEPS['runs']} runs compared"
    )
    assert STEPS["steps"] >= 10
