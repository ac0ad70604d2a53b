"""Telling refused or unusable credentials from every other failure of a destination."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

_DENIED = {"accessDenied", "authError"}


def find_refusal(causes: Iterable[BaseException]) -> str | None:
    """What is wrong with the credentials, in a few words; none when it is something else.

    Google's libraries are an extra, so their errors are known by their names.
    """
    for cause in causes:
        kind = type(cause)
        if kind.__module__.startswith("google.auth") and kind.__name__ != "TransportError":
            return f"Google does not accept them: {_short(cause)}"
        if kind.__name__ in ("Unauthorized", "Forbidden") and _reason(cause) in _DENIED:
            return f"they have not the rights that this needs: {_short(cause)}"
        if kind.__module__ == "dlt.common.configuration.specs.exceptions":
            return "they are not the JSON of a service account or an OAuth client"
        if isinstance(cause, ValueError) and _came_through(cause.__traceback__, "google.oauth2"):
            return "their private key cannot be read"
    return None


def _reason(error: BaseException) -> str:
    errors = getattr(error, "errors", None) or [{}]
    return str(errors[0].get("reason", ""))


def _came_through(traceback: TracebackType | None, module: str) -> bool:
    while traceback is not None:
        if str(traceback.tb_frame.f_globals.get("__name__", "")).startswith(module):
            return True
        traceback = traceback.tb_next
    return False


def _short(error: BaseException) -> str:
    text = str(error.args[0]) if error.args else type(error).__name__
    return " ".join(text.split())[:200]
