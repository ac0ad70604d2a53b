"""One message id in two chats: one row a key, the other record kept whole among the rejected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from linq_source.decoding.records import Rejected, record_text
from linq_source.planning.changes import Part
from linq_source.settings import Id


class Owners:
    """Which chat the message ids of a load package belong to: the first that brought them.

    A message that stands in one chat now and in another in a later package has moved: there the
    newer row wins, as with any other change.
    """

    def __init__(self) -> None:
        self._taken: list[pa.Table] = []

    def leave_out_repeats(self, parts: Sequence[Part]) -> list[Part]:
        """The parts without messages that another chat has, too; those are among the rejected.

        Of parts given together the chat with the least id is the first, in whatever order they
        arrived.
        """
        ordered = sorted(parts, key=lambda part: part.window.chat_id)
        rows = _ids_by_chat(ordered)
        owners = self._contested(rows)
        self._taken.append(rows)
        return [_without_others(part, owners) for part in ordered] if owners else ordered

    def _contested(self, rows: pa.Table) -> dict[Id, Id]:
        """Return the owners of ids that more chats than one have brought."""
        both = [taken.filter(pc.is_in(taken["id"], rows["id"])) for taken in self._taken]
        if pc.count_distinct(rows["id"]).as_py() < len(rows):
            both.append(rows)
        elif any(map(len, both)):
            both.append(rows.filter(pc.is_in(rows["id"], pa.concat_tables(both)["id"])))
        if not any(map(len, both)):
            return {}
        found = pa.concat_tables(both)
        chats = found.group_by("id").aggregate([("chat_id", "min"), ("chat_id", "max")])
        contested = chats.filter(pc.not_equal(chats["chat_id_min"], chats["chat_id_max"]))["id"]
        found = found.filter(pc.is_in(found["id"], contested))
        owners: dict[Id, Id] = {}
        for id_, chat_id in zip(*(found[n].to_pylist() for n in ("id", "chat_id")), strict=True):
            owners.setdefault(id_, chat_id)
        return owners


def _ids_by_chat(parts: Sequence[Part]) -> pa.Table:
    # Both are whole numbers, or (of API v3) texts.
    type_ = parts[0].records.root["id"].type if parts else pa.int64()
    ids: list[pa.Array] = []
    chats: list[pa.Array] = []
    for part in parts:
        if len(part.records):
            ids += part.records.root["id"].chunks
            chats.append(pa.repeat(pa.scalar(part.window.chat_id), len(part.records)))
    columns = [pa.chunked_array(chunks, type_).combine_chunks() for chunks in (ids, chats)]
    return pa.table(columns, names=["id", "chat_id"])


def _without_others(part: Part, owners: Mapping[Id, Id]) -> Part:
    chat_id, records = part.window.chat_id, part.records
    ids = records.root["id"].to_pylist()
    lost = [row for row, id_ in enumerate(ids) if owners.get(id_, chat_id) != chat_id]
    if not lost:
        return part
    rejected = tuple(
        Rejected(
            ids[row],
            f"id: stands in chat {owners[ids[row]]}, too, where it is loaded",
            record_text(records, row),
            int(records.instants[row].as_py()),
            repaired=False,
        )
        for row in lost
    )
    numbers = pa.arange(0, len(records))
    kept = records.where(pc.invert(pc.is_in(numbers, value_set=pa.array(lost, pa.int64()))))
    return Part(part.window, replace(kept, rejected=(*records.rejected, *rejected)))
