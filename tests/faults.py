"""Every way in which an answer may fail, and a server that fails so at a given place."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import pytest
from tenacity import wait_chain, wait_fixed

from linq_source import ApiContractError, AuthenticationError, LinqError
from linq_source.api import client, pacing, transport
from linq_source.sandbox import Exchange, Fault, Sandbox, World, answers_v3
from linq_source.sandbox.answers import Answer as Answered
from linq_source.sandbox.answers import answer_to
from linq_source.sandbox.rendering_v3 import uuid_of
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
    packed = gzip.compress(right)
    return Fault(status=200, body=packed[: len(packed) // 2], headers={"Content-Encoding": "gzip"})


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
    "gzip cut short": Trouble(cut_gzip, "compression is broken|not JSON"),
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
        # v3 is read by offsets here.
        page = int(exchange.params.get("page", 1)) - 1
        return PAGES[int(exchange.params.get("cursor", PAGE_SIZE * page)) // PAGE_SIZE]
    return None


@dataclass
class Striker:
    """Answers with faults at places: once at each, or at every request until lifted."""

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
        return self.plan[place](exchange, self._right_answer(exchange).body)

    def _right_answer(self, exchange: Exchange) -> Answered:
        if exchange.path.startswith(answers_v3.PREFIX):
            return answers_v3.answer_to(
                exchange, self.sandbox.world, max_per_page=100, cursors="offset",
                newest_first=True, files_url=None,
            )  # fmt: skip
        return answer_to(exchange, self.sandbox.world, max_per_page=100, inclusive=False)

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

    def chat(self, number: int) -> Any:
        """The id of a chat."""
        return number if self.loader.api == "v2" else uuid_of("chat", number)

    def path_of(self, place: str) -> str:
        messages = "chat_messages" if self.loader.api == "v2" else "messages"
        path = place if place in LISTS else f"chats/{self.chat(2)}/{messages}"
        return f"/api/partner/{self.loader.api}/{path}"

    def knows(self, name: str) -> bool:
        """Whether a fault can strike: v3 has no numbers around a list."""
        return self.loader.api == "v2" or PASSING[name].on_numbers is not None

    def where(self, place: str, name: str) -> str:
        """The place where an answer is about the chat: elsewhere v3 refuses a cursor with it."""
        refuses = self.loader.api == "v3" and name in ("400", "404", "410")
        return "first" if refuses and place in PAGES else place

    def words(self, words: str | None) -> str | None:
        """The words that tell a cause: v3 names its lists otherwise."""
        if words is None or self.loader.api == "v2":
            return words
        return words.replace("no list 'data'", "no list 'chats'|no list 'messages'")

    def strike_for_good(self, place: str, answer: Answer, *, refused: bool = False) -> None:
        self.striker.plan, self.striker.once = {place: answer}, False
        self.striker.refused = place if refused else None
        self.striker.struck.clear()


@pytest.fixture(params=["v2", pytest.param("v3", marks=pytest.mark.long)])
def matrix(
    request: pytest.FixtureRequest,
    serve: Callable[[World], Loader],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Matrix]:
    # What is waited for is measured in one test below, and how fast to ask after a refusal in
    # `test_throttle.py`; elsewhere waiting is cut short.
    monkeypatch.setattr(client, "_BACKOFF", wait_fixed(PAUSE_S))
    monkeypatch.setattr(client, "MAX_PAUSE_S", PAUSE_S)
    monkeypatch.setattr(pacing, "_BACKOFF_S", PAUSE_S)
    monkeypatch.setattr(pacing.Pacing, "_learn", lambda *_: 0.0)
    monkeypatch.setattr(transport, "MAX_BODY_BYTES", MAX_BODY_BYTES)
    loader = serve(two_chats())
    loader.api, loader.sandbox.cursors = request.param, "offset"
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
