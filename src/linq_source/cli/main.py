"""Commands, options, exit codes and one-line errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console

from linq_source.cli import media
from linq_source.cli.destinations import DEFAULT_DATABASE, Target, open_pipeline
from linq_source.cli.lake import lake_app
from linq_source.cli.options import (
    SOURCE,
    AllowPlainHttp,
    AsJson,
    BaseUrl,
    BucketUrl,
    ChatIds,
    Database,
    Dataset,
    Debug,
    Destination,
    End,
    LakePartition,
    LookbackDays,
    MaxRequestsPerSecond,
    PageSize,
    PhoneNumbers,
    Phones,
    PipelineName,
    PipelinesDir,
    ShardOption,
    Start,
    TableFormat,
    Text,
    Workers,
)
from linq_source.cli.output import print_audit, print_forgotten, print_json, print_report
from linq_source.errors import ConfigurationError, LinqError

EPILOG = """\
Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 loaded but something is \
incomplete (a chat failed, a window stayed unverified, records were rejected, an audit found a \
difference).
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


@app.callback()
def _root(version: Annotated[bool, typer.Option("--version", is_eager=True)] = False) -> None:
    if version:
        from importlib.metadata import version as of_package

        print_line(f"linq-source {of_package('linq-source')}")
        raise typer.Exit


