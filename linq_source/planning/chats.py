"""Reading one chat: from its cursor to the bound, changed days only, until the books close."""

from __future__ import annotations

from linq_source.planning.chat_memory import Book
from linq_source.planning.readings import ChatResult, ChatTask, Reading
from linq_source.planning.reconciling import read_as_it_is, read_books
from linq_source.planning.windows import Window


def read_chat(task: ChatTask) -> Reading[ChatResult]:
    """Read what a chat's task says.

    Yields `Ask` (send the pages) and `Loaded` (send whether to go on; after `False` the chat
    ends early and its result says so).
    """
    if task.end_us is not None:
        span = Window(task.chat_id, task.begin_us, task.end_us)
        return ChatResult(None, (yield from read_as_it_is(task, span)))
    book = Book(task)
    complete = yield from read_books(book)
    return ChatResult(book.cursor, complete)
