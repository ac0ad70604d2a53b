"""A sandbox of the Linq Partner API, v2 and v3: a real HTTP server over a world in memory.

It computes its answers, misbehaves on command, and knows nothing of the extractor it serves:

    with Sandbox(seeded_world()) as sandbox:
        requests.get(f"{sandbox.url}/api/partner/v2/phone_numbers", headers=...)

v3 lists the same numbers, chats and messages by other ids, as the real one would not.
"""

from linq_source.sandbox.exchange import Exchange, Fault, RequestRecord
from linq_source.sandbox.growth import Changes, grow
from linq_source.sandbox.lagging import lagging
from linq_source.sandbox.seeding import SEEDED_NOW_MS, seeded_world
from linq_source.sandbox.server import DEFAULT_TOKEN, Sandbox
from linq_source.sandbox.world import (
    Attachment,
    Chat,
    ChatHandle,
    Contact,
    Message,
    MessagePage,
    PhoneNumber,
    Reaction,
    World,
)

__all__ = [
    "DEFAULT_TOKEN",
    "SEEDED_NOW_MS",
    "Attachment",
    "Changes",
    "Chat",
    "ChatHandle",
    "Contact",
    "Exchange",
    "Fault",
    "Message",
    "MessagePage",
    "PhoneNumber",
    "Reaction",
    "RequestRecord",
    "Sandbox",
    "World",
    "grow",
    "lagging",
    "seeded_world",
]
