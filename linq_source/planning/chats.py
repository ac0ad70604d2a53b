"""Reading one chat: from its cursor to the bound, changed days only, until the books close."""

from __future__ import annotations

from linq_source.planning.chat_memory import Book
from linq_source.planning.readings import ChatResult, ChatTask, Loaded, Reading, load_whole, read
from linq_source.planning.reconciling import close
from linq_source.planning.walking import WindowRead
from linq_source.planning.windows import Window


def read_chat(task: ChatTask) -> Reading[ChatResult]:
    """Read what a chat's task says.

    Yields `Ask` (send the pages) and `Loaded` (send whether to go on; after `False` the chat
    ends early and its result says so).
    """
    if task.end_us is not None:
        span = Window(task.chat_id, task.begin_us, task.end_us)
        complete = yield from read(span, task, _load_as_it_is)
        return ChatResult(None, complete)
    book = Book(task)
    complete = yield from read(book.span, task, book.enter)
    if complete and book.contiguous:
        yield from close(book)
    return ChatResult(book.cursor, complete)


def _load_as_it_is(window: WindowRead) -> Loaded:
    return load_whole(window, None)
