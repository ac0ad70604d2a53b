"""Every walk ends, whatever the answers claim; what was known stays, what is doubtful is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from linq_source.planning import listings, window_cutting, window_reading, windows
from linq_source.sandbox import Exchange, Fault, Sandbox, World
from linq_source.sandbox.answers import answer_to
from tests.conftest import DAY_MS, HOUR_MS, NOW_MS, Loader

ABSURD = 2**52
PAGE_SIZE = 5
DEEPEST_PAGE = 12
MAX_WINDOWS = 4
MAX_UNVERIFIED = 3
CHUNK_PAGES = 5
MAX_LIST_PAGES = 40
Body = dict[str, Any]
Edit = Callable[["Editor", Exchange], Body]


class Editor:
    """Edits the right answers to a list; `count` is the number of the request, from 1.

    A list is that of the chats, or the messages of chat 1.
    """

    def __init__(self, world: World, route: str, edit: Edit) -> None:
        self.world = world
        self.route = route
        self.edit = edit
        self.count = 0

    def __call__(self, exchange: Exchange) -> Fault | None:
        if exchange.route != self.route or exchange.chat_id not in (None, 1):
            return None
        self.count += 1
        return Fault(status=200, body=json.dumps(self.edit(self, exchange)).encode())

    def page(self, exchange: Exchange, number: int | None = None, per_page: int = 100) -> Body:
        """The right answer; of another page, or of pages of another size, if told so."""
        params = dict(exchange.params)
        if number is not None:
            params["page"] = str(number)
        asked = Exchange("GET", exchange.path, params, {}, 0, exchange.route, exchange.chat_id)
        right = answer_to(asked, self.world, max_per_page=per_page, inclusive=False)
        body: Body = json.loads(right.body)
        return body


def page_of(exchange: Exchange) -> int:
    return int(exchange.params["page"])


def claiming(*names: str) -> Edit:
    def edit(editor: Editor, exchange: Exchange) -> Body:
        page = editor.page(exchange)
        page["meta"].update(dict.fromkeys(names, ABSURD))
        return page

    return edit


def growing(editor: Editor, exchange: Exchange) -> Body:
    page = editor.page(exchange)
    page["meta"]["total_pages"] += editor.count
    return page


def growing_counts(editor: Editor, exchange: Exchange) -> Body:
    page = editor.page(exchange)
    page["meta"]["total_pages"] += editor.count
    page["meta"]["total_count"] += editor.count
    return page


def repeating(editor: Editor, exchange: Exchange) -> Body:
    return editor.page(exchange, 1) | {"meta": editor.page(exchange)["meta"]}


def empty_in_the_middle(editor: Editor, exchange: Exchange) -> Body:
    page = editor.page(exchange)
    return page | {"data": []} if page_of(exchange) == 2 else page


def another_page(editor: Editor, exchange: Exchange) -> Body:
    number = page_of(exchange)
    return editor.page(exchange, 3 if number == 2 else number)


def swapped_pages(editor: Editor, exchange: Exchange) -> Body:
    number = page_of(exchange)
    return editor.page(exchange, {2: 3, 3: 2}.get(number, number))


def lowered_at_once(editor: Editor, exchange: Exchange) -> Body:
    return editor.page(exchange, per_page=3)


def lowered_in_mid_walk(editor: Editor, exchange: Exchange) -> Body:
    return editor.page(exchange, per_page=100 if editor.count < 3 else 3)


def inventing(editor: Editor, exchange: Exchange) -> Body:
    """New records on every page, and ever more pages."""
    page = editor.page(exchange)
    numbers = range(editor.count * 100, editor.count * 100 + PAGE_SIZE)
    page["data"] = [invented(exchange, 9_000_000 + number) for number in numbers]
    page["meta"] |= {"total_pages": ABSURD // PAGE_SIZE, "total_count": ABSURD}
    return page


def inventing_one_by_one(editor: Editor, exchange: Exchange) -> Body:
    """One new record on every page, counted as such."""
    page = editor.page(exchange)
    page["data"].append(invented(exchange, 9_000_000 + editor.count))
    page["meta"]["total_count"] += editor.count
    page["meta"]["total_pages"] += editor.count
    return page


def invented(exchange: Exchange, number: int) -> Body:
    if exchange.route == "chats":
        return {"id": number, "display_name": "invented", "service": "SMS", "message_count": 1,
                "group": False, "chat_handles": []}  # fmt: skip
    sent_at = datetime.fromtimestamp(NOW_MS / 1000, UTC) - timedelta(hours=1 + number % 90)
    return {"id": number, "text": "invented", "sent_at": sent_at.isoformat(),
            "delivered_at": None, "delivery_status": "delivered", "edited_at": None,
            "is_read": False, "sent_from": "+15550000003", "chat_handle_id": None,
            "attachments": [], "reactions": []}  # fmt: skip


DOUBTFUL: dict[str, Edit] = {
    "total_count absurd": claiming("total_count"),
    "total_count and total_pages absurd": claiming("total_pages", "total_count"),
    "counts that grow": growing_counts,
    "every page repeats the first": repeating,
    "an empty page in the middle": empty_in_the_middle,
    "another page than asked for": another_page,
    "records invented without end": inventing,
    "records invented one by one": inventing_one_by_one,
}
HARMLESS: dict[str, Edit] = {
    "total_pages that grow": growing,
    "pages in another order": swapped_pages,
    "per_page lowered at once": lowered_at_once,
    "per_page lowered in mid-walk": lowered_in_mid_walk,
}
# Pages beyond the deepest that is asked for make a window doubtful; a list has none such.
TOO_MANY: dict[str, Edit] = {"total_pages absurd": claiming("total_pages")}
EDITS = DOUBTFUL | TOO_MANY | HARMLESS
LONGEST = ("total_count and total_pages absurd", "records invented without end")


def several_chats() -> World:
    """Eleven chats, the first of 21 messages on three days, the others of one."""
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001")
    for chat_id in range(1, 12):
        world.add_chat(chat_id=chat_id)
        world.add_message(chat_id, "old", sent_at_ms=NOW_MS - 20 * DAY_MS)
    for number in range(20):
        world.add_message(1, str(number), sent_at_ms=NOW_MS - 4 * DAY_MS + number * 3 * HOUR_MS)
    return world


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a loader that has read the world once, to be copied."""
    folder = tmp_path_factory.mktemp("loaded")
    with Sandbox(several_chats()) as sandbox:
        assert Loader(sandbox, folder).sync().exit_code == 0
    return folder


