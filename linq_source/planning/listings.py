"""Reading the lists: the organisation's numbers, the chats of each, and contacts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

import pyarrow as pa
import pyarrow.compute as pc

from linq_source.decoding.envelope import text_member
from linq_source.decoding.pages import decode_pages
from linq_source.decoding.records import (
    CHAT,
    POSITION,
    ROW,
    Records,
    Rejected,
    Shape,
    child_schema,
    concat_records,
    distinct_rejected,
    record_text,
)
from linq_source.planning.digests import digest_records, digest_rejected
from linq_source.planning.requests_v2 import ChatRequest, ChatsRequest, ContactsRequest
from linq_source.planning.window_reading import ATTEMPTS, CHUNK_PAGES
from linq_source.planning.windows import Asking, ask
from linq_source.settings import Id, Shard
from linq_source.tables import Table

# Rows are compared in this many groups by id, so that the state stays small.
DIGEST_GROUPS = 1024
# Stands among the digests until what the destination holds was compared with a complete list.
NOT_COMPARED = {"not compared": ""}
# No list is followed further than this, whatever the answers claim: a million chats a number.
MAX_LIST_PAGES = 10_000


@dataclass(frozen=True)
class ChatList:
    """Chats, or contacts, each once. `complete` tells that counts prove nothing is missing.

    A record of which nobody can tell which chat it is may be any: then something is.
    """

    records: Records
    complete: bool

    @property
    def marks(self) -> dict[Id, int | None]:
        """What tells that a chat has changed, by its id: `message_count`, of v3 `updated_at`."""
        ids = self.records.root["id"].to_pylist()
        marks = self.records.root[self.records.shape.mark].cast(pa.int64()).to_pylist()
        return dict(zip(ids, marks, strict=True))


@dataclass(frozen=True)
class ListWalk:
    """One walk through a list: what it found, and whether that seems to be all of it.

    One that `needs_repeat` is trusted only when a second walk finds the same.
    """

    records: Records
    is_whole: bool
    needs_repeat: bool = False


def read_whole(walk: Callable[[], Asking[ListWalk]]) -> Asking[ChatList]:
    """Return all of a list, walked through again while it moves."""
    seen: list[Records] = []
    before: set[object] | None = None
    for _ in range(ATTEMPTS):
        found = yield from walk()
        is_compared = found.is_whole and found.needs_repeat
        identities = found.records.identities if is_compared else None
        if found.is_whole and (not is_compared or identities == before):
            records = distinct(with_repeats(found.records))
            return ChatList(records, complete=all(lost.id is not None for lost in records.rejected))
        before = identities
        seen.append(found.records)
    seen[-1] = with_repeats(seen[-1])
    return ChatList(distinct(concat_records(seen[-1].shape, seen)), complete=False)


def read_list(first: ChatsRequest | ContactsRequest) -> Asking[ChatList]:
    """Return all of a list, told by the request of its first page."""
    return read_whole(lambda: _walk(first))


def _walk(request: ChatsRequest | ContactsRequest) -> Asking[ListWalk]:
    """Walk through a list once; the counts say whether that is all.

    `total_pages` may be anything: the walk ends with the first chunk that brings nothing not seen
    before, and at `MAX_LIST_PAGES`.
    """
    shape, key = request.shape, request.key
    (first,) = yield from ask(request)
    total_count = first.envelope.total_count
    found = [decode_pages([first.body], shape, key)]
    seen = found[0].identities
    is_same = True
    # There are no more pages than records, whatever the answer claims.
    last = min(first.envelope.total_pages, total_count, MAX_LIST_PAGES)
    for start in range(2, last + 1, CHUNK_PAGES):
        numbers = range(start, min(start + CHUNK_PAGES, last + 1))
        pages = yield from ask(*(replace(request, page=n) for n in numbers))
        is_same = is_same and all(page.envelope.total_count == total_count for page in pages)
        more = decode_pages([page.body for page in pages], shape, key)
        found.append(more)
        identities = more.identities
        if identities <= seen:
            break
        seen |= identities
    return ListWalk(concat_records(shape, found), is_same and len(seen) == total_count)


def with_repeats(walk: Records) -> Records:
    """The records, and among the rejected those of an id that comes again with other content."""
    ids = walk.root["id"].to_pylist()
    last = {id_: row for row, id_ in enumerate(ids)}
    earlier = [row for row, id_ in enumerate(ids) if last[id_] != row]
    repeats = [
        Rejected(ids[row], "id: stands twice in the list, the last one kept", text, None, True)
        for row in earlier
        if (text := record_text(walk, row)) != record_text(walk, last[ids[row]])
    ]
    return replace(walk, rejected=(*walk.rejected, *repeats))


def read_one(request: ChatRequest) -> Asking[ChatList]:
    """One chat by its id."""
    (page,) = yield from ask(request)
    return ChatList(request.decode(page.body), complete=False)


def numbers_of(records: Records) -> list[str | None]:
    """Return the numbers to ask for chats; None for a record that does not tell its number.

    A record that is not loaded, for want of a usable id, may tell it all the same.
    """
    numbers: list[str | None] = records.root["phone_number"].to_pylist()
    for lost in records.rejected:
        if not lost.repaired:
            number = text_member(lost.payload, "phone_number")
            numbers.append(number if number and number.strip() else None)
    return list(dict.fromkeys(numbers))


def join_lists(lists: Sequence[ChatList], shape: Shape = CHAT) -> ChatList:
    """Several lists as one, each chat once. No list at all is not a complete one."""
    records = distinct(concat_records(shape, [part.records for part in lists]))
    return ChatList(records, bool(lists) and all(part.complete for part in lists))


def with_lines(
    records: Records, lists: Sequence[tuple[Id, str, pa.ChunkedArray]], table: Table
) -> Records:
    """Return the chats with the phone numbers that list them: id, number, ids of its chats."""
    tables_of_lines = [
        pa.table(
            {
                ROW: pc.index_in(chat_ids, value_set=records.root["id"].combine_chunks()).cast(
                    pa.int64()
                ),
                POSITION: pa.nulls(len(chat_ids), pa.int64()),
                "phone_number_id": pa.repeat(pa.scalar(number_id), len(chat_ids)),
                "phone_number": pa.repeat(pa.scalar(number, pa.string()), len(chat_ids)),
            }
        )
        for number_id, number, chat_ids in lists
    ]
    field = "phone_numbers"
    rows = pa.concat_tables([child_schema(table).empty_table(), *tables_of_lines])
    rows = rows.filter(pc.is_valid(rows[ROW])).sort_by(
        [(ROW, "ascending"), ("phone_number_id", "ascending")]
    )
    shape = replace(records.shape, children={**records.shape.children, field: table})
    return replace(records, shape=shape, children={**records.children, field: rows})


def distinct(records: Records) -> Records:
    """Return each id once (the last wins), ordered by id; each rejected record once."""
    records = replace(records, rejected=distinct_rejected(records.rejected))
    if len(records) == 0:
        return records
    numbered = pa.table({"id": records.root["id"], "row": pa.arange(0, len(records))})
    last = numbered.group_by("id").aggregate([("row", "max")]).sort_by("id")
    return records.take(last["row_max"].combine_chunks())


def of_shard(records: Records, shard: Shard | None) -> Records:
    """The chats of a shard. What the list had that is no chat stands with the first shard."""
    if shard is None:
        return records
    rejected = tuple(
        lost
        for lost in records.rejected
        if (shard.index == 0 if lost.id is None else lost.id in shard)
    )
    records = replace(records, rejected=rejected)
    ids = records.root["id"]
    if pa.types.is_integer(ids.type):
        rest = _remainder(ids, shard.count)
        return records.where(pc.equal(rest, pa.scalar(shard.index, pa.int64())))
    endings = pc.utf8_lower(pc.utf8_slice_codeunits(ids, -2))
    return records.where(pc.is_in(endings, value_set=pa.array(shard.endings)))


def changed_groups(records: Records, known: Mapping[str, str]) -> tuple[Records, dict[str, str]]:
    """Return the rows of every group whose content is not as known, and the digests now.

    Rows form groups by `group_of` their ids; rejected records form others, so that one is
    reported again only if it has changed itself, and not its neighbour.
    """
    rejected, digests = _changed_rejected(records.rejected, known)
    if len(records) == 0:
        return replace(records, rejected=rejected), digests
    ids = records.root["id"]
    if pa.types.is_integer(ids.type):
        group = _remainder(ids, DIGEST_GROUPS).combine_chunks()
    else:
        group = pa.array(map(group_of, ids.to_pylist()), pa.int64())
    order = pc.sort_indices(
        pa.table({"group": group, "id": records.root["id"]}),
        sort_keys=[("group", "ascending"), ("id", "ascending")],
    ).cast(pa.int64())
    records = records.take(order)
    runs = pc.run_end_encode(group.take(order), run_end_type=pa.int64())
    changed = []
    start = 0
    for name, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        part = records.slice(start, end)
        digests[str(name)] = digest_records(part)
        if known.get(str(name)) != digests[str(name)]:
            changed.append(part)
        start = end
    return replace(concat_records(records.shape, changed), rejected=rejected), digests


def _changed_rejected(
    rejected: Sequence[Rejected], known: Mapping[str, str]
) -> tuple[tuple[Rejected, ...], dict[str, str]]:
    """Return the rejected records of every group that is not as known, and the digests now."""
    groups: dict[str, list[Rejected]] = defaultdict(list)
    for lost in rejected:
        groups[f"rejected {group_of(lost.payload if lost.id is None else lost.id)}"].append(lost)
    digests = {name: digest_rejected(group) for name, group in groups.items()}
    changed = [
        lost for name, group in groups.items() if known.get(name) != digests[name] for lost in group
    ]
    return tuple(changed), digests


def group_of(id_: int | str) -> int:
    """Return the group of a record, or of a text that stands for one."""
    return (crc32(id_.encode()) if isinstance(id_, str) else id_) % DIGEST_GROUPS


def without_groups(known: Mapping[str, str], ids: Iterable[int | str]) -> dict[str, str]:
    """Return the digests without those of the groups that these ids belong to."""
    gone = {str(group_of(id_)) for id_ in ids}
    return {group: digest for group, digest in known.items() if group not in gone}


def _remainder(ids: pa.ChunkedArray, divisor: int) -> pa.ChunkedArray:
    by = pa.scalar(divisor, pa.int64())
    return pc.subtract(ids, pc.multiply(pc.divide(ids, by), by))
