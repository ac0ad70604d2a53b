"""Loading a package into tables that dlt's own merge does not serve well."""

from linq_source.merging.bigquery import merging_by_day
from linq_source.merging.open_tables import merging_whole

__all__ = ["merging_by_day", "merging_whole"]
