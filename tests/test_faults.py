"""A fault matrix: every failure at every place, once and permanently, over real sockets.

A world of one number and two chats is read by one worker: a request for the numbers, one for the
list of chats, and the pages of chat 1, then of chat 2. Faults strike at both lists and at the
first, a middle and the last page of chat 2. A test of faults that pass strikes at all five places
of one run, with another fault at each, so that as many runs as there are faults strike with every
fault at every place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from email.utils import formatdate
from itertools import cycle
from typing import Any, TypeVar

import duckdb
import pytest

from linq_source import ApiContractError, ApiUnavailableError, LinqError
from linq_source.api import client
from linq_source.sandbox import DEFAULT_TOKEN, Exchange, Fault, Sandbox, World
from tests.conftest import NOW_MS
from tests.faults import (
    FATAL,
    FOR_ALL,
    GONE,
    LISTS,
    MESSAGES,
    PAGES,
    PASSING,
    PLACES,
    REFUSED,
    SLOW,
    UNREADABLE,
    Matrix,
    always,
    give_up_soon,
    matrix,
    patience_with,
    strikes_at,
)

__all__ = ["matrix"]

Item = TypeVar("Item")


def turn_of(turn: int) -> dict[str, str]:
    """The fault at each place in one run; over all runs every fault meets every place."""
    names = list(PASSING)
    chosen = {place: names[(turn + n) % len(names)] for n, place in enumerate(PLACES)}
    return {place: name for place, name in chosen.items() if name in strikes_at(place)}


def in_groups(items: Iterable[Item], size: int) -> list[tuple[Item, ...]]:
    rest = list(items)
    return [tuple(rest[at : at + size]) for at in range(0, len(rest), size)]


ONCE = [turn_of(turn) for turn in range(len(PASSING))]
# Three outages, one after the other: at the first, at a middle, and at the last page.
FOR_GOOD = in_groups(PASSING, 3)
BROKEN = in_groups(FATAL, 3)
UNREAD = [("garbled inside", place) for place in ("chats", *PAGES)]
WAITS = 3
CASES = (
    sum(map(len, ONCE)) + 2 * len(PASSING) + 2 * len(FATAL) + 2 * len(GONE)
    + 2 * len(UNREAD) + len(PAGES) + WAITS
)  # fmt: skip


def test_the_matrix_is_whole(record_property: Callable[[str, object], None]) -> None:
    met = Counter((name, place) for chosen in ONCE for place, name in chosen.items())
    assert set(met.values()) == {1}
    assert set(met) == {(name, place) for place in PLACES for name in strikes_at(place)}
    record_property("summary", f"fault matrix: {CASES} cases")


@pytest.mark.parametrize("turn", range(len(ONCE)), ids=lambda turn: list(PASSING)[turn])
def test_what_fails_once_is_asked_again_and_changes_nothing(matrix: Matrix, turn: int) -> None:
    chosen = {place: name for place, name in ONCE[turn].items() if matrix.knows(name)}
    matrix.striker.plan = {place: PASSING[name].fault for place, name in chosen.items()}
    matrix.striker.refused = next((p for p, n in chosen.items() if n == REFUSED), None)
    slow = {"timeout_s": 0.4} if set(SLOW) & set(chosen.values()) else {}
    report = matrix.sync(**slow)
    assert matrix.striker.struck == dict.fromkeys(chosen, 1)
    assert report.exit_code == 0
    assert report.retries >= len(chosen)
    assert report.windows_unverified == 0
    matrix.loader.assert_equal_world()


@pytest.mark.parametrize(
    "matrix", ["v2", pytest.param("v3", marks=pytest.mark.deep)], indirect=True
)
@pytest.mark.parametrize("names", FOR_GOOD, ids=", ".join)
def test_what_fails_for_good_is_said_and_keeps_what_was_read(
    matrix: Matrix, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = tuple(filter(matrix.knows, names))
    for place, name in zip(cycle(LISTS), names, strict=False):
        give_up_soon(monkeypatch, name)
        at = place if name in strikes_at(place) else "chats"
        matrix.strike_for_good(at, PASSING[name].fault, refused=name == REFUSED)
        with pytest.raises(ApiUnavailableError) as caught:
            matrix.sync(**patience_with(name))
        assert_said(matrix, str(caught.value), at, PASSING[name].words_at(at))
        assert caught.value.exit_code == 1
        assert_nothing_loaded(matrix)
        matrix.striker.lift()
    for place, name in zip(PAGES, names, strict=False):
        give_up_soon(monkeypatch, name)
        matrix.strike_for_good(place, PASSING[name].fault, refused=name == REFUSED)
        report = matrix.sync(**patience_with(name))
        assert_failed(matrix, report, place, PASSING[name].words, is_outage=name in FOR_ALL)
        assert_only_chat_1_is_loaded(matrix)
        matrix.striker.lift()
    assert_chat_1_was_kept_and_chat_2_is_read_again(matrix)


@pytest.mark.parametrize("names", BROKEN, ids=", ".join)
def test_what_no_retry_mends_is_not_asked_again(matrix: Matrix, names: tuple[str, ...]) -> None:
    with Sandbox(World(now_ms=NOW_MS)) as other:

        def strike(name: str, place: str) -> None:
            def fault(exchange: Exchange, right: bytes) -> Fault:
                found = FATAL[name].fault(exchange, right)
                return replace(found, location=found.location.format(
                    other=other.url, https=matrix.loader.sandbox.url.replace("http", "https")
                ))  # fmt: skip

            matrix.strike_for_good(place, fault)

        for place, name in zip(cycle(LISTS), names, strict=False):
            strike(name, place)
            with pytest.raises(LinqError) as caught:
                matrix.sync()
            assert type(caught.value) is FATAL[name].kind
            assert caught.value.exit_code == 1
            assert_said(
                matrix, str(caught.value), place if name != "401" else "", FATAL[name].words
            )
            assert matrix.striker.struck == {place: 1}
            assert_nothing_loaded(matrix)
            matrix.striker.lift()
        for some, name in zip(PAGES, names, strict=False):
            place = matrix.where(some, name)
            strike(name, place)
            report = matrix.sync()
            assert report.retries == 0
            is_of_all = name == "401"
            where = "" if is_of_all else place
            assert_failed(matrix, report, where, FATAL[name].words, is_outage=is_of_all)
            assert matrix.striker.struck == {place: 1}
            assert_only_chat_1_is_loaded(matrix)
            matrix.striker.lift()
        assert other.requests_log == []
    assert not [r for r in matrix.loader.sandbox.requests_log if r.route == "unknown"]
    assert_chat_1_was_kept_and_chat_2_is_read_again(matrix)


def test_a_chat_that_cannot_be_read_holds_back_nobody(matrix: Matrix) -> None:
    for status in GONE:
        matrix.strike_for_good("chats", always(status=status))
        with pytest.raises(ApiContractError) as caught:
            matrix.sync()
        assert_said(matrix, str(caught.value), "chats", f"HTTP {status}")
        assert_nothing_loaded(matrix)
    for number, (status, place) in enumerate(zip(GONE, PAGES, strict=True), start=1):
        matrix.strike_for_good(matrix.where(place, str(status)), always(status=status))
        report = matrix.sync()
        assert (report.exit_code, report.retries) == (3, 0)
        assert [failure.chat_id for failure in report.chats_failed] == [matrix.chat(2)]
        assert report.chats_failed[0].error.startswith(f"chat {matrix.chat(2)}: HTTP {status}")
        failed = "SELECT chat_id, count(*) FROM sync_windows WHERE error IS NOT NULL GROUP BY ALL"
        assert matrix.loader.query(failed) == [(matrix.chat(2), number)]
        assert_only_chat_1_is_loaded(matrix)
    matrix.striker.lift()
    assert_chat_1_was_kept_and_chat_2_is_read_again(matrix)


@pytest.mark.parametrize("matrix", ["v2"], indirect=True)
@pytest.mark.parametrize(("name", "place"), UNREAD)
def test_a_page_of_which_only_the_numbers_can_be_read(
    matrix: Matrix, name: str, place: str
) -> None:
    matrix.striker.plan = {place: UNREADABLE[name]}
    report = matrix.sync()
    assert (report.exit_code, report.windows_unverified) == (0, 0)
    matrix.loader.assert_equal_world()
    for message in matrix.loader.world.messages_of(2)[::8]:
        matrix.loader.world.edit_message(message.id, "edited")
    matrix.strike_for_good(place, UNREADABLE[name])
    report = matrix.sync()
    assert report.deleted == 0
    if place != "chats":
        assert (report.exit_code, report.windows_unverified) == (3, 1)
    assert matrix.loader.query("SELECT count(*) FROM chats WHERE deleted_at IS NULL") == [(2,)]
    matrix.striker.lift()
    assert matrix.sync().exit_code == 0
    matrix.loader.assert_equal_world()


def test_bytes_of_another_charset_are_kept_said_and_put_right(matrix: Matrix) -> None:
    def latin_1(exchange: Exchange, right: bytes) -> Fault:
        return Fault(status=200, body=right.decode().encode("latin-1"))

    # v3 reads a list by offsets twice.
    matrix.striker.plan, matrix.striker.once = dict.fromkeys(PAGES, latin_1), False
    report = matrix.sync()
    matrix.striker.lift()
    assert (report.exit_code, report.windows_unverified, report.rejected) == (3, 0, MESSAGES[1])
    strange = matrix.loader.query("SELECT count(*) FROM chat_messages WHERE text LIKE 'caf\ufffd%'")
    assert strange == [(MESSAGES[1],)]
    assert matrix.sync().exit_code == 0
    matrix.loader.assert_equal_world()


def test_a_server_that_asks_for_a_pause_gets_it(
    matrix: Matrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MAX_PAUSE_S", 60.0)
    in_a_second = formatdate(NOW_MS / 1000 + 1, usegmt=True)
    matrix.striker.plan = {
        "chats": always(status=429, headers={"Retry-After": "1"}),
        "first": always(status=503, headers={"Retry-After": in_a_second}),
        "last": always(status=429),
    }
    report = matrix.sync()
    assert (report.retries, report.exit_code) == (WAITS, 0)
    log = matrix.loader.sandbox.requests_log
    waited = {}
    for refused in (record for record in log if record.status in (429, 503)):
        again = log[log.index(refused) + 1]
        assert (again.path, again.params) == (refused.path, refused.params)
        assert refused.finished_s is not None
        page = refused.params.get("page") or refused.params.get("cursor", "1")
        waited[page + refused.route] = again.started_s - refused.finished_s
    assert waited["1chats"] >= 1
    assert waited["1chat_messages"] >= 1
    matrix.loader.assert_equal_world()


def assert_failed(matrix: Matrix, report: Any, place: str, words: str, *, is_outage: bool) -> None:
    """A run that an outage ended, or one that read all but chat 2."""
    if is_outage:
        assert (report.exit_code, report.chats_failed) == (1, ())
        assert_said(matrix, report.error, place, words)
        return
    assert (report.exit_code, report.error) == (3, None)
    assert [failure.chat_id for failure in report.chats_failed] == [matrix.chat(2)]
    assert report.chats_failed[0].error.startswith(f"chat {matrix.chat(2)}: ")
    assert_said(matrix, report.chats_failed[0].error, place, words)


def assert_said(matrix: Matrix, text: str | None, place: str, words: str | None) -> None:
    words = matrix.words(words)
    assert text is not None
    assert words is not None
    assert any(option in text for option in words.split("|")), text
    assert not place or matrix.path_of(place) in text
    assert DEFAULT_TOKEN not in text
    assert "+1555" not in text
    assert "caf" not in text
    assert "\n" not in text


def assert_nothing_loaded(matrix: Matrix) -> None:
    with duckdb.connect(str(matrix.loader.database)) as connection:
        tables = connection.execute("SELECT count(*) FROM information_schema.tables").fetchall()
    assert tables == [(0,)]


def assert_only_chat_1_is_loaded(matrix: Matrix) -> None:
    rows = matrix.loader.query("SELECT chat_id, count(*) FROM chat_messages GROUP BY ALL")
    assert rows == [(matrix.chat(1), MESSAGES[0])]


def assert_chat_1_was_kept_and_chat_2_is_read_again(matrix: Matrix) -> None:
    report = matrix.sync()
    # By v3 it is looked at for as long as its `updated_at` lies in the lookback.
    skipped = 1 if matrix.loader.api == "v2" else 0
    assert (report.exit_code, report.chats_skipped, report.messages) == (0, skipped, MESSAGES[1])
    matrix.loader.assert_equal_world()
