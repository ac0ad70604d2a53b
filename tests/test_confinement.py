"""What an API answers about one chat, or one number, stops nobody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from linq_source import ApiContractError, ApiUnavailableError
from linq_source.planning import window_reading
from linq_source.sandbox import DEFAULT_TOKEN, Exchange, Fault, World
from tests.conftest import DAY_MS, NOW_MS, Loader

CHATS = 12
BAD = 5

# What no repetition changes, and what is asked again until the deadline.
AT_ONCE = {
    "400": Fault(status=400),
    "402": Fault(status=402),
    "403": Fault(status=403),
    "404": Fault(status=404),
    "422": Fault(status=422),
    "451": Fault(status=451),
    "204": Fault(status=204, body=b""),
    "206": Fault(status=206, body=b"{}"),
    "304": Fault(status=304, body=b""),
    "a redirect": Fault(action="redirect", status=302, location="/login"),
}
AT_LAST = {
    "500": Fault(status=500),
    "{}": Fault(status=200, body=b"{}"),
    "an HTML page": Fault(status=200, body=b"<html>We will be back</html>"),
    "closed": Fault(action="close"),
}


@pytest.fixture
def many(serve: Callable[[World], Loader]) -> Loader:
    """Twelve chats of three messages, six seen by each of two numbers."""
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001", phone_number_id=71)
    world.add_phone_number("+15550000002", phone_number_id=72)
    for chat_id in range(1, CHATS + 1):
        world.add_chat(chat_id=chat_id, phone_number_ids=[71 if chat_id <= 6 else 72])
        for number in range(3):
            world.add_message(chat_id, f"m{number}", sent_at_ms=NOW_MS - DAY_MS + number)
    return serve(world)


class Answers:
    """Faults for the messages of chats, or the lists of numbers, while they are set."""

    def __init__(self, loader: Loader) -> None:
        self.of_chats: dict[int, Fault] = {}
        self.of_numbers: dict[str, Fault] = {}
        self.asked = 0
        loader.sandbox.faults.append(self)

    def __call__(self, exchange: Exchange) -> Fault | None:
        fault = None
        if exchange.route == "chat_messages":
            fault = self.of_chats.get(exchange.chat_id or 0)
        elif exchange.route == "chats":
            fault = self.of_numbers.get(exchange.params["phone_number"])
        self.asked += fault is not None
        return fault


@pytest.fixture
def answers(many: Loader) -> Answers:
    return Answers(many)


def loaded_chats(loader: Loader) -> list[int]:
    rows = loader.query("SELECT DISTINCT chat_id FROM chat_messages ORDER BY 1")
    return [chat_id for (chat_id,) in rows]


def others_of(*bad: int) -> list[int]:
    return [chat_id for chat_id in range(1, CHATS + 1) if chat_id not in bad]


def test_an_answer_about_one_chat_concerns_that_chat(many: Loader, answers: Answers) -> None:
    """Each of these about a chat of its own, all in one run; one worker meets them in order."""
    kinds = list(AT_ONCE.items())
    answers.of_chats = {number + 2: fault for number, (_, fault) in enumerate(kinds)}
    report = many.sync(workers=1)
    failed = {failure.chat_id: failure.error for failure in report.chats_failed}
    assert list(failed) == list(answers.of_chats)
    for chat_id, (name, fault) in zip(failed, kinds, strict=True):
        assert failed[chat_id].startswith(f"chat {chat_id}: "), name
        assert f"HTTP {fault.status}" in failed[chat_id]
        assert DEFAULT_TOKEN not in failed[chat_id]
    assert (report.exit_code, report.error, report.retries) == (3, None, 0)
    assert loaded_chats(many) == [1, 12]
    in_ledger = many.query("SELECT chat_id FROM sync_windows WHERE error IS NOT NULL ORDER BY 1")
    assert [chat_id for (chat_id,) in in_ledger] == list(failed)
    answers.of_chats = {}
    assert many.sync().exit_code == 0
    many.assert_equal_world()


def test_every_chat_refused_ends_cleanly(many: Loader, answers: Answers) -> None:
    many.sync()
    for chat in range(1, CHATS + 1):
        many.world.add_message(chat, "more", sent_at_ms=NOW_MS - 1_000)
    answers.of_chats = dict.fromkeys(range(1, CHATS + 1), Fault(status=422))
    report = many.sync()
    assert (report.exit_code, len(report.chats_failed), report.deleted) == (3, CHATS, 0)
    assert many.query("SELECT count(*) FROM chats WHERE deleted_at IS NOT NULL") == [(0,)]
    answers.of_chats = {}
    assert many.sync().exit_code == 0
    many.assert_equal_world()


def test_the_only_chats_wanted_are_refused_and_nothing_else_is_listed(many: Loader) -> None:
    """The bound is the API's clock all the same."""
    many.pipeline.run(many.source(chat_ids=[998, 999]).with_resources("chat_messages"))
    assert many.query(
        "SELECT chat_id, w.error[:18], window_end > '2020-01-01', bound = window_end"
        " FROM sync_windows w, sync_runs ORDER BY 1"
    ) == [(998, "chat 998: HTTP 404", True, True), (999, "chat 999: HTTP 404", True, True)]


