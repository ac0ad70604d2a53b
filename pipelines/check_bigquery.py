"""Checks this source against a real BigQuery project: `python pipelines/check_bigquery.py`.

Loads a small invented world, changes it, loads again, and compares every row of every table each
time. It uses dlt's usual credentials (DESTINATION__BIGQUERY__CREDENTIALS, .dlt/secrets.toml or
GOOGLE_APPLICATION_CREDENTIALS) and a dataset of its own, which it removes in the end unless told
`--keep`. No message of yours is read: the world is served by this machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import dlt

from linq_source import LinqError, Report, sync
from linq_source.cli.opening import open_pipeline
from linq_source.destinations.targets import Target
from linq_source.sandbox import DEFAULT_TOKEN, Sandbox, World, grow, seeded_world
from linq_source.tables import RESOURCE_TABLES, TABLES

Rows = dict[tuple[Any, ...], dict[str, Any]]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RUN = ("phone_numbers", "chats", "chat_messages")
NAMES = [table.name for resource in RUN for table in RESOURCE_TABLES[resource] if table.key]


def main() -> int:
    """Load, change, load again; 0 when every row was as it should be."""
    parser = argparse.ArgumentParser(description="Check this source against a BigQuery project.")
    parser.add_argument("--keep", action="store_true", help="leave the dataset behind")
    parser.add_argument("--messages", type=int, default=400, help="messages of the invented world")
    options = parser.parse_args()
    dataset = f"linq_check_{datetime.now(UTC):%Y%m%d_%H%M%S}"
    try:
        with tempfile.TemporaryDirectory() as folder:
            target = Target("bigquery", "", dataset, "linq_check", folder)
            return check(open_pipeline(target), options.messages, keep=options.keep)
    except LinqError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def check(pipeline: dlt.Pipeline, messages: int, *, keep: bool) -> int:
    """Run the check in a pipeline's dataset; gives the exit code."""
    world = seeded_world(chats=8, messages=messages)
    try:
        with Sandbox(world) as sandbox:
            differences = _step("first load", pipeline, sandbox, world)
            _change(world)
            differences += _step("after changes", pipeline, sandbox, world)
            report = _sync(pipeline, sandbox)
            if report.messages:
                differences.append(f"an unchanged world was loaded again: {report.messages} rows")
    except LinqError:
        with suppress(Exception):  # what cannot be reached cannot be removed, either
            _remove(pipeline)
        raise
    if not keep:
        _remove(pipeline)
    for difference in differences:
        print(f"  {difference}")
    kept = f"; kept in {pipeline.dataset_name}" if keep else ""
    print(f"{len(differences)} differences{kept}" if differences else f"every row agrees{kept}")
    return 1 if differences else 0


def _step(name: str, pipeline: dlt.Pipeline, sandbox: Sandbox, world: World) -> list[str]:
    report = _sync(pipeline, sandbox)
    differences = compare(loaded_rows(pipeline), world_rows(world))
    print(f"{name}: {report.messages} messages loaded, {report.deleted} marked deleted, "
          f"{report.seconds:.0f} s, {len(differences)} differences")  # fmt: skip
    return differences


def _sync(pipeline: dlt.Pipeline, sandbox: Sandbox) -> Report:
    return sync(pipeline, api_token=DEFAULT_TOKEN, base_url=sandbox.url)


def _change(world: World) -> None:
    """Edits, receipts and deletions, a chat removed, a late message and a very old one."""
    grow(world)
    chat_id = min(world.chats)
    *_, second, first = world.messages_of(chat_id)
    world.delete_message(first.id)
    for reaction in list(second.reactions):
        world.remove_reaction(second.id, reaction.id)
    world.add_message(chat_id, "late", sent_at_ms=world.now_ms - 40 * 86_400_000)
    world.add_message(chat_id, "very old", sent_at_ms=86_400_000)
    world.remove_chat(max(world.chats))


def world_rows(world: World) -> dict[str, Rows]:
    """The rows that the world should have become, by table and key."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in NAMES}
    snapshot = world.snapshot()
    found["phone_numbers"] = snapshot["phone_numbers"]
    for chat in snapshot["chats"]:
        found["chats"].append(chat | {"is_group": chat["group"]})
        found["chats__chat_handles"] += [h | {"chat_id": chat["id"]} for h in chat["handles"]]
        found["chats__phone_numbers"] += [
            {"chat_id": chat["id"], "phone_number_id": number["id"]}
            | {"phone_number": number["phone_number"]}
            for number in snapshot["phone_numbers"]
            if number["id"] in chat["phone_number_ids"]
        ]
    for message in snapshot["messages"]:
        found["chat_messages"].append(message)
        parent = {"chat_message_id": message["id"], "chat_id": message["chat_id"]}
        for position, attachment in enumerate(message["attachments"]):
            item = attachment | parent | {"position": position}
            found["chat_messages__attachments"].append(item)
        found["chat_messages__reactions"] += [r | parent for r in message["reactions"]]
    return {name: _keyed(name, [_with_instants(name, r) for r in found[name]]) for name in NAMES}


def loaded_rows(pipeline: dlt.Pipeline) -> dict[str, Rows]:
    """The live rows of the dataset, by table and key."""
    found = {}
    with pipeline.sql_client() as client:
        for name in NAMES:
            table = client.make_qualified_table_name(name)
            with client.execute_query(f"SELECT * FROM {table}") as cursor:
                names = [column[0] for column in cursor.description]
                found[name] = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    gone_chats, gone = (
        {r["id"] for r in found[name] if r["deleted_at"] or r["expired_at"]}
        for name in ("chats", "chat_messages")
    )
    live = {}
    for name, rows in found.items():
        chat = "id" if name == "chats" else "chat_id"
        message = "id" if name == "chat_messages" else "chat_message_id"
        kept = [r for r in rows if r.get(chat) not in gone_chats and r.get(message) not in gone]
        if len(kept) != len(_keyed(name, kept)):
            raise LinqError(f"{name}: a key stands in more than one row")
        live[name] = _keyed(name, kept)
    return live


def compare(loaded: dict[str, Rows], expected: dict[str, Rows]) -> list[str]:
    """What is missing, surplus or different, one line each; values are not told, only keys."""
    lines = []
    for name in NAMES:
        columns = [c.name for c in TABLES[name].columns if c.source or c.name in TABLES[name].key]
        have, want = loaded[name], expected[name]
        lines += [f"{name} {key}: missing" for key in want.keys() - have.keys()]
        lines += [f"{name} {key}: not in the world" for key in have.keys() - want.keys()]
        for key in have.keys() & want.keys():
            wrong = [column for column in columns if have[key][column] != want[key][column]]
            lines += [f"{name} {key}: {', '.join(wrong)} differ"] if wrong else []
    return sorted(lines)


def _with_instants(name: str, row: dict[str, Any]) -> dict[str, Any]:
    instants = {}
    for column in TABLES[name].source_columns:
        if column.type != "timestamp":
            continue
        at_ms = row[f"{column.name}_ms"]
        instants[column.name] = None if at_ms is None else EPOCH + timedelta(milliseconds=at_ms)
    return row | instants


def _keyed(name: str, rows: list[dict[str, Any]]) -> Rows:
    return {tuple(row[column] for column in TABLES[name].key): row for row in rows}


def _remove(pipeline: dlt.Pipeline) -> None:
    with pipeline.destination_client() as client:
        client.drop_storage()


if __name__ == "__main__":
    sys.exit(main())
