"""GoogleSQL's opinion of what a double is given, where the package `zetasql` is installed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tests.bigquery.catalog import invalid_query

if TYPE_CHECKING:
    from tests.bigquery.analyzing import Analysis

# How many statements this process's doubles ran, and GoogleSQL analyzed.
COUNTS: Counter[str] = Counter(ran=0, analyzed=0)


@cache
def front_end() -> Analysis | None:
    """GoogleSQL, one for the process; none without its package."""
    if find_spec("zetasql") is None:
        return None
    from tests.bigquery.analyzing import Analysis

    return Analysis()


class Opinions:
    """What GoogleSQL says of one double's scripts and statements."""

    def __init__(self) -> None:
        self.refusals: list[str] = []

    @contextmanager
    def heard(self, ask: Callable[[Analysis], str | None]) -> Iterator[None]:
        """Refuse what GoogleSQL refuses, unless the double's own rules refused it first."""
        google = front_end()
        refusal = None if google is None else ask(google)
        if refusal is not None:
            self.refusals.append(refusal)
        yield
        if refusal is not None:
            raise invalid_query(f"GoogleSQL: {refusal}")

    @contextmanager
    def heard_of_statement(self, ask: Callable[[Analysis], str | None]) -> Iterator[None]:
        """The same of a single statement, which is counted."""
        with self.heard(ask):
            yield
        COUNTS["ran"] += 1
        COUNTS["analyzed"] += front_end() is not None


def summary(counts: Mapping[str, int]) -> str:
    """A line for the end of a test run."""
    if counts["analyzed"] < counts["ran"]:
        return "BigQuery: zetasql, which is GoogleSQL, is not installed: no statement was analyzed"
    return f"BigQuery: {counts['analyzed']:,} statements were analyzed by GoogleSQL"
