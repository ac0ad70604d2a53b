"""The few questions that a report asks, each aggregated by the database.

A response turn: consecutive messages received in a chat, whoever sent them, until the first one
sent. The time to the answer counts from the first of them. Messages of one instant are in the order
of their ids. What the API forgot counts as history; what somebody deleted does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from linq_source import tables
from linq_source.destinations.reading import Reader
from linq_source.operations.status import READ_FOR_STATUS
from linq_source.operations.status_report import Status
from linq_source.reporting.figures import (
    CHART_DAYS,
    DAY_S,
    HOUR_S,
    MOST_YEARS,
    RECENT_DAYS,
    WAITS,
    Delivery,
    Figures,
    Hour,
    Responses,
    Share,
    Waiting,
    kind_of,
    period_of,
    summed,
    until_of,
)
from linq_source.settings import Id
from linq_source.tables import Table

# Without those that the dataset's version of the API does not have.
READ_FOR_REPORT = {
    **READ_FOR_STATUS,
    tables.CHATS: ("id", "display_name", "deleted_at", "expired_at"),
    tables.PHONE_NUMBERS: ("phone_number",),
    tables.CHAT_MESSAGES: (
        "id", "chat_id", "sent_at", "delivered_at", "delivery_status", "is_read", "sent_from",
        "chat_handle_id", "deleted_at", "synced_at", "created_at", "is_from_me",
    ),
    tables.ATTACHMENTS: ("chat_message_id", "mime_type", "file_size", "synced_at"),
    tables.REACTIONS: ("chat_message_id", "reaction", "is_from_me", "synced_at"),
}  # fmt: skip
MOST_LISTED = 10
MOST_KINDS = 200
# Whose turn nobody answered for longer is hardly waiting any more.
_WAITING_DAYS = 7


def read_figures(
    reader: Reader,
    status: Status,
    dataset: str,
    name_of: Callable[[Id, str | None], str],
    messages: Table = tables.CHAT_MESSAGES,
) -> Figures:
    """All that a page shows; `name_of` says what a chat of an id and a name is called.

    `messages` is the table as the dataset has it.
    """
    asking = _Asking(reader, until_of(status), messages)
    hours = asking.hours()
    period = period_of(hours)
    whole = f"FLOOR((t.began_s - {period.origin_s}) / {period.seconds})"
    recent = f"FLOOR(({asking.until_s} - t.began_s) / {RECENT_DAYS * DAY_S})"
    answered, unanswered = asking.waits()
    compared = {found.period: found for found in asking.responses(recent, 2 * RECENT_DAYS)}
    return Figures(
        dataset=dataset,
        status=status,
        lines=asking.number("SELECT COUNT(*) FROM {phone_numbers}"),
        chats=asking.number("SELECT COUNT(*) FROM {chats} WHERE deleted_at IS NULL"),
        messages=asking.number(f"{asking.messages()} SELECT COUNT(*) FROM m"),
        period=period,
        hours=tuple(hours),
        responses=tuple(asking.responses(whole, MOST_YEARS * 366)),
        recent=compared.get(0),
        before=compared.get(1),
        answered=tuple(answered),
        unanswered=tuple(unanswered),
        waiting=tuple(asking.waiting(name_of)),
        deliveries=tuple(asking.deliveries()),
        reactions=asking.reactions(),
        attachments=asking.attachments(),
        busiest=tuple(asking.busiest(name_of)),
    )


class _Asking:
    """Questions about the messages up to an instant."""

    def __init__(self, reader: Reader, until: datetime, messages: Table) -> None:
        self._reader = reader
        self._until = until
        self._instant = messages.partition_by
        self._columns = messages.column_names
        self.until_s = until.timestamp()

    def number(self, sql: str) -> int:
        """The one number that a statement gives; 0 where there is nothing to ask."""
        found = self._reader.ask(sql)
        return int(found[0][0] or 0) if found else 0

    def messages(self, condition: str = "") -> str:
        """A WITH clause for `m`: history, and whether a message was sent by the organisation.

        Where numbers were left out, nobody's is known; who takes part in a chat has a handle. What
        was not sent yet, or never, stands where it was made.
        """
        sent_at = f"COALESCE(c.sent_at, c.{self._instant})"
        is_own = " OR c.is_from_me" if "is_from_me" in self._columns else ""
        return (
            "WITH own AS (SELECT DISTINCT phone_number FROM {phone_numbers}),"
            f" m AS (SELECT c.id, c.chat_id, {sent_at} AS sent_at, c.synced_at, c.delivered_at,"
            f" c.delivery_status, c.is_read, {self._reader.epoch_s(sent_at)} AS at_s,"
            " CASE WHEN o.phone_number IS NOT NULL OR c.sent_from IS NULL"
            f" AND c.chat_handle_id IS NULL{is_own} THEN 1 ELSE 0 END AS is_sent"
            " FROM {chat_messages} AS c LEFT JOIN own AS o ON o.phone_number = c.sent_from"
            " WHERE c.deleted_at IS NULL"
            " AND c.chat_id NOT IN (SELECT id FROM {chats} WHERE deleted_at IS NOT NULL)"
            f"{condition})"
        )

    def turns(self) -> str:
        """The same, and `t`: turns of received messages, and when they were answered, if ever.

        What was sent after the instant is left out, answers too.
        """
        order = "OVER (PARTITION BY chat_id ORDER BY sent_at, id)"
        return (
            f"{self.messages()},"
            f" marked AS (SELECT chat_id, id, sent_at, at_s, is_sent, LAG(is_sent) {order}"
            f" AS was_sent FROM m WHERE at_s <= {self.until_s}),"
            f" sides AS (SELECT chat_id, at_s AS began_s, is_sent, LEAD(at_s) {order} AS ended_s"
            " FROM marked WHERE was_sent IS NULL OR was_sent <> is_sent),"
            " t AS (SELECT chat_id, began_s, ended_s FROM sides WHERE is_sent = 0)"
        )

    def hours(self) -> list[Hour]:
        """Messages by the hour, in the order of time."""
        found = self._reader.ask(
            f"{self.messages(f' AND c.{self._instant} >= %s AND c.{self._instant} <= %s')}"
            f" SELECT FLOOR(at_s / {HOUR_S}) AS number, COUNT(*) - SUM(is_sent), SUM(is_sent)"
            f" FROM m GROUP BY FLOOR(at_s / {HOUR_S}) ORDER BY number",
            self._until - timedelta(days=366 * MOST_YEARS),
            self._until,
        )
        return [Hour(int(number), int(received), int(sent)) for number, received, sent in found]

    def responses(self, period: str, days: int) -> list[Responses]:
        """Answered turns by a period of the last days: the median and the slowest tenth's least."""
        found = self._reader.ask(
            # BigQuery parts no rows by a floating point number.
            f"{self.turns()}, timed AS (SELECT CAST({period} AS {self._reader.INTEGER}) AS number,"
            " t.ended_s - t.began_s AS wait_s"
            f" FROM t WHERE t.ended_s IS NOT NULL AND t.began_s > {self._ago_s(days)}"
            f" AND t.began_s <= {self.until_s}),"
            " placed AS (SELECT number, wait_s, ROW_NUMBER() OVER (PARTITION BY number"
            " ORDER BY wait_s) AS place, COUNT(*) OVER (PARTITION BY number) AS turns FROM timed)"
            " SELECT number, turns,"
            " AVG(CASE WHEN place * 2 >= turns AND place * 2 <= turns + 2 THEN wait_s END),"
            " MIN(CASE WHEN place * 10 >= turns * 9 THEN wait_s END)"
            " FROM placed GROUP BY number, turns ORDER BY number"
        )
        return [
            Responses(int(number), int(turns), float(median_s), float(p90_s))
            for number, turns, median_s, p90_s in found
        ]

    def waits(self) -> tuple[list[int], list[int]]:
        """Turns of the last days that were answered, by how long that took, and all that were not.

        Those by how long ago they began.
        """
        wait_s = f"(COALESCE(ended_s, {self.until_s}) - began_s)"
        cases = " ".join(
            f"WHEN {wait_s} < {end_s} THEN {place}" for place, (end_s, _) in enumerate(WAITS[:-1])
        )
        found = self._reader.ask(
            f"{self.turns()}, waited AS (SELECT CASE {cases} ELSE {len(WAITS) - 1} END AS place,"
            " CASE WHEN ended_s IS NULL THEN 1 ELSE 0 END AS is_open FROM t"
            f" WHERE ended_s IS NULL OR began_s > {self._ago_s(CHART_DAYS)})"
            " SELECT is_open, place, COUNT(*) FROM waited GROUP BY is_open, place"
        )
        counts = {(bool(is_open), int(place)): int(turns) for is_open, place, turns in found}
        answered, unanswered = (
            [counts.get((is_open, place), 0) for place in range(len(WAITS))]
            for is_open in (False, True)
        )
        return answered, unanswered

    def waiting(self, name_of: Callable[[Id, str | None], str]) -> list[Waiting]:
        """Chats that wait longest, of those that began to within some days."""
        found = self._reader.ask(
            f"{self.turns()} SELECT t.chat_id, n.display_name, t.began_s"
            " FROM t LEFT JOIN {chats} AS n ON n.id = t.chat_id"
            f" WHERE t.ended_s IS NULL AND t.began_s > {self._ago_s(_WAITING_DAYS)}"
            f" ORDER BY t.began_s, t.chat_id LIMIT {MOST_LISTED}"
        )
        return [
            Waiting(name_of(chat_id, name), datetime.fromtimestamp(float(began_s), UTC))
            for chat_id, name, began_s in found
        ]

    def deliveries(self) -> list[Delivery]:
        """Messages sent in the last days, by their status, the most frequent first."""
        found = self._lately(
            "SELECT delivery_status, COUNT(*) AS messages, SUM(is_delivered),"
            " SUM(CASE WHEN is_read THEN is_delivered ELSE 0 END) FROM (SELECT *, CASE WHEN"
            " delivered_at IS NOT NULL OR delivery_status = 'delivered' THEN 1 ELSE 0 END"
            " AS is_delivered FROM m) AS n WHERE is_sent = 1 GROUP BY delivery_status"
            " ORDER BY messages DESC, delivery_status"
        )
        return [
            Delivery(status or "not told", int(sent), int(delivered), int(read))
            for status, sent, delivered, read in found
        ]

    def reactions(self) -> tuple[Share, ...]:
        """Reactions to messages of the last days: of people, and of the organisation."""
        found = self._lately(
            "SELECT r.reaction, COUNT(*), SUM(CASE WHEN r.is_from_me THEN 1 ELSE 0 END)"
            " FROM {chat_messages__reactions} AS r JOIN m ON m.id = r.chat_message_id"
            " AND m.synced_at = r.synced_at GROUP BY r.reaction"
            f" ORDER BY COUNT(*) DESC LIMIT {MOST_KINDS}"
        )
        return summed(
            (str(name or "not told"), int(all_), int(all_) - int(own), int(own))
            for name, all_, own in found
        )

    def attachments(self) -> tuple[Share, ...]:
        """Files of messages of the last days by kind: how many, and their bytes."""
        found = self._lately(
            "SELECT a.mime_type, COUNT(*), SUM(a.file_size)"
            " FROM {chat_messages__attachments} AS a JOIN m ON m.id = a.chat_message_id"
            " AND m.synced_at = a.synced_at GROUP BY a.mime_type"
            f" ORDER BY COUNT(*) DESC LIMIT {MOST_KINDS}"
        )
        return summed((kind_of(kind), int(files), int(size or 0)) for kind, files, size in found)

    def busiest(self, name_of: Callable[[Id, str | None], str]) -> list[Share]:
        """The chats with most messages in the last days: all, received, sent."""
        found = self._lately(
            "SELECT m.chat_id, n.display_name, COUNT(*) AS messages, SUM(m.is_sent)"
            " FROM m LEFT JOIN {chats} AS n ON n.id = m.chat_id"
            " GROUP BY m.chat_id, n.display_name"
            f" ORDER BY messages DESC, m.chat_id LIMIT {MOST_LISTED}"
        )
        return [
            Share(name_of(chat_id, name), (int(all_), int(all_) - int(sent), int(sent)))
            for chat_id, name, all_, sent in found
        ]

    def _lately(self, sql: str) -> Sequence[tuple[Any, ...]]:
        """Ask about the messages of the last days."""
        since = self._until - timedelta(days=CHART_DAYS)
        condition = f" AND c.{self._instant} > %s AND c.{self._instant} <= %s"
        return self._reader.ask(f"{self.messages(condition)} {sql}", since, self._until)

    def _ago_s(self, days: int) -> float:
        return self.until_s - days * DAY_S
