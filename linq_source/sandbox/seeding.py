"""A world full of believable conversations, the same for the same seed."""

from __future__ import annotations

from random import Random

from linq_source.sandbox import conversation
from linq_source.sandbox.conversation import DAY_MS, HOUR_MS, MINUTE_MS
from linq_source.sandbox.world import World

SEEDED_NOW_MS = 1_772_452_800_000
"""2026-03-02T12:00:00Z"""

_HISTORY_MS = 120 * DAY_MS
_BURST_MESSAGES = 12

# Chats by position in the seeded world; every fifth after these is dormant.
_SHARED, _EMPTY, _SINGLE, _FIRST_ORDINARY = 0, 1, 2, 3


def seeded_world(
    seed: int = 7, chats: int = 40, messages: int = 3000, now_ms: int = SEEDED_NOW_MS
) -> World:
    """A world of three numbers and the given numbers of chats and messages before `now_ms`.

    The first chat is seen by two numbers. From four chats on, one has no messages, one has a
    single message, and every fifth has been silent for more than thirty days. Message ids follow
    the order of sending across all chats. Who talks alone with the organisation is a contact.
    """
    rng = Random(seed)  # noqa: S311 - repeatable on purpose
    world = World(now_ms)
    # Another seed is another organisation, which has other numbers.
    first = 15550100001 + (seed - 7) % 800 * 1000
    world.add_phone_number(f"+{first}", response_rate=96)
    world.add_phone_number(
        f"+{first + 1}", forwarding_number=f"+{first + 99_001}", response_rate=71
    )
    world.add_phone_number(f"+{first + 2}")
    numbers = list(world.phone_numbers)

    sent: list[tuple[int, int]] = []
    for position, count in enumerate(_message_counts(rng, chats, messages)):
        begin_ms, end_ms = _period(rng, now_ms, dormant=_is_dormant(position))
        own = rng.randrange(len(numbers))
        seen_by = [numbers[own]]
        if position == _SHARED or rng.random() < 0.08:
            seen_by.append(numbers[(own + 1) % len(numbers)])
        chat = conversation.add_chat(world, rng, phone_number_ids=seen_by, joined_at_ms=begin_ms)
        sent += [(at_ms, chat.id) for at_ms in _instants(rng, count, begin_ms, end_ms)]

    for sent_at_ms, chat_id in sorted(sent):
        conversation.add_message(world, rng, world.chats[chat_id], sent_at_ms)
    _add_contacts(world)
    return world


def _add_contacts(world: World) -> None:
    """A contact for everybody who talks alone with the organisation; every other has an owner."""
    owner = {"id": 1, "email": "ada@example.com", "first_name": "Ada", "last_name": "Okoye",
             "name": "Ada Okoye"}  # fmt: skip
    for chat in world.chats.values():
        if not chat.group:
            first_name, _, last_name = chat.display_name.partition(" ")
            (person,) = chat.handles
            is_email = "@" in person.phone_number
            world.add_contact(
                first_name,
                last_name,
                phone_number=None if is_email else person.phone_number,
                email=person.phone_number if is_email else None,
                owner=dict(owner) if chat.id % 2 else None,
            )


def _message_counts(rng: Random, chats: int, messages: int) -> list[int]:
    """How many messages each chat gets: a few talk a lot, most a little; the sum is exact."""
    counts = [0] * chats
    shares = [min(rng.paretovariate(1.1), 30.0) for _ in range(chats)]
    if chats > _FIRST_ORDINARY:
        shares[_EMPTY] = shares[_SINGLE] = 0.0
        counts[_SINGLE] = min(1, messages)
    left = messages - sum(counts)
    if left > 0 and chats > 0:
        total = sum(shares)
        counts = [
            count + int(left * share / total) for count, share in zip(counts, shares, strict=True)
        ]
        counts[0] += messages - sum(counts)
    return counts


def _is_dormant(position: int) -> bool:
    return position >= _FIRST_ORDINARY and (position - _FIRST_ORDINARY) % 5 == 0


def _period(rng: Random, now_ms: int, *, dormant: bool) -> tuple[int, int]:
    """When a chat began and when it last was active."""
    silent_ms = rng.randint(31 * DAY_MS, 80 * DAY_MS) if dormant else rng.randint(0, 20 * HOUR_MS)
    end_ms = now_ms - silent_ms
    begin_ms = rng.randint(now_ms - _HISTORY_MS, end_ms - 7 * DAY_MS)
    return begin_ms, end_ms


def _instants(rng: Random, count: int, begin_ms: int, end_ms: int) -> list[int]:
    """When `count` messages are sent: in bursts, around a quiet week, some at the same instant."""
    quiet_from_ms = rng.randint(begin_ms, max(begin_ms, end_ms - 7 * DAY_MS))
    starts_ms = [end_ms - rng.randint(0, HOUR_MS)]  # the chat's last activity
    while len(starts_ms) * _BURST_MESSAGES < count:
        start_ms = rng.randint(begin_ms, end_ms)
        if not quiet_from_ms <= start_ms < quiet_from_ms + 7 * DAY_MS or rng.random() < 0.05:
            starts_ms.append(start_ms)
    instants: list[int] = []
    clocks_ms = dict.fromkeys(range(len(starts_ms)), 0)
    for _ in range(count):
        burst = rng.randrange(len(starts_ms))
        if rng.random() >= 0.06:  # otherwise a tie with the message before
            clocks_ms[burst] += int(rng.expovariate(1 / (1.5 * MINUTE_MS))) + 1
        instants.append(min(starts_ms[burst] + clocks_ms[burst], end_ms))
    return instants
