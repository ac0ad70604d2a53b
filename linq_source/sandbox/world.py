"""The state a sandbox serves: numbers, chats and messages in memory, behind one lock."""

from __future__ import annotations

import uuid
from bisect import bisect_left, bisect_right, insort
from collections.abc import Container, Iterable
from copy import deepcopy
from dataclasses import asdict, dataclass
from threading import RLock
from typing import Any

from linq_source.sandbox.records import (
    Attachment,
    Chat,
    ChatHandle,
    Contact,
    Message,
    MessageKey,
    PhoneNumber,
    Reaction,
)

__all__ = [
    "Attachment",
    "Chat",
    "ChatHandle",
    "Contact",
    "Message",
    "MessagePage",
    "PhoneNumber",
    "Reaction",
    "World",
]


@dataclass(frozen=True, slots=True)
class MessagePage:
    """The messages of one page and the number of messages on all pages."""

    messages: list[Message]
    total_count: int


class World:
    """A small Linq: a clock, the organisation's numbers, and the chats they see.

    Every method takes `lock`; hold it yourself to make several changes appear at once to readers.
    `now_ms` is the world's clock. It stands still until told otherwise and may be set to any
    instant, also backwards. Ids come from one counter per kind, unless given.
    """

    def __init__(self, now_ms: int) -> None:
        self.lock = RLock()
        self.now_ms = now_ms
        self.phone_numbers: dict[int, PhoneNumber] = {}
        self.chats: dict[int, Chat] = {}
        self.messages: dict[int, Message] = {}
        self.contacts: dict[int | str, Contact] = {}
        self._last_ids: dict[str, int] = {}

    def advance(self, ms: int) -> int:
        """Moves the clock by `ms` (negative: backwards) and returns the new `now_ms`.

        What is older than its numbers keep is forgotten.
        """
        with self.lock:
            self.now_ms += ms
            self.forget_expired()
            return self.now_ms

    def forget_expired(self) -> None:
        """Removes what is older than every number that sees it keeps (`PhoneNumber.keeps_ms`)."""
        with self.lock:
            for chat in self.chats.values():
                kept = [self.phone_numbers[i].keeps_ms for i in chat.phone_number_ids]
                longest_ms = max((ms for ms in kept if ms is not None), default=0)
                if kept and None not in kept:
                    oldest = bisect_left(chat.message_keys, (self.now_ms - longest_ms, 0))
                    for _, message_id in chat.message_keys[:oldest]:
                        self.delete_message(message_id)

    def copy(self) -> World:
        """A world of its own that is as this one is now."""
        with self.lock:
            other = World(self.now_ms)
            kept = deepcopy((self.phone_numbers, self.chats, self.messages, self._last_ids))
            other.phone_numbers, other.chats, other.messages, other._last_ids = kept
            other.contacts = deepcopy(self.contacts)
            return other

    # -- numbers, chats and participants ---------------------------------------------------

    def add_phone_number(
        self,
        phone_number: str,
        *,
        phone_number_id: int | None = None,
        forwarding_number: str | None = None,
        response_rate: int | None = None,
        keeps_ms: int | None = None,
    ) -> PhoneNumber:
        """Adds a number of the organisation. Raises `ValueError` for an id in use."""
        with self.lock:
            number = PhoneNumber(
                id=self._new_id("phone_number", phone_number_id, self.phone_numbers),
                phone_number=phone_number,
                forwarding_number=forwarding_number,
                response_rate=response_rate,
                keeps_ms=keeps_ms,
            )
            self.phone_numbers[number.id] = number
            return number

    def add_chat(
        self,
        *,
        display_name: str = "",
        service: str = "iMessage",
        group: bool = False,
        phone_number_ids: Iterable[int] | None = None,
        utc_offset_minutes: int = 0,
        chat_id: int | None = None,
    ) -> Chat:
        """Adds a chat seen by `phone_number_ids`, by default the world's first number.

        Raises `ValueError` for an id in use, for an unknown number, and when there is no number
        to default to.
        """
        with self.lock:
            if phone_number_ids is None:
                if not self.phone_numbers:
                    raise ValueError("add a phone number before the first chat")
                phone_number_ids = [next(iter(self.phone_numbers))]
            seen_by = list(dict.fromkeys(phone_number_ids))
            unknown = [n for n in seen_by if n not in self.phone_numbers]
            if unknown:
                raise ValueError(f"unknown phone numbers: {unknown}")
            chat = Chat(
                id=self._new_id("chat", chat_id, self.chats),
                display_name=display_name,
                service=service,
                group=group,
                phone_number_ids=seen_by,
                utc_offset_minutes=utc_offset_minutes,
            )
            self.chats[chat.id] = chat
            return chat

    def remove_chat(self, chat_id: int) -> None:
        """Removes a chat with all of its messages."""
        with self.lock:
            chat = self.chats.pop(chat_id)
            for _, message_id in chat.message_keys:
                del self.messages[message_id]

    def add_handle(
        self,
        chat_id: int,
        phone_number: str,
        *,
        service: str | None = None,
        joined_at_ms: int | None = None,
        handle_id: int | None = None,
    ) -> ChatHandle:
        """Adds a participant, by default on the chat's service and joining now."""
        with self.lock:
            chat = self.chats[chat_id]
            in_use: set[int] = set()
            if handle_id is not None:
                in_use = {handle.id for other in self.chats.values() for handle in other.handles}
            handle = ChatHandle(
                id=self._new_id("handle", handle_id, in_use),
                phone_number=phone_number,
                service=chat.service if service is None else service,
                joined_at_ms=self.now_ms if joined_at_ms is None else joined_at_ms,
            )
            chat.handles.append(handle)
            return handle

    def remove_handle(self, chat_id: int, handle_id: int) -> None:
        """Removes a participant; the messages it sent keep their `chat_handle_id`."""
        with self.lock:
            chat = self.chats[chat_id]
            kept = [handle for handle in chat.handles if handle.id != handle_id]
            if len(kept) == len(chat.handles):
                raise KeyError(handle_id)
            chat.handles = kept

    def chats_seen_by(self, phone_number: str) -> list[Chat]:
        """The chats which a number sees, by id; none for a number the world does not have."""
        with self.lock:
            ids = {n.id for n in self.phone_numbers.values() if n.phone_number == phone_number}
            seen = [c for c in self.chats.values() if not ids.isdisjoint(c.phone_number_ids)]
            return sorted(seen, key=lambda chat: chat.id)

    def add_contact(
        self,
        first_name: str | None = None,
        last_name: str | None = None,
        *,
        contact_id: int | str | None = None,
        **fields: Any,
    ) -> Contact:
        """Adds a contact, made now; ids may be texts. Raises `ValueError` for an id in use."""
        with self.lock:
            if isinstance(contact_id, str) and contact_id in self.contacts:
                raise ValueError(f"contact id {contact_id} is in use")
            if not isinstance(contact_id, str):
                contact_id = self._new_id("contact", contact_id, self.contacts)
            contact = Contact(contact_id, first_name, last_name, self.now_ms, self.now_ms, **fields)
            self.contacts[contact.id] = contact
            return contact

    # -- messages --------------------------------------------------------------------------

    def add_message(
        self,
        chat_id: int,
        text: str | None = "Hello, how are you?",
        *,
        sent_at_ms: int | None = None,
        delivered_at_ms: int | None = None,
        delivery_status: str = "delivered",
        edited_at_ms: int | None = None,
        is_read: bool = False,
        sent_from: str = "+15551234567",
        chat_handle_id: int | None = None,
        message_id: int | None = None,
        extra: dict[str, object] | None = None,
        raw: str | None = None,
    ) -> Message:
        """Adds a message, sent now unless told otherwise. Raises `ValueError` for an id in use."""
        with self.lock:
            chat = self.chats[chat_id]
            message = Message(
                id=self._new_id("message", message_id, self.messages),
                chat_id=chat_id,
                text=text,
                sent_at_ms=self.now_ms if sent_at_ms is None else sent_at_ms,
                delivered_at_ms=delivered_at_ms,
                delivery_status=delivery_status,
                edited_at_ms=edited_at_ms,
                is_read=is_read,
                sent_from=sent_from,
                chat_handle_id=chat_handle_id,
                extra={} if extra is None else extra,
                raw=raw,
            )
            self.messages[message.id] = message
            insort(chat.message_keys, (message.sent_at_ms, message.id))
            return message

    def edit_message(
        self, message_id: int, text: str | None, *, edited_at_ms: int | None = None
    ) -> Message:
        """Replaces a message's text, edited now unless told otherwise."""
        with self.lock:
            message = self.messages[message_id]
            message.text = text
            message.edited_at_ms = self.now_ms if edited_at_ms is None else edited_at_ms
            return message

    def move_message(self, message_id: int, sent_at_ms: int) -> Message:
        """Gives a message another `sent_at`, and so another place in its chat."""
        with self.lock:
            message = self.messages[message_id]
            self._forget_key(message)
            message.sent_at_ms = sent_at_ms
            insort(self.chats[message.chat_id].message_keys, (sent_at_ms, message_id))
            return message

    def delete_message(self, message_id: int) -> None:
        """Removes a message with its attachments and reactions."""
        with self.lock:
            self._forget_key(self.messages[message_id])
            del self.messages[message_id]

    def mark_read(self, message_id: int, is_read: bool = True) -> Message:
        """Sets whether a message was read."""
        with self.lock:
            message = self.messages[message_id]
            message.is_read = is_read
            return message

    def set_delivery(
        self, message_id: int, delivery_status: str, *, delivered_at_ms: int | None = None
    ) -> Message:
        """Sets the delivery status; `delivered` happens now unless told otherwise."""
        with self.lock:
            message = self.messages[message_id]
            if delivery_status == "delivered" and delivered_at_ms is None:
                delivered_at_ms = self.now_ms
            message.delivery_status = delivery_status
            message.delivered_at_ms = delivered_at_ms
            return message

    def add_attachment(
        self,
        message_id: int,
        *,
        filename: str = "document.pdf",
        mime_type: str = "application/pdf",
        file_size: int = 12_345,
        url: str | None = None,
        attachment_id: str | None = None,
    ) -> Attachment:
        """Adds a file of `file_size` bytes to a message."""
        with self.lock:
            number = self._new_id("attachment", None, ())
            name = f"linq-sandbox/attachments/{number}"
            identity = attachment_id or str(uuid.uuid5(uuid.NAMESPACE_URL, name))
            attachment = Attachment(
                id=identity,
                url=url or f"https://files.example.com/{identity}/{filename}",
                filename=filename,
                mime_type=mime_type,
                file_size=file_size,
            )
            self.messages[message_id].attachments.append(attachment)
            return attachment

    def add_reaction(
        self,
        message_id: int,
        reaction: str = "love",
        *,
        from_phone: str = "+15551234567",
        is_from_me: bool = False,
        sent_at_ms: int | None = None,
        reaction_id: int | None = None,
    ) -> Reaction:
        """Adds a reaction to a message, sent now unless told otherwise."""
        with self.lock:
            sent_ms = self.now_ms if sent_at_ms is None else sent_at_ms
            added = Reaction(
                id=self._new_id("reaction", reaction_id, ()),
                chat_message_id=message_id,
                reaction=reaction,
                is_from_me=is_from_me,
                from_phone=from_phone,
                sent_at_ms=sent_ms,
                created_at_ms=sent_ms,
                updated_at_ms=sent_ms,
            )
            self.messages[message_id].reactions.append(added)
            return added

    def remove_reaction(self, message_id: int, reaction_id: int) -> None:
        """Takes a reaction back; it leaves no trace."""
        with self.lock:
            message = self.messages[message_id]
            kept = [reaction for reaction in message.reactions if reaction.id != reaction_id]
            if len(kept) == len(message.reactions):
                raise KeyError(reaction_id)
            message.reactions = kept

    # -- reading ---------------------------------------------------------------------------

    def messages_of(self, chat_id: int) -> list[Message]:
        """All messages of a chat by `(sent_at_ms, id)`."""
        with self.lock:
            return [self.messages[message_id] for _, message_id in self.chats[chat_id].message_keys]

    def message_page(
        self,
        chat_id: int,
        *,
        page: int = 1,
        per_page: int = 25,
        after_us: int | None = None,
        before_us: int | None = None,
        inclusive: bool = False,
        descending: bool = False,
    ) -> MessagePage:
        """One page of the messages between two instants given in microseconds since the epoch.

        Messages sent at the instants themselves belong to the range only when `inclusive`.
        Raises `KeyError` for an unknown chat.
        """
        with self.lock:
            keys = self.chats[chat_id].message_keys
            first, last = 0, len(keys)
            if after_us is not None:
                first = _position(keys, after_us, after_ties=not inclusive)
            if before_us is not None:
                last = _position(keys, before_us, after_ties=inclusive)
            total_count = max(0, last - first)
            skipped = min((page - 1) * per_page, total_count)
            taken = min(skipped + per_page, total_count)
            if descending:
                chosen = keys[last - taken : last - skipped][::-1] if total_count else []
            else:
                chosen = keys[first + skipped : first + taken]
            return MessagePage([self.messages[key[1]] for key in chosen], total_count)

    def sorted_contacts(self) -> list[Contact]:
        """All contacts, by id as text."""
        with self.lock:
            return sorted(self.contacts.values(), key=lambda contact: str(contact.id))

    def snapshot(self) -> dict[str, Any]:
        """Everything as plain dicts and lists, to be compared with another state or with tables.

        Keys: `now_ms`, `phone_numbers`, `contacts` and `chats` (by id; a chat has its `handles`
        and its stated `message_count`), `messages` (by chat, then in the chat's order; each with
        its `attachments` and `reactions`).
        """
        with self.lock:
            chats = []
            for chat in sorted(self.chats.values(), key=lambda c: c.id):
                plain = asdict(chat)
                del plain["message_keys"]
                chats.append(plain | {"message_count": chat.message_count})
            numbers = sorted(self.phone_numbers.values(), key=lambda number: number.id)
            return {
                "now_ms": self.now_ms,
                "phone_numbers": [asdict(number) for number in numbers],
                "contacts": [
                    asdict(c) | {"full_name": c.full_name} for c in self.sorted_contacts()
                ],
                "chats": chats,
                "messages": [
                    asdict(message) for chat in chats for message in self.messages_of(chat["id"])
                ],
            }

    def _new_id(self, kind: str, given: int | None, in_use: Container[Any]) -> int:
        last = self._last_ids.get(kind, 0)
        if given is None:
            given = last + 1
        elif given in in_use:
            raise ValueError(f"{kind} id {given} is in use")
        self._last_ids[kind] = max(last, given)
        return given

    def _forget_key(self, message: Message) -> None:
        keys = self.chats[message.chat_id].message_keys
        del keys[bisect_left(keys, (message.sent_at_ms, message.id))]


def _position(keys: list[MessageKey], instant_us: int, *, after_ties: bool) -> int:
    """Where `instant_us` falls among `keys`: behind the messages of that instant or before them."""
    if after_ties:
        return bisect_right(keys, instant_us // 1000, key=lambda key: key[0])
    return bisect_left(keys, -(-instant_us // 1000), key=lambda key: key[0])
