"""Phone numbers and writings as keyed hashes, or left out, before anything touches a disk.

Digests, rows, state and rejected payloads are all made of what comes out of here. One number has
one hash in every table, so joins still work.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from linq_source.decoding.children import MEDIA_TYPE, TEXT_TYPES
from linq_source.decoding.fields import LINK_QUERY
from linq_source.decoding.records import ATTACHMENTS, PARTS, REACTIONS, Records, Rejected, Shape
from linq_source.instants import parse_iso
from linq_source.privacy.numbers import NUMBER_OR_ADDRESS, normalize_phone
from linq_source.settings import Settings, Treatment
from linq_source.tables import Column, Table

WITHHELD = "(withheld)"

_Change = Callable[[str], str | None]
_Protect = Callable[[dict[str, Any]], dict[str, Any]]
_STRICTNESS: Sequence[Treatment] = ("plain", "hash", "drop")


@dataclass(frozen=True)
class Privacy:
    """How people's numbers and writings are treated. `key` is needed to hash."""

    phones: Treatment = "plain"
    text: Treatment = "plain"
    key: bytes = field(default=b"", repr=False)

    @property
    def is_plain(self) -> bool:
        """Whether everything is loaded as it comes."""
        return self.phones == "plain" and self.text == "plain"

    @property
    def fingerprint(self) -> str:
        """A short text that differs for other treatments and for another key; tells neither."""
        check = ""
        if "hash" in (self.phones, self.text):
            check = ":" + self._hash("key", "")[:16]
        return f"phones={self.phones},text={self.text}{check}"

    def hash_phone(self, number: str) -> str:
        """HMAC-SHA-256 of `phone:` and the normalized number, in hexadecimal."""
        return self._hash("phone", normalize_phone(number))

    def hash_text(self, text: str) -> str:
        """HMAC-SHA-256 of `text:` and the text, in hexadecimal."""
        return self._hash("text", text)

    def protect(self, records: Records) -> Records:
        """Return the records as they may be kept.

        Fields the contract does not know are left out unless everything is plain: nobody can
        tell what they hold.
        """
        if self.is_plain:
            return records
        shape = records.shape
        children = {
            name: self._protect_table(records.children[name], table)
            for name, table in shape.children.items()
        }
        rejected = tuple(
            replace(record, payload=self._protect_payload(record, shape))
            for record in records.rejected
        )
        return Records(shape, self._protect_table(records.root, shape.root), children, rejected)

    def _hash(self, kind: str, value: str) -> str:
        return hmac.digest(
            self.key, f"{kind}:{value}".encode(errors="surrogatepass"), "sha256"
        ).hex()

    def _change_of(self, column: Column) -> _Change | None:
        """Return what is done with a column's values; None if they stay."""
        treatment = self._treatment_of(column)
        if treatment == "plain":
            return None
        if column.personal_data == "name":
            return self._mask_name
        if treatment == "drop":
            return _drop
        changes: Mapping[str, _Change] = {
            "writing": self.hash_text,
            "link": self._hash_link,
            "anything": self._hash_json,
        }
        return changes.get(column.personal_data, self.hash_phone)

    def _treatment_of(self, column: Column) -> Treatment:
        if not column.personal_data:
            return "plain"
        if column.personal_data in ("writing", "link"):
            return self.text
        if column.personal_data == "anything":
            # The stricter of the two.
            return max(self.phones, self.text, key=_STRICTNESS.index)
        return self.phones

    def _hash_link(self, url: str) -> str:
        # Links may have another signature in every answer.
        return self.hash_text(url.partition("?")[0])

    def _hash_json(self, text: str) -> str:
        return self.hash_text(re.sub(LINK_QUERY, r"\1", text))

    def _mask_name(self, name: str) -> str:
        def mask(match: re.Match[str]) -> str:
            return self.hash_phone(match[0]) if self.phones == "hash" else WITHHELD

        return NUMBER_OR_ADDRESS.sub(mask, name)

    def _protect_table(self, rows: pa.Table, table: Table) -> pa.Table:
        known = {column.name: column for column in table.columns}
        for name in rows.column_names:
            column = known.get(name)
            if column is None and name not in _TECHNICAL:
                rows = rows.drop_columns([name])
            elif column is not None and (change := self._change_of(column)) is not None:
                rows = rows.set_column(
                    rows.column_names.index(name), rows.field(name), _changed(rows[name], change)
                )
        return rows

    def _protect_payload(self, record: Rejected, shape: Shape) -> str:
        """Return the record's JSON with only those values left that can be told to be harmless."""
        try:
            value = json.loads(record.payload)
        except (ValueError, RecursionError):
            return WITHHELD
        if not isinstance(value, dict):
            return WITHHELD
        lists = {name: partial(self._protect_child, shape, name) for name in shape.lists}
        return json.dumps(self._protect_object(value, (shape.root,), shape, lists))

    def _protect_child(self, shape: Shape, name: str, item: dict[str, Any]) -> dict[str, Any]:
        tables = [shape.children[name]]
        if name != PARTS:
            return self._protect_object(item, tables, shape)
        if item.get("type") == MEDIA_TYPE:
            tables.append(shape.children[ATTACHMENTS])
        reactions = {REACTIONS: partial(self._protect_child, shape, REACTIONS)}
        part = self._protect_object(item, tables, shape, reactions)
        if item.get("type") in (*TEXT_TYPES, MEDIA_TYPE):
            return part
        # Nobody can tell what a part of another type holds.
        return {n: v if n in ("type", REACTIONS) else WITHHELD for n, v in part.items()}

    def _protect_object(
        self,
        value: dict[str, Any],
        tables: Sequence[Table],
        shape: Shape,
        lists: Mapping[str, _Protect] = MappingProxyType({}),
        prefix: str = "",
    ) -> dict[str, Any]:
        """Protect an object whose members are columns of some tables, by `prefix` and name."""
        columns = {
            field: column
            for table in tables
            for column in table.source_columns
            for field in filter(None, (column.source, column.fallback))
        }
        result: dict[str, Any] = {}
        for name, member in value.items():
            field = prefix + name
            if name in lists and isinstance(member, list):
                result[name] = [
                    lists[name](item) if isinstance(item, dict) else WITHHELD for item in member
                ]
            elif field in columns:
                result[name] = self._protect_value(member, columns[field], shape)
            elif isinstance(member, dict) and any(field in table.objects for table in tables):
                result[name] = self._protect_object(member, tables, shape, prefix=f"{field}.")
            elif type(member) is int and any(field in table.repeated for table in tables):
                result[name] = member
            else:
                withheld = None if member is None else WITHHELD
                result[name if name.isidentifier() else WITHHELD] = withheld
        return result

    def _protect_value(self, value: Any, column: Column, shape: Shape) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if column.personal_data:
            change = self._change_of(column)
            if not isinstance(value, str):
                return WITHHELD
            return value if change is None else change(value)
        return value if _is_of_type(value, column, shape) else WITHHELD


