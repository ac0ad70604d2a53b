"""Records of API v3 as tests send them, and what they are decoded to."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from linq_source.decoding.pages import decode_pages
from linq_source.decoding.records import (
    CHAT_V3,
    MESSAGE_V3,
    PHONE_NUMBER_V3,
    Records,
)
from linq_source.decoding.salvage import salvage_page
from tests.test_decoding import Record, assert_same, fast_only

DATA = Path(__file__).parent / "data"
CREATED_AT = "2026-10-04T10:09:59.918Z"
CREATED = datetime(2026, 10, 4, 10, 9, 59, 918_000, tzinfo=UTC)


def uuid(number: int) -> str:
    return f"5b9e77d0-aaaa-4aaa-8aaa-{number:012x}"


def part(**fields: Any) -> Record:
    return {"type": "text", "value": "Hi", "reactions": None} | fields


def message(number: int = 1, *parts: Any, **changed: Any) -> Record:
    """A record as the API sends it, with these parts."""
    return {"id": uuid(number), "created_at": CREATED_AT, "parts": list(parts)} | changed


def body(*records: Any, name: str = "messages", **layout: Any) -> bytes:
    return json.dumps({name: records, "next_cursor": None}, **layout).encode()


def decode(*bodies: bytes) -> Records:
    return decode_pages(bodies, MESSAGE_V3, "messages")


def decode_fast(*bodies: bytes) -> Records:
    with fast_only():
        return decode(*bodies)


def salvage(content: bytes) -> Records:
    return salvage_page(content, MESSAGE_V3, "messages")


def both_paths(*records: Any) -> Records:
    """The records as the fast path reads them, which is what the slow path reads."""
    content = body(*records)
    records_ = decode_fast(content)
    assert_same(records_, salvage(content))
    return records_


def held(rows: pa.Table) -> list[Record]:
    """The rows without what is null."""
    return [
        {name: value for name, value in row.items() if value is not None}
        for row in rows.to_pylist()
    ]


OWN_ID, OTHER_ID, MARA_ID = (f"0f6f1c1e-0000-4000-8000-00000000000{n}" for n in (1, 2, 3))
OWN, OTHER, MARA = "+12025550143", "+12025550177", "mara@example.com"
FILE_ID = "3a3a3a3a-0000-4000-8000-000000000001"
SHAPES = {"chats": CHAT_V3, "phone_numbers": PHONE_NUMBER_V3}
