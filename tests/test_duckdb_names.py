"""A DuckDB file and a dataset of one name: refused before anything is read, made or loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dlt
import duckdb
import pytest

from linq_source import ConfigurationError, sync
from linq_source.destinations.duckdb_file import catalog_of
from linq_source.destinations.failures import find_cause
from tests.conftest import Loader

FILES = [
    "linq_messages.duckdb", "LINQ.duckdb", "linq.prod.duckdb", ".linq.duckdb", "..linq", "linq",
    "linq..duckdb", "li nq.db", "Ä.duckdb", "a#b.duckdb", ".duckdb", "system.duckdb", "temp.db",
    "main.duckdb", "memory.duckdb", "linq-messages.duckdb", "linq.duckdb?x=1",
]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_the_name_of_a_file_is_the_one_that_duckdb_gives_it(tmp_path: Path, name: str) -> None:
    with duckdb.connect(str(tmp_path / name)) as connection:
        assert connection.execute("SELECT current_database()").fetchall() == [
            (catalog_of(str(tmp_path / name)),)
        ]


def synced(loader: Loader, pipeline: dlt.Pipeline) -> None:
    sync(pipeline, **loader.arguments())


def ran(loader: Loader, pipeline: dlt.Pipeline) -> None:
    pipeline.run(loader.source())


@pytest.mark.parametrize("act", [synced, ran])
@pytest.mark.parametrize(
    ("file", "dataset"),
    [
        ("LINQ.duckdb", "linq"),
        ("linq.prod.duckdb", "Linq"),
        ("linq_staging.duckdb", "linq"),
        ("system.duckdb", "system_db"),
        ("other.duckdb", "temp"),
    ],
)
def test_one_name_for_two_is_refused_before_anything_is_asked(
    small: Loader,
    tmp_path: Path,
    act: Callable[[Loader, dlt.Pipeline], None],
    file: str,
    dataset: str,
) -> None:
    pipeline = dlt.pipeline(
        "named",
        destination=dlt.destinations.duckdb(str(tmp_path / file)),
        dataset_name=dataset,
        pipelines_dir=str(tmp_path / "pipelines"),
    )
    with pytest.raises(Exception, match="choose another") as caught:
        act(small, pipeline)
    assert find_cause(caught.value, ConfigurationError) is not None
    assert small.sandbox.requests_log == []


@pytest.mark.parametrize("file", ["linq_messages.duckdb", "linq2.duckdb", "memory.duckdb"])
def test_names_that_only_look_alike_go_together(small: Loader, tmp_path: Path, file: str) -> None:
    pipeline = dlt.pipeline(
        "named",
        destination=dlt.destinations.duckdb(str(tmp_path / file)),
        dataset_name="linq",
        pipelines_dir=str(tmp_path / "pipelines"),
    )
    assert sync(pipeline, **small.arguments()).exit_code == 0


def test_the_refusal_names_both_and_the_way_out(small: Loader, tmp_path: Path) -> None:
    pipeline = dlt.pipeline(
        "named",
        destination=dlt.destinations.duckdb(str(tmp_path / "LINQ.duckdb")),
        dataset_name="linq",
        pipelines_dir=str(tmp_path / "pipelines"),
    )
    with pytest.raises(ConfigurationError) as caught:
        sync(pipeline, **small.arguments())
    assert str(tmp_path / "LINQ.duckdb") in str(caught.value)
    assert "dataset linq" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "LINQ.duckdb").exists()