@app.command(
    epilog="Examples:  linq-source run   |   linq-source run --start 2026-01-01   |   "
    "linq-source run --chat-id 42 --start 2025-03-01 --end 2025-04-01 --json"
)
def run(
    destination: Destination = "duckdb",
    database: Database = DEFAULT_DATABASE,
    bucket_url: BucketUrl = None,
    table_format: TableFormat = None,
    lake_partition: LakePartition = None,
    dataset: Dataset = "linq",
    pipeline_name: PipelineName = "linq_messages",
    pipelines_dir: PipelinesDir = None,
    base_url: BaseUrl = None,
    chat_id: ChatIds = None,
    phone_number: PhoneNumbers = None,
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
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Load what changed since the last run; the first time, everything."""
    from linq_source.progress import show_progress
    from linq_source.syncing import PACKAGE_MESSAGES, sync

    target = Target(
        destination, database, dataset, pipeline_name, pipelines_dir, bucket_url, table_format
    )
    console = Console(stderr=True)
    arguments = _given(
        base_url=base_url,
        chat_ids=chat_id,
        phone_numbers=phone_number,
        start=start,
        end=end,
        lookback_days=lookback_days,
        page_size=page_size,
        workers=workers,
        shard=shard,
        max_requests_per_second=max_requests_per_second,
        allow_plain_http=allow_plain_http,
        phones=phones,
        text=text,
    )
    _check_first(arguments)
    with _interruptible(), show_progress(console, quiet=False) as listener:
        report = sync(
            open_pipeline(target),
            listener=listener,
            max_messages=max_messages if max_messages is not None else PACKAGE_MESSAGES,
            table_format=table_format,
            lake_partition=lake_partition,
            **arguments,
        )
    if json:
        print_json(report.to_dict())
    else:
        print_report(Console(), report)
    if report.error:
        print_error(report.error)
    raise typer.Exit(report.exit_code)


@app.command(epilog="Example:  linq-source audit --deep")
def audit(
    destination: Destination = "duckdb",
    database: Database = DEFAULT_DATABASE,
    bucket_url: BucketUrl = None,
    table_format: TableFormat = None,
    dataset: Dataset = "linq",
    pipeline_name: PipelineName = "linq_messages",
    pipelines_dir: PipelinesDir = None,
    base_url: BaseUrl = None,
    chat_id: ChatIds = None,
    phone_number: PhoneNumbers = None,
    workers: Workers = None,
    shard: ShardOption = None,
    max_requests_per_second: MaxRequestsPerSecond = None,
    allow_plain_http: AllowPlainHttp = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read differing chats again in full and repair.")
    ] = False,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compare live rows with the API's own counts, chat by chat."""
    from linq_source.auditing import audit as compare

    target = Target(
        destination, database, dataset, pipeline_name, pipelines_dir, bucket_url, table_format
    )
    arguments = _given(
        base_url=base_url,
        chat_ids=chat_id,
        phone_numbers=phone_number,
        workers=workers,
        shard=shard,
        max_requests_per_second=max_requests_per_second,
        allow_plain_http=allow_plain_http,
    )
    _check_first(arguments)
    with _interruptible():
        report = compare(open_pipeline(target), deep=deep, **arguments)
    if json:
        print_json(report.to_dict())
    else:
        print_audit(Console(), report)
    raise typer.Exit(report.exit_code)


@app.command(
    epilog="Examples:  linq-source forget --phone-number +15551234567   |   "
    "linq-source forget --chat-id 42"
)
def forget(
    destination: Destination = "duckdb",
    database: Database = DEFAULT_DATABASE,
    dataset: Dataset = "linq",
    pipeline_name: PipelineName = "linq_messages",
    pipelines_dir: PipelinesDir = None,
    phone_number: Annotated[
        list[str] | None,
        typer.Option("--phone-number", help="This person; may be repeated."),
    ] = None,
    chat_id: Annotated[
        list[int] | None, typer.Option("--chat-id", help="This chat; may be repeated.")
    ] = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Erase a person or a chat from the destination, and never load them again."""
    import dlt

    from linq_source.forgetting import forget as erase

    target = Target(destination, database, dataset, pipeline_name, pipelines_dir)
    with _interruptible():
        report = erase(
            open_pipeline(target, must_exist=True),
            phone_numbers=phone_number or (),
            chat_ids=chat_id or (),
            privacy_key=dlt.secrets.get("sources.linq.privacy_key", str),
        )
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
    token: Annotated[str, typer.Option(help="The token it accepts.")] = "sandbox-token",  # noqa: S107
    debug: Debug = False,
) -> None:
    """Serve an invented world on this machine, by the API's contract, until interrupted."""
    import threading

    from linq_source.sandbox import Sandbox, seeded_world

    try:
        server = Sandbox(seeded_world(seed=seed, chats=chats, messages=messages), token, port)
        with server:
            print_line(f"serving {chats} chats with {messages} messages at {server.url}")
            print_line(
                f"  SOURCES__LINQ__API_TOKEN={token} linq-source run --base-url {server.url}"
            )
            print_line(
                f"  curl -X POST -H 'X-LINQ-INTEGRATION-TOKEN: {token}' {server.url}/sandbox/grow"
                "   # some hours pass"
            )
            threading.Event().wait()
    except OSError as error:
        raise ConfigurationError(f"--port {port} cannot be used: {error.strerror}") from error
    except KeyboardInterrupt:
        return


@app.command()
def demo(
    database: Database = DEFAULT_DATABASE,
    debug: Debug = False,
) -> None:
    """Load an invented world, let some hours pass in it, load again, ask five questions."""
    from linq_source.cli.demo import run_demo

    run_demo(database, Console())


app.command(epilog=media.EPILOG)(media.media)


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        print_error("interrupted; what was loaded stays, run again to go on")
        raise typer.Exit(1) from None


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given; what was not stays with the configuration's defaults."""
    return {name: value for name, value in options.items() if value is not None}


def _check_first(arguments: dict[str, Any]) -> None:
    """Build the source once, so that a wrong setting is told before anything is opened."""
    from linq_source.source import linq_source

    linq_source(**arguments)


def print_line(text: str) -> None:
    """A plain line on standard output, at once."""
    print(text, flush=True)  # noqa: T201 - this is the output


def print_error(text: str) -> None:
    """One line on standard error."""
    Console(stderr=True).print(
        f"[red]error[/red]: {text}", highlight=False, soft_wrap=True, markup=True
    )


def main() -> None:
    """Run the command; every failure ends in one line and its exit code."""
    os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
    try:
        app()
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        sys.exit(_explain(error))


def _explain(error: Exception) -> int:
    """Print what went wrong in one line; gives the exit code."""
    from dlt.common.configuration.exceptions import ConfigFieldMissingException

    from linq_source.failures import find_cause

    ours = find_cause(error, LinqError)
    if ours is not None:
        print_error(_escaped(str(ours)))
        return ours.exit_code
    missing = find_cause(error, ConfigFieldMissingException)
    if isinstance(missing, ConfigFieldMissingException):
        print_error(_missing_line(missing))
        return ConfigurationError.exit_code
    first_line = (str(error).strip().splitlines() or [""])[0]
    print_error(_escaped(f"{type(error).__name__}: {first_line} (--debug shows more)"))
    return 1


def _missing_line(error: Any) -> str:
    if "api_token" in error.fields:
        return (
            "no api_token: set the environment variable SOURCES__LINQ__API_TOKEN, or "
            "api_token under \\[sources.linq] in .dlt/secrets.toml"
        )
    return f"missing configuration: {', '.join(error.fields)}; set it in .dlt/secrets.toml"


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")
