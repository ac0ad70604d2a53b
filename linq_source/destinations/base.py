"""What the verbs ask of a destination. `kinds.destination_of` gives the object of a pipeline."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar

import dlt

from linq_source.destinations.erasing import SEARCHED, Erasure
from linq_source.destinations.reading import Reader
from linq_source.rows.hints import Merging
from linq_source.tables import Table


class Destination(ABC):
    """Where the rows of a pipeline go. One subclass per kind."""

    # What `forget` cannot reach.
    beyond_reach = "backups, snapshots and time travel of the destination are not touched"

    # How rows of a key replace each other, and the table format that loads are asked for.
    merging: ClassVar[Merging] = "by parent"
    table_format: str | None = None
    # Attachments that `media` reads at once; where that is cheap, few.
    attachments_at_once: ClassVar[int] = 5_000

    def __init__(self, pipeline: dlt.Pipeline) -> None:
        self.pipeline = pipeline

    @abstractmethod
    def reading(self, columns: Mapping[Table, Sequence[str]]) -> AbstractContextManager[Reader]:
        """Some columns of the current state, to be asked in SQL."""

    def searching(self) -> AbstractContextManager[Reader]:
        """What tells whose chats and messages there are, everything loaded included."""
        return self.reading(SEARCHED)

    def merge_log(self) -> None:  # noqa: B027 - most kinds merge while they load
        """Bring the current state up to what was loaded, where loading does not do that."""

    @abstractmethod
    def erase(self, erasure: Erasure) -> dict[str, int]:
        """Erase rows and every copy of them; gives how many of the current state, by table.

        Killed at any moment, it is completed by the same call.
        """
