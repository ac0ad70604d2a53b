"""`forget`: a person or a chat erased from a SQL destination, and kept from coming back.

The order makes it safe to be killed and run again: first the state learns what is forgotten, so
that no run brings it back; then rows are erased; then the copies that a load leaves behind.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dlt
from dlt.common.destination.exceptions import DestinationUndefinedEntity

from linq_source import tables
from linq_source.destinations.failures import plain_errors
from linq_source.destinations.quoting import literal
from linq_source.destinations.remote import connected, restore
from linq_source.destinations.scratch import ScratchFolder
from linq_source.destinations.table_formats import is_duckdb
from linq_source.errors import ConfigurationError, DestinationError
from linq_source.operations.exclusive import exclusive
from linq_source.operations.inherit import pipelines_of
from linq_source.operations.packages import heal_packages
from linq_source.operations.sync import finish_and_agree, load_pending
from linq_source.privacy.forgotten import Forgotten, forgotten_from, sender_column
from linq_source.privacy.treatment import PLAIN, Privacy
from linq_source.state import FORGOTTEN, PRIVACY, SECTION, source_state
from linq_source.tables import TABLES, Table

_BATCH = 500
_OF_A_CHAT = {
    tables.CHATS.name: "id",
    tables.CHAT_HANDLES.name: "chat_id",
    tables.CHAT_MESSAGES.name: "chat_id",
    tables.ATTACHMENTS.name: "chat_id",
    tables.REACTIONS.name: "chat_id",
    tables.REJECTED_RECORDS.name: "chat_id",
    tables.SYNC_WINDOWS.name: "chat_id",
}
_OF_A_MESSAGE = (tables.ATTACHMENTS, tables.REACTIONS)


@dataclass(frozen=True)
class ForgetReport:
    """What was erased: rows by table, chats whole and in part. `notes` say what is left to do."""

    erased: dict[str, int]
    chats: tuple[int, ...]
    partly: tuple[int, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The outcome as plain values for JSON."""
        return {
            "erased": self.erased,
            "chats": list(self.chats),
            "chats_in_part": list(self.partly),
            "notes": list(self.notes),
        }


def forget(
    pipeline: dlt.Pipeline,
    *,
    phone_numbers: Sequence[str] = (),
    chat_ids: Sequence[int] = (),
    privacy_key: str | None = None,
) -> ForgetReport:
    """Erase people and chats from the pipeline's destination, and never load them again.

    Of a person goes: every chat of two with that person, whole; in groups the person's messages
    with their children, the reactions, the membership; records rejected that name the number; the
    number wherever else a column holds it. What others wrote in groups stays. Where numbers were
    hashed, `privacy_key` must be the key they were hashed with.

    Raises:
        ConfigurationError: Nothing to forget was named, or it cannot be found in this dataset.
        DestinationError: The destination cannot be opened, read or written.
    """
    if not phone_numbers and not chat_ids:
        raise ConfigurationError("nothing to forget: name a phone number or a chat id")
    notes: list[str] = []
    with exclusive(pipeline), plain_errors(pipeline):
        _check_destination(pipeline)
        heal_packages(pipeline)
        with connected(pipeline) as remote:
            finish_and_agree(pipeline, remote, notes)
            holds_something = remote.state() is not None
            others = [n for n in pipelines_of(remote) if n != pipeline.pipeline_name]
        if not holds_something:
            raise ConfigurationError(
                f"the destination holds nothing of the pipeline {pipeline.pipeline_name}: check "
                "--database, --dataset and --pipeline-name"
            )
        state = source_state(pipeline.state)
        names = _names_in_tables(phone_numbers, state.get(PRIVACY), privacy_key)
        known = forgotten_from(state.get(FORGOTTEN))
        known = known if known.salt else Forgotten(salt=secrets.token_bytes(32))
        asked = Forgotten(salt=known.salt).with_people(names)
        with pipeline.sql_client() as client:
            store = _Store(client, pipeline)
            store.refuse_own_numbers(asked)
            chats = sorted({*chat_ids, *store.chats_of(asked)})
            partly = sorted(set(store.chats_with(asked)) - set(chats))
        _remember(pipeline, known.with_people(names).with_chats(chats, partly), chats)
        load_pending(pipeline)
        for other in others:
            _tell(pipeline, other, names, chats, partly)
        pipeline.activate()
        with pipeline.sql_client() as client:
            store = _Store(client, pipeline)
            erased = store.erase_chats(chats)
            for name, count in store.erase_people(asked).items():
                erased[name] = erased.get(name, 0) + count
            store.empty_staging()
        _remove_load_files(pipeline)
        notes += _rewrite_file(pipeline)
    return ForgetReport(
        {name: erased[name] for name in TABLES if erased.get(name)},
        tuple(chats),
        tuple(partly),
        tuple(notes),
    )


