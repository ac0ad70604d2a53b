"""What Delta and Iceberg share: tables are opened by dlt's client."""

from __future__ import annotations

from typing import Any, ClassVar

from dlt.common.destination.exceptions import DestinationUndefinedEntity

from linq_source.destinations.bucket import Bucket
from linq_source.tables import Table


class ClientTables:
    """The tables of a client of dlt's filesystem destination."""

    table_format: ClassVar[str]

    def __init__(self, client: Any) -> None:
        self._client = client

    def _open(self, table: Table) -> Any:
        """The table as its library has it; None if there is none."""
        try:
            return self._client.load_open_table(self.table_format, table.name)
        except DestinationUndefinedEntity:
            return None

    def _files(self, table: Table, bucket: Bucket, below: str = "") -> list[str]:
        """Paths of the files in a table's folder."""
        folder = self._client.get_table_prefix(table.name).rstrip("/")
        return bucket.list(f"{bucket.below(folder)}{below}")
