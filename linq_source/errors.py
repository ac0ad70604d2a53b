"""Every error this package raises on purpose, in one tree.

    LinqError
    ├── ConfigurationError      a setting is missing or wrong; nothing was asked or loaded (exit 2)
    ├── AuthenticationError     the API refuses the token (401); the run stops at once (exit 1)
    ├── ApiUnavailableError     no believable answer within the deadline (exit 1)
    ├── ChatUnavailableError    one chat answers 403, 404 or 410; all others go on (exit 3)
    ├── ApiContractError        an answer that breaks the contract in a way no retry mends (exit 1)
    └── DestinationError        the destination cannot be opened, read or written (exit 1)

A message says what to do next, names ids, paths and settings, and never a token, a phone number
or a message's text. Callers may catch `LinqError` for all of them.
"""

from __future__ import annotations


class LinqError(Exception):
    """The root of every error raised on purpose by this package."""

    exit_code = 1


class ConfigurationError(LinqError):
    """A setting is missing or wrong. Nothing was requested and nothing loaded."""

    exit_code = 2


class AuthenticationError(LinqError):
    """The API refuses the token (HTTP 401)."""


class ApiUnavailableError(LinqError):
    """The API gave no believable answer before the request's deadline."""


class ChatUnavailableError(LinqError):
    """One chat cannot be read (HTTP 403, 404 or 410); the others are not concerned."""

    exit_code = 3

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class ApiContractError(LinqError):
    """The API answered in a way its contract excludes and that asking again does not mend."""


class DestinationError(LinqError):
    """The destination cannot be opened, read or written."""
