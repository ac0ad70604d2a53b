"""What a command reports to whoever operates it: log lines, metrics, the exit code."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import typer

from linq_source.cli import logs
from linq_source.cli.error_lines import INTERRUPTED, explain, print_error
from linq_source.cli.settings_files import check_settings_files
from linq_source.destinations.targets import Target
from linq_source.errors import Interrupted

if TYPE_CHECKING:
    from datetime import datetime

    import dlt

_log = logging.getLogger("linq_source.cli")


class Reports(Protocol):
    """Any report of a command."""

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        ...


@dataclass
class Observed:
    """What a command makes known about itself while it runs."""

    report: Reports | None = None
    pipeline: dlt.Pipeline | None = None
    counts: dict[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """What the report says; 0 where it says nothing."""
        return int(getattr(self.report, "exit_code", 0))


@contextmanager
def observing(
    command: str, target: Target, *, shard: str | None = None, metrics_file: str | None = None
) -> Iterator[Observed]:
    """Run a command's work inside: however it ends is reported, and becomes the exit code.

    A `metrics_file` that cannot be written is refused before the work begins.
    """
    logs.bind(command=command, destination=target.destination, shard=shard)
    if metrics_file is not None:
        from linq_source.operations.metrics import check_metrics_file

        check_metrics_file(metrics_file)
    started_s = time.monotonic()
    observed = Observed()
    exit_code = 1
    try:
        check_settings_files()
        logs.bind(pipeline=target.pipeline_name, dataset=target.dataset)
        _log.info("started")
        yield observed
        exit_code = observed.exit_code
    except KeyboardInterrupt as error:
        if isinstance(error, Interrupted):
            observed.counts["loads"] = error.loads
        print_error(INTERRUPTED)
    except Exception as error:
        exit_code = explain(error)
    seconds = time.monotonic() - started_s
    if metrics_file is not None:
        _write_metrics(command, target, metrics_file, observed, exit_code, seconds)
    counts = observed.counts if observed.report is None else observed.report.to_dict()
    logs.finished(exit_code, **{**logs.counts_of(counts), "seconds": round(seconds, 3)})
    if exit_code:
        raise typer.Exit(exit_code)


def _write_metrics(
    command: str, target: Target, path: str, observed: Observed, exit_code: int, seconds: float
) -> None:
    from linq_source.operations.metrics import newest_message, write_metrics

    known: Literal["run", "audit"] = "audit" if command == "audit" else "run"
    newest: datetime | None = None
    if known == "run" and observed.report is not None and observed.pipeline is not None:
        newest = newest_message(observed.pipeline)
    report: Any = observed.report
    try:
        write_metrics(
            report,
            path,
            pipeline_name=target.pipeline_name,
            dataset_name=target.dataset,
            command=known,
            exit_code=exit_code,
            seconds=seconds,
            newest=newest,
        )
    except OSError as error:
        # The work is done and its exit code stands; that the file is old tells its own story.
        _log.warning("--metrics-file %s could not be written: %s", path, error.strerror)
