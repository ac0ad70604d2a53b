"""A strict test double of BigQuery: its REST API over real HTTP, its tables kept in DuckDB.

It knows what loading needs and refuses everything else loudly: what it cannot run, and what
BigQuery would not run, is answered as an error and kept in `failures`. No answer is ever made up.
"""

from tests.bigquery.server import BigQueryDouble

__all__ = ["BigQueryDouble"]
