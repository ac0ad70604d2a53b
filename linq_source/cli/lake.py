"""`linq-source lake`: rebuilding a Parquet lake's current state, and checking it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import typer
from rich.console import Console

from linq_source.cli.observation import observing
from linq_source.cli.opening import open_pipeline
from linq_source.cli.options import AsJson, Debug, LogFormat, Logs
from linq_source.cli.output import print_json, print_lake
from linq_source.cli.target_options import LakePartition, takes_target
from linq_source.destinations.targets import Target

lake_app = typer.Typer(help="Look after a Parquet lake's current state.", no_args_is_help=True)
_takes_lake = takes_target("destination", "database", "table_format")


@lake_app.command(epilog="Example:  linq-source lake rebuild --bucket-url s3://my-lake")
@_takes_lake
def rebuild(
    target: Target,
    lake_partition: LakePartition = None,
    json: AsJson = False,
    log_format: Logs = LogFormat.TEXT,
    debug: Debug = False,
) -> None:
    """Rebuild every file of the current state from the log."""
    from linq_source.destinations.lake import rebuild_lake
    from linq_source.destinations.lake.layout import partitioning_of

    target = replace(target, destination="parquet")
    with observing("lake rebuild", target) as observed:
        partitioning = None if lake_partition is None else partitioning_of(lake_partition)
        files = _with_bucket(
            target, lambda bucket, stored: rebuild_lake(bucket, partitioning, stored)
        )
        observed.counts = {"files": files}
        if json:
            print_json(observed.counts)
        else:
            Console().print(f"made {files} files from the log")


@lake_app.command(epilog="Example:  linq-source lake check --bucket-url s3://my-lake --json")
@_takes_lake
def check(
    target: Target,
    json: AsJson = False,
    log_format: Logs = LogFormat.TEXT,
    debug: Debug = False,
) -> None:
    """Compare the current state with what the log says; changes nothing."""
    from linq_source.destinations.lake import check_lake

    target = replace(target, destination="parquet")
    with observing("lake check", target) as observed:
        report = _with_bucket(target, check_lake)
        observed.report = report
        if json:
            print_json(report.to_dict())
        else:
            print_lake(Console(), report)


def _with_bucket(target: Target, act: Any) -> Any:
    from linq_source.destinations.bucket import Bucket
    from linq_source.destinations.dataset_tables import tables_of
    from linq_source.destinations.failures import plain_errors
    from linq_source.destinations.lake.contents import complete_loads
    from linq_source.destinations.remote import connected
    from linq_source.errors import ConfigurationError

    pipeline = open_pipeline(target)
    with plain_errors(pipeline), connected(pipeline) as remote:
        bucket = Bucket.of(remote)
        if not complete_loads(bucket):
            raise ConfigurationError(
                f"{bucket.root}: there is no lake: check --bucket-url and --dataset"
            )
        return act(bucket, tables_of(pipeline))
