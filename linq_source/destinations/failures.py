"""Errors of dlt and of destinations, told in one line that names the way out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import dlt
from dlt.common.configuration.exceptions import ConfigFieldMissingException
from dlt.pipeline.exceptions import PipelineStepFailed

from linq_source.destinations.refusals import find_refusal
from linq_source.errors import ConfigurationError, DestinationError, LinqError

E = TypeVar("E", bound=BaseException)


@contextmanager
def plain_errors(pipeline: dlt.Pipeline) -> Iterator[None]:
    """An error of ours as it is; one of the destination in one line."""
    try:
        yield
    except LinqError:
        raise
    except Exception as error:
        if find_cause(error, KeyboardInterrupt) is not None:
            raise KeyboardInterrupt from error
        ours = find_cause(error, LinqError)
        if ours is not None:
            raise ours from error
        if isinstance(error, PipelineStepFailed) and error.step not in ("load", "sync"):
            raise
        if isinstance(root_cause(error), ImportError):
            name = _destination_name(pipeline)
            raise ConfigurationError(
                f"{name} needs an extra: pip install 'linq-source[{name}]'"
            ) from error
        missing = find_cause(error, ConfigFieldMissingException)
        if missing is not None:
            raise ConfigurationError(_missing_line(pipeline, missing)) from error
        refusal = find_refusal(error)
        if refusal is not None:
            raise ConfigurationError(
                f"{_destination_name(pipeline)}: the credentials cannot be used, {refusal}; set "
                "others, or grant them the roles that docs/bigquery.md lists"
            ) from error
        raise DestinationError(_destination_line(pipeline, error)) from error


def find_cause(error: BaseException, kind: type[E]) -> E | None:
    """The first error of a kind in a chain of causes."""
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, kind):
            return current
        current = current.__cause__ or current.__context__
    return None


def root_cause(error: BaseException) -> BaseException:
    """What began a chain of errors."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return error


def _destination_line(pipeline: dlt.Pipeline, error: BaseException) -> str:
    root = root_cause(error)
    text = " ".join(str(root).split())
    if "lock" in text.lower():
        return (
            f"{_destination_name(pipeline)}: another program has the file open: close it, "
            f"then run again ({text[:200]})"
        )
    return (
        f"{_destination_name(pipeline)}: {type(root).__name__}: {text[:300]}; "
        "check its address, credentials and rights, then run again"
    )


def _missing_line(pipeline: dlt.Pipeline, error: ConfigFieldMissingException) -> str:
    name = _destination_name(pipeline)
    elsewhere = ", or GOOGLE_APPLICATION_CREDENTIALS" if name == "bigquery" else ""
    return (
        f"{name}: missing configuration: {', '.join(error.fields)}; set it under "
        f"[destination.{name}] in .dlt/secrets.toml{elsewhere}"
    )


def _destination_name(pipeline: dlt.Pipeline) -> str:
    return pipeline.destination.destination_name if pipeline.destination else "destination"
