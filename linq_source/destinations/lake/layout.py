"""Where things are in a lake, as paths below `<bucket>/<dataset>`, and how rows are partitioned.

chat_messages/<load>.<file>.parquet                     the log, written by dlt
_dlt_loads/<schema>__<load>.jsonl                       which loads are complete
current/chat_messages/sent_month=2026-11/part-0.parquet the current state
current/chats/part-0.parquet                            tables that no instant divides
current/_settled.json                                   which loads the current state has
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from linq_source import tables
from linq_source.errors import ConfigurationError
from linq_source.instants import DAY_US, from_us, to_us
from linq_source.tables import Table

CURRENT = "current"
FILE = "part-0.parquet"
MARKER = f"{CURRENT}/_settled.json"
LOCK = f"{CURRENT}/_lock.json"
LOADS = "_dlt_loads"

SETTLED_TABLES = tuple(table for table in tables.ALL_TABLES.values() if not table.is_appended)


def families_of(stored: Mapping[str, Table]) -> list[tuple[Table, list[Table]]]:
    """The tables of a dataset that are settled, each that is no child with its children.

    A child row lies where its parent does, so that one message is settled in one partition.
    """
    return [
        (root, [table for table in stored.values() if table.parent == root.name])
        for root in stored.values()
        if not root.is_appended and not root.is_child
    ]


@dataclass(frozen=True)
class Partitioning:
    """How messages are divided by the UTC month or day of their `partition_by`."""

    name: str
    column: str
    format: str

    @property
    def first_key(self) -> str:
        """Where a table lies that has no rows."""
        return datetime(1970, 1, 1, tzinfo=UTC).strftime(self.format)

    def key_sql(self, instant: str) -> str:
        """SQL for the partition's key of an instant."""
        return f"strftime({instant} AT TIME ZONE 'UTC', '{self.format}')"

    def bounds(self, key: str) -> tuple[datetime, datetime]:
        """First instant of a partition, and the first after it."""
        start = datetime.strptime(key, self.format).replace(tzinfo=UTC)
        days = 1 if self.name == "day" else monthrange(start.year, start.month)[1]
        return start, from_us(to_us(start) + days * DAY_US)


MONTH = Partitioning("month", "sent_month", "%Y-%m")
DAY = Partitioning("day", "sent_day", "%Y-%m-%d")
PARTITIONINGS = {each.name: each for each in (MONTH, DAY)}


def partitioning_of(name: str) -> Partitioning:
    """The partitioning of a name. Raises `ConfigurationError`."""
    if name not in PARTITIONINGS:
        raise ConfigurationError(f"lake_partition is {name!r}: use month or day")
    return PARTITIONINGS[name]


def is_partitioned(table: Table) -> bool:
    """Whether a table's rows are divided by instants: messages, and what belongs to them."""
    return tables.CHAT_MESSAGES.name in (table.name, table.parent)


def current_file(table: Table, partitioning: Partitioning, key: str | None) -> str:
    """The file of one partition; without a key, that of a table that is not divided."""
    if key is None:
        return f"{CURRENT}/{table.name}/{FILE}"
    return f"{CURRENT}/{table.name}/{partitioning.column}={key}/{FILE}"


@dataclass(frozen=True)
class CurrentFile:
    """One file of the current state."""

    table: Table
    key: str | None


def parse_current(path: str, partitioning: Partitioning) -> CurrentFile | None:
    """What a path in `current/` is; none for one that does not belong there."""
    parts = path.split("/")
    found = [table for table in SETTLED_TABLES if table.name == parts[1]]
    if not found or parts[-1] != FILE:
        return None
    (table,) = found
    if not is_partitioned(table):
        return CurrentFile(table, None) if len(parts) == 3 else None
    if len(parts) != 4 or not parts[2].startswith(f"{partitioning.column}="):
        return None
    key = parts[2].partition("=")[2]
    try:
        partitioning.bounds(key)
    except (ValueError, OverflowError):
        return None
    return CurrentFile(table, key)


_LOAD_FILE = re.compile(r"(?:.*__)?(?P<load>[0-9.]+)\.jsonl")


def parse_load(path: str) -> str | None:
    """The id of the load that a file in `_dlt_loads` says is complete."""
    match = _LOAD_FILE.fullmatch(path.rpartition("/")[2])
    return match["load"] if match else None