PLAIN = Privacy()

_TECHNICAL = ("_row", "position")


def privacy_of(settings: Settings) -> Privacy:
    """Return the treatments a user asked for."""
    key = settings.privacy_key.reveal().encode() if settings.privacy_key else b""
    return Privacy(settings.phones, settings.text, key)


def _drop(_: str) -> None:
    return None


def _changed(column: pa.ChunkedArray, change: _Change) -> pa.ChunkedArray:
    """Return a text column with every value changed; equal values are changed once."""
    if change is _drop:
        return pa.chunked_array([pa.nulls(len(column), pa.string())])
    values = pc.unique(column)
    changed = [None if value is None else change(value) for value in values.to_pylist()]
    places = pc.index_in(column, value_set=values)
    return pa.chunked_array([pa.array(changed, pa.string())]).take(places)


def _is_of_type(value: Any, column: Column, shape: Shape) -> bool:
    """Return whether a value is what its column is for; then it holds nothing else."""
    if column.type == "bigint":
        return isinstance(value, int | float) or (isinstance(value, str) and value.isdecimal())
    if column.type == "timestamp":
        if not isinstance(value, str):
            return False
        try:
            parse_iso(value)
        except ValueError:
            return False
        return True
    if column.type != "text" or not isinstance(value, str):
        return False
    pattern = shape.id_pattern if column.name == "id" or column.name.endswith("_id") else None
    return pattern is None or pattern.fullmatch(value) is not None
