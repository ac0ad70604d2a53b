"""A fault matrix: every failure at every place, once and for good, over real sockets.

A world of one number and two chats is read by one worker: a request for the numbers, one for the
list of chats, and the pages of chat 1, then of chat 2. Faults strike at both lists and at the
first, a middle and the last page of chat 2. A test of faults that pass strikes at all five places
of one run, with another fault at each, so that as many runs as there are faults strike with every
fault at every place.
"""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from itertools import cycle
from typing import Any, TypeVar

import duckdb
import pytest
from tenacity import wait_chain, wait_fixed

from linq_source import ApiContractError, ApiUnavailableError, AuthenticationError, LinqError
from linq_source.api import client, pacing, transport
from linq_source.sandbox import DEFAULT_TOKEN, Exchange, Fault, Sandbox, World
from linq_source.sandbox.answers import answer_to
from tests.conftest import DAY_MS, NOW_MS, Loader

LISTS = ("phone_numbers", "chats")
PAGES = ("first", "middle", "last")
PLACES = LISTS + PAGES
# In chat 1, which is read before any fault strikes, and in chat 2, where faults strike.
MESSAGES = (12, 25)
PAGE_SIZE = 10
MAX_BODY_BYTES = 40_000
IN_TEN_MINUTES = formatdate(NOW_MS / 1000 + 600, usegmt=True)

Answer = Callable[[Exchange, bytes], Fault]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Trouble:
    """A fault, made from a request and its right answer, and the words that tell its cause.

    `on_numbers` are the words where the answer is the list of numbers, which has no `meta`;
    none: this fault cannot strike there.
    """

    fault: Answer
    words: str
    on_numbers: str | None = ""

    def words_at(self, place: str) -> str | None:
        return self.on_numbers if place == "phone_numbers" and self.on_numbers != "" else self.words


def always(**fault: Any) -> Answer:
    return lambda exchange, right: Fault(**fault)


def body(text: bytes, **headers: str) -> Answer:
    return always(status=200, body=text, headers={k.replace("_", "-"): headers[k] for k in headers})


def meta(**changed: Any) -> Answer:
    """The right page with other numbers around it; `None` takes a number away."""

    def fault(exchange: Exchange, right: bytes) -> Fault:
        page = json.loads(right)
        page["meta"] = {k: v for k, v in (page["meta"] | changed).items() if v is not None}
        return Fault(status=200, body=json.dumps(page).encode())

    return fault


def without(key: str) -> Answer:
    def fault(exchange: Exchange, right: bytes) -> Fault:
        page = {k: v for k, v in json.loads(right).items() if k != key}
        return Fault(status=200, body=json.dumps(page).encode())

    return fault


def announcing(length: Callable[[int], int]) -> Answer:
    """The right body under a wrong Content-Length, on a connection that stays open."""
    return lambda exchange, right: Fault(
        status=200, body=right, headers={"Content-Length": str(length(len(right)))}
    )