def _check_destination(pipeline: dlt.Pipeline) -> None:
    destination = pipeline.destination
    if destination is None:
        raise ConfigurationError("the pipeline has no destination")
    if "filesystem" in destination.destination_type:
        raise ConfigurationError(
            f"{destination.destination_name}: rows in files cannot be erased by forget yet; "
            "erase them with the tools of the bucket"
        )


def _names_in_tables(
    phone_numbers: Sequence[str], fingerprint: str | None, privacy_key: str | None
) -> list[str]:
    """The numbers as the tables have them: plain, or hashed with the key of the dataset."""
    fingerprint = fingerprint or PLAIN.fingerprint
    if not phone_numbers or "phones=plain" in fingerprint:
        return list(phone_numbers)
    if "phones=drop" in fingerprint:
        raise ConfigurationError(
            "this dataset was loaded with phones=drop: nothing in it can be found by a number; "
            "forget the chats by --chat-id"
        )
    treatment = fingerprint.split("text=")[1].split(":")[0]
    key = (privacy_key or "").encode()
    privacy = Privacy("hash", treatment, key)  # type: ignore[arg-type]
    if not key or privacy.fingerprint != fingerprint:
        raise ConfigurationError(
            "the numbers of this dataset are hashed, and privacy_key is not the key they were "
            "hashed with: set SOURCES__LINQ__PRIVACY_KEY to it"
        )
    return [privacy.hash_phone(number) for number in phone_numbers]


def _remember(pipeline: dlt.Pipeline, forgotten: Forgotten, chats: Iterable[int]) -> None:
    """Write to the state what must not come back, and forget the chats' cursors."""
    with pipeline.managed_state(extract_state=True) as state:
        source: dict[str, Any] = state.setdefault("sources", {}).setdefault(SECTION, {})
        source[FORGOTTEN] = forgotten.to_state()
        cursors = source.get("resources", {}).get("chat_messages", {}).get("cursors", {})
        for chat_id in chats:
            cursors.pop(str(chat_id), None)


def _tell(
    pipeline: dlt.Pipeline,
    other_name: str,
    names: Sequence[str],
    chats: Sequence[int],
    partly: Sequence[int],
) -> None:
    """Let another pipeline of the dataset, a shard say, know what must not come back.

    Its own worker finds the newer state in the destination when it runs next.
    """
    with ScratchFolder() as folder:
        other = dlt.pipeline(
            other_name,
            destination=pipeline.destination,
            dataset_name=pipeline.dataset_name,
            pipelines_dir=folder,
        )
        restore(other)
        state = other.state.get("sources", {}).get(SECTION)
        if state is None:
            return
        known = forgotten_from(state.get(FORGOTTEN))
        known = known if known.salt else Forgotten(salt=secrets.token_bytes(32))
        _remember(other, known.with_people(names).with_chats(chats, partly), chats)
        load_pending(other)


