"""Texts for destinations that cannot store U+0000: written another way, and back.

Postgres and those descended from it keep no U+0000 in a text. Leaving it out would make two texts
one, so it is written as U+2400, the symbol that shows it; where a text has that symbol, or the
escape character U+241B, itself, it stands behind a U+241B. All other texts stay as they are.
"""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

_NUL, _SHOWN, _ESCAPE = "\0", "\u2400", "\u241b"
_SUBSTITUTES = (
    (_ESCAPE, _ESCAPE + _ESCAPE),
    (_SHOWN, _ESCAPE + _SHOWN),
    (_NUL, _SHOWN),
)
_WRITTEN = re.compile(f"{_ESCAPE}(.)|{_SHOWN}", re.DOTALL)

# Dialects, as sqlglot names them, of databases whose texts end at U+0000 or refuse it.
WITHOUT_NUL = frozenset({"postgres", "redshift"})


def without_nul(rows: pa.Table) -> pa.Table:
    """The rows with U+0000 written as U+2400 in every text; no two texts become one."""
    for index, field in enumerate(rows.schema):
        if not pa.types.is_string(field.type):
            continue
        column = rows.column(index)
        for text, substitute in _SUBSTITUTES:
            column = pc.replace_substring(column, pattern=text, replacement=substitute)
        rows = rows.set_column(index, field, column)
    return rows


def with_nul(text: str) -> str:
    """A text as it was before `without_nul`."""
    return _WRITTEN.sub(lambda match: match[1] or _NUL, text)
