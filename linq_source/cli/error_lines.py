"""One line for every error, and its exit code."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

from linq_source.cli import logs
from linq_source.errors import ConfigurationError, LinqError

_log = logging.getLogger("linq_source.cli")

INTERRUPTED = "interrupted; what was loaded stays, run again to go on"


def print_error(text: str, **fields: object) -> None:
    """One line on standard error."""
    if logs.is_json():
        _log.error(text, extra=fields)
        return
    from rich.console import Console
    from rich.markup import escape

    Console(stderr=True).print(f"[red]error[/red]: {escape(text)}", highlight=False, soft_wrap=True)


def explain(error: Exception) -> int:
    """Print what went wrong in one line, its traceback with `--debug`; gives the exit code."""
    text, exit_code = _told(error)
    kind = type(error).__name__
    if "--debug" in sys.argv:
        if logs.is_json():
            trace = "".join(traceback.format_exception(error))
            print_error(text, error_type=kind, exit_code=exit_code, exception=trace)
            return exit_code
        traceback.print_exception(error)
    print_error(text, error_type=kind, exit_code=exit_code)
    return exit_code


def _told(error: Exception) -> tuple[str, int]:
    usage = getattr(error, "format_message", None)
    if callable(usage):  # typer's own, whose class differs from version to version
        return str(usage()), ConfigurationError.exit_code
    from dlt.common.configuration.exceptions import ConfigFieldMissingException

    from linq_source.destinations.failures import find_advice, find_cause, root_cause

    known = find_cause(error, LinqError)
    if known is not None:
        return str(known), known.exit_code
    missing = find_cause(error, ConfigFieldMissingException)
    if isinstance(missing, ConfigFieldMissingException):
        return _missing_line(missing), ConfigurationError.exit_code
    cause, advice = find_advice(error)
    if isinstance(cause, OSError) and advice is not None:
        return f"{advice} ({cause})", 1
    root = root_cause(error)
    first_line = (str(root).strip().splitlines() or [""])[0]
    return f"{type(root).__name__}: {first_line} (--debug shows more)", 1


def _missing_line(error: Any) -> str:
    if "api_token" in error.fields:
        return (
            "no api_token: set the environment variable SOURCES__LINQ__API_TOKEN, or "
            "api_token under [sources.linq] in .dlt/secrets.toml"
        )
    return f"missing configuration: {', '.join(error.fields)}; set it in .dlt/secrets.toml"
