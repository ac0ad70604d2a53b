"""The command `linq-source views`."""

from __future__ import annotations

import tempfile
from dataclasses import replace

from rich.console import Console

from linq_source.cli.observation import observing
from linq_source.cli.opening import location_of, open_pipeline
from linq_source.cli.options import AsJson, Debug, LogFormat, Logs, Variables
from linq_source.cli.output import print_json
from linq_source.cli.target_options import takes_target
from linq_source.cli.transform_vars import variables_of
from linq_source.destinations.targets import Target

EPILOG = (
    "Examples:  linq-source views   |   linq-source views --destination postgres   |   "
    "linq-source views --vars '{linq_timezone: Europe/Berlin}'"
)


@takes_target("table_format", "pipeline_name", "pipelines_dir")
def views(
    target: Target,
    variables: Variables = "{}",
    json: AsJson = False,
    log_format: Logs = LogFormat.TEXT,
    debug: Debug = False,
) -> None:
    """Make views of messages and responses beside the tables: two of the marts, without dbt."""
    from linq_source.operations.views import make_views

    # dlt notes down every pipeline; nobody will ask for this one again.
    with tempfile.TemporaryDirectory(prefix="linq-views-") as folder:
        target = replace(target, given_pipeline_name="linq_views", pipelines_dir=folder)
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
