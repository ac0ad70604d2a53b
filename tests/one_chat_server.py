"""A sandbox in a process of its own, so that what it allocates is not counted as the source's.

`python -m tests.one_chat_server MESSAGES TEXT_LENGTH` serves one chat, prints the address, and
ends when its standard input is closed.
"""

from __future__ import annotations

import sys

from linq_source.sandbox import Sandbox, World

DAY_MS = 86_400_000
NOW_MS = 20_500 * DAY_MS + DAY_MS // 2


def one_chat_world(messages: int, text_length: int) -> World:
    """One message a second until an hour ago; some have children."""
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001")
    world.add_chat(display_name="One", chat_id=1)
    for number in range(messages):
        sent_at_ms = NOW_MS - 3_600_000 - number * 1_000
        message = world.add_message(1, "x" * text_length, sent_at_ms=sent_at_ms)
        if number % 5 == 0:
            world.add_attachment(message.id)
        if number % 5 == 1:
            world.add_reaction(message.id, sent_at_ms=sent_at_ms)
    return world


def main() -> None:
    """Serve until standard input ends."""
    messages, text_length = map(int, sys.argv[1:])
    with Sandbox(one_chat_world(messages, text_length)) as sandbox:
        sys.stdout.write(f"{sandbox.url}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
