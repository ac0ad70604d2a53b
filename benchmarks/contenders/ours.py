"""`linq_source.sync` with its default settings, as a user calls it."""

from __future__ import annotations

import os

import dlt

from benchmarks.contenders.common import TOKEN, parser, report_counts
from linq_source import sync


def main() -> None:
    """Read everything into the database."""
    options = parser(__doc__)
    options.add_argument("--workers", type=int, default=8)
    arguments = options.parse_args()
    os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
    pipeline = dlt.pipeline(
        pipeline_name="ours",
        destination=dlt.destinations.duckdb(str(arguments.database)),
        dataset_name="linq",
        pipelines_dir=str(arguments.database.parent / "pipelines"),
    )
    sync(pipeline, api_token=TOKEN, base_url=arguments.base_url, workers=arguments.workers)
    report_counts(arguments.database, "linq")


if __name__ == "__main__":
    main()
