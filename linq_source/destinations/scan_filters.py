"""What a scan of an open table is narrowed by, in the words of neither format."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from linq_source.settings import Id, id_order

# More values than this no longer narrow a scan; they only make it slow to plan.
MOST_VALUES = 1_000

Operator = Literal["<", ">", ">=", "in", "is null"]


@dataclass(frozen=True)
class Condition:
    """One comparison of a column. `value` is unused for `is null`."""

    column: str
    operator: Operator
    value: int | str | datetime | tuple[Id, ...] | None = None


def one_of(column: str, values: set[Id]) -> tuple[Condition, ...]:
    """The column has one of the values; nothing where there are too many to say so."""
    if not values or len(values) > MOST_VALUES:
        return ()
    return (Condition(column, "in", tuple(sorted(values, key=id_order))),)