@pytest.fixture
def fresh(serve: Callable[[World], Loader], monkeypatch: pytest.MonkeyPatch) -> Loader:
    """A loader that has read nothing, and low limits."""
    monkeypatch.setattr(windows, "MAX_ROWS", DEEPEST_PAGE * PAGE_SIZE)
    monkeypatch.setattr(window_cutting, "MAX_WINDOWS", MAX_WINDOWS)
    monkeypatch.setattr(window_cutting, "MAX_UNVERIFIED", MAX_UNVERIFIED)
    monkeypatch.setattr(listings, "CHUNK_PAGES", CHUNK_PAGES)
    monkeypatch.setattr(listings, "MAX_LIST_PAGES", MAX_LIST_PAGES)
    return serve(several_chats())


@pytest.fixture
def known(fresh: Loader, loaded: Path) -> Loader:
    """A loader that has read the world, in which something has happened since."""
    shutil.copytree(loaded, fresh.folder, dirs_exist_ok=True)
    world = fresh.world
    world.edit_message(world.messages_of(1)[7].id, "edited")
    world.add_message(1, "new", sent_at_ms=NOW_MS - HOUR_MS)
    world.add_chat(chat_id=12)
    return fresh


def sync(loader: Loader, **options: Any) -> Any:
    return loader.sync(page_size=PAGE_SIZE, workers=2, **options)


def live(loader: Loader, table: str) -> set[int]:
    return {id for (id,) in loader.query(f"SELECT id FROM {table} WHERE deleted_at IS NULL")}


def run_with(loader: Loader, route: str, edit: Edit) -> tuple[Any, int]:
    """A run in which the answers to a list are edited: its report, and how often it was asked."""
    editor = Editor(loader.world, route, edit)
    loader.sandbox.faults.append(editor)
    report = sync(loader)
    loader.sandbox.faults.clear()
    return report, editor.count


