"""The options that say where messages are, which a command takes as one `Target`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from linq_source.cli.options import SOURCE, TARGET
from linq_source.destinations.targets import DEFAULT_DATABASE, Target

Destination = Annotated[
    str,
    typer.Option(
        help="duckdb, bigquery, postgres, ducklake, filesystem, ...", rich_help_panel=TARGET
    ),
]
Database = Annotated[
    str,
    typer.Option(
        help="The DuckDB file, or that of a DuckLake's catalog.",
        metavar="FILE",
        rich_help_panel=TARGET,
    ),
]
BucketUrl = Annotated[
    str | None,
    typer.Option(
        help="The folder or bucket (s3://, gs://, az://) of a destination in one.",
        metavar="URL",
        rich_help_panel=TARGET,
    ),
]
TableFormat = Annotated[
    str | None,
    typer.Option(
        help="delta or iceberg: how the filesystem destination keeps tables.",
        metavar="FORMAT",
        rich_help_panel=TARGET,
    ),
]
Dataset = Annotated[
    str | None,
    typer.Option(help="Dataset (schema) name (linq, of API v3 linq_v3).", rich_help_panel=TARGET),
]
PipelineName = Annotated[
    str | None,
    typer.Option(
        help="Name that the state is kept under (linq_messages, of API v3 linq_messages_v3).",
        rich_help_panel=TARGET,
    ),
]
ApiVersion = Annotated[
    str | None,
    typer.Option(
        "--api",
        help="v2 or v3: the version of the API (v2).",
        metavar="VERSION",
        rich_help_panel=SOURCE,
    ),
]
PipelinesDir = Annotated[
    str | None,
    typer.Option(help="Where dlt keeps its working files.", rich_help_panel=TARGET),
]
LakePartition = Annotated[
    str | None,
    typer.Option(
        help="month or day: how a new Parquet lake is divided (month).",
        metavar="BY",
        rich_help_panel=TARGET,
    ),
]


def _target(
    destination: Destination = "duckdb",
    database: Database = DEFAULT_DATABASE,
    bucket_url: BucketUrl = None,
    table_format: TableFormat = None,
    dataset: Dataset = None,
    pipeline_name: PipelineName = None,
    pipelines_dir: PipelinesDir = None,
    api: ApiVersion = None,
) -> Target:
    return Target(
        destination,
        database,
        dataset,
        pipeline_name,
        pipelines_dir,
        bucket_url,
        table_format,
        api,
    )


def takes_target(*without: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command, in place of its first parameter, the options that a `Target` is made of.

    Some it may be without, or mean something else by.
    """
    options = {
        name: option
        for name, option in inspect.signature(_target, eval_str=True).parameters.items()
        if name not in without
    }

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        _, *own = inspect.signature(command, eval_str=True).parameters.values()

        @wraps(command)
        def run(**given: Any) -> None:
            command(_target(**{name: given.pop(name) for name in options}), **given)

        # Where typer looks for them.
        required = [option for option in own if option.default is inspect.Parameter.empty]
        others = [option for option in own if option not in required]
        parameters = [*required, *options.values(), *others]
        run.__dict__["__signature__"] = inspect.Signature(parameters)
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate
