"""Digests of what a stretch of messages holds, children included.

Two readings of the same messages have the same digest, whatever the page size, the order of
arrival or the other messages read along. Query strings of links are left out: links
may be signed again at every answer.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from hashlib import blake2b

import pyarrow as pa
import pyarrow.compute as pc

from linq_source.decoding.fields import LINK_QUERY
from linq_source.decoding.records import POSITION, ROW, Records, Rejected
from linq_source.tables import Table

# What is left of a link, or of the links in JSON text.
_QUERIES = {"link": r"(?s)()\?.*$", "anything": LINK_QUERY}

# 72 bits: 12 characters in the state, and one accidental match in 10^21 changed days.
_DIGEST_BYTES = 9


def digest_records(records: Records, rejected: Iterable[Rejected] = ()) -> str:
    """Return a short text that changes when any value of the records or of their children does."""
    state = blake2b(digest_size=_DIGEST_BYTES)
    _update(state, records.root, records.shape.root)
    for name, table in records.shape.children.items():
        _update(state, records.children[name], table)
    _update_rejected(state, rejected)
    return _text(state)


def digest_rejected(rejected: Iterable[Rejected]) -> str:
    """A short text that changes when a record is added, goes or changes, whatever their order."""
    state = blake2b(digest_size=_DIGEST_BYTES)
    _update_rejected(state, sorted(rejected, key=lambda record: record.payload))
    return _text(state)


def _update_rejected(state: blake2b, rejected: Iterable[Rejected]) -> None:
    for record in rejected:
        payload = re.sub(LINK_QUERY, r"\1", record.payload)
        state.update(b"rejected")
        state.update(blake2b(payload.encode()).digest())


def _text(state: blake2b) -> str:
    return base64.urlsafe_b64encode(state.digest()).decode()


def _update(state: blake2b, rows: pa.Table, table: Table) -> None:
    """Feed a table: the contract's columns in their order, then others by name unless all null.

    Whether a column the contract does not know is there at all depends on the neighbours a
    reading happened to have; where it holds nothing, it must not count.
    """
    own = [column.name for column in table.decoded_columns]
    keys = [name for name in (ROW, POSITION) if name in rows.column_names]
    others = sorted(
        name
        for name in rows.column_names
        if name not in own and name not in keys and rows[name].null_count < rows.num_rows
    )
    state.update(repr((table.name, rows.num_rows, others)).encode())
    if rows.num_rows:
        for column in table.decoded_columns:
            if (pattern := _QUERIES.get(column.personal_data)) is not None:
                rows = _without_queries(rows, column.name, pattern)
        # Taking copies: a slice would be serialized with bytes of its neighbours.
        rows = rows.select(keys + own + others).take(pa.arange(0, rows.num_rows))
        for name in others:
            # Its type may come from the neighbours as well; as text it does not show.
            rows = rows.set_column(
                rows.column_names.index(name), name, rows[name].cast(pa.string())
            )
        batch = rows.combine_chunks().to_batches()[0]
        state.update(repr(batch.schema.types).encode())
        state.update(batch.serialize())


def _without_queries(rows: pa.Table, name: str, pattern: str) -> pa.Table:
    plain = pc.replace_substring_regex(rows[name], pattern=pattern, replacement=r"\1")
    return rows.set_column(rows.column_names.index(name), name, plain)
