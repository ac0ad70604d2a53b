"""Lists of children within records on the slow path: what `children` is for the fast one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from linq_source.decoding.children import MEDIA_TYPE, TEXT_TYPES
from linq_source.decoding.records import (
    ATTACHMENTS,
    PART_POSITION,
    PARTS,
    POSITION,
    REACTIONS,
    Shape,
)
from linq_source.decoding.values import Pairs, clean, json_text, members_of, typed_members
from linq_source.tables import Table

Row = dict[str, Any]


def typed_children(
    value: Any, name: str, table: Table, required: Sequence[str], reasons: list[str]
) -> list[Row]:
    """Return the rows of one list, `name` in the API; of equal keys the first is kept."""
    children = []
    keys = set()
    for position, members, found in _objects_in(value, name, reasons):
        child = typed_members(members, table, found)
        place = f"{name}[{position}]"
        reasons.extend(f"{place}.{reason}" for reason in found)
        missing = next((column for column in required if child.get(column) is None), None)
        if missing is not None:
            reasons.append(f"{place}: no usable {missing}, left out")
            continue
        key = tuple(child[column] for column in required)
        if key and key in keys:
            reasons.append(f"{place}: {required[0]} stands twice, the first kept")
            continue
        keys.add(key)
        children.append({POSITION: position, **child})
    return children


def typed_parts(
    value: Any, shape: Shape, reasons: list[str]
) -> tuple[dict[str, list[Row]], str | None]:
    """Return the children of a message of API v3, and its text."""
    children: dict[str, list[Row]] = {PARTS: [], ATTACHMENTS: [], REACTIONS: []}
    lines = []
    for position, members, found in _objects_in(value, PARTS, reasons):
        reactions = members.pop(REACTIONS, None)
        part, file = _typed_part(members, shape, found)
        children[PARTS].append({POSITION: position, **part})
        if file is not None:
            children[ATTACHMENTS].append({POSITION: position, **file})
        if part.get("type") in TEXT_TYPES and "value" in part:
            lines.append(part["value"])
        rows = typed_children(reactions, REACTIONS, shape.children[REACTIONS], (), found)
        children[REACTIONS] += [{PART_POSITION: position, **row} for row in rows]
        reasons.extend(f"{PARTS}[{position}].{reason}" for reason in found)
    return children, "\n".join(lines) if lines else None


def _typed_part(members: Row, shape: Shape, reasons: list[str]) -> tuple[Row, Row | None]:
    """Return the row of a part, and of a file that of the attachment."""
    table, media = shape.children[PARTS], shape.children[ATTACHMENTS]
    part = typed_members({"type": members.get("type")}, table, reasons)
    if part.get("type") not in (*TEXT_TYPES, MEDIA_TYPE):
        part["payload"] = clean(json_text(Pairs(members.items())), "payload", reasons)
        return part, None
    members = {name: value for name, value in members.items() if name != "type"}
    if members.get("mention") is not None and members.get("mentions") in (None, []):
        names = {"handle": "mention", "range": "mention_range"}
        members["mentions"] = [Pairs((name, members.get(old)) for name, old in names.items())]
    if part["type"] != MEDIA_TYPE:
        return part | typed_members(members, table, reasons), None
    of_media = {column.source for column in media.source_columns}
    own = {name: value for name, value in members.items() if name in of_media}
    file = typed_members(own, media, reasons)
    part |= typed_members(members, table, reasons, skip=of_media)
    if "id" in file:
        part["attachment_id"] = file["id"]
    return part, file


def _objects_in(value: Any, name: str, reasons: list[str]) -> Iterator[tuple[int, Row, list[str]]]:
    """Place and members of each object of a list, and where to note what is wrong with it."""
    if value is not None and (isinstance(value, Pairs) or not isinstance(value, list)):
        reasons.append(f"{name}: not a list, left out")
        value = None
    for position, item in enumerate(value or ()):
        if isinstance(item, Pairs):
            found: list[str] = []
            yield position, members_of(item, found), found
        else:
            reasons.append(f"{name}[{position}]: not an object, left out")
