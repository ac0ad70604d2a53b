"""Answering what readings ask for, and telling whose failure a failure is.

An answer about one chat, or about the list of one phone number, that is not 401 and that asking
again does not change concerns that chat or number alone. Where no believable answer came, another
chat or number is asked: if that is answered, the failure is of the one alone, else it is an
outage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from linq_source.api.client import Client
from linq_source.errors import (
    ApiContractError,
    ApiUnavailableError,
    ChatUnavailableError,
    LinqError,
    PhoneNumberUnavailableError,
)
from linq_source.planning import requests_v2, requests_v3
from linq_source.planning.organisations import digest_of
from linq_source.planning.requests_v2 import ChatRequest, CountRequest
from linq_source.planning.windows import Page, Request
from linq_source.settings import Id

# Others that are asked before a failure is taken for an outage: one of them may fail, too.
MOST_OTHERS = 3

_UNKNOWN = (403, 404, 410)
_MESSAGES = requests_v2.MessagesRequest | requests_v3.MessagesRequest
_CHATS = requests_v2.ChatsRequest | requests_v3.ChatsRequest


@dataclass
class Asker:
    """Answers requests of readings, from several threads at once.

    `on_listed` gets the `Date` of every listing's answer, `on_answered` that of every list's.
    `failing` are the chats and numbers (see `subject_of`) that were given up when others were
    answered: they are asked once, not until the request's deadline. `others` gives some requests
    about other chats, or numbers, at random.
    """

    client: Client
    on_listed: Callable[[str], None]
    on_answered: Callable[[str], None]
    failing: set[str] = field(default_factory=set)
    others: Callable[[], Iterable[Request]] = tuple

    def fetch(self, request: Request) -> Page:
        """Answer a request.

        Raises `ChatUnavailableError` or `PhoneNumberUnavailableError` where one chat or number is
        concerned, and the errors of `Client.get`.
        """
        if isinstance(request, CountRequest):
            return self._ask_for_count(request)
        subject = subject_of(request)
        try:
            return self._ask(request, once=subject in self.failing)
        except ApiContractError as error:
            if error.status is None:
                raise
            if isinstance(request, requests_v3.MessagesRequest) and request.is_refused_with(
                error.status
            ):
                return Page(b"", is_refused=True)
            raise _confined(request, error) from error
        except ApiUnavailableError as error:
            if not self._is_answered_about_others(request):
                raise
            self.failing.add(subject)
            raise _confined(request, error) from error

    def _ask(self, request: Request, *, once: bool) -> Page:
        date, page = self.client.get(request.path, request.parameters, request.read, once=once)
        if not isinstance(request, ChatRequest):
            self.on_answered(date)
        if not isinstance(request, _MESSAGES):
            self.on_listed(date)
        return page

    def _ask_for_count(self, request: CountRequest) -> Page:
        """Ask for a chat's count; without an answer the chat is judged by the listing."""
        try:
            return self.client.get(request.path, {}, request.read, once=True)[1]
        except (ApiContractError, ApiUnavailableError):
            return Page(b'{"data":{}}')

    def _is_answered_about_others(self, request: Request) -> bool:
        left_out = {subject_of(request), *self.failing}
        others = [other for other in self.others() if subject_of(other) not in left_out]
        return any(self._is_answered(other) for other in others[:MOST_OTHERS])

    def _is_answered(self, request: Request) -> bool:
        try:
            self._ask(request, once=True)
        except ApiContractError as error:
            return error.status is not None
        except ApiUnavailableError:
            return False
        return True


def subject_of(request: Request) -> str:
    """Return what a request is about, in a form that the state may keep."""
    number = _number_of(request)
    return str(_chat_of(request)) if number is None else f"line:{digest_of(number)}"


def _chat_of(request: Request) -> Id:
    if isinstance(request, ChatRequest | _MESSAGES):
        return request.chat_id
    raise AssertionError(request)


def _number_of(request: Request) -> str | None:
    return request.phone_number if isinstance(request, _CHATS) else None


def _confined(request: Request, error: ApiContractError | ApiUnavailableError) -> LinqError:
    if _number_of(request) is not None:
        return PhoneNumberUnavailableError(str(error))
    chat_id = _chat_of(request)
    status = error.status if isinstance(error, ApiContractError) else None
    if status in _UNKNOWN:
        text = f"HTTP {status}; it does not exist or the token may not read it"
    else:
        text = str(error)
    return ChatUnavailableError(f"chat {chat_id}: {text}", status=status)
