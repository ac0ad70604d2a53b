"""The command `linq-source`: `run` and what is short; long commands have modules of their own."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer
from rich.console import Console

from linq_source.cli import inspection, logs, media, transform, views
from linq_source.cli.error_lines import INTERRUPTED, explain, print_error
from linq_source.cli.lake import lake_app
from linq_source.cli.observation import observing
from linq_source.cli.opening import DEMO_PIPELINE, location_of, open_pipeline
from linq_source.cli.options import (
    SOURCE,
    AcceptOrganisation,
    AllowPlainHttp,
    AsJson,
    BaseUrl,
    ChatIds,
    Contacts,
    Debug,
    End,
    LogFormat,
    Logs,
    LookbackDays,
    MaxRequestsPerSecond,
    MetricsFile,
    PageSize,
    PhoneNumbers,
    Phones,
    RecheckDays,
    RecheckShare,
    Retention,
    ShardOption,
    Start,
    Text,
    Workers,
    check_first,
    source_options,
)
from linq_source.cli.output import (
    log_failures,
    print_audit,
    print_forgotten,
    print_json,
    print_report,
)
from linq_source.cli.target_options import Database, LakePartition, takes_target
from linq_source.destinations.targets import DEFAULT_DATABASE, Target
from linq_source.errors import ConfigurationError
from linq_source.settings import id_of

EPILOG = """\
Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 loaded but something is \
incomplete (a chat failed, a window stayed unverified, records were rejected, an audit found a \
difference, a mart failed a test, the data is older than --max-age).
"""

app = typer.Typer(
    name="linq-source",
    help="Copies the Linq Partner API's chat messages to where analysts can query them.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


app.add_typer(lake_app, name="lake")


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print_line(f"linq-source {version('linq-source')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """What is common to all commands."""


@app.command(
    epilog="Examples:  linq-source run   |   linq-source run --start 2026-01-01   |   "
    "linq-source run --chat-id 42 --start 2025-03-01 --end 2025-04-01 --json"
)
@takes_target()
def run(
    target: Target,
    lake_partition: LakePartition = None,
    base_url: BaseUrl = None,
    chat_ids: ChatIds = None,
    phone_numbers: PhoneNumbers = None,
    start: Start = None,
    end: End = None,
    lookback_days: LookbackDays = None,
    page_size: PageSize = None,
    workers: Workers = None,
    max_messages: Annotated[
        int | None,
        typer.Option(help="Messages per load package [500000].", rich_help_panel=SOURCE),
    ] = None,
    shard: ShardOption = None,
    max_requests_per_second: MaxRequestsPerSecond = None,
    allow_plain_http: AllowPlainHttp = None,
    phones: Phones = None,
    text: Text = None,
    accept_organisation: AcceptOrganisation = None,
    retention: Retention = None,
    recheck_days: RecheckDays = None,
    recheck_share: RecheckShare = None,
    contacts: Contacts = None,
    metrics_file: MetricsFile = None,
    json: AsJson = False,
    log_format: Logs = LogFormat.TEXT,
    debug: Debug = False,
) -> None:
    """Load what changed since the last run; the first time, everything."""
    options = source_options(locals())
    from linq_source.operations.sync import sync

    with observing("run", target, shard=shard, metrics_file=metrics_file) as observed:
        check_first(options)
        observed.pipeline = open_pipeline(target)
        with logs.showing_progress() as listener:
            report = sync(
                observed.pipeline,
                listener=listener,
                table_format=target.table_format,
                lake_partition=lake_partition,
                **options,
            )
        observed.report = report
        loaded_into = location_of(observed.pipeline)
        if json:
            print_json({**report.to_dict(), "destination": loaded_into})
        else:
            print_report(Console(), report)
            Console().print(f"loaded into {loaded_into}", highlight=False, soft_wrap=True)
        log_failures(report)
        if report.error:
            print_error(report.error)


@app.command(epilog="Example:  linq-source audit --deep")
@takes_target()
def audit(
    target: Target,
    base_url: BaseUrl = None,
    chat_ids: ChatIds = None,
    phone_numbers: PhoneNumbers = None,
    workers: Workers = None,
    shard: ShardOption = None,
    max_requests_per_second: MaxRequestsPerSecond = None,
    allow_plain_http: AllowPlainHttp = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read differing chats again in full and repair.")
    ] = False,
    metrics_file: MetricsFile = None,
    json: AsJson = False,
    log_format: Logs = LogFormat.TEXT,
    debug: Debug = False,
) -> None:
    """Compare live rows with the API's own counts, chat by chat."""
    options = source_options(locals())
    from linq_source.operations.audit import audit as compare

    with observing("audit", target, shard=shard, metrics_file=metrics_file) as observed:
        check_first(options)
        report = compare(open_pipeline(target), deep=deep, **options)
        observed.report = report
        if json:
            print_json(report.to_dict())
        else:
            print_audit(Console(), report)


