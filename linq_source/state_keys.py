"""The pipeline's state: the keys under which the source keeps what it remembers.

dlt keeps the state locally and, with every package, in the destination. Keys and values are read
by later versions, so they stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SECTION = "linq"
# `synced_at` of the newest package, in microseconds UTC.
SYNCED_AT_US = "synced_at_us"
# The API's clock when the newest package was read.
BOUND = "bound_us"
# How private data is treated, with a fingerprint of the key.
PRIVACY = "privacy"
# Who must not be loaded again.
FORGOTTEN = "forgotten"
# `synced_at` of the packages of the last day.
KNOWN_PACKAGES = "stamps_us"
# The newest package when it was last looked for what others loaded.
LOOKED_US = "looked_us"
# Short digests of the organisation's phone numbers.
LINES = "lines"
# Chats and numbers that failed for long when others were answered.
FAILING = "failing"
# Up to which package the destination was settled when the newest was read, by shard.
SETTLED = "settled_us"

# Chats that the last run could not read, with up to where they were read before.
UNREAD = "unread_us"


def source_state(state: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return what a pipeline's state holds of the source; empty where it holds nothing."""
    found: Mapping[str, Any] = (state or {}).get("sources", {}).get(SECTION, {})
    return found


def cursors_of(source: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts of the chats' cursors in what a state holds of the source."""
    found: dict[str, str] = source.get("resources", {}).get("chat_messages", {}).get("cursors", {})
    return found
