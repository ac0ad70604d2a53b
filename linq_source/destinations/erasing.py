"""What `forget` erases from any destination: which rows go, and which values of others.

The rules are written once. A SQL destination asks for the values that they concern and deletes by
them; files are rewritten by `TableErasure`, which applies them to Arrow tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from linq_source import tables
from linq_source.destinations.reading import Reader
from linq_source.errors import ConfigurationError
from linq_source.privacy.forgotten import NOTHING, Forgotten, sender_columns
from linq_source.settings import Id
from linq_source.tables import Table

_BATCH = 500
_LAST = (tables.CHAT_MESSAGES.name, tables.ATTACHMENT_FILES.name)

# What is read to find a person's chats and messages.
SEARCHED: Mapping[Table, Sequence[str]] = {
    tables.PHONE_NUMBERS: ("phone_number",),
    tables.CHATS: ("id", "is_group"),
    tables.CHAT_HANDLES: ("chat_id", "phone_number"),
    tables.CHAT_MESSAGES: ("id", "chat_id", "sent_from"),
}

Treat = Callable[[str], str | None]


@dataclass(frozen=True)
class Erasure:
    """Chats that go whole, messages by id, and people with all that is theirs or names them."""

    # The dataset's tables.
    stored: Mapping[str, Table]
    chats: Sequence[Id] = ()
    people: Forgotten = NOTHING
    messages: Sequence[Id] = ()
    # Messages that went before, and of whose files only the records are left.
    files_of: Sequence[Id] = ()

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables that it concerns, in the order in which they are erased."""
        if self.files_of:
            return (self.stored[tables.ATTACHMENT_FILES.name],)
        return erased_tables(self.stored)

    def keys(self, table: Table) -> list[tuple[str, Sequence[Id]]]:
        """Columns of ids, each with those whose rows go."""
        found = {"chat_id": self.chats, "chat_message_id": self.messages}
        if table.name == tables.ATTACHMENT_FILES.name:
            found = {"chat_message_id": self.files_of}
        elif table.name == tables.CHATS.name:
            found = {"id": self.chats}
        elif table.name == tables.CHAT_MESSAGES.name:
            found = {"chat_id": self.chats, "id": self.messages}
        return [(c, ids) for c, ids in found.items() if ids and c in table.column_names]

    def texts(self, table: Table) -> list[tuple[str, Callable[[str], bool]]]:
        """Columns of text whose rows go where a value is wanted."""
        if not self.people.people:
            return []
        if table.name == tables.REJECTED_RECORDS.name:
            return [("payload", self.people.is_named_in)]
        return [(column, self.people.is_of) for column in sender_columns(table)]

    def others(self, table: Table, text_columns: Iterable[str]) -> list[tuple[str, Treat]]:
        """Columns that may name somebody in another's row: names, numbers, unknown fields.

        Each with what its values that name somebody become.
        """
        if not self.people.people:
            return []
        contents = {column.name: column.personal_data for column in table.columns}
        senders = sender_columns(table)
        found: list[tuple[str, Treat]] = []
        for column in text_columns:
            if column not in contents and not column.startswith("_dlt"):
                found.append((column, lambda _: None))
            elif contents.get(column) == "name":
                found.append((column, self.people.mask))
            elif contents.get(column) in ("phone", "anything") and column not in senders:
                found.append((column, lambda _: None))
        return found


def erased_tables(stored: Mapping[str, Table]) -> tuple[Table, ...]:
    """The dataset's tables from which a person or a chat is erased, in their order.

    Messages last: while they are there, the children that are still to be erased can be found.
    Files of attachments keep their records until `media` has erased the files.
    """
    others = (table for name, table in stored.items() if name not in _LAST)
    return (*others, stored[tables.CHAT_MESSAGES.name])


def check_own_numbers(reader: Reader, asked: Forgotten) -> None:
    """Raise `ConfigurationError` for the organisation's own numbers: they are nobody to forget."""
    if wanted_values(reader, tables.PHONE_NUMBERS, "phone_number", asked.is_of):
        raise ConfigurationError(
            "a number to forget is one of the organisation's own: its messages are the "
            "organisation's; forget chats by --chat-id instead"
        )


def chats_of(reader: Reader, asked: Forgotten) -> set[Id]:
    """The chats of two with one of the people."""
    return _chats_where(reader, asked, "c.is_group = FALSE")


def chats_with(reader: Reader, asked: Forgotten) -> set[Id]:
    """Every chat that one of the people is in or wrote in."""
    members = _chats_where(reader, asked, "c.is_group IS NOT NULL")
    return members | _of_sender(reader, asked, "DISTINCT chat_id")


def messages_of(reader: Reader, asked: Forgotten) -> set[Id]:
    """The messages that the people sent."""
    return _of_sender(reader, asked, "id")