def assert_next_run_mends_everything(loader: Loader, **options: Any) -> None:
    assert sync(loader, **options).exit_code == 0
    loader.assert_equal_world()


@pytest.mark.parametrize("name", list(EDITS))
def test_a_walk_through_messages_ends(known: Loader, name: str) -> None:
    messages = live(known, "chat_messages")
    report, requests = run_with(known, "chat_messages", EDITS[name])
    assert report.deleted == 0
    assert live(known, "chat_messages") >= messages
    assert_messages_are_followed_or_doubted(known, name, report, requests)
    assert_next_run_mends_everything(known)


@pytest.mark.parametrize("name", [*LONGEST, *HARMLESS])
def test_a_first_walk_through_messages_ends(fresh: Loader, name: str) -> None:
    report, requests = run_with(fresh, "chat_messages", EDITS[name])
    assert_messages_are_followed_or_doubted(fresh, name, report, requests)
    assert_next_run_mends_everything(fresh)


def assert_messages_are_followed_or_doubted(
    loader: Loader, name: str, report: Any, requests: int
) -> None:
    if name in HARMLESS:
        assert requests <= 30
        assert (report.windows_unverified, report.exit_code) == (0, 0)
        loader.assert_equal_world()
        return
    # A window and the search for its end, as many times as windows are allowed, and the rest.
    assert requests <= (MAX_UNVERIFIED + 1) * (window_reading.ATTEMPTS + 1) * DEEPEST_PAGE
    assert 1 <= report.windows_unverified <= MAX_UNVERIFIED + 1
    assert report.exit_code == 3
    doubted = loader.query("SELECT DISTINCT chat_id FROM sync_windows WHERE NOT verified")
    assert doubted == [(1,)]


@pytest.mark.parametrize("name", list(EDITS))
def test_a_walk_through_the_list_of_chats_ends(known: Loader, name: str) -> None:
    messages, chats = live(known, "chat_messages"), live(known, "chats")
    report, requests = run_with(known, "chats", EDITS[name])
    assert report.deleted == 0
    assert live(known, "chats") >= chats
    assert live(known, "chat_messages") >= messages
    if name in DOUBTFUL:
        most = MAX_LIST_PAGES if "invented" in name else 3 + 2 * CHUNK_PAGES
        assert requests <= window_reading.ATTEMPTS * most
    else:
        assert requests <= 12
        assert report.exit_code == 0
        known.assert_equal_world()
    # Where most of the chats were invented, their end looks like another organisation.
    assert_next_run_mends_everything(known, accept_organisation="invented" in name)


def test_the_limits_themselves_are_small_enough(small: Loader) -> None:
    for number in range(21):
        small.world.add_message(1, str(number), sent_at_ms=NOW_MS - (number + 1) * HOUR_MS)
    absurd = DOUBTFUL["total_count and total_pages absurd"]
    _, requests = run_with(small, "chats", absurd)
    assert requests <= window_reading.ATTEMPTS * (1 + window_reading.CHUNK_PAGES)
    report, requests = run_with(small, "chat_messages", absurd)
    assert requests <= 2 + window_reading.ATTEMPTS * (1 + 2 * window_reading.CHUNK_PAGES)
    assert (report.windows_unverified, report.exit_code) == (1, 3)
    assert_next_run_mends_everything(small)


def test_an_interval_is_never_more_windows_than_the_limit(fresh: Loader) -> None:
    """Answers that can be believed one by one, but there is always more behind them."""
    for number in range(400):
        at_ms = NOW_MS - 60 * DAY_MS + number * 3 * HOUR_MS
        fresh.world.add_message(1, str(number), sent_at_ms=at_ms)
    report = sync(fresh)
    windows_read = fresh.query("SELECT verified FROM sync_windows WHERE chat_id = 1 ORDER BY ALL")
    assert windows_read == [(False,)] + [(True,)] * MAX_WINDOWS
    assert report.exit_code == 3
    # What was verified is kept: the next runs go on from there.
    assert [sync(fresh).exit_code for _ in range(3)] == [3, 0, 0]
    fresh.assert_equal_world()
