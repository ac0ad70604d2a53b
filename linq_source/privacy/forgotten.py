"""People and chats that were forgotten on request, and must not come back with the next run.

What is remembered of a person is a salted hash of the number as the tables have it. Everything
here works on records as they are kept, that is after `privacy`.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from linq_source import tables
from linq_source.decoding.records import ROW, Records
from linq_source.privacy.hashing import WITHHELD
from linq_source.privacy.numbers import NUMBER_OR_ADDRESS, forms_of, normalize_phone
from linq_source.settings import Id
from linq_source.tables import Table

_JSON_STRING = re.compile(r'"([^"\\]+)"')
_JSON_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
# In a name or a payload: a number, an address, or the hash that stands for one.
_TOKEN = re.compile(rf"\b[0-9a-f]{{64}}\b|{NUMBER_OR_ADDRESS.pattern}")


@dataclass(frozen=True)
class Forgotten:
    """Forgotten chats by id, forgotten people by the salted hash of their number.

    `partly` are the chats that live on without the messages of a forgotten person: their rows
    are fewer than the API counts.
    """

    chats: frozenset[Id] = frozenset()
    people: frozenset[str] = frozenset()
    partly: frozenset[Id] = frozenset()
    salt: bytes = field(default=b"", repr=False)

    def __bool__(self) -> bool:
        return bool(self.chats or self.people)

    def to_state(self) -> dict[str, Any]:
        """As plain values for the pipeline's state."""
        return {
            "chats": sorted(self.chats),
            "people": sorted(self.people),
            "partly": sorted(self.partly),
            "salt": self.salt.hex(),
        }

    def with_people(self, numbers: Iterable[str]) -> Forgotten:
        """These people forgotten as well."""
        hashes = {self._hash(normalize_phone(number)) for number in numbers}
        return replace(self, people=self.people | hashes)

    def with_chats(self, chats: Iterable[Id], partly: Iterable[Id] = ()) -> Forgotten:
        """These chats forgotten as well, and these in part."""
        chats = self.chats | frozenset(chats)
        return replace(self, chats=chats, partly=(self.partly | frozenset(partly)) - chats)

    def is_of(self, number: str | None) -> bool:
        """Return whether a number is that of a forgotten person."""
        return bool(number) and any(self._hash(f) in self.people for f in forms_of(str(number)))

    def is_named_in(self, text: str) -> bool:
        """Return whether a text (a JSON payload, a name) holds the number of a forgotten person."""
        if not self.people:
            return False
        text = _JSON_ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
        found = [match[0] for match in _TOKEN.finditer(text)]
        return any(self.is_of(value) for value in {text, *found, *_JSON_STRING.findall(text)})

    def mask(self, name: str) -> str:
        """Return a name without the numbers of forgotten people."""
        if self.is_of(name):
            return WITHHELD
        return _TOKEN.sub(lambda match: WITHHELD if self.is_of(match[0]) else match[0], name)

    def chats_of(self, chats: Records) -> frozenset[Id]:
        """The ids of the listed chats that are forgotten: by id, or as a forgotten person's own.

        A chat of two is a person's own; in a group others speak, too.
        """
        ids = chats.root["id"]
        gone = set(self.chats) & set(ids.to_pylist())
        handles = _rows_of(tables.CHAT_HANDLES, chats)
        own = handles.filter(self._mask(handles["phone_number"]))[ROW]
        for row in own.to_pylist():
            if chats.root["is_group"][row].as_py() is False:
                gone.add(ids[row].as_py())
        return frozenset(gone)

    def without_chats(self, chats: Records, gone: frozenset[Id]) -> Records:
        """Return the listed chats without some."""
        if not gone:
            return chats
        rejected = tuple(lost for lost in chats.rejected if lost.id not in gone)
        chats = replace(chats, rejected=rejected)
        ids = chats.root["id"]
        mask = pc.is_in(ids, value_set=pa.array(list(gone), ids.type))
        return chats.where(pc.invert(mask))

    def without(self, records: Records) -> Records:
        """Return the records without forgotten people's: rows, children, rejected payloads."""
        if not self.people:
            return records
        for name, table in records.shape.children.items():
            child = records.children[name]
            for column in sender_columns(table):
                child = child.filter(pc.invert(self._mask(child[column])))
            child = self._mask_columns(child, table)
            records = replace(records, children={**records.children, name: child})
        for column in sender_columns(records.shape.root):
            gone = self._mask(records.root[column])
            if pc.any(gone).as_py():
                records = records.where(pc.invert(gone))
        records = replace(records, root=self._mask_columns(records.root, records.shape.root))
        rejected = tuple(r for r in records.rejected if not self.is_named_in(r.payload))
        return replace(records, rejected=rejected)

    def _mask_columns(self, rows: pa.Table, table: Table) -> pa.Table:
        """Names and numbers that stand in rows which are not the person's own.

        Of fields the contract does not know nobody can tell what they hold.
        """
        known = {column.name: column.personal_data for column in table.decoded_columns}
        for index, field_ in enumerate(rows.schema):
            kind = known.get(field_.name, "anything")
            values = rows.column(index)
            if field_.type != pa.string():
                continue
            if kind == "anything":
                masked = [t and (None if self.is_named_in(t) else t) for t in values.to_pylist()]
            elif kind == "name":
                masked = [n and self.mask(n) for n in values.to_pylist()]
            elif kind == "phone" and field_.name not in sender_columns(table):
                masked = [None if self.is_of(n) else n for n in values.to_pylist()]
            else:
                continue
            rows = rows.set_column(index, field_.name, pa.array(masked, pa.string()))
        return rows

    def _mask(self, numbers: pa.ChunkedArray) -> pa.ChunkedArray:
        """True where a number is a forgotten person's."""
        gone = [value for value in pc.unique(numbers).to_pylist() if self.is_of(value)]
        return pc.is_in(numbers, value_set=pa.array(gone, pa.string()))

    def _hash(self, form: str) -> str:
        return hmac.digest(self.salt, form.encode(errors="surrogatepass"), "sha256").hex()


def _rows_of(table: Table, records: Records) -> pa.Table:
    """The children that are of a table, whatever the API calls their list."""
    (field_,) = (n for n, child in records.shape.children.items() if child.name == table.name)
    return records.children[field_]


NOTHING = Forgotten()


def forgotten_from(state: Mapping[str, Any] | None) -> Forgotten:
    """From the pipeline's state."""
    if not state:
        return NOTHING
    return Forgotten(
        chats=frozenset(state["chats"]),
        people=frozenset(state["people"]),
        partly=frozenset(state["partly"]),
        salt=bytes.fromhex(state["salt"]),
    )


def sender_columns(table: Table) -> tuple[str, ...]:
    """Return the columns that tell whose row it is; none where rows are nobody's own."""
    return _SENDER.get(table.name, ())


_SENDER = {
    tables.CHAT_HANDLES.name: ("phone_number",),
    tables.CHAT_MESSAGES.name: ("sent_from",),
    tables.REACTIONS.name: ("from_phone",),
    tables.CONTACTS.name: ("phone_number", "email"),
}
