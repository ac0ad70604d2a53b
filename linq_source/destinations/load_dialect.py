"""What a kind of destination needs done to rows on their way out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dlt
import pyarrow as pa
from dlt.common.configuration.container import Container
from dlt.common.destination import DestinationCapabilitiesContext

from linq_source.destinations.storable import WITHOUT_NUL, without_nul
from linq_source.rows.hints import table_hints
from linq_source.tables import Table

# dlt's own choice for Arrow tables, CSV, cannot tell an empty text from none; Parquet by way of
# ADBC fails for a table without rows.
_POSTGRES_FORMAT = "insert_values"


def in_the_dialect(rows: pa.Table, table: Table) -> Any:
    """Rows of a table for dlt, as the destination of the package being extracted can store them."""
    dialect = _dialect()
    if dialect in WITHOUT_NUL:
        rows = without_nul(rows)
    if dialect != "postgres":
        return dlt.mark.with_table_name(rows, table.name)
    hints = table_hints(table) | {"file_format": _POSTGRES_FORMAT}
    return dlt.mark.with_hints(rows, dlt.mark.make_hints(**hints), create_table_variant=True)


@contextmanager
def without_format_warnings() -> Iterator[None]:
    """Without dlt's warning, table by table, that the format chosen here is not the fastest."""
    logger = logging.getLogger("dlt")
    logger.addFilter(_is_no_format_warning)
    try:
        yield
    finally:
        logger.removeFilter(_is_no_format_warning)


def _is_no_format_warning(record: logging.LogRecord) -> bool:
    return "native writer could not be found" not in str(record.msg)


def _dialect() -> str | None:
    """The destination's dialect as sqlglot names it; none without a destination."""
    container = Container()
    if DestinationCapabilitiesContext not in container:
        return None
    return container[DestinationCapabilitiesContext].sqlglot_dialect
