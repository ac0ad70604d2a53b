"""Making a report: the destination is asked once, the page is made of what it told."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from secrets import token_hex
from stat import S_IMODE

import dlt

from linq_source.destinations.dataset_tables import tables_of
from linq_source.destinations.failures import plain_errors
from linq_source.errors import ConfigurationError
from linq_source.operations.output_file import check_output_file
from linq_source.operations.status import reading_for_status
from linq_source.privacy.numbers import NUMBER_OR_ADDRESS
from linq_source.reporting.page import page_of
from linq_source.reporting.questions import READ_FOR_REPORT, read_figures
from linq_source.settings import Id
from linq_source.tables import CHAT_MESSAGES

_LONGEST_NAME = 80


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
        messages = tables_of(pipeline)[CHAT_MESSAGES.name]
        figures = read_figures(reader, status, pipeline.dataset_name or "", name_of, messages)
    folder = files("linq_source.reporting")
    script, style = (folder.joinpath(f"page.{kind}").read_text("utf-8") for kind in ("js", "css"))
    return page_of(figures, script=script, style=style, library=library)


def check_output(path: str | Path) -> None:
    """Raise `ConfigurationError` where no file can be written, before anything is asked."""
    path = Path(path)
    check_output_file(path, "--output", ".html")
    if path.exists() and not os.access(path, os.W_OK):
        raise ConfigurationError(f"--output {path}: it cannot be written; name another file")


def write_page(page: str, path: str | Path) -> int:
    """Write a page; gives how many bytes it has. Nobody sees half of it.

    Raises `ConfigurationError` where it cannot be written.
    """
    content = page.encode()
    whole = Path(path).resolve()
    part = whole.with_name(f".{token_hex(8)}.part")
    try:
        try:
            part.write_bytes(content)
            if whole.exists():
                part.chmod(S_IMODE(whole.stat().st_mode))
            part.replace(whole)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"--output {path}: it cannot be written ({error.strerror}); name another file"
        ) from error
    return len(content)


def whole_name(chat_id: Id, name: str | None) -> str:
    """What a chat is called; its id where it has no name."""
    return _cut((name or "").strip()) or f"Chat {chat_id}"


def masked_name(chat_id: Id, name: str | None) -> str:
    """The same; of numbers and addresses in it only the last four characters."""
    # Before it is cut: half a number would not be known as one.
    return whole_name(
        chat_id, NUMBER_OR_ADDRESS.sub(lambda found: f"...{found[0][-4:]}", name or "")
    )


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 3]}..."


def _library() -> str:
    """Vega, Vega-Lite and what puts them into a page, as one JavaScript module."""
    try:
        import vl_convert
    except ImportError as error:
        raise ConfigurationError(
            f"the report needs an extra: pip install 'linq-source[report]' ({error})"
        ) from error
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
