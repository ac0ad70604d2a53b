"""The benchmark's world: chats whose pages are cheap to render at any size.

Every chat has the same number of messages, one per minute, the newest at the same instant: which
messages lie in an interval is arithmetic. The text of a message is rendered once for many chats,
with a mark where the chat's id belongs; ids have a fixed width, so a page is a join and a
replacement. Only changes (`World.change`) are kept per chat.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

MINUTE_US = 60_000_000
PHONE_NUMBER = "+15550100000"
FULL_PAGE = 100

_FIRST_CHAT_ID = 100_000
_MAX_CHATS = 900_000
_VARIANTS = 16
# As wide as a chat's id, so that the replacement happens in place.
_MARK = "@CHAT@"
_ZONE = timezone(timedelta(hours=-5))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_WORDS = (
    "ok yes thanks see you at the office tomorrow morning about that invoice we could not open "
    "please send it again when there is time and call me back before noon it rained all day so "
    "practice moved to Friday Grüße señor naïve 明日 👍 🎉 1,250.00 EUR is fine "
    '"quoted" line\nbreak'
).split(" ")
_REACTIONS = ("love", "like", "dislike", "laugh", "emphasize", "question")
_FILES = (("pdf", "application/pdf"), ("jpg", "image/jpeg"), ("mov", "video/quicktime"))


@dataclass
class Counts:
    """Rows the world holds, by table."""

    messages: int = 0
    attachments: int = 0
    reactions: int = 0

    def add(self, other: Counts, times: int = 1) -> None:
        """Add another's counts, several times."""
        self.messages += other.messages * times
        self.attachments += other.attachments * times
        self.reactions += other.reactions * times


