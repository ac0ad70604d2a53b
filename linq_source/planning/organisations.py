"""Telling one organisation from another, by its phone numbers and its chats.

A dataset that holds one organisation's messages must not be mixed with those of another, and must
not take the chats of the first for deleted because the second does not list them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable

from linq_source.privacy.numbers import normalize_phone
from linq_source.settings import Id, id_order

# Fewer known chats than this may all vanish without meaning anything.
MIN_KNOWN_CHATS = 10
# So few digits of a hash tell an organisation's numbers from another's, and which number it was
# of some six hundred.
_DIGITS = 6


def digest_of(phone_number: str) -> str:
    """Return a short digest of a phone number, for the state."""
    text = normalize_phone(phone_number).encode(errors="surrogatepass")
    return hashlib.sha256(b"line:" + text).hexdigest()[:_DIGITS]


def digests_of(phone_numbers: Iterable[str | None]) -> frozenset[str]:
    """Return the digests of an organisation's numbers."""
    return frozenset(digest_of(number) for number in phone_numbers if number)


def share_nothing(known: Collection[str], digests: Collection[str]) -> bool:
    """Whether digests of lines are certainly of two organisations. An empty list tells nothing."""
    return bool(known and digests) and set(known).isdisjoint(digests)


def most_vanished(known: Collection[Id], listed: Collection[Id]) -> list[Id]:
    """Return the known chats that are listed no more, if they are most of them."""
    vanished = sorted(set(known).difference(listed), key=id_order)
    return vanished if len(known) >= MIN_KNOWN_CHATS and 2 * len(vanished) > len(known) else []