@app.command(
    epilog="Examples:  linq-source forget --phone-number +15551234567   |   "
    "linq-source forget --chat-id 42"
)
@takes_target()
def forget(
    target: Target,
    phone_number: Annotated[
        list[str] | None,
        typer.Option("--phone-number", help="This person; may be repeated."),
    ] = None,
    chat_id: Annotated[
        list[str] | None, typer.Option("--chat-id", help="This chat; may be repeated.")
    ] = None,
    json: AsJson = False,
    log_format: Logs = LogFormat.TEXT,
    debug: Debug = False,
) -> None:
    """Erase a person or a chat from the destination, and never load them again."""
    import dlt

    from linq_source.operations.forget import forget as erase

    with observing("forget", target) as observed:
        report = erase(
            open_pipeline(target, must_exist=True),
            phone_numbers=phone_number or (),
            chat_ids=[id_of(text) for text in chat_id or ()],
            privacy_key=dlt.secrets.get("sources.linq.privacy_key", str),
        )
        observed.report = report
        if json:
            print_json(report.to_dict())
        else:
            print_forgotten(Console(), report)


@app.command(epilog="Example:  linq-source sandbox --port 8080")
def sandbox(
    port: Annotated[int, typer.Option(help="0: a free one.")] = 8080,
    seed: Annotated[int, typer.Option(help="Another world for every number.")] = 7,
    chats: Annotated[int, typer.Option(help="Chats in the world.")] = 40,
    messages: Annotated[int, typer.Option(help="Messages in the world.")] = 3000,
    keeps_hours: Annotated[
        int | None, typer.Option(min=1, help="Forget messages that are older.")
    ] = None,
    token: Annotated[str, typer.Option(help="The token it accepts.")] = "sandbox-token",  # noqa: S107
    api: Annotated[str, typer.Option(help="What to show how to load: v2 or v3.")] = "v2",
    log_format: Logs = LogFormat.TEXT,
    debug: Debug = False,
) -> None:
    """Serve an invented world on this machine, by the contracts of v2 and v3, until interrupted."""
    import threading

    from linq_source.sandbox import Sandbox, seeded_world

    try:
        world = seeded_world(seed=seed, chats=chats, messages=messages)
        for number in world.phone_numbers.values():
            number.keeps_ms = None if keeps_hours is None else keeps_hours * 3_600_000
        world.forget_expired()
        server = Sandbox(world, token, port)
        server.serves_files = True
        with server:
            print_line(f"serving {chats} chats with {messages} messages at {server.url}")
            command = f"  SOURCES__LINQ__API_TOKEN={token} linq-source"
            where = f"--base-url {server.url}" + ("" if api == "v2" else f" --api {api}")
            print_line(f"{command} run {where}")
            print_line(
                f"  curl -X POST -H 'X-LINQ-INTEGRATION-TOKEN: {token}' {server.url}/sandbox/grow"
                "   # some hours pass"
            )
            print_line(f"{command} media {where} --bucket-url files --allow-private-hosts")
            threading.Event().wait()
    except OSError as error:
        raise ConfigurationError(f"--port {port} cannot be used: {error.strerror}") from error
    except KeyboardInterrupt:
        return


@app.command()
def demo(
    database: Database = DEFAULT_DATABASE,
    log_format: Logs = LogFormat.TEXT,
    debug: Debug = False,
) -> None:
    """Load an invented world, let some hours pass in it, load again, ask five questions."""
    from linq_source.cli.demo import run_demo

    with observing("demo", Target("duckdb", database, "linq", DEMO_PIPELINE, None)):
        run_demo(database, Console())


app.command(epilog=inspection.CHECK_EPILOG)(inspection.check)
app.command(epilog=inspection.STATUS_EPILOG)(inspection.status)
app.command(epilog=inspection.REPORT_EPILOG)(inspection.report)
app.command(epilog=media.EPILOG)(media.media)
app.command(epilog=transform.EPILOG)(transform.transform)
app.command(epilog=views.EPILOG)(views.views)


def print_line(text: str) -> None:
    """A plain line on standard output, at once."""
    print(text, flush=True)  # noqa: T201 - this is the output


def main() -> None:
    """Run the command; every failure ends in one line and its exit code."""
    os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
    # As Ctrl-C. Without a handler it would print nothing, and be ignored as a container's first
    # process.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if logs.configure(sys.argv[1:], os.environ):
        sys.exit(_run_with_json_lines())
    try:
        app()
    except Exception as error:
        sys.exit(explain(error))


def _run_with_json_lines() -> int:
    """Run the command; typer, too, prints nothing of its own on standard error."""
    try:
        exit_code = app(standalone_mode=False)
        return exit_code if isinstance(exit_code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        print_error(INTERRUPTED)
        exit_code = 1
    except Exception as error:
        exit_code = explain(error)
    logs.finished(exit_code)
    return exit_code
