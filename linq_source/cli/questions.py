"""Ten questions that are asked of conversations, each as one statement in DuckDB's SQL.

`linq-source demo` asks the first five. A line is one of the organisation's numbers; now is the
API's clock when it was last read.
"""

from __future__ import annotations

from typing import NamedTuple


class Question(NamedTuple):
    """A question, as asked of the tables, and of the marts where that is shorter.

    The marts' days and hours are to be those of New York.
    """

    text: str
    sql: str
    marts_sql: str | None


QUESTIONS: tuple[Question, ...] = (
    Question(
        "How fast does each line answer?",
        """SELECT line, count(*) AS turns, round(median(epoch(answered - sent_at)) / 60) AS minutes
FROM (SELECT *, lag(ours, 1, true) OVER w AS begins,
        lead(CASE WHEN ours THEN sent_at END IGNORE NULLS) OVER w AS answered,
        lead(CASE WHEN ours THEN sent_from END IGNORE NULLS) OVER w AS line
    FROM (SELECT *, sent_from IN (SELECT phone_number FROM linq.phone_numbers) AS ours
        FROM linq.chat_messages WHERE deleted_at IS NULL)
    WINDOW w AS (PARTITION BY chat_id ORDER BY sent_at, id))
WHERE begins AND NOT ours AND answered IS NOT NULL
GROUP BY line ORDER BY line""",
        """SELECT line_number, count(*) AS turns, round(median(response_time_s) / 60) AS minutes
FROM linq_marts.fct_responses WHERE is_answered GROUP BY line_number ORDER BY line_number""",
    ),
    Question(
        "Who has waited for an answer for more than an hour?",
        """SELECT c.display_name, count(*) AS messages, min(m.sent_at) AS since
FROM linq.chats c JOIN linq.chat_messages m ON m.chat_id = c.id AND NOT EXISTS (
    FROM linq.chat_messages a JOIN linq.phone_numbers p ON p.phone_number = a.sent_from
    WHERE a.chat_id = m.chat_id AND (a.sent_at, a.id) >= (m.sent_at, m.id)
      AND a.deleted_at IS NULL)
WHERE m.deleted_at IS NULL AND c.deleted_at IS NULL
GROUP BY c.id, c.display_name
HAVING since < (SELECT max(bound) FROM linq.sync_runs) - INTERVAL 1 HOUR
ORDER BY since DESC, c.id LIMIT 5""",
        """SELECT c.display_name, r.message_count, r.open_since
FROM linq_marts.fct_responses r JOIN linq_marts.dim_chats c USING (chat_id)
WHERE r.open_since < (SELECT last_bound FROM linq_marts.data_quality) - INTERVAL 1 HOUR
ORDER BY r.open_since DESC, chat_id LIMIT 5""",
    ),
    Question(
        "Which are the busiest hours, in New York?",
        """SELECT hour(m.sent_at AT TIME ZONE 'America/New_York') AS hour,
       count(*) FILTER (p.id IS NULL) AS received, count(*) FILTER (p.id IS NOT NULL) AS sent
FROM linq.chat_messages m LEFT JOIN linq.phone_numbers p ON p.phone_number = m.sent_from
WHERE m.deleted_at IS NULL
GROUP BY hour ORDER BY received + sent DESC, hour LIMIT 5""",
        """SELECT sent_hour, count(*) FILTER (direction = 'inbound') AS received,
       count(*) FILTER (direction = 'outbound') AS sent
FROM linq_marts.fct_messages GROUP BY sent_hour ORDER BY received + sent DESC, sent_hour LIMIT 5""",
    ),
    Question(
        "How many of our messages were not delivered, by service?",
        """SELECT c.service, count(*) AS sent,
       count(*) FILTER (m.delivered_at IS NULL
         AND m.delivery_status NOT IN ('delivered', 'pending')) AS failed,
       round(100 * failed / sent, 1) AS percent
FROM linq.chat_messages m JOIN linq.phone_numbers p ON p.phone_number = m.sent_from
JOIN linq.chats c ON c.id = m.chat_id
WHERE m.deleted_at IS NULL
GROUP BY c.service ORDER BY percent DESC, c.service""",
        """SELECT service, sum(sent_count) AS sent, sum(failed_count) AS failed,
       round(100 * failed / sent, 1) AS percent
FROM linq_marts.agg_delivery_funnel GROUP BY service ORDER BY percent DESC, service""",
    ),
    Question(
        "What changed since yesterday?",
        """WITH b AS (
    SELECT max(synced_at) AS synced_at, max(bound) AS bound FROM linq.sync_runs
    WHERE bound <= (SELECT greatest(min(bound), max(bound) - INTERVAL 1 DAY) FROM linq.sync_runs))
SELECT count(*) FILTER (m.sent_at >= b.bound) AS sent,
       count(*) FILTER (m.delivered_at >= b.bound) AS delivered,
       count(*) FILTER (m.edited_at >= b.bound) AS edited,
       (FROM linq.chat_messages__reactions, b SELECT count(*) WHERE created_at >= bound) AS reacted,
       count(*) FILTER (m.deleted_at > b.synced_at) AS deleted,
       count(*) FILTER (m.expired_at > b.synced_at) AS forgotten
FROM linq.chat_messages m, b""",
        None,
    ),
    Question(
        "How often do people react?",
        """SELECT CASE WHEN p.id IS NULL THEN 'to theirs' ELSE 'to ours' END AS messages,
       round(100 * count(DISTINCT r.chat_message_id) / count(DISTINCT m.id), 1) AS percent,
       count(r.id) AS reactions, mode(r.reaction ORDER BY r.reaction) AS most_often
FROM linq.chat_messages m LEFT JOIN linq.phone_numbers p ON p.phone_number = m.sent_from
LEFT JOIN linq.chat_messages__reactions r ON r.chat_message_id = m.id
WHERE m.deleted_at IS NULL
GROUP BY 1 ORDER BY 1""",
        """SELECT if(direction = 'inbound', 'to theirs', 'to ours') AS messages,
       round(100 * count_if(reaction_count > 0) / count(*), 1) AS percent,
       sum(reaction_count) AS reactions
FROM linq_marts.fct_messages GROUP BY direction ORDER BY messages""",
    ),
    Question(
        "How many people wrote for the first time, by week in New York?",
        """SELECT date_trunc('week', first_at AT TIME ZONE 'America/New_York')::DATE AS week,
       count(*) AS people
FROM (SELECT sent_from, min(sent_at) AS first_at FROM linq.chat_messages
    WHERE deleted_at IS NULL AND sent_from NOT IN (SELECT phone_number FROM linq.phone_numbers)
    GROUP BY sent_from)
GROUP BY week ORDER BY week DESC LIMIT 5""",
        """SELECT date_trunc('week', first_day)::DATE AS week, count(*) AS people
FROM (SELECT contact_number, min(sent_day) AS first_day FROM linq_marts.fct_messages
    WHERE direction = 'inbound' GROUP BY contact_number)
GROUP BY week ORDER BY week DESC LIMIT 5""",
    ),
    Question(
        "Groups or one to one?",
        """SELECT if(c.is_group, 'groups', 'one to one') AS kind, count(DISTINCT c.id) AS chats,
       count(*) AS messages, round(count(*) / count(DISTINCT c.id)) AS per_chat
FROM linq.chats c JOIN linq.chat_messages m ON m.chat_id = c.id
WHERE m.deleted_at IS NULL AND c.deleted_at IS NULL
GROUP BY c.is_group ORDER BY messages DESC""",
        """SELECT if(is_group, 'groups', 'one to one') AS kind, count(*) AS chats,
       sum(message_count) AS messages, round(avg(message_count)) AS per_chat
FROM linq_marts.dim_chats WHERE message_count > 0 GROUP BY is_group ORDER BY messages DESC""",
    ),
    Question(
        "Who writes most?",
        """SELECT m.sent_from, count(*) AS messages, count(DISTINCT m.chat_id) AS chats,
       round(avg(length(m.text))) AS characters
FROM linq.chat_messages m LEFT JOIN linq.phone_numbers p ON p.phone_number = m.sent_from
WHERE m.deleted_at IS NULL AND p.id IS NULL
GROUP BY m.sent_from ORDER BY messages DESC, m.sent_from LIMIT 5""",
        """SELECT contact_number, inbound_message_count
FROM linq_marts.dim_contacts ORDER BY inbound_message_count DESC, contact_number LIMIT 5""",
    ),
    Question(
        "What kinds of files are sent, and how large?",
        """SELECT split_part(a.mime_type, '/', 1) AS kind, count(*) AS files,
       round(sum(a.file_size) / 1e6, 1) AS megabytes, round(max(a.file_size) / 1e6, 1) AS largest
FROM linq.chat_messages__attachments a JOIN linq.chat_messages m ON m.id = a.chat_message_id
WHERE m.deleted_at IS NULL
GROUP BY kind ORDER BY files DESC, kind""",
        None,
    ),
)
