"""Believable chats and messages, one at a time; all chance comes from the caller's generator."""

from __future__ import annotations

from random import Random

from linq_source.sandbox.phrases import (
    FILES,
    FIRST_NAMES,
    GROUP_NAMES,
    LAST_NAMES,
    PHRASES,
    REACTIONS,
)
from linq_source.sandbox.world import Chat, ChatHandle, Message, World

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

_UTC_OFFSETS_MINUTES = (-300, -480, 0, 60, 330, 345)
_SERVICES = ("iMessage", "iMessage", "iMessage", "SMS", "RCS")
_LONG_TEXT_CHARS = 10_000


def add_chat(world: World, rng: Random, *, phone_number_ids: list[int], joined_at_ms: int) -> Chat:
    """Adds a chat without messages: one other person, or a group of three to six."""
    group = rng.random() < 0.3
    people = [
        f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"
        for _ in range(rng.randint(3, 6) if group else 1)
    ]
    chat = world.add_chat(
        display_name=rng.choice(GROUP_NAMES) if group else people[0],
        service=rng.choice(_SERVICES),
        group=group,
        phone_number_ids=phone_number_ids,
        utc_offset_minutes=rng.choice(_UTC_OFFSETS_MINUTES),
    )
    for position, person in enumerate(people):
        by_email = chat.service == "iMessage" and rng.random() < 0.2
        mailbox = person.encode("ascii", "ignore").decode().lower().replace(" ", ".")
        address = f"{mailbox}@example.com" if by_email else f"+1555{rng.randrange(10**7):07d}"
        late_ms = rng.randrange(DAY_MS) if position > 2 else 0
        joined_ms = min(joined_at_ms + late_ms, world.now_ms)
        world.add_handle(chat.id, address, joined_at_ms=joined_ms)
    return chat


def add_message(world: World, rng: Random, chat: Chat, sent_at_ms: int) -> Message:
    """Adds a message with all that belongs to it; nothing in it is later than the world's now."""
    handle = rng.choice(chat.handles) if chat.handles and rng.random() < 0.55 else None
    own_number = world.phone_numbers[chat.phone_number_ids[0]].phone_number
    age_ms = world.now_ms - sent_at_ms
    status, delivered_at_ms = _delivery(world, rng, sent_at_ms, outgoing=handle is None)
    wordless = rng.random() < 0.04
    message = world.add_message(
        chat.id,
        None if wordless else some_text(rng),
        sent_at_ms=sent_at_ms,
        delivery_status=status,
        delivered_at_ms=delivered_at_ms,
        is_read=rng.random() < (0.92 if age_ms > 2 * DAY_MS else 0.5),
        sent_from=own_number if handle is None else handle.phone_number,
        chat_handle_id=None if handle is None else handle.id,
    )
    if not wordless and rng.random() < 0.04:
        edited_at_ms = min(sent_at_ms + rng.randint(5_000, 15 * MINUTE_MS), world.now_ms)
        world.edit_message(message.id, some_text(rng), edited_at_ms=edited_at_ms)
    if wordless or rng.random() < 0.08:
        for _ in range(rng.randint(1, 3)):
            _attach(world, rng, message)
    if rng.random() < 0.12:
        for _ in range(rng.randint(1, 5)):
            at_ms = min(sent_at_ms + rng.randint(2_000, HOUR_MS), world.now_ms)
            react(world, rng, chat, message, at_ms)
    return message


def react(world: World, rng: Random, chat: Chat, message: Message, sent_at_ms: int) -> None:
    """Adds a reaction of somebody in the chat to a message."""
    handle: ChatHandle | None = None
    if chat.handles and rng.random() < 0.6:
        handle = rng.choice(chat.handles)
    own_number = world.phone_numbers[chat.phone_number_ids[0]].phone_number
    world.add_reaction(
        message.id,
        rng.choice(REACTIONS),
        from_phone=own_number if handle is None else handle.phone_number,
        is_from_me=handle is None,
        sent_at_ms=sent_at_ms,
    )


def some_text(rng: Random) -> str:
    """What somebody may write: mostly short, once in a while ten thousand characters."""
    if rng.random() < 0.004:
        text = ""
        while len(text) < _LONG_TEXT_CHARS:
            text += rng.choice(PHRASES) + rng.choice((" ", "\n", "\n\n"))
        return text[:_LONG_TEXT_CHARS]
    return " ".join(rng.choice(PHRASES) for _ in range(rng.choice((1, 1, 1, 2, 3))))


def _delivery(
    world: World, rng: Random, sent_at_ms: int, *, outgoing: bool
) -> tuple[str, int | None]:
    """A delivery status with its instant."""
    chance = rng.random()
    delivered_at_ms = min(sent_at_ms + rng.randint(300, 8_000), world.now_ms)
    if outgoing:
        if chance < 0.03:
            return "service_unavailable", None
        if chance < 0.04:
            return rng.choice(("paused", "rate_limit_exceeded")), None
        if chance < 0.3 and world.now_ms - sent_at_ms < 12 * HOUR_MS:
            return "pending", None
    return "delivered", delivered_at_ms


def _attach(world: World, rng: Random, message: Message) -> None:
    filename, mime_type = rng.choice(FILES)
    size = int(rng.lognormvariate(12, 1.5)) + 1
    world.add_attachment(message.id, filename=filename, mime_type=mime_type, file_size=size)
