"""Loads an organisation's Linq chat messages into DuckDB: `python pipelines/linq_pipeline.py`.

The token comes from SOURCES__LINQ__API_TOKEN or .dlt/secrets.toml.
"""

from pathlib import Path

import dlt

from linq_source import linq_source, settle, sync

# Absolute: dlt would take a relative path from the folder in which this pipeline once ran first.
DATABASE = Path("linq_messages.duckdb").absolute()


def open_pipeline() -> dlt.Pipeline:
    """The pipeline into a DuckDB file of the folder that this is started in."""
    return dlt.pipeline(
        "linq_messages", destination=dlt.destinations.duckdb(str(DATABASE)), dataset_name="linq"
    )


def load_everything() -> None:
    """Load what changed since the last run, and mark what was deleted upstream."""
    report = sync(open_pipeline())
    print(f"{report.messages} messages loaded, {report.deleted} marked deleted")
    print(f"loaded into {DATABASE}, dataset linq")


def load_the_dlt_way() -> None:
    """The same with the source as any dlt source: one `run`, then the ledger settled."""
    pipeline = open_pipeline()
    print(pipeline.run(linq_source()))
    settle(pipeline)


if __name__ == "__main__":
    load_everything()
