"""The slow path: one page, record by record, for pages the fast parser refuses.

What can be typed faithfully is loaded. A record without a usable key is rejected whole; a field
that cannot be typed is left null, and the record also stands in `rejected_records` with its
JSON text and the reason. One bad record never costs its neighbours.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from linq_source.decoding.records import (
    PARTS,
    ROW,
    Records,
    Rejected,
    Shape,
    child_schema,
    root_schema,
)
from linq_source.decoding.salvaged_children import typed_children, typed_parts
from linq_source.decoding.scanning import TooDeep, elements, members
from linq_source.decoding.values import DECODER, Pairs, members_of, printable, typed_members


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
        near_us = row.get(self.shape.instant, near_us)
        self._add(Rejected(row.get("id"), "; ".join(reasons), payload, near_us, repaired=False))
        return near_us

    def accept(self, row: dict[str, Any], reasons: list[str], payload: str) -> int | None:
        """Load a record, kept whole as well where it is not loaded as it came."""
        self.ids.add(row["id"])
        self.root.append(row)
        near_us = row.get(self.shape.instant)
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
    for value, payload in elements(text, key, DECODER):
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
    if page.root and page.shape.instant:
        first_us = min(filter(None, (first_us, page.root[0][page.shape.instant])))
    page.rejected[:] = [
        replace(record, near_us=first_us) if record.near_us is None else record
        for record in page.rejected
    ]


def _read_record(page: _Page, value: Any, text: str, last_us: int | None) -> int | None:
    """Type one record into `page`. Return the instant it stands at, where it can be read."""
    payload = printable(text)
    shape = page.shape
    if not isinstance(value, Pairs | TooDeep):
        page.reject({}, ["not an object"], payload, last_us)
        return None
    reasons: list[str] = []
    try:
        if not isinstance(value, Pairs):
            raise RecursionError
        found = members_of(value, reasons)
        row = typed_members(found, shape.root, reasons, skip=shape.lists)
        _leave_out_other_id(row, shape, reasons)
        if PARTS in shape.lists:
            children, row["text"] = typed_parts(found.get(PARTS), shape, reasons)
        else:
            children = {
                name: typed_children(
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
        found = {name: value for name, value, _ in members(text, DECODER) if name in keys}
    except ValueError:
        return {}
    row = typed_members(found, shape.root, [])
    _leave_out_other_id(row, shape, [])
    return row


def _leave_out_other_id(row: dict[str, Any], shape: Shape, reasons: list[str]) -> None:
    """Leave an id out that is not of the form that ids have."""
    id_ = row.get("id")
    if shape.id_pattern and id_ is not None and not shape.id_pattern.fullmatch(id_):
        del row["id"]
        reasons.append("id: not a UUID")


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


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
