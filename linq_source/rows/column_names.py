"""Names of the columns for fields that the contract does not know: one rule for all destinations.

A field's column has the name that dlt would give it, unless a database or reader keeps that name
for itself, or it says nothing of the field. Names are short enough for every destination with
room for `__v_<type>` behind them, and begin with `api_` where the plain name is taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from linq_source.tables import Table

# Postgres cuts names at 63 bytes; a column of another type adds `__v_` and the type.
LONGEST_NAME = 63
_LONGEST_ENDING = len("__v_timestamp")
_DIGEST_CHARACTERS = 8

_RESERVED = frozenset(
    # Columns that Postgres and Redshift, and DuckDB, give every table; that readers of Parquet
    # files add; and that name the lake's partitions.
    "ctid xmin xmax cmin cmax oid tableoid deletexid insertxid rowid"
    " filename file_row_number file_index sent_month sent_day".split()
)
# Names of the statements that merge into BigQuery.
_RESERVED_PREFIX = "linq_"


def column_name(
    field: str, table: Table, normalize: Callable[[str], str], longest: int = LONGEST_NAME
) -> str:
    """Return the column for a field, as long as no other field has it.

    `normalize` makes an identifier of a text, of any length; it raises `ValueError` for an empty
    one.
    """
    name = identifier(field, normalize) or f"api_{_code_points(field)}"
    if name in table.column_names or _is_reserved(name):
        name = f"api_{name.lstrip('_')}"
    room = longest - _LONGEST_ENDING
    return name if len(name) <= room else _with_digest(name, field, room)


def other_name(field: str, name: str, longest: int = LONGEST_NAME) -> str:
    """Return the column for a field whose `column_name` another field has."""
    return _with_digest(name, field, longest - _LONGEST_ENDING)


def identifier(field: str, normalize: Callable[[str], str]) -> str | None:
    """Return the normalized field; None where normalizing keeps none of its characters."""
    try:
        name = normalize(field)
    except ValueError:
        return None
    is_kept = any(c.isalnum() and (c.isascii() or c in name) for c in field)
    return name if is_kept else None


def _code_points(text: str) -> str:
    return "_".join(f"u{ord(character):x}" for character in text) or "empty"


def _is_reserved(name: str) -> bool:
    """Return whether a name is a database's, a reader's, dlt's or a statement's own.

    BigQuery, dlt and the lake begin theirs with an underscore; dlt also puts one before a digit.
    """
    lower = name.lower()
    is_technical = lower.startswith("_") and not lower[1:2].isdigit()
    return is_technical or lower in _RESERVED or lower.startswith(_RESERVED_PREFIX)


def _with_digest(name: str, field: str, room: int) -> str:
    digest = hashlib.sha256(field.encode("utf-8", "surrogatepass")).hexdigest()
    ending = f"_x{digest[:_DIGEST_CHARACTERS]}"
    return name[: room - len(ending)].rstrip("_") + ending
