"""Making a report: the destination is asked once, the page is made of what it told."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import dlt

from linq_source.destinations.failures import plain_errors
from linq_source.errors import ConfigurationError
from linq_source.operations.status import reading_for_status
from linq_source.privacy.numbers import NUMBER_OR_ADDRESS
from linq_source.reporting.page import page_of
from linq_source.reporting.questions import READ_FOR_REPORT, read_figures


def report_page(
    pipeline: dlt.Pipeline, *, numbers: bool = False, now: datetime | None = None
) -> str:
    """The report of what a pipeline's dataset holds, as one HTML page.

    Numbers and addresses in the names of chats are shown by their last four characters, unless
    `numbers` is true. Raises `ConfigurationError` where no run has loaded anything, or the extra
    `report` is not installed.
    """
    library = _library()
    with (
        plain_errors(pipeline),
        reading_for_status(pipeline, READ_FOR_REPORT, now or datetime.now(UTC)) as found,
    ):
        reader, status = found
        name_of = whole_name if numbers else masked_name
        figures = read_figures(reader, status, pipeline.dataset_name or "", name_of)
    folder = files("linq_source.reporting")
    script, style = (folder.joinpath(f"page.{kind}").read_text("utf-8") for kind in ("js", "css"))
    return page_of(figures, script=script, style=style, library=library)


def check_output(path: str | Path) -> None:
    """Raise `ConfigurationError` where no file can be written, before anything is asked."""
    path = Path(path)
    folder = path.resolve().parent
    if not folder.is_dir():
        raise ConfigurationError(f"--output {path}: the folder {folder} does not exist")
    if path.exists() and not path.is_file():
        raise ConfigurationError(f"--output {path}: it is not a file; name one, *.html")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise ConfigurationError(f"--output {path}: it cannot be written; name another file")


def write_page(page: str, path: str | Path) -> int:
    """Write a page; gives how many bytes it has."""
    return Path(path).write_bytes(page.encode())


def whole_name(chat_id: int, name: str | None) -> str:
    """What a chat is called; its id where it has no name."""
    return (name or "").strip() or f"Chat {chat_id}"


def masked_name(chat_id: int, name: str | None) -> str:
    """The same; of numbers and addresses in it only the last four characters."""
    return NUMBER_OR_ADDRESS.sub(lambda found: f"...{found[0][-4:]}", whole_name(chat_id, name))


def _library() -> str:
    """Vega, Vega-Lite and what puts them into a page, as one JavaScript module."""
    try:
        import vl_convert
    except ImportError as error:
        raise ConfigurationError(
            f"the report needs an extra: pip install 'linq-source[report]' ({error})"
        ) from error
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