def wanted_values(
    reader: Reader, table: Table, column: str, wanted: Callable[[str], bool]
) -> list[str]:
    """The distinct values of a text column that are wanted."""
    if not reader.knows(table):
        return []
    name = reader.quoted(column)
    sql = f"SELECT DISTINCT {name} FROM {reader.name(table)} WHERE {name} IS NOT NULL"
    return [value for (value,) in reader.rows(sql) if wanted(str(value))]


def rows_with(reader: Reader, sql: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """The rows of a statement that ends in `IN` and goes on with the values, batch by batch."""
    for start in range(0, len(values), _BATCH):
        batch = values[start : start + _BATCH]
        yield from reader.rows(f"{sql} ({', '.join(['%s'] * len(batch))})", *batch)


def _of_sender(reader: Reader, asked: Forgotten, what: str) -> set[Id]:
    numbers = wanted_values(reader, tables.CHAT_MESSAGES, "sent_from", asked.is_of)
    if not numbers:
        return set()
    sql = f"SELECT {what} FROM {reader.name(tables.CHAT_MESSAGES)} WHERE sent_from IN"
    return {row[0] for row in rows_with(reader, sql, numbers)}


def _chats_where(reader: Reader, asked: Forgotten, condition: str) -> set[Id]:
    numbers = wanted_values(reader, tables.CHAT_HANDLES, "phone_number", asked.is_of)
    if not numbers:
        return set()
    handles = f"SELECT DISTINCT chat_id FROM {reader.name(tables.CHAT_HANDLES)}"
    ids = [row[0] for row in rows_with(reader, f"{handles} WHERE phone_number IN", numbers)]
    chats = f"SELECT c.id FROM {reader.name(tables.CHATS)} AS c WHERE {condition} AND c.id IN"
    return {row[0] for row in rows_with(reader, chats, ids)}


class TableErasure:
    """An erasure as it applies to the rows of one table with a schema."""

    def __init__(self, erasure: Erasure, table: Table, schema: pa.Schema) -> None:
        names = set(schema.names)
        text_columns = [field.name for field in schema if _is_text(field.type)]
        self._keys = [
            (column, pa.array(ids, schema.field(column).type))
            for column, ids in erasure.keys(table)
            if column in names
        ]
        self._texts = [(c, wanted) for c, wanted in erasure.texts(table) if c in names]
        self._others = erasure.others(table, text_columns)
        self._is_named_in = erasure.people.is_named_in
        self._schema = schema
        # The rows that stayed so far.
        self.kept = 0
        columns = (c for c, *_ in (*self._keys, *self._texts, *self._others))
        # The columns it looks at, in the schema's order.
        wanted = set(columns)
        self.columns = [name for name in schema.names if name in wanted]

    def concerns(self, rows: pa.Table) -> bool:
        """Whether any of the rows goes or changes; `columns` are enough of them."""
        if pc.any(self._gone(rows)).as_py():
            return True
        return any(self._changes(rows[column], treat) for column, treat in self._others)

    def apply(self, rows: pa.Table) -> pa.Table:
        """The rows that stay, as they are to be."""
        rows = rows.filter(pc.invert(self._gone(rows)))
        for column, treat in self._others:
            changes = self._changes(rows[column], treat)
            if changes:
                values = _text(rows[column])
                at = pc.index_in(values, value_set=pa.array(list(changes), pa.string()))
                treated = pa.array(list(changes.values()), pa.string()).take(at)
                values = pc.if_else(pc.is_valid(at), treated, values)
                index = rows.column_names.index(column)
                field = rows.schema.field(index)
                rows = rows.set_column(index, field, values.cast(field.type))
        return rows

    def stream(self, batches: Iterable[pa.RecordBatch]) -> pa.RecordBatchReader:
        """The batches that stay, one by one."""

        def erased_batches() -> Iterator[pa.RecordBatch]:
            for batch in batches:
                rows = self.apply(pa.Table.from_batches([batch]))
                self.kept += rows.num_rows
                yield from rows.to_batches()

        return pa.RecordBatchReader.from_batches(self._schema, erased_batches())

    def _gone(self, rows: pa.Table) -> pa.ChunkedArray:
        gone = pa.chunked_array([pa.repeat(pa.scalar(False), rows.num_rows)])
        for column, ids in self._keys:
            gone = pc.or_(gone, pc.is_in(rows[column], value_set=ids))
        for column, wanted in self._texts:
            values = _text(rows[column])
            found = [v for v in pc.unique(values).to_pylist() if v is not None and wanted(v)]
            gone = pc.or_(gone, pc.is_in(values, value_set=pa.array(found, pa.string())))
        return gone

    def _changes(self, column: pa.ChunkedArray, treat: Treat) -> dict[str, str | None]:
        """The values that name somebody, each with what it becomes."""
        return {
            value: treat(value)
            for value in pc.unique(_text(column)).to_pylist()
            if value is not None and self._is_named_in(value)
        }


def _is_text(type_: pa.DataType) -> bool:
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(is_kind(type_) for is_kind in kinds)


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column if pa.types.is_string(column.type) else column.cast(pa.string())
