"""Reading one chat: from its cursor to the bound, changed days only, until the counts agree."""

from __future__ import annotations

from linq_source.planning.chat_memory import ChatMemory
from linq_source.planning.readings import ChatResult, ChatTask, Reading
from linq_source.planning.reconciliation import read_interval, reconcile
from linq_source.planning.windows import Window


def read_chat(task: ChatTask) -> Reading[ChatResult]:
    """Read what a chat's task says.

    Yields `Ask` (send the pages) and `WindowToLoad` (send whether to go on; after `False` the chat
    ends early and its result says so).
    """
    if task.end_us is not None:
        span = Window(task.chat_id, task.begin_us, task.end_us)
        return ChatResult(None, (yield from read_interval(task, span)))
    memory = ChatMemory(task)
    complete = yield from reconcile(memory)
    return ChatResult(memory.cursor, complete, memory.all_gone_us, memory.oldest_us)
