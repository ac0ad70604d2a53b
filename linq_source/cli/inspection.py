"""`linq-source check`, `status`, `report`: commands that look at what is there, and load none."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from linq_source.cli.check_output import print_check
from linq_source.cli.error_lines import print_error
from linq_source.cli.observation import observing
from linq_source.cli.opening import location_of, open_pipeline
from linq_source.cli.options import (
    OUTPUT,
    AllowPlainHttp,
    AsJson,
    BaseUrl,
    Debug,
    LogFormat,
    Logs,
    MaxRequestsPerSecond,
    PageSize,
    Workers,
    check_first,
    source_options,
)
from linq_source.cli.output import print_json
from linq_source.cli.status_output import print_status
from linq_source.cli.target_options import takes_target
from linq_source.destinations.targets import Target

STATUS_EPILOG = (
    "Examples:  linq-source status   |   linq-source status --max-age 3 --json   |   "
    "linq-source status --destination parquet --bucket-url s3://our-lake"
)


@takes_target()
def status(
    target: Target,
    max_age: Annotated[
        float | None,
        typer.Option(
            help="Exit 3 if what was read is older.", metavar="HOURS", rich_help_panel=OUTPUT
        ),
    ] = None,
    json: AsJson = False,
    log_format: Logs = LogFormat.TEXT,
    debug: Debug = False,
) -> None:
    """Tell how old and how complete the data is, from the destination alone: no token, no API."""
    from linq_source.operations.status import status as look

    with observing("status", target) as observed:
        pipeline = open_pipeline(target, only_reads=True)
        report = look(pipeline, max_age_hours=max_age)
        observed.report = report
        location = location_of(pipeline)
        if json:
            print_json({**report.to_dict(), "destination": location})
        else:
            print_status(Console(), report, location)


CHECK_EPILOG = (
    "Examples:  linq-source check   |   linq-source check --max-requests-per-second 10   |   "
    "linq-source check --destination bigquery --json"
)


@takes_target()
def check(
    target: Target,
    base_url: BaseUrl = None,
    page_size: PageSize = None,
    workers: Workers = None,
    max_requests_per_second: MaxRequestsPerSecond = None,
    allow_plain_http: AllowPlainHttp = None,
    json: AsJson = False,
    log_format: Logs = LogFormat.TEXT,
    debug: Debug = False,
) -> None:
    """Before the first load: try the token and the destination, tell what a load takes."""
    options = source_options(locals())
    from linq_source.operations.check import check as look

    with observing("check", target) as observed:
        check_first(options)
        pipeline = open_pipeline(target)
        report = look(pipeline, table_format=target.table_format, **options)
        observed.report = report
        location = location_of(pipeline)
        if json:
            print_json({**report.to_dict(), "destination": location})
        else:
            print_check(Console(), report, location)
        if report.error:
            print_error(report.error)


REPORT_EPILOG = (
    "Examples:  linq-source report   |   linq-source report -o /srv/www/chats.html   |   "
    "linq-source report --destination postgres --numbers"
)


@takes_target()
def report(
    target: Target,
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", help="The file to write.", metavar="FILE", rich_help_panel=OUTPUT
        ),
    ] = "report.html",
    numbers: Annotated[
        bool,
        typer.Option(
            "--numbers",
            help="Show numbers and addresses in chats' names whole, not their ends.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    log_format: Logs = LogFormat.TEXT,
    debug: Debug = False,
) -> None:
    """Write one HTML file of charts that opens offline: traffic, response times, health."""
    from linq_source.reporting.making import check_output, report_page, write_page

    with observing("report", target) as observed:
        check_output(output)
        page = report_page(open_pipeline(target, only_reads=True), numbers=numbers)
        size_bytes = write_page(page, output)
        observed.counts = {"bytes": size_bytes}
        Console().print(f"wrote {output}", highlight=False, soft_wrap=True, markup=False)
