"""The command `linq-source views`."""

from __future__ import annotations

import tempfile

from rich.console import Console

from linq_source.cli.destinations import (
    DEFAULT_DATABASE,
    Target,
    location_of,
    open_pipeline,
)
from linq_source.cli.observing import observing
from linq_source.cli.options import (
    ApiVersion,
    AsJson,
    BucketUrl,
    Database,
    Dataset,
    Debug,
    Destination,
    LogFormat,
    Logs,
    Variables,
)
from linq_source.cli.output import print_json
from linq_source.cli.transform_vars import variables_of

EPILOG = (
    "Examples:  linq-source views   |   linq-source views --destination postgres   |   "
    "linq-source views --vars '{linq_timezone: Europe/Berlin}'"
)


def views(
    destination: Destination = "duckdb",
    database: Database = DEFAULT_DATABASE,
    bucket_url: BucketUrl = None,
    dataset: Dataset = None,
    api: ApiVersion = None,
    variables: Variables = "{}",
    json: AsJson = False,
    log_format: Logs = LogFormat.TEXT,
    debug: Debug = False,
) -> None:
    """Make views of messages and responses beside the tables: two of the marts, without dbt."""
    from linq_source.operations.views import make_views

    # dlt notes down every pipeline; nobody will ask for this one again.
    with tempfile.TemporaryDirectory(prefix="linq-views-") as folder:
        target = Target(destination, database, dataset, "linq_views", folder, bucket_url, api=api)
        with observing("views", target) as observed:
            given = variables_of(variables)
            pipeline = open_pipeline(target, only_reads=True)
            made = make_views(pipeline, given)
            observed.counts = {"views": made}
            location = location_of(pipeline)
            if json:
                print_json({**observed.counts, "destination": location})
            else:
                told = f"made {' and '.join(made)} in {location}"
                Console().print(told, highlight=False, markup=False, soft_wrap=True)
