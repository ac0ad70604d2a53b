"""Errors of dlt and of destinations, told in one line: what it is, and the way out of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import dlt
from dlt.common.configuration.exceptions import ConfigFieldMissingException
from dlt.common.destination.exceptions import DestinationException
from dlt.destinations.exceptions import DestinationConnectionError
from dlt.pipeline.exceptions import PipelineStepFailed

from linq_source.destinations.refusals import find_refusal
from linq_source.errors import ConfigurationError, DestinationError, LinqError

E = TypeVar("E", bound=BaseException)

DISK = "the disk is full: free some space, then run again"
FILES = "too many files are open: raise the limit (ulimit -n), then run again"
LOCKED = "another program has the file open: close it, then run again"
RIGHTS = "reading or writing is not permitted there: grant it or choose another place, run again"
MEMORY = "the memory does not suffice: give it more, or load smaller packages (--max-messages)"
BUSY = "another transaction was in the way: run again"
NETWORK = "it cannot be reached: check its address and the network, then run again"
CREDENTIALS = "it does not accept the credentials: set others, then run again"
NAME = "a table, a column or a statement is not what it expects (--debug shows more)"
VALUE = "a value cannot be stored there (--debug shows it)"
REFUSED = "check its address, credentials and rights, then run again"

_BY_NUMBER = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), DISK),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), RIGHTS),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), FILES),
    errno.ENOMEM: MEMORY,
}
# SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html
_BY_STATE = {
    **{"08": NETWORK, "22": VALUE, "23": VALUE, "28": CREDENTIALS, "3D": NAME, "3F": NAME},
    **{"40": BUSY, "42": NAME, "42501": RIGHTS, "53": BUSY, "53100": DISK, "53200": MEMORY},
    **{"55": BUSY, "57": BUSY},
}
# Classes of the drivers, which are extras, by name: each says it of those that derive from it.
_BY_CLASS = {
    **dict.fromkeys(("MemoryError", "OutOfMemoryException"), MEMORY),
    **dict.fromkeys(("TransactionException", "TooManyRequests", "ServiceUnavailable"), BUSY),
    **dict.fromkeys(("ConnectionError", "TimeoutError", "gaierror", "HTTPException"), NETWORK),
    **dict.fromkeys(("Timeout", "TransportError", "EndpointConnectionError"), NETWORK),
    **dict.fromkeys(("NoCredentialsError", "Unauthorized"), CREDENTIALS),
    **dict.fromkeys(("DataError", "IntegrityError", "InvalidInputException"), VALUE),
    **dict.fromkeys(("ArrowInvalid", "ArrowTypeError", "UnicodeError"), VALUE),
    **dict.fromkeys(("ProgrammingError", "NotFound", "DestinationUndefinedEntity"), NAME),
    "Forbidden": REFUSED,
}


@contextmanager
def plain_errors(pipeline: dlt.Pipeline) -> Iterator[None]:
    """Raise errors of the destination in one line; a `LinqError` and a bug stay as they are."""
    try:
        yield
    except LinqError:
        raise
    except Exception as error:
        if find_cause(error, KeyboardInterrupt) is not None:
            raise KeyboardInterrupt from error
        plain = find_cause(error, LinqError) or _plain(pipeline, error)
        if plain is None:
            raise
        raise plain from error


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """An error, what it came from, and so on; a chain that comes back to itself ends there."""
    current: BaseException | None = error
    seen: set[int] = set()
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def find_cause(error: BaseException, kind: type[E]) -> E | None:
    """The first error of a kind in a chain of causes."""
    return next((cause for cause in causes_of(error) if isinstance(cause, kind)), None)


def root_cause(error: BaseException) -> BaseException:
    """What began a chain of errors."""
    *_, root = causes_of(error)
    return root


def is_locked(error: BaseException) -> bool:
    """Whether a DuckDB file is held by another process."""
    return find_advice(error)[1] == LOCKED


def _plain(pipeline: dlt.Pipeline, error: BaseException) -> LinqError | None:
    name = pipeline.destination.destination_name if pipeline.destination else "destination"
    if isinstance(root_cause(error), ImportError):
        return ConfigurationError(f"{name} needs an extra: pip install 'linq-source[{name}]'")
    missing = find_cause(error, ConfigFieldMissingException)
    if missing is not None:
        return ConfigurationError(_missing_line(name, missing))
    refusal = find_refusal(causes_of(error))
    if refusal is not None:
        return ConfigurationError(
            f"{name}: the credentials cannot be used, {refusal}; set "
            "others, or grant them the roles that docs/bigquery.md lists"
        )
    cause, advice = find_advice(error)
    # What is no destination's doing is a bug here or in dlt, and says where with --debug.
    if advice is None and find_cause(error, DestinationException) is None:
        return None
    step = error.step if isinstance(error, PipelineStepFailed) else "load"
    if step not in ("load", "sync"):
        if advice not in (DISK, FILES, RIGHTS, MEMORY):
            return None
        name = f"working folder {pipeline.working_dir}"
    # The text of an error about a value may quote it.
    text = "" if advice == VALUE else f": {' '.join(str(cause).split())[:200]}"
    if advice is None:
        unreached = find_cause(error, DestinationConnectionError) is not None
        advice = REFUSED if unreached else "--debug shows more"
    return DestinationError(f"{name}: {advice} ({type(cause).__name__}{text})")


def find_advice(error: BaseException) -> tuple[BaseException, str | None]:
    """The cause that says what is wrong, and what to do; the root where none of them says so."""
    for cause in causes_of(error):
        advice = _advice_of(cause)
        if advice is not None:
            return cause, advice
    return root_cause(error), None


def _advice_of(cause: BaseException) -> str | None:
    kinds = [kind.__name__ for kind in type(cause).__mro__]
    number = getattr(cause, "errno", None)
    if number in _BY_NUMBER:
        return _BY_NUMBER[number]
    state = getattr(cause, "pgcode", None)
    if state:
        return _BY_STATE.get(state, _BY_STATE.get(state[:2]))
    if "OperationalError" in kinds or (isinstance(cause, OSError) and number is None):
        # DuckDB, Arrow and Delta pass on the system's own words and no number.
        if "Could not set lock on file" in str(cause):
            return LOCKED
        for known, advice in _BY_NUMBER.items():
            if os.strerror(known) in str(cause):
                return advice
        if type(cause).__module__ == "psycopg2":
            # Without a state, for there was no session: of all that prevents one, only words tell.
            return REFUSED
    return next((_BY_CLASS[kind] for kind in kinds if kind in _BY_CLASS), None)


def _missing_line(name: str, error: ConfigFieldMissingException) -> str:
    key_file = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if name == "bigquery" and key_file and not os.path.isfile(key_file):
        return f"GOOGLE_APPLICATION_CREDENTIALS is {key_file}: there is no such file"
    elsewhere = ", or GOOGLE_APPLICATION_CREDENTIALS" if name == "bigquery" else ""
    return (
        f"{name}: missing configuration: {', '.join(error.fields)}; set it under "
        f"[destination.{name}] in .dlt/secrets.toml{elsewhere}"
    )
