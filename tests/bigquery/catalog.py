"""What the double knows about datasets and tables besides their rows, and BigQuery's errors."""

from __future__ import annotations

from dataclasses import dataclass, field

# BigQuery's type, and what DuckDB keeps it as.
TYPES = {
    "INT64": "BIGINT",
    "STRING": "VARCHAR",
    "TIMESTAMP": "TIMESTAMPTZ",
    "BOOL": "BOOLEAN",
    "FLOAT64": "DOUBLE",
    "DATE": "DATE",
    "BYTES": "BLOB",
}
LEGACY_TYPES = {"INT64": "INTEGER", "BOOL": "BOOLEAN", "FLOAT64": "FLOAT"}
PARTITIONS_PER_JOB = 4_000
PARTITIONS_PER_TABLE = 10_000


class BigQueryError(Exception):
    """An error as BigQuery answers it: HTTP status, reason and message."""

    def __init__(self, reason: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status

    @property
    def is_expected(self) -> bool:
        """Whether a correct client meets it: something is not there, or there already."""
        return self.reason in ("notFound", "duplicate", "authError") or self.is_conflict

    @property
    def is_conflict(self) -> bool:
        """Whether two statements changed one table at once, and this one is to be repeated."""
        return "concurrent update" in str(self)


def invalid_query(message: str) -> BigQueryError:
    """What BigQuery answers to SQL that it does not run."""
    return BigQueryError("invalidQuery", message)


def beyond(message: str) -> BigQueryError:
    """What the double answers to what it does not know."""
    return BigQueryError("notImplemented", f"the double does not know this: {message}", 501)


@dataclass
class Column:
    """A column; `required` is BigQuery's mode REQUIRED, `length` the longest text."""

    name: str
    type: str
    required: bool = False
    description: str = ""
    length: int | None = None

    @property
    def full_type(self) -> str:
        """The type as INFORMATION_SCHEMA gives it."""
        return self.type if self.length is None else f"{self.type}({self.length})"


@dataclass
class Table:
    """A table's or view's definition. `partition_by` is a timestamp column, partitioned by day."""

    dataset: str
    name: str
    columns: dict[str, Column]
    partition_by: str = ""
    cluster_by: tuple[str, ...] = ()
    description: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    is_view: bool = False

    @property
    def sql_name(self) -> str:
        """The table's name in DuckDB."""
        return f'"{self.dataset}"."{self.name}"'


@dataclass
class Catalog:
    """The datasets of one project and the tables in them."""

    project: str
    location: str = "US"
    datasets: dict[str, dict[str, Table]] = field(default_factory=dict)

    def dataset(self, name: str) -> dict[str, Table]:
        """The tables of a dataset."""
        if name not in self.datasets:
            raise self._missing(f"Dataset {self.project}:{name}")
        return self.datasets[name]

    def table(self, dataset: str, name: str) -> Table:
        """A table that must be there; names are case-sensitive."""
        tables = self.dataset(dataset)
        if name not in tables:
            raise self._missing(f"Table {self.project}:{dataset}.{name}")
        return tables[name]

    def _missing(self, what: str) -> BigQueryError:
        text = f"Not found: {what} was not found in location {self.location}"
        return BigQueryError("notFound", text, 404)
