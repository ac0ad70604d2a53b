"""What readers see of a lake by the very commands that docs/lake.md gives, as Arrow tables."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import duckdb
import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pytest

ROOT = Path(__file__).resolve().parent.parent
PYTHON_OF_SPARK = ROOT / ".venv-spark" / "bin" / "python"


def commands(table: str = "chat_messages", lake: str | Path = "lake") -> dict[str, str]:
    """What docs/lake.md tells each reader, about a table of a lake."""
    folder = "lake/linq/current/chat_messages"
    page = (ROOT / "docs" / "lake.md").read_text()
    found = re.findall(rf"^\| (\w+) \| `(.*{folder}.*)` \|$", page, re.M)
    return {r: command.replace(folder, f"{lake}/linq/current/{table}") for r, command in found}


READERS: Mapping[str, Callable[[str], pa.Table]] = {
    "DuckDB": lambda command: _plain(duckdb.sql(command).to_arrow_table()),
    "pandas": lambda command: _plain(pa.Table.from_pandas(eval(command, {"pd": pd}))),
    "Polars": lambda command: _plain(eval(command, {"pl": pl}).to_arrow()),
    "PyArrow": lambda command: _plain(eval(command, {"pyarrow": pa}).to_table()),
}


def read_by_spark(commands: Sequence[str], folder: Path) -> list[pa.Table]:
    """What Spark sees, started in a folder."""
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java, and there is no `java` on PATH")
    assert PYTHON_OF_SPARK.exists(), "make setup-spark"
    done = subprocess.run(
        [str(PYTHON_OF_SPARK), str(ROOT / "tests" / "spark_reader.py")], cwd=folder,
        input=json.dumps(commands), capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    files = [folder / f"spark-{number}.arrow" for number in range(len(commands))]
    return [_plain(pa.ipc.open_file(file).read_all()) for file in files]


def _plain(table: pa.Table) -> pa.Table:
    """Texts of one type, however a reader stores them, and instants in UTC."""

    def plain(type_: pa.DataType) -> pa.DataType:
        if pa.types.is_dictionary(type_):
            return plain(type_.value_type)
        if pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
            return pa.string()
        if pa.types.is_timestamp(type_) and type_.tz is not None:
            return pa.timestamp(type_.unit, "UTC")
        return type_

    return table.cast(pa.schema([(field.name, plain(field.type)) for field in table.schema]))
