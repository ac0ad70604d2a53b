"""`linq-source transform` as a command: what it says, how it ends, what it leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from linq_source import forget
from linq_source.cli.transform import Outcome, TransformReport, _check_installed
from linq_source.destinations.dbt_profiles import _bigquery
from linq_source.errors import ConfigurationError
from linq_source.sandbox import World, grow, seeded_world
from tests import dbt
from tests.conftest import Loader
from tests.dbt import PACKAGE, transform
from tests.destinations import Lake, OpenTables
from tests.marts import Seen
from tests.test_transform import assert_marts, rows_of


@pytest.mark.quick
def test_the_extra_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigurationError) as error:
        _check_installed("no_such_package.cli.main", "dbt")
    assert str(error.value) == (
        "transform needs an extra: pip install 'linq-source[dbt]' "
        "(no module no_such_package.cli.main)"
    )


@pytest.mark.quick
@pytest.mark.parametrize(
    ("statuses", "exit_code"),
    [(["success", "pass"], 0), (["success", "warn"], 0), (["success", "fail"], 3),
     (["error", "skipped"], 1), (["error", "fail"], 1)],
)  # fmt: skip
def test_exit_codes(statuses: list[str], exit_code: int) -> None:
    outcomes = tuple(Outcome("one", "test", status, "", 0.1) for status in statuses)
    assert TransformReport("linq_marts", outcomes, 1.0).exit_code == exit_code


@pytest.mark.quick
@pytest.mark.parametrize(
    ("credentials", "method", "secrets"),
    [
        ({"private_key": "KEY", "client_email": "a@example.test"}, "service-account-json",
         {"DBT_ENV_SECRET_LINQ_PRIVATE_KEY": "KEY"}),
        ({"refresh_token": "TOKEN", "client_id": "1", "client_secret": "KEY"}, "oauth-secrets",
         {"DBT_ENV_SECRET_LINQ_CLIENT_SECRET": "KEY",
          "DBT_ENV_SECRET_LINQ_REFRESH_TOKEN": "TOKEN"}),
        ({}, "oauth", {}),
    ],
)  # fmt: skip
def test_a_profile_of_bigquery_names_its_secrets_and_has_none(
    credentials: dict[str, str], method: str, secrets: dict[str, str]
) -> None:
    known = SimpleNamespace(project_id="ours", token_uri="https://token.example", **credentials)
    config = SimpleNamespace(credentials=known, location="EU")
    profile = _bigquery(config, "linq_marts", {})
    assert profile.secrets == secrets
    assert "KEY" not in repr(profile).replace("PRIVATE_KEY", "")
    assert "'TOKEN'" not in repr(profile)
    assert (profile.output["method"], profile.output["location"]) == (method, "EU")
    assert (profile.output["project"], profile.output["dataset"]) == ("ours", "linq_marts")


@pytest.mark.long
def test_the_outcome_is_told_and_nothing_but_the_marts_is_left_behind(
    serve: Callable[[World], Loader],
) -> None:
    loader = serve(seeded_world(chats=4, messages=60))
    loader.sync()
    package = listing(PACKAGE)
    before = listing(loader.folder)
    arguments = ["--database", str(loader.database)]
    # What the environment tells dbt is about another project.
    others = {"TARGET": "prod", "PROFILE": "ours", "PROJECT_DIR": "/none", "FULL_REFRESH": "maybe"}
    done = dbt.run(loader.folder, *arguments, **{f"DBT_{k}": v for k, v in others.items()})
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["model", "outcome", "seconds"]
    assert [line.split()[:2] for line in lines[1:12]] == sorted(
        [name.stem, "success"] for name in (PACKAGE / "models" / "marts").glob("*.sql")
    )
    assert lines[12:14] == ["models: 27 success", "tests: 303 pass"]
    assert lines[14].startswith("built in the schema linq_marts, ")
    assert listing(PACKAGE) == package
    assert listing(loader.folder) - before <= {Path("dlt")}
    # New conversations are in what is built again, and not in the marts that are not.
    grow(loader.world)
    loader.sync()
    report = transform(loader, *arguments, "--vars", "{}", "--select", "+fct_responses")
    assert report["tests"].keys() == {"pass"}
    # A line that two numbers claim fails a test, which is told, and exits 3.
    with duckdb.connect(str(loader.database)) as connection:
        connection.execute("UPDATE linq.phone_numbers SET phone_number = '+15550100001'")
    done = dbt.run(loader.folder, *arguments, "--select", "dim_lines", "--json")
    assert done.returncode == 3
    report = json.loads(done.stdout)
    assert report["models"] == {"success": 1}
    told = {t["name"]: (t["status"], t["message"]) for t in report["troubles"]}
    failed = ("fail", "Got 1 result, configured to fail if != 0")
    assert told["unique_dim_lines_line_number"] == failed
    assert report["destination"] == f"{loader.database}, dataset linq"
    with duckdb.connect(str(loader.database)) as connection:
        connection.execute("ALTER TABLE linq.chat_messages ALTER sent_at TYPE VARCHAR")
    done = dbt.run(loader.folder, *arguments, "--log-format", "json")
    assert done.returncode == 1
    *_, last = map(json.loads, done.stderr.splitlines())
    assert (last["message"], last["exit_code"], last["command"]) == ("finished", 1, "transform")
    assert "error: int_linq__messages: " in done.stdout


def listing(folder: Path) -> set[Path]:
    """What is in a folder, what Python compiled left out."""
    return {path.relative_to(folder) for path in folder.glob("*") if path.name != "__pycache__"} | {
        path.relative_to(folder) for path in folder.glob("*/*") if path.parent.name == "models"
    }


@pytest.mark.long
def test_wrong_usage_is_told_in_one_line(serve: Callable[[World], Loader]) -> None:
    loader = serve(seeded_world(chats=2, messages=10))
    loader.sync()
    lake = Lake(loader.folder)
    delta = OpenTables(loader.folder, "delta")
    here = ["--database", str(loader.database)]
    assert_told(loader, 2, [*here, "--dataset", "other"], "the dataset other has no messages: load")
    assert_told(loader, 2, [*here, "--select", "nothing"], "--select nothing: there is no such")
    assert_told(loader, 2, [*here, "--vars", "{linq_zone: UTC}"], "--vars linq_zone: is not a var")
    nowhere = str(loader.folder / "none.duckdb")
    assert_told(loader, 2, ["--database", nowhere], f"--database {nowhere}: there is no such file")
    in_lake = ["--destination", "parquet", "--bucket-url", str(lake.bucket)]
    assert_told(loader, 2, in_lake, f"the lake {lake.bucket}/linq has no messages: load")
    in_delta = ["--destination", "filesystem", "--bucket-url", str(delta.bucket)]
    assert_told(loader, 2, in_delta, "--destination filesystem needs --table-format")
    done = dbt.run(loader.folder, *here, "--select", "fct_messages", "fct_responses")
    assert done.returncode == 2
    noon = [*here, "--vars", "{linq_business_start: noon}"]
    assert_told(loader, 2, noon, "--vars linq_business_start: 'noon' is not a time from 00:00 to")


def assert_told(loader: Loader, exit_code: int, arguments: list[str], told: str) -> None:
    done = dbt.run(loader.folder, *arguments)
    assert (done.returncode, done.stdout) == (exit_code, "")
    assert done.stderr.startswith(f"error: {told}"), done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.long
def test_tables_and_columns_that_are_not_there_are_empty(seeded: Loader) -> None:
    """As in a database of an earlier version, or where nobody asked for contacts."""
    seeded.sync()
    seen = Seen()
    seen.look(seeded.world)
    seen.contacts = []
    with duckdb.connect(str(seeded.database)) as connection:
        connection.execute("USE linq")
        connection.execute("DROP TABLE rejected_records")
        connection.execute("DROP TABLE sync_runs")
        connection.execute("ALTER TABLE chat_messages DROP COLUMN expired_at")
        connection.execute("ALTER TABLE chats DROP COLUMN expired_at")
        connection.execute("ALTER TABLE sync_windows DROP COLUMN event")
        connection.execute("ALTER TABLE chat_messages ADD COLUMN new_field VARCHAR")
    report = transform(seeded, "--database", str(seeded.database), "--vars", "{}")
    assert report["models"] == {"success": 27}
    assert_marts(rows_of(seeded.database), seen.marts())
    (quality,) = rows_of(seeded.database)("data_quality")
    assert quality["last_run_at"] is None
    assert (quality["window_count"], quality["rejected_record_count"]) == (16, 0)


@pytest.mark.long
def test_data_quality_is_what_the_runs_reported(seeded: Loader) -> None:
    seeded.sync()
    seeded.world.messages[16].extra["sent_at"] = "no instant"
    seeded.world.advance(60_000)
    report = seeded.sync(lookback_days=400)
    with duckdb.connect(str(seeded.database)) as connection:
        for event, verified in (("gap", "NULL"), ("failed", "false"), (None, "false")):
            connection.execute(
                "INSERT INTO linq.sync_windows (chat_id, event, verified, synced_at)"
                f" SELECT 1, ?, {verified}, '2026-01-01 00:00:00+00'",
                [event],
            )
    transform(seeded, "--database", str(seeded.database))
    (quality,) = rows_of(seeded.database)("data_quality")
    ((last_run_at, bound),) = seeded.query(
        "SELECT synced_at, bound FROM linq.sync_runs ORDER BY synced_at DESC LIMIT 1"
    )
    assert quality.pop("last_run_at") == last_run_at
    assert quality.pop("last_bound") == bound
    built_at = quality.pop("built_at")
    assert quality.pop("lag_s") == pytest.approx((built_at - last_run_at).total_seconds(), abs=1)
    assert quality.pop("oldest_check") == bound.replace(hour=0, minute=0, second=0, microsecond=0)
    ((windows,),) = seeded.query("SELECT count(*) FROM linq.sync_windows")
    ((unverified,),) = seeded.query(
        "SELECT count(*) FROM linq.sync_windows WHERE event = 'read' AND NOT verified"
    )
    assert report.rejected > 0
    assert quality == {
        "last_run_failed_chat_count": 0,
        "last_run_unverified_window_count": report.windows_unverified,
        "chat_count": 16,
        "complete_chat_count": 16,
        "live_message_count": 700,
        "api_message_count": 700,
        "coverage_percent": 100.0,
        "expired_message_count": 0,
        "deleted_message_count": 0,
        "window_count": windows,
        "unverified_window_count": unverified + 1,
        "failed_window_count": 1,
        "gap_count": 1,
        "rejected_record_count": report.rejected,
    }


@pytest.mark.long
def test_what_is_built_incrementally_follows_erasure_and_runs_out_of_order(
    seeded: Loader,
) -> None:
    """Erased rows go; a row of a shard that began earlier and ended later is taken."""
    seeded.sync()
    transform(seeded, "--database", str(seeded.database))
    chat = next(chat for chat in seeded.world.chats.values() if not chat.group)
    number = chat.handles[0].phone_number
    forget(seeded.pipeline, phone_numbers=[number])
    ((message_id,),) = seeded.query("SELECT max(id) FROM linq.chat_messages WHERE text IS NOT NULL")
    with duckdb.connect(str(seeded.database)) as connection:
        connection.execute(
            "UPDATE linq.chat_messages SET text = 'four', synced_at = synced_at - INTERVAL 1 HOUR"
            f" WHERE id = {message_id}"
        )
    transform(seeded, "--database", str(seeded.database))
    for table, column in (
        ("int_linq__messages", "sent_from"), ("fct_messages", "contact_number"),
        ("dim_contacts", "contact_number"), ("fct_responses", "contact_number"),
    ):  # fmt: skip
        assert number not in {row[column] for row in rows_of(seeded.database)(table)}
    lengths = {
        row["message_id"]: row["text_length"] for row in rows_of(seeded.database)("fct_messages")
    }
    assert lengths[message_id] == 4
