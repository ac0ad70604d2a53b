"""The options that commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, cast

import typer

from linq_source.cli.logs import VARIABLE
from linq_source.destinations.targets import Target
from linq_source.settings import SourceOptions, id_of

SOURCE = "What to read"
TARGET = "Where to load"
PRIVACY = "Privacy (the key of hash: SOURCES__LINQ__PRIVACY_KEY)"
MODELS = "What to build"
OUTPUT = "Output"

BaseUrl = Annotated[
    str | None, typer.Option(help="The API's address.", metavar="URL", rich_help_panel=SOURCE)
]
ChatIds = Annotated[
    list[str] | None,
    typer.Option("--chat-id", help="Only this chat; may be repeated.", rich_help_panel=SOURCE),
]
PhoneNumbers = Annotated[
    list[str] | None,
    typer.Option(
        "--phone-number", help="Only this number's chats; may be repeated.", rich_help_panel=SOURCE
    ),
]
Start = Annotated[
    str | None,
    typer.Option(help="Where history begins, ISO 8601.", metavar="WHEN", rich_help_panel=SOURCE),
]
End = Annotated[
    str | None,
    typer.Option(
        help="With it, [start, end) is read as it is, whatever was read before.",
        metavar="WHEN",
        rich_help_panel=SOURCE,
    ),
]
LookbackDays = Annotated[
    float | None,
    typer.Option(help="Days read again by every run [7].", rich_help_panel=SOURCE),
]
PageSize = Annotated[
    int | None, typer.Option(help="Messages a page [100].", rich_help_panel=SOURCE)
]
Workers = Annotated[int | None, typer.Option(help="Requests at once [8].", rich_help_panel=SOURCE)]
ShardOption = Annotated[
    str | None,
    typer.Option(help="i/n: the chats with id % n == i.", metavar="I/N", rich_help_panel=SOURCE),
]
MaxRequestsPerSecond = Annotated[
    float | None,
    typer.Option(help="Never ask faster than this.", metavar="N", rich_help_panel=SOURCE),
]
AllowPlainHttp = Annotated[
    bool | None,
    typer.Option(
        "--allow-plain-http",
        help="Take an http address that is not this machine.",
        rich_help_panel=SOURCE,
    ),
]
AcceptOrganisation = Annotated[
    bool | None,
    typer.Option(
        "--accept-organisation",
        help="Load although numbers or most chats are others than before.",
        rich_help_panel=SOURCE,
    ),
]
Retention = Annotated[
    str | None,
    typer.Option(
        help="auto, or forever: whatever is gone was deleted, as the API forgets nothing (auto).",
        metavar="WHAT",
        rich_help_panel=SOURCE,
    ),
]
RecheckDays = Annotated[
    float | None,
    typer.Option(help="Days in which every chat is read again [30].", rich_help_panel=SOURCE),
]
RecheckShare = Annotated[
    float | None,
    typer.Option(
        help="The share of a run's requests that this may take [0.05]; 0: none.",
        rich_help_panel=SOURCE,
    ),
]
Contacts = Annotated[
    bool | None,
    typer.Option("--contacts", help="Load the contacts, too.", rich_help_panel=SOURCE),
]
Variables = Annotated[
    str,
    typer.Option(
        "--vars",
        help="The models' variables as YAML, say '{linq_timezone: Europe/Berlin}'.",
        metavar="YAML",
        rich_help_panel=MODELS,
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="One JSON object on stdout.", rich_help_panel=OUTPUT)
]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show a traceback on failure.", rich_help_panel=OUTPUT)
]


class LogFormat(StrEnum):
    """How standard error looks."""

    TEXT = "text"
    JSON = "json"


# Taken from the arguments before they are parsed (see `linq_source.cli.logs`).
Logs = Annotated[
    LogFormat,
    typer.Option(
        "--log-format",
        envvar=VARIABLE,
        help="json: every line on stderr is one JSON object, the last one 'finished'.",
        rich_help_panel=OUTPUT,
    ),
]
MetricsFile = Annotated[
    str | None,
    typer.Option(
        help="Write the outcome as Prometheus text, say linq.prom (extra: metrics).",
        metavar="FILE",
        rich_help_panel=OUTPUT,
    ),
]
Phones = Annotated[
    str | None,
    typer.Option(
        help="plain, hash or drop: people's numbers and addresses (plain).",
        metavar="HOW",
        rich_help_panel=PRIVACY,
    ),
]
Text = Annotated[
    str | None,
    typer.Option(
        help="plain, hash or drop: texts, file names and links (plain).",
        metavar="HOW",
        rich_help_panel=PRIVACY,
    ),
]


def source_options(given: dict[str, Any]) -> SourceOptions:
    """The source's options that were given; the configuration's defaults stand for the others."""
    target = given.get("target")
    if isinstance(target, Target) and target.api is not None:
        given = {**given, "api": target.api}
    if given.get("chat_ids") is not None:
        given = {**given, "chat_ids": [id_of(text) for text in given["chat_ids"]]}
    names = (name for name in SourceOptions.__annotations__ if given.get(name) is not None)
    return cast(SourceOptions, {name: given[name] for name in names})


def check_first(options: SourceOptions) -> None:
    """Build the source once, so that a wrong setting is reported before anything is opened."""
    from linq_source.source import linq_source

    linq_source(**options)
