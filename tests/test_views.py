"""`linq-source views`: two of the marts as views, equal to what the world's own records give."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from linq_source import forget
from linq_source.cli.transform_vars import variables_of
from linq_source.errors import ConfigurationError
from linq_source.operations.views import VIEWS, make_views
from tests.conftest import Loader
from tests.dbt import VARS, ZONE
from tests.destinations import KINDS, Lake, Place, kinds
from tests.marts import Seen
from tests.test_cli import assert_one_line, run_cli
from tests.test_transform import assert_marts, run_history


@pytest.fixture(params=kinds("duckdb", "bigquery", "postgres", "ducklake"))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A database of each kind that gets views."""
    with KINDS[request.param](tmp_path) as found:
        yield found


def assert_views(place: Place, seen: Seen) -> None:
    """The rows of the views are those of their marts."""
    marts = seen.marts()
    assert_marts(place.rows, {view: marts[model] for view, model in VIEWS.items()})


def test_views_made_once_follow_every_change(seeded: Loader, place: Place) -> None:
    seeded.place = place
    seen = Seen(timezone=ZONE, silence=timedelta(hours=12))
    for number, _ in enumerate(run_history(seeded, seen)):
        if number == 0:
            make_views(seeded.pipeline, variables_of(VARS))
        assert_views(place, seen)
    # They are made again with other variables, in their place.
    make_views(seeded.pipeline)
    seen.timezone, seen.silence = "UTC", timedelta(days=1)
    assert_views(place, seen)


def test_a_table_that_is_not_there_is_empty(seeded: Loader, place: Place) -> None:
    """Contacts that nobody asked for; when they are there, the views are made again.

    Messages must be there.
    """
    seeded.place = place
    with pytest.raises(ConfigurationError, match="the dataset linq has no messages"):
        make_views(seeded.pipeline)
    seeded.sync()
    make_views(seeded.pipeline)
    seen = Seen()
    seen.look(seeded.world)
    contacts, seen.contacts = seen.contacts, []
    assert_views(place, seen)
    seeded.sync(contacts=True)
    make_views(seeded.pipeline)
    assert contacts
    seen.contacts = contacts
    assert_views(place, seen)


def test_they_outlive_erasure_and_another_name_of_the_file(seeded: Loader) -> None:
    """`forget` writes a DuckDB file again; its name is the database's, which views do not tell."""
    seeded.sync()
    make_views(seeded.pipeline)
    chat = next(chat for chat in seeded.world.chats.values() if not chat.group)
    number = chat.handles[0].phone_number
    of_them = f"FROM linq.responses WHERE contact_number = '{number}'"
    assert seeded.query(of_them)
    forget(seeded.pipeline, phone_numbers=[number])
    moved = seeded.database.rename(seeded.folder / "moved.duckdb")
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{moved}' AS elsewhere (READ_ONLY)")
        connection.execute("USE elsewhere")
        assert not connection.execute(of_them).fetchall()
        left = connection.execute("SELECT count(*) FROM linq.messages").fetchall()
        rows = connection.execute("SELECT count(*) FROM linq.chat_messages").fetchall()
    assert left == rows != [(0,)]


def test_the_command(seeded: Loader, tmp_path: Path) -> None:
    missing = run_cli(tmp_path, "views", token=None)
    assert missing.returncode == 2
    assert_one_line(missing, "linq_messages.duckdb", "no such file")
    run_cli(tmp_path, "run", "--base-url", seeded.sandbox.url)
    before = set(tmp_path.glob("dlt/pipelines/*"))
    done = run_cli(tmp_path, "views", token=None)
    here = f"{tmp_path / 'linq_messages.duckdb'}, dataset linq"
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"made linq.messages and linq.responses in {here}\n"
    done = run_cli(tmp_path, "views", "--vars", VARS, "--json", token=None)
    assert json.loads(done.stdout) == {
        "views": ["linq.messages", "linq.responses"],
        "destination": here,
    }
    assert set(tmp_path.glob("dlt/pipelines/*")) == before
    other = run_cli(tmp_path, "views", "--dataset", "other", token=None)
    assert other.returncode == 2
    assert_one_line(other, "the dataset other has no messages: load them with `linq-source run`")
    wrong = run_cli(tmp_path, "views", "--vars", "{linq_timezone: Berlin}", token=None)
    assert wrong.returncode == 2
    assert_one_line(wrong, "--vars linq_timezone: 'Berlin' is not a time zone")
    with duckdb.connect(str(tmp_path / "linq_messages.duckdb")) as connection:
        connection.execute("DROP VIEW linq.messages; DROP VIEW linq.responses")
        connection.execute("CREATE VIEW linq.responses AS SELECT 42 AS mine")
    taken = run_cli(tmp_path, "views", token=None)
    assert taken.returncode == 2
    assert_one_line(taken, "responses: the dataset has a table or view", "rename it")
    with duckdb.connect(str(tmp_path / "linq_messages.duckdb")) as connection:
        assert connection.execute("FROM linq.responses").fetchall() == [(42,)]
        found = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal")
        assert found.fetchall() == [("responses",)]


@pytest.mark.quick
def test_files_get_none(tmp_path: Path, small: Loader) -> None:
    small.place = Lake(tmp_path)
    with pytest.raises(ConfigurationError, match="destination filesystem gets no views: "):
        make_views(small.pipeline)
