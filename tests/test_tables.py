"""The tables are described once, and dlt is told exactly that."""

from __future__ import annotations

from typing import Any

import pytest
from dlt.extract.items import TableNameMeta

from linq_source import linq_source
from linq_source.media.recording import records_source
from linq_source.rows.hints import table_hints
from linq_source.tables import (
    ARROW_TYPES,
    ATTACHMENT_FILES,
    RESOURCE_TABLES,
    SYNCED_AT,
    TABLES,
    TOMBSTONE,
    Table,
)

pytestmark = pytest.mark.quick

every_table = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
OWNERS = {table.name: name for name, tables in RESOURCE_TABLES.items() for table in tables}

# The promise to analysts (docs/tables.md), written down a second time on purpose.
PROMISED = {
    "phone_numbers": "id phone_number forwarding_number response_rate",
    "chats": "id display_name service is_group message_count deleted_at expired_at",
    "chats__chat_handles": "chat_id id phone_number service joined_at",
    "chats__phone_numbers": "chat_id phone_number_id phone_number",
    "chat_messages": "id chat_id text sent_at delivered_at delivery_status edited_at is_read "
    "sent_from chat_handle_id deleted_at expired_at",
    "chat_messages__attachments": "chat_message_id position chat_id id url filename mime_type "
    "file_size",
    "chat_messages__reactions": "chat_message_id id chat_id reaction is_from_me from_phone sent_at "
    "created_at updated_at",
    "contacts": "id first_name last_name full_name email phone_number company title location "
    "image_url created_at updated_at owner_id owner_email owner_first_name owner_last_name "
    "owner_name deleted_at",
    "sync_windows": "chat_id window_start window_end total_count messages pages requests attempts "
    "verified error event kept_since",
    "sync_runs": "bound chats chats_skipped chats_failed chats_unlisted windows_read "
    "windows_unchanged windows_unverified messages rejected gaps chats_rechecked oldest_check "
    "requests retries seconds covered",
    "rejected_records": "chat_id message_id reason payload table_name",
    "attachment_files": "chat_message_id position chat_id attachment_id status sha256 size_bytes "
    "content_type bucket_path fetched_at http_status error attempts url_hash",
}
KEYS = {
    "phone_numbers": ("id",),
    "chats": ("id",),
    "chats__chat_handles": ("chat_id", "id"),
    "chats__phone_numbers": ("chat_id", "phone_number_id"),
    "chat_messages": ("id",),
    "chat_messages__attachments": ("chat_message_id", "position"),
    "chat_messages__reactions": ("chat_message_id", "id"),
    "contacts": ("id",),
    "sync_windows": (),
    "sync_runs": (),
    "rejected_records": (),
    "attachment_files": ("chat_message_id", "position"),
}


def test_the_promised_tables_have_the_promised_columns() -> None:
    found = {
        name: [c for c in table.column_names if c not in (SYNCED_AT, TOMBSTONE)]
        for name, table in TABLES.items()
    }
    assert found == {name: columns.split() for name, columns in PROMISED.items()}
    assert {name: table.key for name, table in TABLES.items()} == KEYS


def test_every_table_belongs_to_one_resource_and_what_is_rejected_to_each() -> None:
    owned = [table.name for tables in RESOURCE_TABLES.values() for table in tables]
    assert sorted(owned) == sorted([*TABLES, *["rejected_records"] * 3])
    assert all(tables[0].name == name for name, tables in RESOURCE_TABLES.items())


@every_table
def test_everything_is_described_in_a_sentence(table: Table) -> None:
    for text in (table.description, *(column.description for column in table.columns)):
        assert text == text.strip()
        assert len(text.split()) >= 2
    assert table.description.endswith(".")


@every_table
def test_every_row_says_when_it_was_loaded(table: Table) -> None:
    (column,) = [column for column in table.columns if column.name == SYNCED_AT]
    assert (column.type, column.nullable, column.source) == ("timestamp", False, "")


