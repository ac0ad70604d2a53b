"""GoogleSQL's opinion of what a double is given, where the package `zetasql` is installed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tests.bigquery.catalog import Catalog, invalid_query
from tests.bigquery.translation import Constant

if TYPE_CHECKING:
    from tests.bigquery.evaluating import Evaluation

Rows = list[tuple[Any, ...]]
# Statements that this process's doubles ran, those of them that GoogleSQL analyzed, and those whose
# result was compared with what its evaluator gives.
COUNTS: Counter[str] = Counter(ran=0, analyzed=0, compared=0)


@dataclass(frozen=True)
class Names:
    """What a statement may name: tables, and a script's temporary tables, parameters, variables."""

    catalog: Catalog
    default_dataset: str | None
    temporary: Mapping[str, Mapping[str, str]]
    constants: Mapping[str, Constant]


@cache
def front_end() -> Evaluation | None:
    """GoogleSQL, one for the process; none without its package."""
    if find_spec("zetasql") is None:
        return None
    from tests.bigquery.evaluating import Evaluation

    return Evaluation()


class Opinions:
    """What GoogleSQL says of one double's scripts and statements.

    It refuses what the double's own rules did not refuse first, in their own words.
    """

    def __init__(self) -> None:
        self.refusals: list[str] = []

    @contextmanager
    def of_script(self, script: str) -> Iterator[None]:
        """Have a script parsed that is run within."""
        google = front_end()
        with self._heard(None if google is None else google.parse(script)):
            yield

    @contextmanager
    def of_statement(
        self, statement: str, names: Names, cursor: Any, result: Callable[[], Rows] | None = None
    ) -> Iterator[None]:
        """Have a statement analyzed that is run within, and what it gives or changes compared.

        `cursor` reads the tables, `result` the rows that a query gave; none: not to compare.
        """
        google = front_end()
        if google is None:
            yield
            COUNTS["ran"] += 1
            return
        expected = None
        refusal = google.analyze(statement, names)
        if refusal is None and result is not None:
            expected = google.expected(statement, names, cursor)
            refusal = None if expected is None else expected.refusal
        with self._heard(refusal):
            yield
        COUNTS.update(ran=1, analyzed=1)
        if expected is not None and result is not None:
            found = result()
            if expected.table:
                found = cursor.execute(f"SELECT * FROM {expected.table}").fetchall()
            expected.check(found)
            COUNTS["compared"] += 1

    @contextmanager
    def _heard(self, refusal: str | None) -> Iterator[None]:
        if refusal is None:
            yield
            return
        self.refusals.append(refusal)
        yield
        raise invalid_query(f"GoogleSQL: {refusal}")


def summary(counts: Mapping[str, int]) -> str:
    """A line for the end of a test run."""
    if counts["analyzed"] < counts["ran"]:
        return "BigQuery: zetasql, which is GoogleSQL, is not installed: no statement was analyzed"
    return (
        f"BigQuery: GoogleSQL analyzed {counts['analyzed']:,} statements, and gave the same result "
        f"for each of {counts['compared']:,}"
    )
