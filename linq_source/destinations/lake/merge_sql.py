"""SQL that settles one partition: which rows win, which are gone, what is written.

Statements for DuckDB over views that `partition_merge.py` makes:

    new_<table>       rows of the log that are not settled yet, with `_rank`: later is greater
    old_<table>       the rows of the partition as it is
    windows, rejects  ledger rows and rejected records of the loads that are not settled yet

The newest version of a key wins; a child row is current when its `synced_at` is its parent's; what
is gone is found by `destinations/deletion_rule.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from linq_source import tables
from linq_source.destinations.deletion_rule import (
    CHAT_COLUMNS,
    gone_chats,
    gone_messages,
    message_columns,
)
from linq_source.destinations.lake.columns import LogFiles
from linq_source.destinations.quoting import UNION, identifier, literal, parquet_files
from linq_source.tables import SYNCED_AT, TOMBSTONE, Table

RANK = "_rank"
_FILE, _ROW = "_file", "file_row_number"


def log_view(table: Table, files: Sequence[LogFiles], condition: str) -> str:
    """The view `new_<table>`: rows of log files, and no row of the empty table `empty_<table>`.

    The rank orders versions of a key by `synced_at`, then by file and place: any order does
    between equal versions, as long as one alone is first.
    """
    rank = (
        f"(epoch_us({SYNCED_AT})::HUGEINT * 18446744073709551616)"
        f" + ((hash({_FILE}) >> 32)::HUGEINT * 4294967296) + {_ROW}"
    )
    parts = [f"SELECT *, NULL::HUGEINT AS {RANK} FROM empty_{table.name}"]
    for group in files:
        read = parquet_files(group.paths, UNION, f"filename = {literal(_FILE)}", f"{_ROW} = true")
        left_out = ", ".join([_FILE, _ROW, *map(identifier, group.misfits)])
        parts.append(f"SELECT * EXCLUDE ({left_out}){group.select}, {rank} AS {RANK} FROM {read}")
    union = " UNION ALL BY NAME ".join(parts)
    return f"CREATE OR REPLACE VIEW new_{table.name} AS SELECT * FROM ({union}) WHERE {condition}"


def old_view(table: Table, file: str | None, condition: str) -> str:
    """The view `old_<table>`: the rows of a partition's file, or none."""
    sql = f"SELECT * FROM empty_{table.name}"
    if file is not None:
        sql += f" UNION ALL BY NAME SELECT * FROM {parquet_files([file])}"
    return f"CREATE OR REPLACE VIEW old_{table.name} AS SELECT * FROM ({sql}) WHERE {condition}"


def slices(root: Table, rows: int) -> str:
    """A query for the chats at which slices of about `rows` rows begin, ascending."""
    return f"""
        SELECT MIN(chat_id) FROM (
          SELECT chat_id, SUM(n) OVER (ORDER BY chat_id) // {rows} AS slice FROM (
            SELECT chat_id, COUNT(*) AS n FROM (
              SELECT chat_id FROM new_{root.name} UNION ALL SELECT chat_id FROM old_{root.name})
            GROUP BY chat_id))
        GROUP BY slice ORDER BY 1"""


def winners(root: Table) -> list[str]:
    """Statements that make `winners`: the keys that a new row takes, with its rank."""
    return [
        f"CREATE OR REPLACE TEMP TABLE winners AS SELECT {_id(root)} AS id, MAX({RANK}) AS {RANK},"
        f" MAX({SYNCED_AT}) AS {SYNCED_AT} FROM new_{root.name} GROUP BY ALL",
        # What was settled before stays, with its mark: a rerun changes nothing.
        f"DELETE FROM winners WHERE EXISTS (SELECT 1 FROM old_{root.name} AS o"
        f" WHERE {_id(root, 'o.')} = winners.id AND o.{SYNCED_AT} >= winners.{SYNCED_AT})",
    ]


def _settled(root: Table, names: Sequence[str] = ()) -> str:
    """The rows of a root table after settling, still without new marks; of all columns or some."""
    columns = ", ".join(names) or "*"
    of_new = columns if names else f"* EXCLUDE ({RANK})"
    return (
        f"SELECT {of_new} FROM new_{root.name} AS n"
        f" SEMI JOIN winners AS w ON {_id(root, 'n.')} = w.id AND n.{RANK} = w.{RANK}"
        f" UNION ALL BY NAME SELECT {columns} FROM old_{root.name} AS o"
        f" ANTI JOIN winners AS w ON {_id(root, 'o.')} = w.id"
    )


def _id(root: Table, prefix: str = "") -> str:
    """The key as one value."""
    if len(root.key) == 1:
        return f"{prefix}{root.key[0]}"
    return f"{{{', '.join(f'{literal(column)}: {prefix}{column}' for column in root.key)}}}"


def gone(root: Table) -> str:
    """A statement that makes `gone`: ids that are gone, and one of two instants."""
    if root.name == tables.CHAT_MESSAGES.name:
        messages = _settled(root, message_columns(root.partition_by))
        select = gone_messages("windows", f"({messages})", "rejects", root.partition_by)
    elif root.name == tables.CHATS.name:
        select = gone_chats("windows", f"({_settled(root, CHAT_COLUMNS)})")
    else:
        instant = "NULL::TIMESTAMPTZ"
        select = f"SELECT NULL AS id, {instant} AS deleted_at, {instant} AS expired_at WHERE false"
    return f"CREATE OR REPLACE TEMP TABLE gone AS {select}"


def root_rows(root: Table, *, any_gone: bool) -> str:
    """The rows of a root table as they are to be written."""
    rows = _settled(root)
    if any_gone:
        rows = (
            "SELECT s.* REPLACE (COALESCE(s.deleted_at, g.deleted_at) AS deleted_at,"
            " COALESCE(s.expired_at, g.expired_at) AS expired_at)"
            f" FROM ({rows}) AS s LEFT JOIN gone AS g ON g.id = s.id"
        )
    return f"SELECT * FROM ({rows}) ORDER BY {_order(root)}"


def child_rows(root: Table, child: Table) -> str:
    """The rows of a child table as they are to be written.

    What came with the version that won; where nothing came, not even a tombstone, what was there.
    """
    key = ", ".join(child.key)
    return (
        f"SELECT * FROM (SELECT * EXCLUDE ({RANK}, {TOMBSTONE}) FROM new_{child.name} AS n"
        f" SEMI JOIN winners AS w ON n.{child.merge_key} = w.id AND n.{SYNCED_AT} = w.{SYNCED_AT}"
        f" WHERE n.{TOMBSTONE} IS NOT TRUE"
        f" QUALIFY ROW_NUMBER() OVER (PARTITION BY {key} ORDER BY {RANK} DESC) = 1"
        f" UNION ALL BY NAME SELECT * EXCLUDE ({TOMBSTONE}) FROM old_{child.name} AS o"
        f" ANTI JOIN (SELECT w.id FROM winners AS w JOIN new_{child.name} AS n"
        f" ON n.{child.merge_key} = w.id AND n.{SYNCED_AT} = w.{SYNCED_AT}) AS w"
        f" ON o.{child.merge_key} = w.id) ORDER BY {_order(child)}"
    )


def _order(table: Table) -> str:
    """Neighbours in a chat lie together, so that readers skip what they do not ask for."""
    if table.name == tables.CHAT_MESSAGES.name:
        return f"chat_id, {table.partition_by}, id"
    columns = [column for column in ("chat_id",) if column in table.column_names]
    return ", ".join([*columns, *(name for name in table.key if name not in columns)])
