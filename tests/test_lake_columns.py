"""A lake's readers see every row and column, by the very commands that docs/lake.md gives."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pyarrow
import pyarrow.dataset
import pytest

from linq_source.destinations.lake import check_lake, rebuild_lake
from tests.conftest import DAY_MS, NOW_MS, Loader
from tests.destinations import Lake
from tests.lakes import bucket_of

DOCS = Path(__file__).resolve().parent.parent / "docs" / "lake.md"
MONTHS = 4


@pytest.fixture
def months(small: Loader, monkeypatch: pytest.MonkeyPatch) -> Loader:
    """A lake of one message in each of some months, loaded; the test runs in its folder."""
    small.place = Lake(small.folder)
    monkeypatch.chdir(small.folder)
    for number in range(MONTHS):
        at_ms = NOW_MS - (MONTHS - number) * 31 * DAY_MS
        message = small.world.add_message(1, f"no {number}", sent_at_ms=at_ms)
        small.world.add_attachment(message.id, filename="f", mime_type="a/b", file_size=1)
    small.sync()
    return small


def commands() -> dict[str, str]:
    """What docs/lake.md tells each reader."""
    found = re.findall(
        r"^\| (\w+) \| `(.*lake/linq/current/chat_messages.*)` \|$", DOCS.read_text(), re.M
    )
    return dict(found)


READERS: dict[str, Callable[[str], Any]] = {
    "DuckDB": lambda command: duckdb.sql(command).to_arrow_table().to_pylist(),
    "pandas": lambda command: eval(command, {"pd": pd}).to_dict("records"),
    "Polars": lambda command: eval(command, {"pl": pl}).to_dicts(),
    "PyArrow": lambda command: eval(command, {"pyarrow": pyarrow}).to_table().to_pylist(),
}


def test_the_page_has_a_command_for_every_reader() -> None:
    assert set(commands()) == {*READERS, "Spark"}


def read(command: str, reader: str) -> list[dict[str, Any]]:
    rows = sorted(READERS[reader](command), key=lambda row: row["id"])
    return [{k: None if pd.isna(v) else v for k, v in row.items()} for row in rows]


@pytest.mark.parametrize("reader", list(READERS))
@pytest.mark.parametrize("place", [0, MONTHS - 1])
def test_a_field_that_appears_later_is_seen_by(months: Loader, reader: str, place: int) -> None:
    message = months.world.messages_of(1)[place]
    message.extra.update(level=7, label="x")
    message.attachments[0].extra.update(width=640)
    command = commands()[reader]
    months.sync(start="2000-01-01", end="2100-01-01")
    rows = read(command, reader)
    assert [row["text"] for row in rows] == [f"no {number}" for number in range(MONTHS)]
    expected = [(7, "x") if number == place else (None, None) for number in range(MONTHS)]
    assert [(row["level"], row["label"]) for row in rows] == expected
    widths = READERS[reader](command.replace("chat_messages", "chat_messages__attachments"))
    assert [row["width"] for row in widths if not pd.isna(row["width"])] == [640]
    assert check_lake(bucket_of(months)).findings == ()


def test_a_lake_from_before_columns_were_remembered_goes_on(months: Loader) -> None:
    months.world.messages_of(1)[-1].extra.update(level=7)
    months.sync(start="2000-01-01", end="2100-01-01")
    marker = months.folder / "lake" / "linq" / "current" / "_settled.json"
    content = json.loads(marker.read_text())
    assert content.pop("columns") == {"chat_messages": {"level": "bigint"}}
    marker.write_text(json.dumps(content))
    message = months.world.messages_of(1)[-2]
    message.extra.update(level="high")
    sent_at = datetime.fromtimestamp(message.sent_at_ms / 1000, UTC)
    months.sync(start=sent_at, end=sent_at + timedelta(days=1))
    for reader, command in commands().items():
        if reader != "Spark":
            rows = read(command, reader)
            assert [row["level"] for row in rows] == [None, None, None, 7]
            assert [row["level__v_text"] for row in rows] == [None, None, "high", None]
    bucket = bucket_of(months)
    assert check_lake(bucket).findings == ()
    rebuild_lake(bucket)
    assert check_lake(bucket).findings == ()
    assert json.loads(marker.read_text())["columns"] == {
        "chat_messages": {"level": "bigint", "level__v_text": "text"}
    }
