"""Whose marts a DuckDB file has, told from the file alone."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from linq_source.cli.opening import open_pipeline
from linq_source.destinations.kinds import destination_of
from linq_source.destinations.marts_file import check_file_for_lake
from linq_source.destinations.targets import Target
from linq_source.errors import ConfigurationError

pytestmark = pytest.mark.quick


def test_marts_never_replace_those_of_another_place(tmp_path: Path) -> None:
    here, there = (str(tmp_path / name / "*.parquet") for name in ("it's", "other"))
    for pattern in (here, there):
        Path(pattern).parent.mkdir()
        duckdb.sql("SELECT 1 AS id").write_parquet(pattern.replace("*", "1"))
    database = tmp_path / "marts.duckdb"
    check_file_for_lake(database, "linq", here)
    with duckdb.connect(str(database)) as connection:
        connection.execute("CREATE SCHEMA linq_marts")
        quoted = here.replace("'", "''")
        connection.execute(
            f"CREATE VIEW linq_marts.stg_linq__chat_messages AS FROM read_parquet('{quoted}')"
        )
    check_file_for_lake(database, "linq", here)
    check_file_for_lake(database, "another", there)
    with pytest.raises(ConfigurationError, match="made from another place, and these marts would"):
        check_file_for_lake(database, "Linq", there)
    with duckdb.connect(str(database)) as connection:
        connection.execute("CREATE SCHEMA linq; CREATE TABLE linq.chat_messages (id BIGINT)")
    with pytest.raises(ConfigurationError, match="holds the dataset linq, whose marts would be"):
        check_file_for_lake(database, "linq", here)
    target = Target("duckdb", str(database), "linq", "linq_transform", str(tmp_path / "dlt"))
    pipeline = open_pipeline(target, only_reads=True)
    with pytest.raises(ConfigurationError, match="made from a lake's dataset linq, which the mart"):
        destination_of(pipeline).dbt_profile(str(database))
    with duckdb.connect(str(database)) as connection:
        connection.execute("DROP SCHEMA linq_marts CASCADE")
    assert destination_of(pipeline).dbt_profile(str(database)).output["schema"] == "linq_marts"
