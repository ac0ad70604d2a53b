"""The slow path: one page, record by record, for pages the fast parser refuses.

What can be typed faithfully is loaded. A record without a usable key is rejected whole; a field
that cannot be typed is left null, and the record also stands in `rejected_records` with its
JSON text and the reason. One bad record never costs its neighbours.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from math import isfinite
from typing import Any

import pyarrow as pa

from linq_source.decoding import fields
from linq_source.decoding.records import (
    POSITION,
    ROW,
    Records,
    Rejected,
    Shape,
    child_schema,
    root_schema,
)
from linq_source.decoding.scanning import TooDeep, elements, members
from linq_source.instants import parse_iso
from linq_source.tables import Column, Table

_INT64 = range(-(2**63), 2**63)
_SURROGATE = re.compile("[\ud800-\udfff]")
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_LONGEST_NUMBER = 400


class _Pairs(list[tuple[str, Any]]):
    """An object's members in order, repeated names kept."""


@dataclass(frozen=True)
class _NotJson:
    """A number as it is written: NaN, Infinity, one of more digits than a double or Python has."""

    text: str

    @property
    def is_number(self) -> bool:
        """Whether JSON takes it for a number."""
        return self.text[-1:].isdigit()


class _Unreadable(ValueError):
    """A value that has no faithful form in its column's type."""


@dataclass
class _Page:
    """What one page's records become, collected record by record."""

    shape: Shape
    root: list[dict[str, Any]] = field(default_factory=list)
    children: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    ids: set[int | str] = field(default_factory=set)
    payloads: Counter[str] = field(default_factory=Counter)

    def reject(
        self, row: dict[str, Any], reasons: list[str], payload: str, near_us: int | None
    ) -> int | None:
        """Keep a record whole that is not loaded. Return the instant it stands at."""
        near_us = row.get("sent_at", near_us)
        self._add(Rejected(row.get("id"), "; ".join(reasons), payload, near_us, repaired=False))
        return near_us

    def accept(self, row: dict[str, Any], reasons: list[str], payload: str) -> int | None:
        """Load a record, kept whole as well where it is not loaded as it came."""
        self.ids.add(row["id"])
        self.root.append(row)
        near_us = row.get("sent_at")
        if reasons:
            self._add(Rejected(row["id"], "; ".join(reasons), payload, near_us, repaired=True))
        return near_us

    def _add(self, record: Rejected) -> None:
        self.rejected.append(replace(record, repeat=self.payloads[record.payload]))
        self.payloads[record.payload] += 1


def salvage_page(body: bytes, shape: Shape, key: str) -> Records:
    """Type the records of one body one by one. Raises `ValueError` when it is not JSON."""
    text = body.decode("utf-8", errors="surrogateescape")
    page = _Page(shape, children={name: [] for name in shape.children})
    last_us: int | None = None
    for value, payload in elements(text, key, _DECODER):
        near_us = _read_record(page, value, payload, last_us)
        last_us = near_us if near_us is not None else last_us
    _place_leading(page)
    return Records(
        shape,
        _table(page.root, root_schema(shape)),
        {
            name: _table(page.children[name], child_schema(table))
            for name, table in shape.children.items()
        },
        tuple(page.rejected),
    )


def _place_leading(page: _Page) -> None:
    """Rejected records before the first instant of a page stand at that instant."""
    first_us = next((r.near_us for r in page.rejected if r.near_us is not None), None)
    if page.root and "sent_at" in page.root[0]:
        first_us = min(filter(None, (first_us, page.root[0]["sent_at"])))
    page.rejected[:] = [
        replace(record, near_us=first_us) if record.near_us is None else record
        for record in page.rejected
    ]


def _read_record(page: _Page, value: Any, text: str, last_us: int | None) -> int | None:
    """Type one record into `page`. Return the instant it stands at, where it can be read."""
    payload = _printable(text)
    shape = page.shape
    if not isinstance(value, _Pairs | TooDeep):
        page.reject({}, ["not an object"], payload, last_us)
        return None
    reasons: list[str] = []
    try:
        if not isinstance(value, _Pairs):
            raise RecursionError
        found = _members(value, reasons)
        for name in shape.objects:
            _flatten(found, name, reasons)
        row = _typed(found, shape.root, set(shape.children), reasons)
        children = {
            name: _typed_children(
                found.get(name), name, table, shape.child_required.get(name, ()), reasons
            )
            for name, table in shape.children.items()
        }
    except RecursionError:
        row = _typed_keys(text, shape)
        return page.reject(row, ["nested too deeply"], payload, last_us)
    missing = next((name for name in shape.required if _is_missing(row.get(name))), None)
    if missing is not None:
        if not any(reason.startswith(f"{missing}: ") for reason in reasons):
            reasons.append(f"{missing}: missing")
        return page.reject(row, reasons, payload, last_us)
    if row["id"] in page.ids:
        reasons.append("id: stands twice in one answer, the first record loaded")
        return page.reject(row, reasons, payload, last_us)
    for name, rows in children.items():
        page.children[name].extend({ROW: len(page.root), **child} for child in rows)
    return page.accept(row, reasons, payload)