@pytest.mark.parametrize("name", list(AT_LAST))
def test_a_chat_that_fails_for_ever_is_asked_once_in_later_runs(
    many: Loader, answers: Answers, name: str
) -> None:
    answers.of_chats = {BAD: AT_LAST[name]}
    report = many.sync(workers=1, request_deadline_s=1.0)
    assert (report.exit_code, [f.chat_id for f in report.chats_failed]) == (3, [BAD])
    assert answers.asked > 1
    assert loaded_chats(many) == others_of(BAD)
    for _ in range(2):
        answers.asked = 0
        report = many.sync(workers=1)
        assert (report.exit_code, [f.chat_id for f in report.chats_failed]) == (3, [BAD])
        assert (answers.asked, report.retries) == (1, 0)
    answers.of_chats = {}
    assert many.sync().exit_code == 0
    many.assert_equal_world()


def test_many_chats_that_fail_first_are_no_outage(many: Loader, answers: Answers) -> None:
    """Whom a single worker meets first tells nothing about the others."""
    answers.of_chats = dict.fromkeys((1, 2, 3, 4), Fault(status=500))
    report = many.sync(workers=1, request_deadline_s=0.6)
    assert (report.exit_code, len(report.chats_failed)) == (3, 4)
    assert loaded_chats(many) == others_of(1, 2, 3, 4)


def test_every_chat_failing_is_an_outage(many: Loader, answers: Answers) -> None:
    answers.of_chats = dict.fromkeys(range(1, CHATS + 1), Fault(status=500))
    report = many.sync(workers=2, request_deadline_s=0.6)
    assert (report.exit_code, report.chats_failed) == (1, ())
    assert report.error is not None
    assert "HTTP 500" in report.error
    # Nor is anything remembered of it: the next run has its whole deadline.
    asked = answers.asked
    assert many.sync(workers=2, request_deadline_s=3.0).retries > 0
    assert answers.asked > asked + 2


def test_what_breaks_the_reading_of_every_chat_is_no_chat_s_own(
    many: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(*_: Any) -> Any:
        raise ZeroDivisionError("inside")

    with monkeypatch.context() as patch:
        patch.setattr(window_reading, "_judge", judge)
        with pytest.raises(PipelineStepFailed, match="inside"):
            many.sync()
    assert many.sync().exit_code == 0
    many.assert_equal_world()


def test_what_breaks_the_reading_of_one_chat_stops_no_other(
    many: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = window_reading._judge

    def judge(window: Any, pages: Any) -> Any:
        if window.chat_id == BAD:
            raise OverflowError(f"m0 {DEFAULT_TOKEN}")
        return right(window, pages)

    monkeypatch.setattr(window_reading, "_judge", judge)
    report = many.sync()
    (failure,) = report.chats_failed
    assert (report.exit_code, failure.chat_id) == (3, BAD)
    assert failure.error.startswith(f"chat {BAD}: its answers could not be read (OverflowError at")
    assert DEFAULT_TOKEN not in failure.error
    assert loaded_chats(many) == others_of(BAD)
    monkeypatch.undo()
    assert many.sync().exit_code == 0
    many.assert_equal_world()


@pytest.mark.parametrize(
    "fault", [Fault(status=404), Fault(status=403), Fault(status=204, body=b""), Fault(status=500),
              Fault(status=200, body=b"[]")],
    ids=["404", "403", "204", "500", "no contract"],
)  # fmt: skip
def test_a_number_that_cannot_be_listed_stops_no_other(
    many: Loader, answers: Answers, fault: Fault
) -> None:
    many.sync()
    answers.of_numbers = {"+15550000002": fault}
    for chat_id in range(1, CHATS + 1):
        many.world.add_message(chat_id, "more", sent_at_ms=NOW_MS - 1_000)
    report = many.sync(request_deadline_s=0.6)
    assert (report.exit_code, report.deleted, report.messages) == (3, 0, 6)
    (text,) = report.numbers_failed
    assert text.startswith("phone number 2 of 2 (id 72): ")
    assert "+1555" not in text
    assert many.query("SELECT count(*) FROM chats WHERE deleted_at IS NOT NULL") == [(0,)]
    answers.asked = 0
    assert many.sync().exit_code == 3
    assert answers.asked == 1
    answers.of_numbers = {}
    assert many.sync().exit_code == 0
    many.assert_equal_world()


def test_no_number_that_can_be_listed_is_an_error_of_all(many: Loader, answers: Answers) -> None:
    answers.of_numbers = dict.fromkeys(("+15550000001", "+15550000002"), Fault(status=404))
    with pytest.raises(ApiContractError, match="HTTP 404"):
        many.sync()
    answers.of_numbers = dict.fromkeys(("+15550000001", "+15550000002"), Fault(status=500))
    with pytest.raises(ApiUnavailableError, match="HTTP 500"):
        many.sync(request_deadline_s=0.6)