class _Store:
    """The tables of a destination, as far as forgetting needs them."""

    def __init__(self, client: Any, pipeline: dlt.Pipeline) -> None:
        self._client = client
        self._pipeline = pipeline
        schema: Mapping[str, Any] = (
            pipeline.default_schema.tables if pipeline.default_schema_name else {}
        )
        self._columns: dict[str, dict[str, str]] = {
            name: {
                column: str(hints.get("data_type"))
                for column, hints in table["columns"].items()
                if "data_type" in hints
            }
            for name, table in schema.items()
            if name in TABLES and table.get("x-normalizer")
        }

    def refuse_own_numbers(self, asked: Forgotten) -> None:
        """The organisation's own numbers are what is read; they are nobody to forget."""
        table, column = tables.PHONE_NUMBERS, "phone_number"
        if self._values(table, column, asked.is_of):
            raise ConfigurationError(
                "a number to forget is one of the organisation's own: its messages are the "
                "organisation's; forget chats by --chat-id instead"
            )

    def chats_of(self, asked: Forgotten) -> list[int]:
        """The chats of two with one of the people."""
        return self._chats_where(asked, "c.is_group = FALSE")

    def chats_with(self, asked: Forgotten) -> list[int]:
        """Every chat that one of the people is in or wrote in."""
        numbers = self._values(tables.CHAT_MESSAGES, "sent_from", asked.is_of)
        wrote = self._rows(tables.CHAT_MESSAGES, "DISTINCT chat_id", "sent_from", numbers)
        return [*self._chats_where(asked, "c.is_group IS NOT NULL"), *wrote]

    def _chats_where(self, asked: Forgotten, condition: str) -> list[int]:
        numbers = self._values(tables.CHAT_HANDLES, "phone_number", asked.is_of)
        ids = self._rows(tables.CHAT_HANDLES, "DISTINCT chat_id", "phone_number", numbers)
        if not ids:
            return []
        sql = f"SELECT c.id FROM {self._name(tables.CHATS)} AS c WHERE {condition} AND c.id IN "
        return [row[0] for batch in self._batches(ids) for row in self._run(sql, batch)]

    def erase_chats(self, chat_ids: Sequence[int]) -> dict[str, int]:
        """Erase chats with all that belongs to them; gives the rows by table."""
        return {
            name: self._erase(TABLES[name], column, chat_ids)
            for name, column in _OF_A_CHAT.items()
            if name in self._columns
        }

    def erase_people(self, asked: Forgotten) -> dict[str, int]:
        """Erase people's rows, and their numbers in rows that are not theirs."""
        erased: dict[str, int] = {}
        if not asked.people or not self._columns:
            return erased
        numbers = self._values(tables.CHAT_MESSAGES, "sent_from", asked.is_of)
        messages = self._rows(tables.CHAT_MESSAGES, "id", "sent_from", numbers)
        for table in _OF_A_MESSAGE:
            erased[table.name] = self._erase(table, "chat_message_id", messages)
        for name in self._columns:
            table = TABLES[name]
            if (column := sender_column(table)) is not None:
                count = self._erase(table, column, self._values(table, column, asked.is_of))
                erased[name] = erased.get(name, 0) + count
        payloads = self._values(tables.REJECTED_RECORDS, "payload", asked.is_named_in)
        erased[tables.REJECTED_RECORDS.name] = self._erase(
            tables.REJECTED_RECORDS, "payload", payloads
        )
        for table, column, treat in self._other_columns(asked):
            for value in self._values(table, column, asked.is_named_in):
                treated = treat(value)
                # A parameter cannot be null everywhere: it would have no type.
                place, values = ("NULL", [value]) if treated is None else ("%s", [treated, value])
                self._client.execute_sql(
                    f"UPDATE {self._name(table)} SET {self._quoted(column)} = {place}"
                    f" WHERE {self._quoted(column)} = %s",
                    *values,
                )
        return erased

    def _other_columns(
        self, asked: Forgotten
    ) -> Iterator[tuple[Table, str, Callable[[str], str | None]]]:
        """Columns that may name somebody in another's row: names, numbers, unknown fields."""
        for name, types in self._columns.items():
            table = TABLES[name]
            contents = {column.name: column.personal_data for column in table.columns}
            for column, type_ in types.items():
                if column not in contents and type_ == "text" and not column.startswith("_dlt"):
                    yield table, column, lambda _: None
                elif contents.get(column) == "name":
                    yield table, column, asked.mask
                elif contents.get(column) == "phone" and column != sender_column(table):
                    yield table, column, lambda _: None

    def empty_staging(self) -> None:
        """Empty the staging dataset: it holds copies of what was loaded last."""
        with self._client.with_staging_dataset():
            for name in self._columns:
                try:
                    self._client.execute_sql(
                        f"DELETE FROM {self._client.make_qualified_table_name(name)} WHERE 1 = 1"
                    )
                except DestinationUndefinedEntity:
                    continue

    def _values(self, table: Table, column: str, wanted: Callable[[str], bool]) -> list[str]:
        """The distinct values of a text column that are wanted."""
        if column not in self._columns.get(table.name, {}):
            return []
        sql = (
            f"SELECT DISTINCT {self._quoted(column)} FROM {self._name(table)}"
            f" WHERE {self._quoted(column)} IS NOT NULL"
        )
        return [value for (value,) in self._client.execute_sql(sql) if wanted(str(value))]

    def _rows(self, table: Table, what: str, column: str, values: Sequence[Any]) -> list[Any]:
        sql = f"SELECT {what} FROM {self._name(table)} WHERE {column} IN "
        return [row[0] for batch in self._batches(values) for row in self._run(sql, batch)]

    def _erase(self, table: Table, column: str, values: Sequence[Any]) -> int:
        """Delete the rows in which a column has one of the values; gives how many there were."""
        if table.name not in self._columns:
            return 0
        count = 0
        name = self._name(table)
        for batch in self._batches(values):
            count += self._run(f"SELECT COUNT(*) FROM {name} WHERE {column} IN ", batch)[0][0]
            self._run(f"DELETE FROM {name} WHERE {column} IN ", batch)
        return count

    def _run(self, sql: str, values: Sequence[Any]) -> list[Any]:
        places = ", ".join(["%s"] * len(values))
        return list(self._client.execute_sql(f"{sql} ({places})", *values) or ())

    def _batches(self, values: Sequence[Any]) -> Iterator[Sequence[Any]]:
        for start in range(0, len(values), _BATCH):
            yield values[start : start + _BATCH]

    def _name(self, table: Table) -> str:
        return str(self._client.make_qualified_table_name(table.name))

    def _quoted(self, column: str) -> str:
        return str(self._client.escape_column_name(column))


