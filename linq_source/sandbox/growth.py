"""What happens in a world between two loads."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from random import Random

from linq_source.sandbox import conversation
from linq_source.sandbox.conversation import DAY_MS, HOUR_MS, MINUTE_MS
from linq_source.sandbox.world import Chat, Message, World

_REACH_MS = 5 * DAY_MS
_LATE_REACH_MS = 3 * DAY_MS


@dataclass(frozen=True, slots=True)
class Changes:
    """How often each kind of change happened, as a difference of two snapshots would count.

    `new_messages` includes those of the new chats and leaves out the `late_messages`, which
    appear among older ones. `new_reactions` includes those on new messages. Edits, deliveries and
    reads are those of messages which were there before.
    """

    advanced_ms: int
    new_messages: int
    late_messages: int
    edited_messages: int
    deleted_messages: int
    deliveries: int
    reads: int
    new_reactions: int
    removed_reactions: int
    new_chats: int


def grow(world: World, seed: int | None = None) -> Changes:
    """Lets some hours pass: news in a few chats, and changes to what was sent lately.

    What changes was sent within the past five days; a late message within the past three. The
    same world and seed make the same changes; without a seed it follows from the state of the
    world, so that growing again makes other changes.
    """
    with world.lock:
        if seed is None:
            seed = world.now_ms + len(world.messages)
        rng = Random(seed)  # noqa: S311 - repeatable on purpose
        return _grow(world, rng)


def _grow(world: World, rng: Random) -> Changes:
    before_ms = world.now_ms
    advanced_ms = rng.randint(2 * HOUR_MS, 8 * HOUR_MS)
    world.advance(advanced_ms)
    old_ids = set(world.messages)
    liveliest = _chats_by_newest(world)

    talking = rng.sample(liveliest[:20], min(rng.randint(4, 7), len(liveliest[:20])))
    silent = liveliest[20:]
    if silent:
        talking.append(rng.choice(silent))
    new_chats = _new_chats(world, rng)
    added = _talk(world, rng, talking + new_chats, before_ms)
    late = _late_message(world, rng, liveliest)

    recent = _recent_messages(world, old_ids)
    # A message without reactions, lest its deletion looks like the removal of those.
    deleted = _sample(rng, [m for m in recent if not m.reactions], 1, 1)
    for message in deleted:
        world.delete_message(message.id)
    recent = [message for message in recent if message.id in world.messages]

    edited = _sample(rng, recent, 3, 6)
    for message in edited:
        edited_at_ms = rng.randint(before_ms + 1, world.now_ms)
        text = f"{message.text or ''} (edited) {conversation.some_text(rng)}".strip()
        world.edit_message(message.id, text, edited_at_ms=edited_at_ms)
    delivered = _sample(rng, [m for m in recent if m.delivery_status == "pending"], 2, 6)
    for message in delivered:
        delivered_at_ms = rng.randint(before_ms + 1, world.now_ms)
        world.set_delivery(message.id, "delivered", delivered_at_ms=delivered_at_ms)
    read = _sample(rng, [m for m in recent if not m.is_read], 4, 10)
    for message in read:
        world.mark_read(message.id)
    unloved = _sample(rng, [m for m in recent if m.reactions], 1, 3)
    for message in unloved:
        world.remove_reaction(message.id, rng.choice(message.reactions).id)
    loved = _sample(rng, recent, 4, 8)
    for message in loved:
        sent_at_ms = rng.randint(before_ms + 1, world.now_ms)
        conversation.react(world, rng, world.chats[message.chat_id], message, sent_at_ms)

    return Changes(
        advanced_ms=advanced_ms,
        new_messages=len(added),
        late_messages=len(late),
        edited_messages=len(edited),
        deleted_messages=len(deleted),
        deliveries=len(delivered),
        reads=len(read),
        new_reactions=len(loved) + sum(len(message.reactions) for message in added + late),
        removed_reactions=len(unloved),
        new_chats=len(new_chats),
    )


def _chats_by_newest(world: World) -> list[Chat]:
    """The chats that have messages, the most recently active first."""
    chats = [chat for chat in world.chats.values() if chat.message_keys and chat.phone_number_ids]
    return sorted(chats, key=lambda chat: (-chat.message_keys[-1][0], chat.id))


def _new_chats(world: World, rng: Random) -> list[Chat]:
    if not world.phone_numbers:
        return []
    number_id = rng.choice(sorted(world.phone_numbers))
    return [
        conversation.add_chat(
            world, rng, phone_number_ids=[number_id], joined_at_ms=world.now_ms - HOUR_MS
        )
    ]


def _talk(world: World, rng: Random, chats: list[Chat], since_ms: int) -> list[Message]:
    """Adds messages to each chat, sent after `since_ms` and up to now."""
    sent = sorted(
        (rng.randint(since_ms + 1, world.now_ms), chat.id)
        for chat in chats
        for _ in range(rng.randint(2, 10))
    )
    return [
        conversation.add_message(world, rng, world.chats[chat_id], sent_at_ms)
        for sent_at_ms, chat_id in sent
    ]


def _late_message(world: World, rng: Random, liveliest: list[Chat]) -> list[Message]:
    """Adds a message to the liveliest chat which was sent before some that are there already."""
    if not liveliest:
        return []
    newest_ms = liveliest[0].message_keys[-1][0]
    sent_at_ms = newest_ms - rng.randint(10 * MINUTE_MS, 2 * DAY_MS)
    sent_at_ms = max(sent_at_ms, world.now_ms - _LATE_REACH_MS)
    return [conversation.add_message(world, rng, liveliest[0], sent_at_ms)]


def _recent_messages(world: World, ids: set[int]) -> list[Message]:
    """The messages of `ids` sent within reach; each chat's newest is left alone."""
    recent: list[Message] = []
    for chat in world.chats.values():
        keys = chat.message_keys
        if not keys or not chat.phone_number_ids:
            continue
        first = bisect_left(keys, (world.now_ms - _REACH_MS, 0))
        recent += [world.messages[key[1]] for key in keys[first:-1] if key[1] in ids]
    return recent


def _sample(rng: Random, messages: list[Message], at_least: int, at_most: int) -> list[Message]:
    return rng.sample(messages, min(rng.randint(at_least, at_most), len(messages)))
