"""How many messages the API has of each chat: as it counts them, or as its lists give them."""

from __future__ import annotations

from linq_source.api.pool import Failed, Finished
from linq_source.extraction.extraction import Extraction
from linq_source.settings import Id


def count_messages(extraction: Extraction) -> dict[Id, int | None]:
    """Return the messages of each listed chat; None where they cannot be told.

    v2 tells them with the chats. Of v3 every chat's list is read to its end; one that cannot be
    read, or not be verified, is among the extraction's `counts.chats_failed`.
    """
    listing, contract = extraction.listing, extraction.contract
    marks = listing.chats().marks
    count = contract.count_messages
    if count is None:
        return marks
    per_page = extraction.settings.page_size
    found: dict[Id, int | None] = dict.fromkeys(marks)
    for item in listing.read((chat_id, count(chat_id, per_page)) for chat_id in marks):
        if isinstance(item, Failed):
            extraction.counts.add_failure(item.key, item.error)
        elif isinstance(item, Finished):
            found[item.key] = item.value
            if item.value is None:
                text = f"chat {item.key}: its list moved whenever it was read: audit again"
                extraction.counts.chats_failed[item.key] = text
    return found
