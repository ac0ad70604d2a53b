"""What the marts must hold, computed message by message from a sandbox's world."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from linq_source.sandbox import World
from tests.truth import Row, instant

Marts = dict[str, list[Row]]


@dataclass
class Seen:
    """What was ever seen of a world: every message and chat as it was last seen.

    `deleted` and `expired` are ids of messages that are gone, and why.
    """

    timezone: str = "UTC"
    silence: timedelta = timedelta(days=1)
    messages: dict[int, Row] = field(default_factory=dict)
    chats: dict[int, Row] = field(default_factory=dict)
    lines: list[Row] = field(default_factory=list)
    contacts: list[Row] = field(default_factory=list)
    deleted: set[int] = field(default_factory=set)
    expired: set[int] = field(default_factory=set)
    deleted_chats: set[int] = field(default_factory=set)

    def look(self, world: World) -> None:
        """Take note of the world as it is; what is live again is neither deleted nor expired."""
        snapshot = world.snapshot()
        live = {message["id"]: message for message in snapshot["messages"]}
        self.messages |= live
        self.chats |= {chat["id"]: chat for chat in snapshot["chats"]}
        self.lines, self.contacts = snapshot["phone_numbers"], snapshot["contacts"]
        self.deleted -= live.keys()
        self.expired -= live.keys()

    def marts(self) -> Marts:
        """Every mart but `data_quality`, in no order, without the instants of our runs."""
        every = [self._message(self.messages[i]) for i in sorted(self.messages)]
        kept = [row for row in every if row["message_id"] not in self.deleted]
        kept.sort(key=lambda row: (row["chat_id"], row["sent_at"], row["message_id"]))
        self._number_conversations(kept)
        turns = list(self._turns(kept))
        return {
            "fct_messages": kept,
            "fct_deleted_messages": [
                {name: row[name] for name in row if name not in _NOT_OF_DELETED}
                for row in every
                if row["message_id"] in self.deleted
            ],
            "fct_responses": turns,
            "fct_conversations": _conversations(kept),
            "dim_lines": self._lines(kept, turns),
            "dim_chats": self._chats(kept),
            "dim_contacts": self._people(kept),
            "agg_daily_activity": _activity(kept),
            "agg_delivery_funnel": _funnel(kept),
            "agg_reactions": self._reactions(),
        }

    # -- facts -----------------------------------------------------------------------------

    @property
    def _numbers(self) -> set[str]:
        return {line["phone_number"] for line in self.lines}

    def _local(self, at: datetime) -> datetime:
        """The wall clock, without a zone."""
        return at.astimezone(ZoneInfo(self.timezone)).replace(tzinfo=None)

    def _lines_of(self, chat: Row) -> list[str]:
        seen_by = chat["phone_number_ids"]
        return [line["phone_number"] for line in self.lines if line["id"] in seen_by]

    def _only_line(self, chat: Row) -> str | None:
        lines = self._lines_of(chat)
        return lines[0] if len(lines) == 1 else None

    def _contact(self, number: str | None) -> Row | None:
        for contact in self.contacts:
            if number is not None and number in (contact["phone_number"], contact["email"]):
                return contact
        return None

    def _name(self, number: str | None) -> str | None:
        contact = self._contact(number)
        return None if contact is None else contact["full_name"]

    def _message(self, message: Row) -> Row:
        chat = self.chats[message["chat_id"]]
        sent_at = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=message["sent_at_ms"])
        local = self._local(sent_at)
        is_ours = message["sent_from"] in self._numbers
        people = [h["phone_number"] for h in chat["handles"]]
        other = people[0] if len(people) == 1 else None
        number = other if is_ours else message["sent_from"]
        waited_ms = (
            message["delivered_at_ms"] and message["delivered_at_ms"] - message["sent_at_ms"]
        )
        return {
            "message_id": message["id"],
            "chat_id": chat["id"],
            "sent_at": sent_at,
            "sent_day": local.date(),
            "sent_weekday": local.isoweekday(),
            "sent_hour": local.hour,
            "direction": "outbound" if is_ours else "inbound",
            "line_number": message["sent_from"] if is_ours else self._only_line(chat),
            "contact_number": number,
            "contact_name": self._name(number),
            "service": chat["service"],
            "is_group": chat["group"],
            "text_length": len(message["text"] or ""),
            "has_attachment": bool(message["attachments"]),
            "attachment_count": len(message["attachments"]),
            "reaction_count": len(message["reactions"]),
            "delivery_status": message["delivery_status"],
            "delivered_at": instant(message["delivered_at_ms"]),
            "delivery_time_s": None if waited_ms is None else waited_ms / 1000,
            "is_read": message["is_read"],
            "edited_at": instant(message["edited_at_ms"]),
            "state": "expired" if message["id"] in self.expired else "live",
        }

    def _number_conversations(self, kept: list[Row]) -> None:
        before: Row | None = None
        for row in kept:
            is_next = (
                before is not None
                and before["chat_id"] == row["chat_id"]
                and row["sent_at"] - before["sent_at"] <= self.silence
            )
            row["conversation_id"] = (
                before["conversation_id"] if before and is_next else row["message_id"]
            )
            before = row

    def _turns(self, kept: list[Row]) -> Iterable[Row]:
        for messages in by(kept, lambda row: row["chat_id"]).values():
            turn: list[Row] = []
            for row in messages:
                if row["direction"] == "inbound":
                    turn.append(row)
                elif turn:
                    yield self._turn(turn, row)
                    turn = []
            if turn:
                yield self._turn(turn, None)

    def _turn(self, turn: list[Row], answer: Row | None) -> Row:
        first, last = turn[0], turn[-1]
        local = self._local(first["sent_at"])
        answered_at = answer and answer["sent_at"]
        return {
            "turn_id": first["message_id"],
            "chat_id": first["chat_id"],
            "is_group": first["is_group"],
            "line_number": (answer or first)["line_number"],
            "contact_number": first["contact_number"],
            "contact_name": first["contact_name"],
            "message_count": len(turn),
            "sender_count": len({row["contact_number"] for row in turn}),
            "first_sent_at": first["sent_at"],
            "first_sent_day": local.date(),
            "first_sent_weekday": local.isoweekday(),
            "first_sent_hour": local.hour,
            "last_message_id": last["message_id"],
            "last_sent_at": last["sent_at"],
            "is_answered": answer is not None,
            "answer_message_id": answer and answer["message_id"],
            "answered_at": answered_at,
            "response_time_s": answered_at and (answered_at - first["sent_at"]).total_seconds(),
            "response_time_from_last_s": answered_at
            and (answered_at - last["sent_at"]).total_seconds(),
            "business_response_time_s": answered_at
            and business_seconds(local, self._local(answered_at)),
            "open_since": None if answer else first["sent_at"],
        }

    # -- dimensions and sums ---------------------------------------------------------------

    def _lines(self, kept: list[Row], turns: list[Row]) -> list[Row]:
        rows = []
        for line in self.lines:
            number = line["phone_number"]
            own = [row for row in kept if row["line_number"] == number]
            own_turns = [turn for turn in turns if turn["line_number"] == number]
            times_s = [turn["response_time_s"] for turn in own_turns if turn["is_answered"]]
            chats = [c for c in self.chats.values() if line["id"] in c["phone_number_ids"]]
            rows.append(
                {
                    "line_id": line["id"],
                    "line_number": number,
                    "forwarding_number": line["forwarding_number"],
                    "response_rate_percent": line["response_rate"],
                    "chat_count": len(chats),
                    **_directions(own),
                    **_span(own),
                    "turn_count": len(own_turns),
                    "answered_turn_count": len(times_s),
                    "average_response_time_s": mean(times_s),
                }
            )
        return rows

    def _chats(self, kept: list[Row]) -> list[Row]:
        rows = []
        for chat in self.chats.values():
            own = [row for row in kept if row["chat_id"] == chat["id"]]
            gone = [i for i in self.deleted if self.messages[i]["chat_id"] == chat["id"]]
            rows.append(
                {
                    "chat_id": chat["id"],
                    "display_name": chat["display_name"],
                    "service": chat["service"],
                    "is_group": chat["group"],
                    "state": "deleted" if chat["id"] in self.deleted_chats else "live",
                    "line_count": len(self._lines_of(chat)),
                    "line_number": self._only_line(chat),
                    "participant_count": len(chat["handles"]),
                    "message_count": len(own),
                    **_directions(own),
                    "live_message_count": sum(row["state"] == "live" for row in own),
                    "deleted_message_count": len(gone),
                    "api_message_count": chat["message_count"],
                    "conversation_count": len({row["conversation_id"] for row in own}),
                    **_span(own),
                }
            )
        return rows

    def _people(self, kept: list[Row]) -> list[Row]:
        chats: dict[str, set[int]] = defaultdict(set)
        for chat in self.chats.values():
            for handle in chat["handles"]:
                chats[handle["phone_number"]].add(chat["id"])
        for row in kept:
            if row["contact_number"]:
                chats[row["contact_number"]].add(row["chat_id"])
        rows = []
        for number in chats.keys() - self._numbers:
            own = [row for row in kept if row["contact_number"] == number]
            count = len({row["conversation_id"] for row in own})
            contact = self._contact(number)
            rows.append(
                {
                    "contact_number": number,
                    "contact_name": self._name(number),
                    "company": contact and contact["company"],
                    "chat_count": len(chats[number]),
                    **_directions(own),
                    "conversation_count": count,
                    "relationship": (None, "new", "returning")[min(count, 2)],
                    **_span(own),
                }
            )
        return rows

    def _reactions(self) -> list[Row]:
        found = [
            (self._local(datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=r["sent_at_ms"])),
             r["reaction"], "outbound" if r["is_from_me"] else "inbound", message)
            for message in self.messages.values()
            if message["id"] not in self.deleted
            for r in message["reactions"]
        ]  # fmt: skip
        return [
            {
                "reaction_day": day,
                "reaction": reaction,
                "direction": direction,
                "reaction_count": len(rows),
                "message_count": len({row[3]["id"] for row in rows}),
                "chat_count": len({row[3]["chat_id"] for row in rows}),
            }
            for (day, reaction, direction), rows in by(
                found, lambda row: (row[0].date(), row[1], row[2])
            ).items()
        ]


_NOT_OF_DELETED = (
    "conversation_id", "delivery_status", "delivered_at", "delivery_time_s", "is_read",
    "edited_at", "state",
)  # fmt: skip


def business_seconds(begin: datetime, end: datetime) -> float:
    """Seconds between two wall clocks within 9 to 17 o'clock of weekdays, day by day."""
    total = timedelta()
    day = begin.date()
    while day <= end.date():
        if day.isoweekday() <= 5:
            opening = max(begin, datetime.combine(day, time(9)))
            closing = min(end, datetime.combine(day, time(17)))
            total += max(closing - opening, timedelta())
        day += timedelta(days=1)
    return total.total_seconds()


