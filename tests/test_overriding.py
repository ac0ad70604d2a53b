"""Where dlt's inner parts are others it loads its own way: the same rows, and a warning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from linq_source.destinations.dlt_overrides import overriding
from linq_source.sandbox import World
from tests.conftest import DAY_MS, HOUR_MS, NOW_MS, Loader
from tests.destinations import KINDS


class Base:
    def load(self, table: str, options: Any = None) -> None: ...

    @staticmethod
    def job_of(table: str) -> None: ...


@pytest.mark.quick
def test_a_class_overrides_what_is_there_with_the_same_parameters() -> None:
    @overriding
    class Same(Base):
        def load(self, table: str, options: Any = None) -> None: ...

        @staticmethod
        def job_of(table: str) -> None: ...

    with pytest.raises(TypeError, match=r"Base\.load takes self, table, options"):

        @overriding
        class Fewer(Base):
            def load(self, table: str) -> None: ...  # type: ignore[override]

    with pytest.raises(AttributeError, match="unload"):

        @overriding
        class Unknown(Base):
            def unload(self) -> None: ...


def with_another_parameter(monkeypatch: pytest.MonkeyPatch, owner: str, name: str) -> None:
    """Have a method of dlt take something more, and do the same."""
    module, _, kind = owner.rpartition(".")
    base = getattr(pytest.importorskip(module), kind)
    original = getattr(base, name)
    if isinstance(vars(base)[name], staticmethod):
        changed: Any = staticmethod(lambda table, more=None: original(table))
    else:

        def changed(self: Any, *arguments: Any, more: Any = None) -> Any:
            return original(self, *arguments)

    monkeypatch.setattr(base, name, changed)


FILES = "dlt.destinations.impl.filesystem.filesystem"
BIGQUERY = "dlt.destinations.impl.bigquery.bigquery"


def change_bigquery(monkeypatch: pytest.MonkeyPatch) -> None:
    with_another_parameter(monkeypatch, f"{BIGQUERY}.BigQueryClient", "_create_merge_followup_jobs")


def rename_the_job_of_bigquery(monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip(BIGQUERY)
    job = module.BigQueryMergeJob
    monkeypatch.setattr(
        module.BigQueryClient,
        "_create_merge_followup_jobs",
        lambda self, table_chain: [job.from_table_chain(table_chain, self.sql_client)],
    )
    monkeypatch.delattr(module, "BigQueryMergeJob")


def change_iceberg(monkeypatch: pytest.MonkeyPatch) -> None:
    client = f"{FILES}.FilesystemClient"
    with_another_parameter(monkeypatch, client, "get_reference_followup_job_class")


def rename_the_job_of_iceberg(monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip(FILES)
    job = module.IcebergLoadFilesystemJob

    def job_of(table: Any) -> Any:
        return job if table.get("table_format") == "iceberg" else None

    monkeypatch.setattr(
        module.FilesystemClient, "get_reference_followup_job_class", staticmethod(job_of)
    )
    monkeypatch.delattr(module, "IcebergLoadFilesystemJob")


def change_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    client = f"{FILES}.FilesystemClient"
    with_another_parameter(monkeypatch, client, "list_files_with_prefixes")


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("parquet", change_listing),
        pytest.param("bigquery", change_bigquery, marks=pytest.mark.long),
        pytest.param("bigquery", rename_the_job_of_bigquery, marks=pytest.mark.long),
        pytest.param("iceberg", change_iceberg, marks=pytest.mark.long),
        pytest.param("iceberg", rename_the_job_of_iceberg, marks=pytest.mark.long),
    ],
)
def test_rows_are_the_same_where_dlt_is_another(
    serve: Callable[[World], Loader],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    change: Callable[[pytest.MonkeyPatch], None],
) -> None:
    world = World(now_ms=NOW_MS)
    world.add_phone_number("+15550000001")
    for chat_id in (1, 2, 3):
        world.add_chat(chat_id=chat_id)
        for age in range(4):
            message = world.add_message(chat_id, "m", sent_at_ms=NOW_MS - age * DAY_MS - HOUR_MS)
            world.add_reaction(message.id, "love", from_phone="+15550000009")
    loader = serve(world)
    with KINDS[kind](tmp_path) as loader.place:
        change(monkeypatch)
        report = loader.sync(max_messages=4, workers=1)
        assert len(report.loads) > 1
        loader.assert_equal_world()
        first, second, third = world.messages_of(1)[-3:]
        world.edit_message(first.id, "edited")
        world.remove_reaction(first.id, first.reactions[0].id)
        world.remove_reaction(second.id, second.reactions[0].id)
        world.delete_message(third.id)
        world.add_message(2, "new", sent_at_ms=NOW_MS - 1)
        warnings = [r.getMessage() for r in caplog.records if "is not as in" in r.getMessage()]
        assert len(warnings) == 1, warnings
        assert loader.sync().deleted == 1
        loader.assert_equal_world()
        assert loader.sync().windows == 0
