"""Page bodies to records, all pages of a window parsed at once by `pyarrow.json`.

The parser is given an explicit schema and refuses a whole block for one value that does not fit.
Pages of a refused block are tried alone, and the one that is to blame goes record by record
through `salvage`. Fields the contract does not know are kept: see `fields`.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from linq_source.decoding import fields
from linq_source.decoding.children import objects_in, read_children, read_parts
from linq_source.decoding.fields import Refused
from linq_source.decoding.records import (
    PARTS,
    ROW,
    Records,
    Rejected,
    Shape,
    concat_records,
    empty_records,
)
from linq_source.decoding.salvage import salvage_page
from linq_source.decoding.scanning import is_nested_deeply
from linq_source.instants import MAX_US, MIN_US
from linq_source.tables import Table

_META = pa.struct(
    [(name, pa.int64()) for name in ("page", "total_pages", "total_count", "per_page")]
)


def decode_pages(bodies: Sequence[bytes], shape: Shape, key: str = "data") -> Records:
    """Decode page bodies whose envelope was already checked, in their order.

    `key` is the member that holds the list. Never fails: a bad record is repaired or rejected,
    and a body that is not JSON is rejected as a whole.
    """
    if not bodies:
        return empty_records(shape)
    bodies = [body.removeprefix(BOM_UTF8) for body in bodies]
    try:
        return _with_lower_ids(_decode_block(bodies, shape, key))
    except Refused:
        if len(bodies) == 1:
            return _with_lower_ids(_salvage(bodies[0], shape, key))
    parts: list[Records] = []
    last_us: int | None = None
    for body in bodies:
        page = decode_pages([body], shape, key)
        parts.append(_placed_after(page, last_us))
        last_us = _last_instant(page, last_us)
    return concat_records(shape, parts)


@dataclass(frozen=True)
class Outline:
    """What places records, in their order: instants in microseconds, those sent at, if any.

    `is_late` of those that arrived late.
    """

    identities: frozenset[object]
    instants: pa.Array
    sent: pa.Array
    is_late: pa.Array


def outline_of(body: bytes, shape: Shape, key: str) -> Outline:
    """Read ids and instants of a page, in a tenth of the time that all of it takes.

    A page that this cannot be read of is decoded.
    """
    instant = fields.READ_TIMESTAMP
    names = [("id", pa.string())]
    names += [(name, instant) for name in (shape.instant, "sent_at", shape.arrival)]
    try:
        if not _is_parsable(body):
            raise Refused
        found = _parse([body], key, pa.struct(names), is_whole=False)
        ids, *instants = objects_in(_list_column(found, key, 1)).flatten()
        if ids.null_count or instants[0].null_count:
            raise Refused
        at_us, sent_us, late_us = (
            array.cast(pa.timestamp("us", tz="UTC"), safe=False).cast(pa.int64())
            for array in instants
        )
        return Outline(
            frozenset(pc.utf8_lower(ids).to_pylist()), at_us, sent_us, late_us.is_valid()
        )
    except (Refused, pa.ArrowException):
        records = decode_pages([body], shape, key)
        return Outline(
            frozenset(records.identities),
            records.instants,
            records.root["sent_at"].cast(pa.int64()).combine_chunks(),
            pc.is_valid(records.root[shape.arrival]).combine_chunks(),
        )


def _with_lower_ids(records: Records) -> Records:
    """The records with UUIDs in lower case: in upper case they are the same (RFC 9562)."""
    if records.shape.id_pattern is None:
        return records
    uuid = f"^(?:{records.shape.id_pattern.pattern})$"

    def lowered(rows: pa.Table, table: Table) -> pa.Table:
        for name in table.column_names:
            if name in rows.column_names and (name == "id" or name.endswith("_id")):
                ids, index = rows[name], rows.column_names.index(name)
                is_uuid = pc.fill_null(pc.match_substring_regex(ids, uuid), False)
                lower = pc.if_else(is_uuid, pc.utf8_lower(ids), ids)
                rows = rows.set_column(index, rows.field(index), lower)
        return rows

    shape = records.shape
    children = {
        name: lowered(records.children[name], table) for name, table in shape.children.items()
    }
    return replace(records, root=lowered(records.root, shape.root), children=children)


def _placed_after(records: Records, last_us: int | None) -> Records:
    """Rejected records of a page on which nothing tells an instant stand after the page before."""
    rejected = tuple(
        replace(record, near_us=last_us) if record.near_us is None else record
        for record in records.rejected
    )
    return replace(records, rejected=rejected)


def _last_instant(records: Records, before_us: int | None) -> int | None:
    if not records.shape.instant or not len(records):
        return before_us
    return int(records.instants[-1].as_py())


def _salvage(body: bytes, shape: Shape, key: str) -> Records:
    try:
        return salvage_page(body, shape, key)
    except (ValueError, RecursionError) as error:
        text = body.decode("utf-8", errors="replace")
        lost = Rejected(None, f"a whole page: {error}", text, None, repaired=False)
        return replace(empty_records(shape), rejected=(lost,))


def _decode_block(bodies: Sequence[bytes], shape: Shape, key: str) -> Records:
    """Decode all bodies at once. Raises `Refused` for anything the parser or Arrow cannot take."""
    if not all(_is_parsable(body) for body in bodies):
        raise Refused
    try:
        return _parse_block(bodies, shape, key)
    except pa.ArrowException as error:
        raise Refused from error


# pyarrow.json ends the process for lists within lists some thousands deep.
_DEEPEST = 32


def _is_parsable(body: bytes) -> bool:
    """Whether a body may be given to the fast parser: an object, UTF-8, not nested deeply."""
    if body.lstrip()[:1] != b"{" or is_nested_deeply(body, _DEEPEST):
        return False
    if body.isascii():
        return True
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _parse_block(bodies: Sequence[bytes], shape: Shape, key: str) -> Records:
    expected = fields.expected_record(shape)
    block = _parse(bodies, key, expected)
    data = _list_column(block, key, len(bodies))
    if fields.has_inexact(data.type.value_type, expected, bodies):
        raise Refused
    as_text = fields.fields_to_read_as_text(data.type.value_type, expected)
    if as_text is not None:
        block = _parse(bodies, key, as_text)
        data = _list_column(block, key, len(bodies))
    counts = pc.fill_null(pc.list_value_length(data), 0)
    ends = pc.cumulative_sum(counts).to_pylist()
    return _flatten(objects_in(data), shape, fields.Place(bodies, (key,), ends))


def _parse(
    bodies: Sequence[bytes], key: str, record: pa.DataType, *, is_whole: bool = True
) -> pa.Table:
    schema = pa.schema([(key, pa.list_(record)), ("meta", _META)])
    buffer = bodies[0] if len(bodies) == 1 else b"\n".join(bodies)
    try:
        return pj.read_json(
            pa.BufferReader(buffer),
            read_options=pj.ReadOptions(use_threads=False, block_size=len(buffer) + 1),
            parse_options=pj.ParseOptions(
                explicit_schema=schema,
                newlines_in_values=any(b"\n" in body for body in bodies),
                unexpected_field_behavior="infer" if is_whole else "ignore",
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise Refused from error


def _list_column(block: pa.Table, key: str, bodies: int) -> pa.ListArray:
    if block.num_rows != bodies:
        raise Refused
    column = block[key].combine_chunks()
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column


def _refuse_missing(column: pa.ChunkedArray) -> None:
    is_blank = pa.types.is_string(column.type) and pc.any(
        pc.equal(pc.utf8_trim_whitespace(column), "")
    )
    if column.null_count or (is_blank and is_blank.as_py()):
        raise Refused


def _refuse_repeats(rows: pa.Table, key: Sequence[str]) -> None:
    """A key that stands twice: in one answer the slow path tells, over several nothing is wrong."""
    if pc.count_distinct(rows[key[0]]).as_py() < rows.num_rows and (
        len(key) == 1 or rows.group_by(list(key)).aggregate([]).num_rows < rows.num_rows
    ):
        raise Refused


def _refuse_other_ids(ids: pa.ChunkedArray, pattern: re.Pattern[str] | None) -> None:
    if pattern is not None:
        fits = pc.match_substring_regex(ids, f"^(?:{pattern.pattern})$")
        if not pc.all(fits, min_count=0).as_py():
            raise Refused


def _refuse_beyond_range(rows: pa.Table) -> None:
    """Instants no destination holds, and unknown numbers that a double has already rounded."""
    for column in rows.columns:
        if pa.types.is_timestamp(column.type):
            ends = pc.min_max(column.cast(pa.int64())).as_py()
            if ends["min"] is not None and not MIN_US <= ends["min"] <= ends["max"] <= MAX_US:
                raise Refused
        elif pa.types.is_floating(column.type):
            largest = pc.max(pc.abs(column)).as_py()
            if largest is not None and not largest < 2**53:
                raise Refused


def _flatten(rows: pa.StructArray, shape: Shape, place: fields.Place) -> Records:
    columns = fields.columns_of(rows, shape.root)
    columns = fields.with_json_text(columns, shape.root, place, shape.lists)
    computed: dict[str, pa.Array] = {}
    if PARTS in shape.lists:
        children, computed["text"] = read_parts(
            columns[PARTS], shape, place.within(PARTS, columns[PARTS])
        )
    else:
        children = {
            field: read_children(columns[field], table, place.within(field, columns[field]))
            for field, table in shape.children.items()
        }
    root = fields.typed_columns(columns, shape.root, shape.lists, computed)
    for name in shape.required:
        _refuse_missing(root[name])
    _refuse_other_ids(root[shape.required[0]], shape.id_pattern)
    _refuse_repeats(root, shape.required[:1])
    _refuse_beyond_range(root)
    for field, child in children.items():
        if keys := shape.child_required.get(field, ()):
            for name in keys:
                _refuse_missing(child[name])
            _refuse_repeats(child, (*keys, ROW))
        _refuse_beyond_range(child)
    return Records(shape, root, children)
