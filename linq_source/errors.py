"""Every error this package raises on purpose, in one tree.

    LinqError
    ├── ConfigurationError           a setting is missing or wrong; nothing was loaded (exit 2)
    ├── AuthenticationError          the API refuses the token (401); the run stops (exit 1)
    ├── ApiUnavailableError          no believable answer within the deadline (exit 1)
    ├── ApiContractError             an answer that asking again does not change (exit 1)
    ├── ChatUnavailableError         one chat cannot be read; all others go on (exit 3)
    ├── PhoneNumberUnavailableError  one number's chats cannot be listed; others go on (exit 3)
    ├── AlreadyRunningError          another run of the pipeline is under way (exit 1)
    └── DestinationError             the destination cannot be opened, read or written (exit 1)

A message says what to do next, names ids, paths and settings, and never a token, a phone number
or a message's text. Callers may catch `LinqError` for all of them.
"""

from __future__ import annotations


class LinqError(Exception):
    """The root of every error raised on purpose by this package."""

    exit_code = 1


class ConfigurationError(LinqError):
    """A setting is missing or wrong. Nothing was loaded."""

    exit_code = 2


class AuthenticationError(LinqError):
    """The API refuses the token (HTTP 401)."""


class ApiUnavailableError(LinqError):
    """The API gave no believable answer before the request's deadline."""


class ApiContractError(LinqError):
    """The API answered in a way its contract excludes and that asking again does not change.

    `status` is the answer's; none where there was no answer that could be trusted.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ChatUnavailableError(LinqError):
    """One chat cannot be read; the others are not concerned.

    `status` is that of the API's answer; none where no answer about it came or could be read.
    """

    exit_code = 3

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class PhoneNumberUnavailableError(LinqError):
    """The chats of one phone number cannot be listed; the others are not concerned."""

    exit_code = 3


class AlreadyRunningError(LinqError):
    """Another run of the same pipeline is under way on this machine."""


class DestinationError(LinqError):
    """The destination cannot be opened, read or written."""


class Interrupted(KeyboardInterrupt):
    """Ended by Ctrl-C or SIGTERM; `loads` are the packages that had been loaded by then."""

    def __init__(self, loads: tuple[str, ...]) -> None:
        super().__init__()
        self.loads = loads


def no_messages_in(place: str) -> ConfigurationError:
    """The error for a place without messages."""
    return ConfigurationError(
        f"{place} has no messages: load them with `linq-source run`, or name the place that has "
        "them (--database, --bucket-url, --dataset)"
    )
