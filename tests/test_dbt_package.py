"""The dbt package by itself: everything described and tested, and what any dbt makes of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from linq_source.cli.transform_vars import variables_of
from linq_source.errors import ConfigurationError
from linq_source.tables import ALL_TABLES
from tests import dbt
from tests.conftest import Loader
from tests.dbt import PACKAGE

MODELS = PACKAGE / "models"


def described(section: str) -> Iterator[dict[str, Any]]:
    for path in sorted(MODELS.rglob("*.yml")):
        yield from yaml.safe_load(path.read_text()).get(section, ())


@pytest.mark.quick
def test_every_model_is_described() -> None:
    models = {model["name"]: model for model in described("models")}
    assert set(models) == {path.stem for path in MODELS.rglob("*.sql")}
    assert len(models) == len(ALL_TABLES) + 3 + 11
    for model in models.values():
        assert model["description"].strip(), model["name"]
        for column in model["columns"]:
            assert column["description"].strip(), f"{model['name']}.{column['name']}"


@pytest.mark.quick
def test_every_column_of_every_mart_is_tested() -> None:
    marts = {path.stem for path in (MODELS / "marts").glob("*.sql")}
    untested = [
        f"{model['name']}.{column['name']}"
        for model in described("models")
        if model["name"] in marts
        for column in model["columns"]
        if not column.get("data_tests")
    ]
    assert untested == []


@pytest.mark.quick
def test_every_variable_is_read_and_every_one_read_is_declared() -> None:
    declared = set(yaml.safe_load((PACKAGE / "dbt_project.yml").read_text())["vars"])
    read = set()
    for path in [*PACKAGE.rglob("*.sql"), *MODELS.rglob("*.yml")]:
        text = path.read_text()
        read |= set(re.findall(r"""var\(['"]+(\w+)""", text))
        read |= set(re.findall(r"linq_second_of_day\('(\w+)'\)", text))
    assert read - {"linq_database"} == declared


@pytest.mark.quick
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("{linq_timezon: UTC}", "--vars linq_timezon: is not a variable; use one of linq_bus"),
        ("{linq_dataset: other}", "--vars linq_dataset: is not a variable"),
        ("UTC", "--vars UTC: must be a mapping"),
        ("{a", "--vars {a: is not YAML"),
        ("{linq_timezone: Europe/Berln}", "--vars linq_timezone: 'Europe/Berln' is not a time zone "
         "of the IANA database, say Europe/Berlin"),
        ("{linq_timezone: [UTC]}", "--vars linq_timezone: ['UTC'] is not a time zone"),
        ("{linq_business_days: []}", "--vars linq_business_days: [] is not a list of numbers"),
        ("{linq_business_days: [0]}", "--vars linq_business_days: ['0'] is not a list of numbers"),
        ("{linq_business_days: 1}", "--vars linq_business_days: '1' is not a list of numbers"),
        ("{linq_business_start: noon}", "--vars linq_business_start: 'noon' is not a time from 00"),
        ("{linq_business_start: 600}", "--vars linq_business_start: '600' is not a time from 00"),
        ("{linq_business_end: 24:30}", "--vars linq_business_end: '24:30' is not a time from 00"),
        ("{linq_business_end: 9:00}", "--vars linq_business_end: 9:00 must be later than linq_bus"),
        ("{linq_session_silence_minutes: 0}", "--vars linq_session_silence_minutes: '0' is not a"),
        ("{linq_session_silence_minutes: 1.5}", "--vars linq_session_silence_minutes: '1.5' is"),
    ],
)  # fmt: skip
def test_variables_that_no_model_could_use_are_refused(given: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        variables_of(given)
    assert str(error.value).startswith(told)


@pytest.mark.quick
def test_variables_mean_what_is_written() -> None:
    given = (
        "{linq_timezone: Europe/Berlin, linq_business_days: [7, '1'], linq_business_start: 10:00,"
        ' linq_business_end: "24:00", linq_session_silence_minutes: 90}'
    )
    assert variables_of(given) == {
        "linq_timezone": "Europe/Berlin",
        "linq_business_days": [7, 1],
        "linq_business_start": "10:00",
        "linq_business_end": "24:00",
        "linq_session_silence_minutes": 90,
    }
    assert variables_of("{}") == {}


@pytest.mark.long
def test_plain_dbt_builds_it_as_a_package_of_another_project(seeded: Loader) -> None:
    """With a profile of the user's own, unit tests included; every column is a described one."""
    seeded.sync()
    project = seeded.folder / "analytics"
    project.mkdir()
    write_project(project, seeded.database)
    done = dbt.start(project, "dbt", "deps")
    assert done.returncode == 0, done.stdout
    done = dbt.start(project, "dbt", "build")
    assert done.returncode == 0, done.stdout
    assert re.search(r"PASS=\d+ WARN=0 ERROR=0 SKIP=0", done.stdout)
    assert re.search(r"\d+ data tests, 9 unit tests, 15 view models", done.stdout)
    built = project / "target" / "compiled" / "linq_source" / "models" / "marts"
    # Monday at ten o'clock, of which YAML made 600.
    assert "* 604800.0 - 36000.0" in (built / "fct_responses.sql").read_text()
    for variable, told in (
        ("linq_timezone: it's", "linq_timezone must be a name of the IANA database such as"),
        ("linq_business_end: '24:30'", "linq_business_end must be a time from 00:00 to 24:00 such"),
        ("linq_session_silence_minutes: 1 or 2", "linq_session_silence_minutes must be a whole"),
    ):
        done = dbt.start(project, "dbt", "parse", "--vars", f"{{{variable}}}")
        assert (done.returncode, told in done.stdout) == (2, True), done.stdout
    with duckdb.connect(str(seeded.database), read_only=True) as connection:
        found = connection.execute(
            "SELECT table_name || '.' || column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = 'marts'"
        ).fetchall()
    columns = {
        f"{model['name']}.{column['name']}"
        for model in described("models")
        for column in model["columns"]
    }
    assert {name for name, _ in found} == columns
    assert {type_ for _, type_ in found} == {
        "BIGINT", "BOOLEAN", "DATE", "DOUBLE", "TIMESTAMP WITH TIME ZONE", "VARCHAR",
    }  # fmt: skip
    fresh = dbt.start(project, "dbt", "source", "freshness")
    assert "PASS freshness of linq.chat_messages" in fresh.stdout
    age(seeded.database)
    fresh = dbt.start(project, "dbt", "source", "freshness")
    assert "WARN freshness of linq.chat_messages" in fresh.stdout


def write_project(folder: Path, database: Path) -> None:
    """A project that has nothing but the package, and a profile in its folder."""
    files: dict[str, Any] = {
        "dbt_project.yml": {
            "name": "analytics",
            "profile": "ours",
            "version": "1.0",
            "vars": {"linq_business_start": 600},
        },
        "packages.yml": {"packages": [{"local": str(PACKAGE)}]},
        "profiles.yml": {
            "ours": {
                "target": "dev",
                "outputs": {"dev": {"type": "duckdb", "path": str(database), "schema": "marts"}},
            }
        },
    }
    for name, content in files.items():
        (folder / name).write_text(yaml.safe_dump(content))


def age(database: Path) -> None:
    """Let the newest run be seven hours ago."""
    with duckdb.connect(str(database)) as connection:
        connection.execute("UPDATE linq.sync_runs SET synced_at = now() - INTERVAL 7 HOUR")
