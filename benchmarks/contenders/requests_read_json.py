"""The bare loop: `requests`, page after page into files, then DuckDB's `read_json`.

No state, no retries, no checks: the least a person would write by hand.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import duckdb
import requests

from benchmarks.contenders.common import (
    API,
    PER_PAGE,
    TOKEN,
    TOKEN_HEADER,
    list_chats,
    parser,
    report_counts,
)

_PAGE_COLUMNS = """{data: 'STRUCT(
    id BIGINT, text VARCHAR, sent_at TIMESTAMPTZ, delivered_at TIMESTAMPTZ,
    delivery_status VARCHAR, edited_at TIMESTAMPTZ, is_read BOOLEAN, sent_from VARCHAR,
    chat_handle_id BIGINT,
    attachments STRUCT(
        id VARCHAR, url VARCHAR, filename VARCHAR, mime_type VARCHAR, file_size BIGINT)[],
    reactions STRUCT(
        id BIGINT, chat_message_id BIGINT, reaction VARCHAR, is_from_me BOOLEAN,
        from_phone VARCHAR, sent_at TIMESTAMPTZ, created_at TIMESTAMPTZ,
        updated_at TIMESTAMPTZ)[])[]'}"""


def fetch(base_url: str, folder: Path) -> None:
    """Write every chat's pages to a file of its own, a page a line."""
    session = requests.Session()
    session.headers[TOKEN_HEADER] = TOKEN

    def get(path: str, parameters: dict[str, str]) -> bytes:
        response = session.get(base_url + path, params=parameters, timeout=60)
        response.raise_for_status()
        return response.content

    for chat_id in list_chats(get):
        with (folder / f"{chat_id}.ndjson").open("wb") as file:
            page = total_pages = 1
            while page <= total_pages:
                body = get(
                    f"{API}/chats/{chat_id}/chat_messages",
                    {"page": str(page), "per_page": str(PER_PAGE)},
                )
                file.write(body + b"\n")
                if page == 1:
                    total_pages = json.loads(body)["meta"]["total_pages"]
                page += 1


def load(folder: Path, database: Path) -> None:
    """Read the files into three tables."""
    with duckdb.connect(str(database)) as connection:
        connection.execute(
            f"""CREATE OR REPLACE TEMP TABLE pages AS
            SELECT unnest(data) AS message, parse_filename(filename, true)::BIGINT AS chat_id
            FROM read_json('{folder}/*.ndjson', format = 'newline_delimited',
                           columns = {_PAGE_COLUMNS}, filename = true)"""
        )
        connection.execute(
            "CREATE OR REPLACE TABLE chat_messages AS SELECT chat_id, unnest(message) FROM pages"
        )
        for child in ("attachments", "reactions"):
            connection.execute(
                f"""CREATE OR REPLACE TABLE chat_messages__{child} AS
                SELECT message_id, unnest(item) FROM (
                    SELECT id AS message_id, unnest({child}) AS item FROM chat_messages)"""
            )
            connection.execute(f"ALTER TABLE chat_messages DROP COLUMN {child}")


def main() -> None:
    """Read everything into the database."""
    arguments = parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.database.parent) as folder:
        fetch(arguments.base_url, Path(folder))
        load(Path(folder), arguments.database)
    report_counts(arguments.database, "main")


if __name__ == "__main__":
    main()