def _typed_keys(text: str, shape: Shape) -> dict[str, Any]:
    """What identifies and places a record, as far as it can be read beside what is too deep."""
    keys = {column.source for column in shape.root.columns if column.name in shape.required}
    try:
        found = {name: value for name, value, _ in members(text, _DECODER) if name in keys}
    except ValueError:
        return {}
    return _typed(found, shape.root, set(), [])


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _typed_children(
    value: Any, name: str, table: Table, required: tuple[str, ...], reasons: list[str]
) -> list[dict[str, Any]]:
    if value is None:
        return []
    if isinstance(value, _Pairs) or not isinstance(value, list):
        reasons.append(f"{name}: not a list, left out")
        return []
    children = []
    keys = set()
    for position, item in enumerate(value):
        if not isinstance(item, _Pairs):
            reasons.append(f"{name}[{position}]: not an object, left out")
            continue
        found: list[str] = []
        child = _typed(_members(item, found), table, set(), found)
        missing = next((column for column in required if child.get(column) is None), None)
        reasons.extend(f"{name}[{position}].{reason}" for reason in found)
        if missing is not None:
            reasons.append(f"{name}[{position}]: no usable {missing}, left out")
            continue
        key = tuple(child[column] for column in required)
        if key and key in keys:
            reasons.append(f"{name}[{position}]: {required[0]} stands twice, the first kept")
            continue
        keys.add(key)
        children.append({POSITION: position, **child})
    return children


def _members(pairs: _Pairs, reasons: list[str]) -> dict[str, Any]:
    """Return the last value of every name, as most parsers read repeated names (RFC 8259, 4)."""
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members and members[name] != value:
            reasons.append(f"{name}: stands twice, the last one kept")
        members[name] = value
    return members


def _flatten(members: dict[str, Any], name: str, reasons: list[str]) -> None:
    """Put the members of an object in its place, named `<object>.<member>`."""
    value = members.pop(name, None)
    if isinstance(value, _Pairs):
        found = _members(value, reasons)
        members.update({f"{name}.{member}": item for member, item in found.items()})
    elif value is not None:
        reasons.append(f"{name}: not an object, left out")


def _typed(
    members: dict[str, Any], table: Table, lists: set[str], reasons: list[str]
) -> dict[str, Any]:
    row: dict[str, Any] = {}
    known = {column.source: column for column in table.source_columns}
    for name, value in members.items():
        if value is None or name in lists or name in table.repeated:
            continue
        column = known.get(name)
        try:
            if column is not None:
                row[column.name] = _typed_value(value, column, reasons)
            else:
                column_name = fields.column_name(_printable(name), table)
                row[column_name] = _untyped_value(value, _printable(name), reasons)
        except _Unreadable as error:
            reasons.append(f"{_printable(name)}: {error}")
    return row


def _typed_value(value: Any, column: Column, reasons: list[str]) -> Any:
    if isinstance(value, _NotJson):
        if column.type == "text" and value.is_number:
            return value.text
        raise _Unreadable("a number that is not one")
    if isinstance(value, TooDeep):
        raise _Unreadable("nested too deeply")
    if column.type == "text":
        if isinstance(value, _Pairs | list):
            raise _Unreadable("an object or list where text belongs")
        text = value if isinstance(value, str) else json.dumps(value)
        return _clean(text, column.source, reasons)
    if column.type == "bigint":
        return _integer(value)
    if column.type == "bool":
        if isinstance(value, bool):
            return value
        raise _Unreadable("not true or false")
    if column.type == "timestamp":
        if not isinstance(value, str):
            raise _Unreadable("not an instant")
        try:
            return parse_iso(value)
        except ValueError as error:
            raise _Unreadable(str(error)) from None
    raise AssertionError(column.type)


def _integer(value: Any) -> int:
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Unreadable("not a whole number")
    if value not in _INT64:
        raise _Unreadable("beyond 64 bit")
    return int(value)


def _untyped_value(value: Any, name: str, reasons: list[str]) -> Any:
    """Return a value of a field the contract does not know, in a type a column can have."""
    if isinstance(value, _NotJson):
        return value.text
    if isinstance(value, str):
        return _clean(value, name, reasons)
    if isinstance(value, bool | float) or (isinstance(value, int) and value in _INT64):
        return value
    return _clean(_dump(value), name, reasons)


def _clean(text: str, name: str, reasons: list[str]) -> str:
    cleaned = _SURROGATE.sub("\ufffd", text)
    if cleaned != text:
        reasons.append(f"{name}: characters that are not Unicode, kept as U+FFFD")
    return cleaned


def _printable(text: str) -> str:
    return _SURROGATE.sub("\ufffd", text)


def _dump(value: Any) -> str:
    if isinstance(value, _Pairs):
        members = (f"{_dump(name)}:{_dump(member)}" for name, member in dict(value).items())
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_dump, value)) + "]"
    if isinstance(value, _NotJson):
        return value.text if value.is_number else json.dumps(value.text)
    return json.dumps(value, ensure_ascii=False)


def _table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """An Arrow table; columns the schema does not know get the type all their values share."""
    extra: dict[str, None] = {}
    for row in rows:
        extra.update(dict.fromkeys(name for name in row if name not in schema.names))
    fields = list(schema)
    arrays = [pa.array([row.get(f.name) for row in rows], f.type) for f in schema]
    for name in extra:
        values = [row.get(name) for row in rows]
        types = {type(value) for value in values if value is not None}
        if types == {int, float} and all(abs(v) < 2**53 for v in values if v is not None):
            values = [None if value is None else float(value) for value in values]
        elif len(types) > 1:
            values = [
                value if value is None or isinstance(value, str) else json.dumps(value)
                for value in values
            ]
        array = pa.array(values)
        fields.append(pa.field(name, array.type))
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _parse_integer(text: str) -> int | _NotJson:
    return int(text) if len(text) <= _LONGEST_NUMBER else _NotJson(text)


def _parse_fraction(text: str) -> float | _NotJson:
    """Return the number as a double, if that is the number that is written."""
    value = float(text)
    if len(text) <= _LONGEST_NUMBER and isfinite(value):
        with suppress(ArithmeticError):
            if Decimal(text) == Decimal(repr(value)):
                return value
    return _NotJson(text)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_Pairs,
    parse_constant=_NotJson,
    parse_int=_parse_integer,
    parse_float=_parse_fraction,
)
