"""From command line options to a dlt pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from linq_source.destinations.targets import Target, dlt_destination
from linq_source.errors import ConfigurationError

if TYPE_CHECKING:
    import dlt

DEMO_PIPELINE = "linq_demo"


def open_pipeline(
    target: Target, *, must_exist: bool = False, only_reads: bool = False
) -> dlt.Pipeline:
    """The pipeline of a target. Raises `ConfigurationError` for one that cannot be.

    What only reads may look at the demo's messages; its file must exist, too.
    """
    import dlt

    from linq_source.destinations.kinds import destination_of
    from linq_source.destinations.table_formats import check_table_format

    options: dict[str, Any] = {}
    if target.pipelines_dir is not None:
        options["pipelines_dir"] = target.pipelines_dir
    pipeline: dlt.Pipeline = dlt.pipeline(
        pipeline_name=target.pipeline_name,
        destination=dlt_destination(target),
        dataset_name=target.dataset,
        **options,
    )
    check_table_format(pipeline, target.table_format)
    destination = destination_of(pipeline)
    destination.check_name()
    if destination.file is not None:
        _check_file(target, destination.file, must_exist=must_exist, only_reads=only_reads)
    return pipeline


def location_of(pipeline: dlt.Pipeline) -> str:
    """Where a pipeline loads to, in words without secrets: a file, a bucket, a server."""
    from linq_source.destinations.kinds import destination_of

    return f"{destination_of(pipeline).location}, dataset {pipeline.dataset_name}"


def _check_file(target: Target, path: Path, *, must_exist: bool, only_reads: bool) -> None:
    if (must_exist or only_reads) and not path.exists():
        raise ConfigurationError(f"--database {path}: there is no such file")
    if only_reads:
        return
    from linq_source.destinations.dataset_pipelines import pipelines_in

    if target.pipeline_name != DEMO_PIPELINE and pipelines_in(path) == {DEMO_PIPELINE}:
        raise ConfigurationError(
            f"{path} holds the demo's invented messages: delete it, or name another file "
            "with --database"
        )
