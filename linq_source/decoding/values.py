"""Values of a record as the slow path reads them, and as its columns' types.

Nothing is changed without a reason being noted: what has no faithful form in a column is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Set
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import Any

from linq_source.decoding import fields
from linq_source.decoding.scanning import TooDeep
from linq_source.instants import parse_iso
from linq_source.tables import Column, Table

_INT64 = range(-(2**63), 2**63)
_SURROGATE = re.compile("[\ud800-\udfff]")
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_LONGEST_NUMBER = 400


class Pairs(list[tuple[str, Any]]):
    """An object's members in order, repeated names kept."""


@dataclass(frozen=True)
class NotJson:
    """A number as it is written: NaN, Infinity, one of more digits than a double or Python has."""

    text: str

    @property
    def is_number(self) -> bool:
        """Whether JSON takes it for a number."""
        return self.text[-1:].isdigit()


class _Unreadable(ValueError):
    """A value that has no faithful form in its column's type."""


def members_of(pairs: Pairs, reasons: list[str]) -> dict[str, Any]:
    """Return the last value of every name, as most parsers read repeated names (RFC 8259, 4)."""
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members and members[name] != value:
            reasons.append(f"{name}: stands twice, the last one kept")
        members[name] = value
    return members


def typed_members(
    members: dict[str, Any], table: Table, reasons: list[str], skip: Set[str] = frozenset()
) -> dict[str, Any]:
    """Return an object as a row: columns by our names, instants in microseconds.

    Members of the table's objects are columns, too; null values and fields in `skip` are not.
    """
    flat = dict(members)
    for name in table.objects:
        value = flat.pop(name, None)
        if isinstance(value, Pairs):
            inner = members_of(value, reasons)
            flat.update({f"{name}.{member}": item for member, item in inner.items()})
        elif value is not None:
            reasons.append(f"{name}: not an object, left out")
    row: dict[str, Any] = {}
    known = {column.source: column for column in table.source_columns}
    for name, value in flat.items():
        if value is None or name in skip or (name not in known and table.is_repeated(name)):
            continue
        column = known.get(name)
        try:
            if column is not None:
                row[column.name] = _typed_value(value, column, reasons)
            else:
                column_name = fields.column_name(printable(name), table)
                row[column_name] = _untyped_value(value, printable(name), reasons)
        except _Unreadable as error:
            reasons.append(f"{printable(name)}: {error}")
    return row


def _typed_value(value: Any, column: Column, reasons: list[str]) -> Any:
    if column.is_json:
        return clean(json_text(value), column.source, reasons)
    if isinstance(value, NotJson):
        if column.type == "text" and value.is_number:
            return value.text
        raise _Unreadable("a number that is not one")
    if isinstance(value, TooDeep):
        raise _Unreadable("nested too deeply")
    if column.type == "text":
        if isinstance(value, Pairs | list):
            raise _Unreadable("an object or list where text belongs")
        text = value if isinstance(value, str) else json.dumps(value)
        return clean(text, column.source, reasons)
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
    if isinstance(value, NotJson):
        return value.text
    if isinstance(value, str):
        return clean(value, name, reasons)
    if isinstance(value, bool | float) or (isinstance(value, int) and value in _INT64):
        return value
    return clean(json_text(value), name, reasons)


def clean(text: str, name: str, reasons: list[str]) -> str:
    """Return a text that UTF-8 can hold, noting under `name` what was replaced."""
    cleaned = _SURROGATE.sub("\ufffd", text)
    if cleaned != text:
        reasons.append(f"{name}: characters that are not Unicode, kept as U+FFFD")
    return cleaned


def printable(text: str) -> str:
    """Return a text that UTF-8 can hold."""
    return _SURROGATE.sub("\ufffd", text)


def json_text(value: Any) -> str:
    """Return a value as JSON, without blanks, of repeated names the last."""
    if isinstance(value, Pairs):
        members = (f"{json_text(name)}:{json_text(member)}" for name, member in dict(value).items())
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(json_text, value)) + "]"
    if isinstance(value, NotJson):
        return value.text if value.is_number else json.dumps(value.text)
    return json.dumps(value, ensure_ascii=False)


def _parse_integer(text: str) -> int | NotJson:
    return int(text) if len(text) <= _LONGEST_NUMBER else NotJson(text)


def _parse_fraction(text: str) -> float | NotJson:
    """Return the number as a double, if that is the number that is written."""
    value = float(text)
    if len(text) <= _LONGEST_NUMBER and isfinite(value):
        with suppress(ArithmeticError):
            if Decimal(text) == Decimal(repr(value)):
                return value
    return NotJson(text)


DECODER = json.JSONDecoder(
    object_pairs_hook=Pairs,
    parse_constant=NotJson,
    parse_int=_parse_integer,
    parse_float=_parse_fraction,
)
