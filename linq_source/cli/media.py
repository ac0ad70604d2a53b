"""The command `linq-source media`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from linq_source.cli import logs
from linq_source.cli.observation import observing
from linq_source.cli.opening import open_pipeline
from linq_source.cli.options import (
    TARGET,
    AsJson,
    BaseUrl,
    Debug,
    LogFormat,
    Logs,
)
from linq_source.cli.output import print_json, print_table
from linq_source.cli.target_options import takes_target
from linq_source.destinations.targets import Target

if TYPE_CHECKING:
    from linq_source.media import MediaReport
    from linq_source.media.running import Listener

EPILOG = (
    "Examples:  linq-source media --bucket-url files   |   "
    "linq-source media --bucket-url s3://our-bucket/linq"
)
_FILES = "What to fetch"
_MAX_REASONS = 5

_log = logging.getLogger(__name__)


@takes_target("bucket_url")
def media(
    target: Target,
    bucket_url: Annotated[
        str,
        typer.Option(help="Where files go: a folder, s3://..., gs://...", rich_help_panel=_FILES),
    ],
    messages_url: Annotated[
        str | None,
        typer.Option(
            help="The folder or bucket of messages that are in one.",
            metavar="URL",
            rich_help_panel=TARGET,
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Files at once.", rich_help_panel=_FILES)] = 4,
    max_file_bytes: Annotated[
        int, typer.Option(help="Larger files are skipped.", rich_help_panel=_FILES)
    ] = 2 * 1024**3,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed", help="Ask again for what could not be had.", rich_help_panel=_FILES
        ),
    ] = False,
    erase_forgotten: Annotated[
        bool,
        typer.Option(
            "--erase-forgotten",
            help="Remove files of messages that `forget` erased.",
            rich_help_panel=_FILES,
        ),
    ] = False,
    allow_plain_http: Annotated[
        bool,
        typer.Option("--allow-plain-http", help="Follow http links.", rich_help_panel=_FILES),
    ] = False,
    allow_private_hosts: Annotated[
        bool,
        typer.Option(
            "--allow-private-hosts",
            help="Follow links to private addresses and this machine.",
            rich_help_panel=_FILES,
        ),
    ] = False,
    base_url: BaseUrl = None,
    json: AsJson = False,
    log_format: Logs = LogFormat.TEXT,
    debug: Debug = False,
) -> None:
    """Fetch attachments as files into a bucket, each once, and record them."""
    import dlt

    from linq_source.media import media as fetch

    target = replace(target, bucket_url=messages_url)
    with observing("media", target) as observed:
        with _progress(Console(stderr=True)) as listener:
            report = fetch(
                open_pipeline(target, must_exist=True),
                bucket_url,
                workers=workers,
                max_file_bytes=max_file_bytes,
                retry_failed=retry_failed,
                erase_forgotten=erase_forgotten,
                allow_plain_http=allow_plain_http,
                allow_private_hosts=allow_private_hosts,
                listener=listener,
                api_token=dlt.secrets.get("sources.linq.api_token", str),
                base_url=base_url or dlt.config.get("sources.linq.base_url", str),
            )
        observed.report = report
        if json:
            print_json(report.to_dict())
        else:
            _print(Console(), report)


@contextmanager
def _progress(console: Console) -> Iterator[Listener]:
    """A line that changes on a terminal, a line every some seconds elsewhere."""
    from linq_source.operations.progress import sometimes

    def log(report: MediaReport) -> None:
        _log.info("progress", extra=logs.counts_of(report.to_dict()))

    def write(report: MediaReport) -> None:
        console.print(_line(report), highlight=False)

    if logs.is_json():
        yield sometimes(log, at_once=True)
    elif console.is_terminal:
        with console.status("fetching") as status:
            yield lambda report: status.update(_line(report))
    else:
        yield sometimes(write)


def _line(report: MediaReport) -> str:
    megabytes = report.stored_bytes / 1e6
    return (
        f"{report.stored:,} files  {megabytes:,.1f} MB  {report.missing:,} not to be had  "
        f"{megabytes / max(report.seconds, 0.001):,.1f} MB/s"
    )


def _print(console: Console, report: MediaReport) -> None:
    facts = [
        ("files stored", f"{report.stored:,} ({report.stored_bytes / 1e6:,.1f} MB)"),
        ("already there", f"{report.found:,}"),
        ("expired", f"{report.expired:,}"),
        ("failed", f"{report.failed:,}"),
        ("of a wrong size", f"{report.wrong_size:,}"),
        ("refused links", f"{report.refused:,}"),
        ("too large", f"{report.skipped:,}"),
        ("not tried again", f"{report.left_out:,}"),
        ("host given up", f"{report.given_up:,}"),
        ("erased", f"{report.erased:,}"),
        ("seconds", f"{report.seconds:.1f}"),
    ]
    print_table(console, None, ("", ""), facts)
    for reason, count in list(report.reasons.items())[:_MAX_REASONS]:
        console.print(f"{count:,} {reason}", highlight=False, soft_wrap=True)
    for note in report.notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True)
    if report.exit_code:
        console.print("what could not be had, and why: attachment_files.status, .error")
