"""One JSON object per line on standard error, whoever speaks: us, dlt, libraries, Python."""

from __future__ import annotations

import json
import logging
import sys
import threading
import uuid
import warnings
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

from pythonjsonlogger.json import JsonFormatter

# Loggers that pass nothing on to the root logger, or will not once their library has started.
_APART = ("dlt",)


class JsonLines(logging.StreamHandler[TextIO]):
    """Writes records as JSON, with `fields` in every line.

    Its format is its own: dlt sets another formatter on every handler that it finds.
    """

    def __init__(self, stream: TextIO, *, with_tracebacks: bool) -> None:
        super().__init__(stream)
        self.fields: dict[str, Any] = {"run": uuid.uuid4().hex[:12]}
        self._format = _Formatter(with_tracebacks)

    def format(self, record: logging.LogRecord) -> str:
        """The record's line."""
        return self._format.line(record, self.fields)

    def handleError(self, record: logging.LogRecord) -> None:
        """A record that cannot be formatted still gets a line, and nothing else is printed."""
        values = {
            "time": datetime.now(UTC).isoformat(timespec="microseconds"),
            "level": "error",
            "logger": record.name,
            "message": "a log record could not be written",
            **self.fields,
        }
        with suppress(Exception):
            self.stream.write(json.dumps(values, default=str) + self.terminator)
            self.flush()


class _Formatter(JsonFormatter):
    """Instant, level, logger, message, the bound fields, then the record's own.

    A traceback may quote what a library says about a value, so it is there only when asked for
    (`--debug`); otherwise the error's type is.
    """

    def __init__(self, with_tracebacks: bool) -> None:
        super().__init__(["message"], rename_fields={"exc_info": "exception"})
        self._with_tracebacks = with_tracebacks
        self._fields: dict[str, Any] = {}

    def line(self, record: logging.LogRecord, fields: dict[str, Any]) -> str:
        self._fields = fields
        return self.format(record)

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        instant = datetime.fromtimestamp(record.created, UTC)
        log_data["time"] = instant.isoformat(timespec="microseconds")
        log_data["level"] = record.levelname.lower()
        log_data["logger"] = record.name
        log_data["message"] = None
        log_data.update(self._fields)
        super().add_fields(log_data, record, message_dict)

    def formatException(self, ei: Any) -> str:
        if self._with_tracebacks:
            return str(super().formatException(ei))
        kind = ei[0]
        return "" if kind is None else f"{kind.__module__}.{kind.__qualname__}"


def install(*, with_tracebacks: bool) -> JsonLines:
    """Make everything that is said on standard error JSON lines, until the process ends."""
    handler = JsonLines(sys.stderr, with_tracebacks=with_tracebacks)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("linq_source").setLevel(logging.INFO)
    for name in _APART:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
    warnings.showwarning = _log_warning
    threading.excepthook = _log_thread_error
    sys.unraisablehook = _log_unraisable
    return handler


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    fields = {"category": category.__name__, "file": filename, "line": lineno}
    logging.getLogger("py.warnings").warning("%s", message, extra=fields)


def _log_thread_error(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is SystemExit:
        return
    _log_error("an error ended a thread", args.exc_type, args.exc_value, args.exc_traceback)


def _log_unraisable(args: Any) -> None:
    _log_error("an error was ignored", args.exc_type, args.exc_value, args.exc_traceback)


def _log_error(
    text: str,
    kind: type[BaseException],
    value: BaseException | None,
    trace: TracebackType | None,
) -> None:
    found = None if value is None else (kind, value, trace)
    logging.getLogger("linq_source.cli").error(text, exc_info=found)