@every_table
def test_names_and_sources_of_columns_are_unique(table: Table) -> None:
    assert len(set(table.column_names)) == len(table.columns)
    sources = [column.source for column in table.source_columns]
    assert len(set(sources)) == len(sources)


@every_table
def test_keys_are_columns(table: Table) -> None:
    assert set(table.key) <= set(table.column_names)
    assert table.merge_key in ("", *table.key)


@every_table
def test_arrow_has_the_same_columns_and_types(table: Table) -> None:
    assert [(f.name, f.type, f.nullable) for f in table.schema] == [
        (column.name, ARROW_TYPES[column.type], column.nullable) for column in table.columns
    ]


@every_table
def test_a_child_names_its_parent_and_can_remove_its_rows(table: Table) -> None:
    assert table.is_child == bool(table.merge_key) == (TOMBSTONE in table.column_names)
    if table.is_child:
        assert TABLES[table.parent].key == ("id",)
        assert table.name.startswith(f"{table.parent}__")
        (column,) = [column for column in table.columns if column.name == table.merge_key]
        assert not column.nullable


def resource_schema(table: Table) -> dict[str, Any]:
    source = linq_source(api_token="t", base_url="http://127.0.0.1:9")
    if table.name == "attachment_files":
        source = records_source(ATTACHMENT_FILES, [])
    resource = source.resources[OWNERS[table.name]]
    return dict(resource.compute_table_schema(meta=TableNameMeta(table.name)))


def test_the_source_has_its_resources_without_a_server() -> None:
    source = linq_source(api_token="t", base_url="http://127.0.0.1:9")
    assert source.name == "linq"
    assert list(source.resources) == ["phone_numbers", "chats", "chat_messages", "contacts"]
    assert list(source.selected_resources) == ["phone_numbers", "chats", "chat_messages"]


@every_table
def test_dlt_knows_every_column_as_it_is_described(table: Table) -> None:
    schema = resource_schema(table)
    assert schema["name"] == table.name
    assert schema["description"] == table.description
    found = {
        name: (hints["data_type"], hints["nullable"], hints["description"])
        for name, hints in schema["columns"].items()
    }
    assert found == {c.name: (c.type, c.nullable, c.description) for c in table.columns}
    assert list(schema["columns"]) == list(table.column_names)


@every_table
def test_dlt_merges_by_the_key_and_appends_logs(table: Table) -> None:
    schema = resource_schema(table)
    marks = {
        mark: {name for name, hints in schema["columns"].items() if hints.get(mark)}
        for mark in ("primary_key", "merge_key", "hard_delete")
    }
    if table.is_appended:
        assert schema["write_disposition"] == "append"
        assert marks == {"primary_key": set(), "merge_key": set(), "hard_delete": set()}
    elif table.is_child:
        assert (schema["write_disposition"], schema["x-merge-strategy"]) == (
            "merge",
            "delete-insert",
        )
        expected = {table.merge_key}
        assert marks == {
            "primary_key": set(table.key),
            "merge_key": expected,
            "hard_delete": {TOMBSTONE},
        }
    else:
        assert (schema["write_disposition"], schema["x-merge-strategy"]) == (
            "merge",
            "delete-insert",
        )
        assert marks == {"primary_key": set(table.key), "merge_key": set(), "hard_delete": set()}


@every_table
def test_dlt_knows_what_a_child_refers_to(table: Table) -> None:
    expected = [
        {
            "referenced_table": table.parent,
            "columns": [table.merge_key],
            "referenced_columns": ["id"],
        }
    ]
    assert resource_schema(table).get("references") == (expected if table.is_child else None)


@every_table
def test_hints_of_one_table_are_not_those_of_another(table: Table) -> None:
    hints = table_hints(table)
    hints["columns"].clear()
    assert set(table_hints(table)["columns"]) == set(table.column_names)