def cut_gzip(exchange: Exchange, right: bytes) -> Fault:
    """Compressed data that ends early, under the right Content-Length."""
    packed = gzip.compress(right)[: len(right) // 8]
    return Fault(status=200, body=packed, headers={"Content-Encoding": "gzip"})


def utf_16(exchange: Exchange, right: bytes) -> Fault:
    return Fault(status=200, body=right.decode().encode("utf-16"))


REFUSED = "connection refused"
GZIP = {"Content_Encoding": "gzip"}
NO_NUMBERS = "no list 'phone_numbers'"

PASSING: Mapping[str, Trouble] = {
    REFUSED: Trouble(always(action="stall"), "no connection"),
    "connection reset": Trouble(always(action="reset"), "the connection broke"),
    "closed without an answer": Trouble(always(action="close"), "the connection broke"),
    "silence": Trouble(always(action="stall"), "no answer in time"),
    "body cut short": Trouble(always(action="truncate"), "the connection broke"),
    "Content-Length too long": Trouble(announcing(lambda n: n + 99), "no answer in time"),
    "Content-Length too short": Trouble(announcing(lambda n: n // 2), "not JSON|bytes behind"),
    "500": Trouble(always(status=500), "HTTP 500"),
    "502": Trouble(always(status=502), "HTTP 502"),
    "503": Trouble(always(status=503), "HTTP 503"),
    "504": Trouble(always(status=504), "HTTP 504"),
    "503 with Retry-After": Trouble(always(status=503, headers={"Retry-After": "600"}), "HTTP 503"),
    "408": Trouble(always(status=408), "HTTP 408"),
    "425": Trouble(always(status=425), "HTTP 425"),
    "429": Trouble(always(status=429), "HTTP 429"),
    "429 with seconds": Trouble(always(status=429, headers={"Retry-After": "600"}), "HTTP 429"),
    "429 with a date": Trouble(
        always(status=429, headers={"Retry-After": IN_TEN_MINUTES}), "HTTP 429"
    ),
    "an HTML page": Trouble(body(b"<html><body>Bad gateway</body></html>"), "an HTML page"),
    "{}": Trouble(body(b"{}"), "no list 'data'", NO_NUMBERS),
    "null": Trouble(body(b"null"), "not a JSON object"),
    "JSON cut short": Trouble(lambda _, right: Fault(status=200, body=right[:-30]), "not JSON"),
    "UTF-16": Trouble(utf_16, "not in UTF-8"),
    "data is an object": Trouble(
        body(b'{"data":{},"phone_numbers":{},"meta":{"page":1}}'), "no list 'data'", NO_NUMBERS
    ),
    "no meta": Trouble(without("meta"), "no object 'meta'", None),
    "a negative count": Trouble(meta(total_count=-1), "meta.total_count", None),
    "a count in quotes": Trouble(meta(total_pages="3"), "meta.total_pages", None),
    "not gzip": Trouble(body(b"plain text", **GZIP), "compression is broken"),
    "gzip cut short": Trouble(cut_gzip, "compression is broken"),
}
SLOW = ("silence", "Content-Length too long")
# What keeps everybody from being answered, whatever was asked for.
FOR_ALL = (REFUSED, "503 with Retry-After", "429", "429 with seconds", "429 with a date")


PAUSE_S = 0.02
BEYOND_THE_DEADLINE_S = 3600.0


def patience_with(name: str) -> dict[str, float]:
    """Little of it where a server is silent, else the default."""
    return {"timeout_s": 0.4} if name in SLOW else {}


def give_up_soon(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the pause after some tries be longer than the deadline, which ends them at once.

    A short deadline would do so, too, but not leave right answers their time.
    """
    # A server that goes away needs a moment for it.
    tries = 50 if name == REFUSED else 2
    pauses = (*([wait_fixed(PAUSE_S)] * tries), wait_fixed(BEYOND_THE_DEADLINE_S))
    monkeypatch.setattr(client, "_BACKOFF", wait_chain(*pauses))
    monkeypatch.setattr(client, "MAX_PAUSE_S", BEYOND_THE_DEADLINE_S)
    monkeypatch.setattr(pacing, "_BACKOFF_S", BEYOND_THE_DEADLINE_S)
    monkeypatch.setattr(pacing, "_MAX_BACKOFF_S", BEYOND_THE_DEADLINE_S)


def _garbled(exchange: Exchange, right: bytes) -> Fault:
    """Something else between the right first and the right last bytes of a page."""
    return Fault(status=200, body=b'{"data":[{]' + right[right.rindex(b',"meta"') :])


# A page whose numbers can be believed and whose records cannot be read: counts tell.
UNREADABLE: Mapping[str, Answer] = {"garbled inside": _garbled}


@dataclass(frozen=True)
class Refusal:
    """A fault that ends the run at once, with an error of this kind and these words."""

    fault: Answer
    kind: type[LinqError]
    words: str


def redirect(status: int, location: str) -> Answer:
    return always(action="redirect", status=status, location=location)


FATAL: Mapping[str, Refusal] = {
    "401": Refusal(always(status=401), AuthenticationError, "SOURCES__LINQ__API_TOKEN"),
    "400": Refusal(always(status=400), ApiContractError, "HTTP 400"),
    "418": Refusal(always(status=418), ApiContractError, "HTTP 418"),
    "a redirect to another host": Refusal(
        redirect(302, "{other}/stolen"), ApiContractError, "redirected (HTTP 302)"
    ),
    "a redirect on the same host": Refusal(
        redirect(307, "/login"), ApiContractError, "redirected (HTTP 307)"
    ),
    "a redirect to another scheme": Refusal(
        redirect(308, "{https}/login"), ApiContractError, "redirected (HTTP 308)"
    ),
    "too large": Refusal(body(b" " * (MAX_BODY_BYTES + 1)), ApiContractError, "larger than"),
}
GONE = (403, 404, 410)


def place_of(exchange: Exchange) -> str | None:
    if exchange.route in LISTS:
        return exchange.route
    if exchange.route == "chat_messages" and exchange.chat_id == 2:
        return PAGES[int(exchange.params["page"]) - 1]
    return None


def path_of(place: str) -> str:
    return f"/api/partner/v2/{place if place in LISTS else 'chats/2/chat_messages'}"


@dataclass
class Striker:
    """Answers with faults at places: once at each, or for good until lifted."""

    sandbox: Sandbox
    plan: dict[str, Answer] = field(default_factory=dict)
    once: bool = True
    refused: str | None = None
    struck: Counter[str] = field(default_factory=Counter)
    _restart: threading.Thread | None = None

    def __call__(self, exchange: Exchange) -> Fault | None:
        place = place_of(exchange)
        if place is None or place not in self.plan or (self.once and self.struck[place]):
            return None
        self.struck[place] += 1
        if place == self.refused:
            self._refuse()
        right = answer_to(exchange, self.sandbox.world, max_per_page=100, inclusive=False)
        return self.plan[place](exchange, right.body)

    def _refuse(self) -> None:
        """The server goes away in mid-request, and, if once, comes back at the same port."""

        def away() -> None:
            self.sandbox.stop()
            if self.once:
                time.sleep(0.1)
                self.sandbox.start()

        self._restart = threading.Thread(target=away)
        self._restart.start()

    def wait(self) -> None:
        if self._restart is not None:
            self._restart.join()

    def lift(self) -> None:
        self.plan = {}
        self.wait()
        if self.refused is not None and not self.once:
            self.sandbox.start()
        self.refused = None


@dataclass
class Matrix:
    """A loader, and what strikes it."""

    loader: Loader
    striker: Striker

    def sync(self, **options: Any) -> Any:
        return self.loader.sync(page_size=PAGE_SIZE, workers=1, **options)

    def strike_for_good(self, place: str, answer: Answer, *, refused: bool = False) -> None:
        self.striker.plan, self.striker.once = {place: answer}, False
        self.striker.refused = place if refused else None
        self.striker.struck.clear()


@pytest.fixture
def matrix(serve: Callable[[World], Loader], monkeypatch: pytest.MonkeyPatch) -> Iterator[Matrix]:
    # What is waited for is measured in one test below, and how fast to ask after a refusal in
    # `test_throttle.py`; elsewhere waiting is cut short.
    monkeypatch.setattr(client, "_BACKOFF", wait_fixed(PAUSE_S))
    monkeypatch.setattr(client, "MAX_PAUSE_S", PAUSE_S)
    monkeypatch.setattr(pacing, "_BACKOFF_S", PAUSE_S)
    monkeypatch.setattr(pacing.Pacing, "_learn", lambda *_: 0.0)
    monkeypatch.setattr(transport, "MAX_BODY_BYTES", MAX_BODY_BYTES)
    loader = serve(two_chats())
    striker = Striker(loader.sandbox)
    loader.sandbox.faults.append(striker)
    yield Matrix(loader, striker)
    striker.wait()


def two_chats() -> World:
    """Chat 1 has long been silent, so that it needs no request once it was read."""
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001")
    for chat_id, count, days in ((1, MESSAGES[0], 20), (2, MESSAGES[1], 3)):
        world.add_chat(display_name=f"Chat {chat_id}", chat_id=chat_id)
        for number in range(count):
            at_ms = NOW_MS - days * DAY_MS + number * 60_000
            message = world.add_message(chat_id, f"café {number}", sent_at_ms=at_ms)
            if number % 6 == 0:
                world.add_reaction(message.id, from_phone="+15550000002")
                world.add_attachment(message.id)
    return world


def strikes_at(place: str) -> list[str]:
    return [name for name in PASSING if PASSING[name].words_at(place) is not None]


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
    chosen = ONCE[turn]
    matrix.striker.plan = {place: PASSING[name].fault for place, name in chosen.items()}
    matrix.striker.refused = next((p for p, n in chosen.items() if n == REFUSED), None)
    slow = {"timeout_s": 0.4} if set(SLOW) & set(chosen.values()) else {}
    report = matrix.sync(**slow)
    assert matrix.striker.struck == dict.fromkeys(chosen, 1)
    assert report.exit_code == 0
    assert report.retries >= len(chosen)
    assert report.windows_unverified == 0
    matrix.loader.assert_equal_world()


@pytest.mark.parametrize("names", FOR_GOOD, ids=", ".join)
def test_what_fails_for_good_is_said_and_keeps_what_was_read(
    matrix: Matrix, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, name in zip(cycle(LISTS), names, strict=False):
        give_up_soon(monkeypatch, name)
        at = place if name in strikes_at(place) else "chats"
        matrix.strike_for_good(at, PASSING[name].fault, refused=name == REFUSED)
        with pytest.raises(ApiUnavailableError) as caught:
            matrix.sync(**patience_with(name))
        assert_said(str(caught.value), at, PASSING[name].words_at(at))
        assert caught.value.exit_code == 1
        assert_nothing_loaded(matrix)
        matrix.striker.lift()
    for place, name in zip(PAGES, names, strict=False):
        give_up_soon(monkeypatch, name)
        matrix.strike_for_good(place, PASSING[name].fault, refused=name == REFUSED)
        report = matrix.sync(**patience_with(name))
        assert_failed(report, place, PASSING[name].words, is_outage=name in FOR_ALL)
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
            assert_said(str(caught.value), place if name != "401" else "", FATAL[name].words)
            assert matrix.striker.struck == {place: 1}
            assert_nothing_loaded(matrix)
            matrix.striker.lift()
        for place, name in zip(PAGES, names, strict=False):
            strike(name, place)
            report = matrix.sync()
            assert report.retries == 0
            is_of_all = name == "401"
            where = "" if is_of_all else place
            assert_failed(report, where, FATAL[name].words, is_outage=is_of_all)
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
        assert_said(str(caught.value), "chats", f"HTTP {status}")
        assert_nothing_loaded(matrix)
    for number, (status, place) in enumerate(zip(GONE, PAGES, strict=True), start=1):
        matrix.strike_for_good(place, always(status=status))
        report = matrix.sync()
        assert (report.exit_code, report.retries) == (3, 0)
        assert [failure.chat_id for failure in report.chats_failed] == [2]
        assert report.chats_failed[0].error.startswith(f"chat 2: HTTP {status}")
        failed = "SELECT chat_id, count(*) FROM sync_windows WHERE error IS NOT NULL GROUP BY ALL"
        assert matrix.loader.query(failed) == [(2, number)]
        assert_only_chat_1_is_loaded(matrix)
    matrix.striker.lift()
    assert_chat_1_was_kept_and_chat_2_is_read_again(matrix)


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

    matrix.striker.plan = dict.fromkeys(PAGES, latin_1)
    report = matrix.sync()
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
        waited[refused.params["page"] + refused.route] = again.started_s - refused.finished_s
    assert waited["1chats"] >= 1
    assert waited["1chat_messages"] >= 1
    matrix.loader.assert_equal_world()


def assert_failed(report: Any, place: str, words: str, *, is_outage: bool) -> None:
    """A run that an outage ended, or one that read all but chat 2."""
    if is_outage:
        assert (report.exit_code, report.chats_failed) == (1, ())
        assert_said(report.error, place, words)
        return
    assert (report.exit_code, report.error) == (3, None)
    assert [failure.chat_id for failure in report.chats_failed] == [2]
    assert report.chats_failed[0].error.startswith("chat 2: ")
    assert_said(report.chats_failed[0].error, place, words)


def assert_said(text: str | None, place: str, words: str | None) -> None:
    assert text is not None
    assert words is not None
    assert any(option in text for option in words.split("|")), text
    assert not place or path_of(place) in text
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
    assert rows == [(1, MESSAGES[0])]


def assert_chat_1_was_kept_and_chat_2_is_read_again(matrix: Matrix) -> None:
    report = matrix.sync()
    assert (report.exit_code, report.chats_skipped, report.messages) == (0, 1, MESSAGES[1])
    matrix.loader.assert_equal_world()
