"""Loads an organisation's Linq chat messages into DuckDB: `python pipelines/linq_pipeline.py`.

The token comes from SOURCES__LINQ__API_TOKEN or .dlt/secrets.toml.
"""

import dlt

from linq_source import linq_source, settle, sync


def load_everything() -> None:
    """Load what changed since the last run, and mark what was deleted upstream."""
    pipeline = dlt.pipeline("linq_messages", destination="duckdb", dataset_name="linq")
    report = sync(pipeline)
    print(f"{report.messages} messages loaded, {report.deleted} marked deleted")


def load_the_dlt_way() -> None:
    """The same with the source as any dlt source: one `run`, then the ledger settled."""
    pipeline = dlt.pipeline("linq_messages", destination="duckdb", dataset_name="linq")
    print(pipeline.run(linq_source()))
    settle(pipeline)


if __name__ == "__main__":
    load_everything()
