"""Refusing to load another organisation's messages into a dataset."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from random import sample

from linq_source.errors import ConfigurationError
from linq_source.extraction.extraction import Extraction
from linq_source.extraction.listing import Listing, choose_some
from linq_source.planning.chat_cursors import Cursor, remembered
from linq_source.planning.organisations import most_vanished, share_nothing
from linq_source.settings import id_of


def check_lines(listing: Listing, known: Collection[str]) -> None:
    """Raise `ConfigurationError` where no phone number is among those the dataset was loaded from.

    `known` are short digests of these; empty where nothing was loaded.
    """
    if not known or listing.settings.accept_organisation:
        return
    digests = listing.ask_for_line_digests()
    if share_nothing(known, digests):
        raise ConfigurationError(
            f"none of the {len(digests)} phone numbers at {listing.settings.base_url} is "
            f"among the {len(known)} that this dataset was loaded from: this is another "
            "organisation. Load it into another dataset with another pipeline name, or, if it "
            "is right, accept it once with --accept-organisation (accept_organisation=True)"
        )


def check_chats(extraction: Extraction, cursors: Mapping[str, str]) -> None:
    """Raise `ConfigurationError` where most known chats are neither listed nor found by their ids.

    Then the chats listed are certainly another organisation's, unless the API forgot the known
    ones: nothing as old as their newest messages is listed.
    """
    listing = extraction.listing
    chats = listing.chats()
    if not chats.complete or listing.settings.accept_organisation:
        return
    own = list(filter(listing.settings.is_of_shard, map(id_of, cursors)))
    vanished = most_vanished(own, chats.marks.keys())
    if not vanished or not chats.marks or any(map(listing.has_chat, sample(vanished, 3))):
        return
    kept_us = extraction.evidence.ask_some(choose_some(list(chats.marks)))
    newest_us = {i: (remembered(cursors[str(i)]) or Cursor()).newest_us for i in vanished}
    expired = [at_us for at_us in newest_us.values() if at_us and kept_us and at_us < kept_us]
    if 2 * (len(vanished) - len(expired)) > len(own):
        raise ConfigurationError(
            f"{len(vanished)} of the {len(own)} chats in this dataset no longer exist at "
            f"{listing.settings.base_url}: these seem to be another organisation's. Load them "
            "into another dataset with another pipeline name, or, if they are right, accept "
            "them once with --accept-organisation (accept_organisation=True)"
        )