@dataclass
class _Changes:
    """What a chat has beyond the shared messages: newer ones, and newer texts of old ones."""

    version: int = 0
    extra_us: list[int] = field(default_factory=list)
    extra: list[bytes] = field(default_factory=list)
    edited: dict[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PageQuery:
    """One page of a chat's messages; instants are microseconds UTC, exclusive."""

    chat_id: int
    page: int
    per_page: int
    before_us: int | None
    after_us: int | None
    newest_first: bool


class World:
    """Chats and messages, and the bodies that show them.

    `newest_us` is the instant of every chat's newest message. Bodies are kept up to
    `cache_bytes`; beyond that they are rendered again each time.
    """

    def __init__(
        self, chats: int, messages_per_chat: int, newest_us: int, cache_bytes: int = 1_200_000_000
    ) -> None:
        if not 0 <= chats <= _MAX_CHATS or not 1 <= messages_per_chat < 10_000_000:
            raise ValueError("up to 900,000 chats of 1 to 9,999,999 messages each")
        self.chat_count = chats
        self.messages_per_chat = messages_per_chat
        self.first_us = newest_us - (messages_per_chat - 1) * MINUTE_US
        self.newest_us = newest_us
        self.generation = 0
        self.counts = Counts()
        self._variants: list[list[bytes]] = []
        for number in range(min(_VARIANTS, chats)):
            messages, counts = _render_variant(number, messages_per_chat, self.first_us)
            self._variants.append(messages)
            self.counts.add(counts, len(range(number, chats, _VARIANTS)))
        self._changes: dict[int, _Changes] = {}
        self._chats = [self._render_chat(index) for index in range(chats)]
        self._bodies: dict[tuple[object, ...], bytes] = {}
        self._room_bytes = cache_bytes

    def render_all(self) -> None:
        """Render every full page of every chat, as far as they may be kept."""
        pages = -(-self.messages_per_chat // FULL_PAGE)
        for index in range(self.chat_count):
            for page in range(1, pages + 1):
                if self._room_bytes <= 0:
                    return
                query = PageQuery(_FIRST_CHAT_ID + index, page, FULL_PAGE, None, None, False)
                self.messages_body(query)

    def phone_numbers_body(self) -> bytes:
        """The answer of `/phone_numbers`: one number."""
        number = {
            "id": 1, "phone_number": PHONE_NUMBER, "forwarding_number": None, "response_rate": 97,
        }  # fmt: skip
        return _json({"phone_numbers": [number]}).encode()

    def chats_body(self, phone_number: str, page: int, per_page: int) -> bytes:
        """One page of the chats that a number sees; another's number sees none."""
        chats = self._chats if phone_number == PHONE_NUMBER else []
        low = (page - 1) * per_page
        return _page_body(chats[low : low + per_page], page, per_page, len(chats))

    def chat_body(self, chat_id: int) -> bytes | None:
        """The answer of `/chats/{id}`; none for an unknown chat."""
        index = chat_id - _FIRST_CHAT_ID
        if not 0 <= index < self.chat_count:
            return None
        return b'{"data":' + self._chats[index] + b"}"

    def messages_body(self, query: PageQuery) -> bytes | None:
        """One page of a chat's messages; none for an unknown chat."""
        index = query.chat_id - _FIRST_CHAT_ID
        if not 0 <= index < self.chat_count:
            return None
        changes = self._changes.get(index)
        low, high = self._interval(changes, query.before_us, query.after_us)
        version = 0 if changes is None else changes.version
        key = (index, low, high, query.page, query.per_page, query.newest_first, version)
        body = self._bodies.get(key)
        if body is None:
            body = self._render_page(index, query, low, high)
            if self._room_bytes > 0:
                self._room_bytes -= len(body)
                self._bodies[key] = body
        return body

    def change(self, share: float, now_us: int) -> int:
        """Edit the newest message of a share of the chats and add one to each.

        Gives the number of chats changed. Every call changes other chats than the one before.
        """
        changed = min(self.chat_count, round(share * self.chat_count))
        for number in range(changed):
            index = (number * self.chat_count // changed + self.generation) % self.chat_count
            self._change_chat(index, now_us)
        self.generation += 1
        return changed

    def _change_chat(self, index: int, now_us: int) -> None:
        changes = self._changes.setdefault(index, _Changes())
        changes.version += 1
        rng = random.Random(index * 1_000 + changes.version)
        newest = self.messages_per_chat + len(changes.extra) - 1
        newest_us = changes.extra_us[-1] if changes.extra_us else self.newest_us
        old = json.loads(self._message(index, changes, newest))
        old |= {"text": f"edited {changes.version}", "edited_at": _instant(now_us)}
        changes.edited[newest] = _json(old).encode()
        # A second back, so that it lies before the `Date` of every later answer.
        sent_us = max(newest_us + 1_000, now_us - now_us % 1_000_000 - 1_000_000)
        text, counts = _render_message(rng, newest + 1, sent_us)
        changes.extra_us.append(sent_us)
        changes.extra.append(text.encode().replace(_MARK.encode(), _id_bytes(index)))
        self.counts.add(counts)
        self._chats[index] = self._render_chat(index)

    def _interval(
        self, changes: _Changes | None, before_us: int | None, after_us: int | None
    ) -> tuple[int, int]:
        """The numbers of the messages with `after < sent_at < before`, as a half-open range."""
        size = self.messages_per_chat
        extra_us = changes.extra_us if changes is not None else []
        low, high = 0, size + len(extra_us)
        if after_us is not None:
            low = min(max((after_us - self.first_us) // MINUTE_US + 1, 0), size)
            low += sum(at <= after_us for at in extra_us)
        if before_us is not None:
            high = min(max(-((self.first_us - before_us) // MINUTE_US), 0), size)
            high += sum(at < before_us for at in extra_us)
        return low, max(low, high)

    def _render_page(self, index: int, query: PageQuery, low: int, high: int) -> bytes:
        skipped = (query.page - 1) * query.per_page
        if query.newest_first:
            end = max(low, high - skipped)
            start = max(low, end - query.per_page)
        else:
            start = min(high, low + skipped)
            end = min(high, start + query.per_page)
        changes = self._changes.get(index)
        if changes is None:
            messages = self._variants[index % _VARIANTS][start:end]
        else:
            messages = [self._message(index, changes, number) for number in range(start, end)]
        if query.newest_first:
            messages.reverse()
        body = _page_body(messages, query.page, query.per_page, high - low)
        return body.replace(_MARK.encode(), _id_bytes(index))

    def _message(self, index: int, changes: _Changes, number: int) -> bytes:
        edited = changes.edited.get(number)
        if edited is not None:
            return edited
        if number >= self.messages_per_chat:
            return changes.extra[number - self.messages_per_chat]
        message = self._variants[index % _VARIANTS][number]
        return message.replace(_MARK.encode(), _id_bytes(index))

    def _render_chat(self, index: int) -> bytes:
        chat_id = _FIRST_CHAT_ID + index
        changes = self._changes.get(index)
        extra = 0 if changes is None else len(changes.extra)
        handle = {
            "id": chat_id * 10 + 1,
            "phone_number": f"+1555{index:07d}",
            "service": "iMessage",
            "joined_at": _instant(self.first_us),
        }
        chat = {
            "id": chat_id,
            "display_name": f"Chat {index}",
            "service": "iMessage",
            "group": False,
            "message_count": self.messages_per_chat + extra,
            "chat_handles": [handle],
        }
        return _json(chat).encode()


def _id_bytes(index: int) -> bytes:
    return b"%d" % (_FIRST_CHAT_ID + index)


def _page_body(items: list[bytes], page: int, per_page: int, total: int) -> bytes:
    meta = b'],"meta":{"page":%d,"total_pages":%d,"total_count":%d,"per_page":%d}}' % (
        page, -(-total // per_page), total, per_page,
    )  # fmt: skip
    return b'{"data":[' + b",".join(items) + meta


def _render_variant(number: int, size: int, first_us: int) -> tuple[list[bytes], Counts]:
    rng = random.Random(number)
    messages = []
    total = Counts()
    for index in range(size):
        message, counts = _render_message(rng, index, first_us + index * MINUTE_US)
        messages.append(message.encode())
        total.add(counts)
    return messages, total


def _render_message(rng: random.Random, index: int, sent_us: int) -> tuple[str, Counts]:
    """One message as JSON with `_MARK` for its chat's id, about 0.35 KB."""
    sent_at = _instant(sent_us)
    delivered_at = _json(_instant(sent_us + rng.randrange(200, 5_000) * 1_000))
    pending = rng.random() < 0.02
    edited = rng.random() < 0.03
    edited_at = _json(_instant(sent_us + rng.randrange(10, 600) * 1_000_000) if edited else None)
    from_me = rng.random() < 0.5
    attachments = reactions = ""
    counts = Counts(messages=1)
    if rng.random() < 0.1:
        counts.attachments = rng.choice((1, 1, 1, 2))
        attachments = ",".join(_attachment(rng, index, k) for k in range(counts.attachments))
    if rng.random() < 0.1:
        counts.reactions = rng.choice((1, 1, 2, 3))
        reactions = ",".join(_reaction(rng, index, k, sent_us) for k in range(counts.reactions))
    text: str | None = " ".join(rng.choices(_WORDS, k=min(60, int(rng.expovariate(0.08)) + 1)))
    if attachments and rng.random() < 0.3:
        text = None
    sent_from = f'"{PHONE_NUMBER}"' if from_me else f'"+15551{_MARK}"'
    message = (
        f'{{"id":{_MARK}{index:07d},"text":{_json(text)},"sent_at":"{sent_at}",'
        f'"delivered_at":{"null" if pending else delivered_at},'
        f'"delivery_status":"{"pending" if pending else "delivered"}","edited_at":{edited_at},'
        f'"is_read":{_json(rng.random() < 0.8)},"sent_from":{sent_from},'
        f'"chat_handle_id":{"null" if from_me else f"{_MARK}1"},'
        f'"attachments":[{attachments}],"reactions":[{reactions}]}}'
    )
    return message, counts


def _attachment(rng: random.Random, index: int, position: int) -> str:
    ending, mime_type = rng.choice(_FILES)
    uuid = f"{rng.getrandbits(32):08x}-{position:04x}-4000-8000-{_MARK}{index % 1_000_000:06d}"
    name = f"{rng.getrandbits(48):012x}.{ending}"
    return (
        f'{{"id":"{uuid}",'
        f'"url":"https://storage.example.com/linq-files/attachments/{_MARK}/{name}",'
        f'"filename":"{name}","mime_type":"{mime_type}","file_size":{rng.randrange(5_000_000)}}}'
    )


def _reaction(rng: random.Random, index: int, position: int, sent_us: int) -> str:
    at = _instant(sent_us + rng.randrange(1, 50) * 1_000_000)
    return (
        f'{{"id":{_MARK}{index:07d}{position},"chat_message_id":{_MARK}{index:07d},'
        f'"reaction":"{rng.choice(_REACTIONS)}","is_from_me":{_json(rng.random() < 0.5)},'
        f'"from_phone":"+15551{_MARK}","sent_at":"{at}","created_at":"{at}","updated_at":"{at}"}}'
    )


def _instant(instant_us: int) -> str:
    at = _EPOCH + timedelta(microseconds=instant_us)
    return at.astimezone(_ZONE).isoformat(timespec="milliseconds")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