def by(rows: Iterable[Any], key: Callable[[Any], Any]) -> Mapping[Any, list[Any]]:
    """Rows by a key, in their order."""
    found: dict[Any, list[Any]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return found


def mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _directions(rows: list[Row]) -> Row:
    inbound = sum(row["direction"] == "inbound" for row in rows)
    return {"inbound_message_count": inbound, "outbound_message_count": len(rows) - inbound}


def _span(rows: list[Row]) -> Row:
    instants = [row["sent_at"] for row in rows]
    return {
        "first_message_at": min(instants, default=None),
        "last_message_at": max(instants, default=None),
    }


def _senders(rows: list[Row]) -> int:
    return len({row["contact_number"] for row in rows if row["direction"] == "inbound"})


def _conversations(kept: list[Row]) -> list[Row]:
    return [
        {
            "conversation_id": number,
            "chat_id": rows[0]["chat_id"],
            "started_by": rows[0]["direction"],
            "started_at": rows[0]["sent_at"],
            "started_day": rows[0]["sent_day"],
            "started_weekday": rows[0]["sent_weekday"],
            "started_hour": rows[0]["sent_hour"],
            "ended_at": rows[-1]["sent_at"],
            "duration_s": (rows[-1]["sent_at"] - rows[0]["sent_at"]).total_seconds(),
            "message_count": len(rows),
            **_directions(rows),
            "sender_count": _senders(rows),
        }
        for number, rows in by(kept, lambda row: row["conversation_id"]).items()
    ]


def _activity(kept: list[Row]) -> list[Row]:
    return [
        {
            "activity_day": day,
            "line_number": line,
            "message_count": len(rows),
            **_directions(rows),
            "active_chat_count": len({row["chat_id"] for row in rows}),
            "sender_count": _senders(rows),
            "attachment_count": sum(row["attachment_count"] for row in rows),
            "reaction_count": sum(row["reaction_count"] for row in rows),
        }
        for (day, line), rows in by(kept, lambda row: (row["sent_day"], row["line_number"])).items()
    ]


def _funnel(kept: list[Row]) -> list[Row]:
    sent = [row for row in kept if row["direction"] == "outbound"]
    rows = []
    for (day, line, service), own in by(
        sent, lambda row: (row["sent_day"], row["line_number"], row["service"])
    ).items():
        status = [row["delivery_status"] for row in own]
        delivered, pending = status.count("delivered"), status.count("pending")
        times_s = [row["delivery_time_s"] for row in own if row["delivery_time_s"] is not None]
        rows.append(
            {
                "sent_day": day,
                "line_number": line,
                "service": service,
                "sent_count": len(own),
                "delivered_count": delivered,
                "read_count": sum(
                    row["is_read"] and row["delivery_status"] == "delivered" for row in own
                ),
                "pending_count": pending,
                "failed_count": len(own) - delivered - pending,
                "average_delivery_time_s": mean(times_s),
            }
        )
    return rows
