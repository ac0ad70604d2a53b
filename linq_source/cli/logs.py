"""`--log-format`: what the commands say on standard error, as text or as JSON lines.

The library only uses `logging`, with fields in `extra`; how it looks is decided here, before a
command is parsed, so that wrong usage is reported in the same way.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from linq_source.cli.json_lines import JsonLines
    from linq_source.extraction import Listener

VARIABLE = "LINQ_SOURCE_LOG_FORMAT"
_OPTION = "--log-format"

_log = logging.getLogger("linq_source.cli")

# Set where standard error is JSON, once, before anything else runs.
_lines: JsonLines | None = None


def configure(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Turn standard error into JSON lines if that is asked for; tells whether it is."""
    global _lines
    if _asked_for(arguments, environment) != "json":
        if "--debug" not in arguments:
            logging.getLogger("dlt").addFilter(_is_no_failed_attempt)
        return False
    from linq_source.cli.json_lines import install

    _lines = install(with_tracebacks="--debug" in arguments)
    return True


def _is_no_failed_attempt(record: logging.LogRecord) -> bool:
    """Leave out what dlt says of a failing job at every attempt: the last line says why."""
    return not record.exc_info and record.module not in ("client", "load", "pool_runner")


def is_json() -> bool:
    """Whether standard error is JSON lines."""
    return _lines is not None


def bind(**fields: object) -> None:
    """Give every line from here on these fields; those without a value are left out."""
    if _lines is not None:
        _lines.fields |= {name: value for name, value in fields.items() if value is not None}


def finished(exit_code: int, **fields: Any) -> None:
    """The last JSON line of a command: how it ended, and the counts of its report."""
    if _lines is None:
        return
    level = {0: logging.INFO, 3: logging.WARNING}.get(exit_code, logging.ERROR)
    _log.log(level, "finished", extra={**fields, "exit_code": exit_code})


def counts_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """A report's plain values as log fields: of a list only how long it is."""
    fields: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, list | tuple):
            fields[name] = len(value)
        elif isinstance(value, Mapping):
            fields[name] = counts_of(value)
        elif value is not None:
            fields[name] = value
    return fields


@contextmanager
def showing_progress() -> Iterator[Listener]:
    """The listener to pass to `sync`: a display, plain lines, or JSON lines."""
    from rich.console import Console

    from linq_source.operations.progress import log_progress, show_progress

    if is_json():
        yield log_progress()
    else:
        with show_progress(Console(stderr=True)) as listener:
            yield listener


def _asked_for(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """The option's last value, or the environment's. Whether it is a known one, typer checks."""
    found = environment.get(VARIABLE, "")
    for index, argument in enumerate(arguments):
        if argument == _OPTION and index + 1 < len(arguments):
            found = arguments[index + 1]
        elif argument.startswith(f"{_OPTION}="):
            found = argument.removeprefix(f"{_OPTION}=")
    return found