def _remove_load_files(pipeline: dlt.Pipeline) -> None:
    """Remove the files of packages that were loaded: they hold rows."""
    loaded = Path(pipeline.working_dir) / "load" / "loaded"
    if loaded.is_dir():
        for package in loaded.iterdir():
            shutil.rmtree(package)


def _rewrite_file(pipeline: dlt.Pipeline) -> list[str]:
    """Write a DuckDB file anew: blocks that DELETE frees keep their bytes until overwritten."""
    if not is_duckdb(pipeline):
        return ["backups, snapshots and time travel of the destination are not touched"]
    import duckdb

    with pipeline.destination_client() as destination_client:
        credentials: Any = destination_client.config.credentials
    path = Path(credentials._conn_str())
    fresh = path.with_name(path.name + ".forgetting")
    fresh.unlink(missing_ok=True)
    try:
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH {literal(str(path))} AS old")
            connection.execute(f"ATTACH {literal(str(fresh))} AS fresh")
            connection.execute("CHECKPOINT old")
            connection.execute("COPY FROM DATABASE old TO fresh")
            connection.execute("DETACH fresh")
            connection.execute("DETACH old")
        if path.with_name(path.name + ".wal").exists():
            raise OSError("another program is writing")
        os.replace(fresh, path)
    except (duckdb.Error, OSError) as error:
        fresh.unlink(missing_ok=True)
        raise DestinationError(
            f"{path}: the rows are deleted, but the file could not be written anew to free their "
            f"blocks ({type(error).__name__}); make room or close other programs, then run again"
        ) from error
    return []
