"""`forget`: a person or a chat erased from the destination, and kept from coming back.

The order makes it safe to be killed and run again: first what could not be erased is refused; then
the state learns what is forgotten, so that no run brings it back; then rows are erased; then the
copies that a load leaves behind.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dlt

from linq_source.destinations.dataset_pipelines import pipelines_of
from linq_source.destinations.dataset_tables import check_chat_ids
from linq_source.destinations.erasing import (
    Erasure,
    chats_of,
    chats_with,
    check_own_numbers,
    erased_tables,
    messages_of,
)
from linq_source.destinations.failures import plain_errors
from linq_source.destinations.kinds import destination_of
from linq_source.destinations.remote import connected
from linq_source.errors import ConfigurationError
from linq_source.operations.exclusive import exclusive
from linq_source.operations.loading import changed_state, load_pending
from linq_source.operations.packages import heal_packages
from linq_source.operations.state_sync import finish_and_agree
from linq_source.privacy.forgotten import Forgotten, forgotten_from
from linq_source.privacy.hashing import PLAIN, Privacy
from linq_source.settings import Id
from linq_source.state_keys import FORGOTTEN, PRIVACY, SECTION, cursors_of, source_state
from linq_source.tables import ALL_TABLES


@dataclass(frozen=True)
class ForgetReport:
    """What was erased: rows by table, chats whole and in part. `notes` say what is left to do."""

    erased: dict[str, int]
    chats: tuple[Id, ...]
    partly: tuple[Id, ...]
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
    chat_ids: Sequence[Id] = (),
    privacy_key: str | None = None,
) -> ForgetReport:
    """Erase people and chats from the pipeline's destination, and never load them again.

    Of a person goes: every chat of two with that person, whole; in groups the person's messages
    with their children, the reactions, the membership; the contact; records rejected that name the
    number; the number wherever else a column holds it. What others wrote in groups stays. Where
    numbers were hashed, `privacy_key` must be the key they were hashed with.

    Raises:
        ConfigurationError: Nothing to forget was named, or it cannot be found in this dataset.
        DestinationError: The destination cannot be opened, read or written.
    """
    if not phone_numbers and not chat_ids:
        raise ConfigurationError("nothing to forget: name a phone number or a chat id")
    notes: list[str] = []
    with exclusive(pipeline), plain_errors(pipeline):
        if pipeline.destination is None:
            raise ConfigurationError("the pipeline has no destination")
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
        source = source_state(pipeline.state)
        names = _names_in_tables(phone_numbers, source.get(PRIVACY), privacy_key)
        known = _known(source)
        asked = Forgotten(salt=known.salt).with_people(names)
        destination = destination_of(pipeline)
        stored = destination.tables
        chat_ids = check_chat_ids(stored, chat_ids)
        destination.check_erasable(erased_tables(stored))
        with destination.searching() as reader:
            check_own_numbers(reader, asked)
            chats = sorted({*chat_ids, *chats_of(reader, asked)})
            partly = sorted(chats_with(reader, asked) - set(chats))
        forgotten = known.with_people(names).with_chats(chats, partly)
        with pipeline.managed_state(extract_state=True) as state:
            own = state.setdefault("sources", {}).setdefault(SECTION, {})
            _remember(own, forgotten, chats)
        load_pending(pipeline)
        for name in others:
            with changed_state(pipeline, name) as other:
                _remember(other, _known(other).with_people(names).with_chats(chats, partly), chats)
        with destination.searching() as reader:
            messages = sorted(messages_of(reader, forgotten))
        # All that was ever forgotten: an earlier call may have been killed in the middle.
        erased = destination.erase(Erasure(stored, sorted(forgotten.chats), forgotten, messages))
        _remove_load_files(pipeline)
        notes += filter(None, [destination.beyond_reach])
    return ForgetReport(
        {name: erased[name] for name in ALL_TABLES if erased.get(name)},
        tuple(chats),
        tuple(partly),
        tuple(notes),
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


def _known(source: Mapping[str, Any]) -> Forgotten:
    """Who is forgotten already, with the salt for more."""
    known = forgotten_from(source.get(FORGOTTEN))
    return known if known.salt else Forgotten(salt=secrets.token_bytes(32))


def _remember(source: dict[str, Any], forgotten: Forgotten, chats: Iterable[Id]) -> None:
    """Write to a pipeline's state what must not come back, and forget the chats' cursors."""
    source[FORGOTTEN] = forgotten.to_state()
    for chat_id in chats:
        cursors_of(source).pop(str(chat_id), None)


def _remove_load_files(pipeline: dlt.Pipeline) -> None:
    """Remove the files of packages that were loaded: they hold rows."""
    loaded = Path(pipeline.working_dir) / "load" / "loaded"
    if loaded.is_dir():
        for package in loaded.iterdir():
            shutil.rmtree(package)
