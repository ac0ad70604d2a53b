"""What the verbs ask of a destination. `kinds.destination_of` gives the object of a pipeline."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import dlt

from linq_source.destinations.dataset_tables import tables_of
from linq_source.destinations.dbt_profiles import Profile
from linq_source.destinations.deletion_rule import Marked
from linq_source.destinations.erasing import SEARCHED, Erasure
from linq_source.destinations.pipeline_facts import kind_of
from linq_source.destinations.reading import Reader
from linq_source.destinations.remote import Remote
from linq_source.errors import ConfigurationError
from linq_source.rows.hints import WriteStrategy
from linq_source.settings import Shard
from linq_source.tables import Table

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class RowsQuery:
    """Rows of a table loaded after an instant; the first column is the id, the last `synced_at`.

    Those of other shards, or of known packages, need not be among them.
    """

    table: Table
    columns: tuple[str, ...]
    since_us: int
    shard: Shard | None
    known: frozenset[int] = frozenset()


class Destination(ABC):
    """Where the rows of a pipeline go. One subclass per kind."""

    # What `forget` cannot reach.
    beyond_reach = "backups, snapshots and time travel of the destination are not touched"

    # How rows of a key replace each other, and the table format that loads are asked for.
    write_strategy: ClassVar[WriteStrategy] = "delete-insert"
    table_format: str | None = None
    # Whether a table that somebody dropped has to be made again.
    makes_tables: ClassVar[bool] = True
    # Whether the destination itself knows up to where it is settled.
    knows_settled: ClassVar[bool] = False
    # Attachments that `media` reads at once; where that is cheap, few.
    attachments_at_once: ClassVar[int] = 5_000
    # The dbt adapter in whose SQL views are made; None where there are none.
    views_dialect: ClassVar[str | None] = None

    def __init__(self, pipeline: dlt.Pipeline) -> None:
        self.pipeline = pipeline

    @property
    def tables(self) -> Mapping[str, Table]:
        """The tables as the dataset has them."""
        return tables_of(self.pipeline)

    @abstractmethod
    def reading(self, columns: Mapping[Table, Sequence[str]]) -> AbstractContextManager[Reader]:
        """Some columns of the current state, to be asked in SQL."""

    def searching(self) -> AbstractContextManager[Reader]:
        """What tells whose chats and messages there are, everything loaded included."""
        return self.reading(SEARCHED)

    @property
    def kind(self) -> str:
        """What dlt calls the kind, such as `duckdb`, whatever the destination is named."""
        return kind_of(self.pipeline.destination)

    @property
    def location(self) -> str:
        """Where it is, in words without secrets: a file, a bucket, a server."""
        return str(self.pipeline.destination_client().config)

    @property
    def file(self) -> Path | None:
        """The file without which there is nothing; None for most kinds."""
        return None

    def check_name(self) -> None:  # noqa: B027 - for the kinds that refuse some
        """Raise `ConfigurationError` for a dataset name that the destination cannot have."""

    def heal(self) -> None:  # noqa: B027
        """Make whole what a killed run left half made, before anything is written."""

    def check_exists(self, remote: Remote) -> None:  # noqa: B027
        """Raise `DestinationError` where the place to load to does not exist."""

    def check_files(self, remote: Remote, table_format: str | None) -> None:  # noqa: B027
        """Raise `ConfigurationError` where files could not be found again."""

    @abstractmethod
    def check_writable(self, table_format: str | None) -> None:
        """Write something of its own, and remove it; raises what a run would end with.

        The format is the one that a run is to be given. No table of a user's is touched, and
        nothing that was not there stays.
        """

    def loading(self) -> AbstractContextManager[None]:
        """Within it, `pipeline.load()` loads as suits the kind best; most need nothing but dlt."""
        return nullcontext()

    def dbt_profile(self, database: str) -> Profile:
        """How dbt reads and writes there; what lies in files is modelled in a DuckDB file.

        Raises `ConfigurationError` where there are no messages, or dbt cannot be told how.
        """
        raise ConfigurationError(
            f"--destination {self.kind}: there is no profile for it; transform knows duckdb, "
            "bigquery, postgres and parquet, and the package runs under any dbt profile of your own"
        )

    @abstractmethod
    def apply_ledger(
        self, remote: Remote, ledger_retention_days: int, shard: Shard | None = None
    ) -> Marked:
        """Mark what the ledger proves gone; gives how many messages are newly marked."""

    def has_ledger(self, remote: Remote) -> bool:
        """Return whether the ledger is where `rows_since` looks for it."""
        return True

    @abstractmethod
    def rows_since(self, remote: Remote, queries: Sequence[RowsQuery]) -> list[Rows]:
        """Return the rows of each query, and maybe others of its table."""

    def merge_log(self) -> None:  # noqa: B027 - most kinds merge while they load
        """Bring the current state up to what was loaded, where loading does not do that."""

    def check_erasable(self, tables: Sequence[Table]) -> None:  # noqa: B027 - most kinds can
        """Raise `ConfigurationError` where something would keep rows of the tables."""

    @abstractmethod
    def erase(self, erasure: Erasure) -> dict[str, int]:
        """Erase rows and every copy of them; gives how many of the current state, by table.

        Killed at any moment, it is completed by the same call.
        """
