"""The command line, as whole processes: output, exit codes, and one clear line for bad input."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import duckdb
import pytest

from linq_source.sandbox import DEFAULT_TOKEN, grow
from tests import processes
from tests.conftest import Loader
from tests.truth import assert_equal_world, query

FIELDS = [
    "chats", "chats_skipped", "chats_failed", "chats_unlisted", "windows", "windows_unverified",
    "messages", "attachments", "reactions", "rejected", "deleted", "requests", "retries", "loads",
    "seconds",
]  # fmt: skip


def run_cli(
    folder: Path, *arguments: str, token: str | None = DEFAULT_TOKEN
) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("SOURCES__")
    }
    environment["NO_COLOR"] = "1"
    environment["DLT_DATA_DIR"] = str(folder / "dlt")
    environment["HOME"] = str(folder)
    if token is not None:
        environment["SOURCES__LINQ__API_TOKEN"] = token
    return processes.run(arguments, folder, environment)


def loading(seeded: Loader, *more: str) -> list[str]:
    return ["run", "--base-url", seeded.sandbox.url, *more]


def assert_one_line(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert "Traceback" not in result.stderr + result.stdout
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]


SCRIPT = Path(__file__).parents[1] / "pipelines" / "linq_pipeline.py"


@pytest.mark.parametrize(
    ("arguments", "program"),
    [(["run"], ""), ([], SCRIPT.read_text())],
    ids=["command", "script"],
)
def test_a_relative_path_is_one_of_the_folder_the_command_runs_in(
    seeded: Loader, tmp_path: Path, arguments: list[str], program: str
) -> None:
    """Not of the folder in which a pipeline of this name ran first."""
    (tmp_path / "other").mkdir()
    environment = {"DLT_DATA_DIR": str(tmp_path / "dlt"), "SOURCES__LINQ__API_TOKEN": DEFAULT_TOKEN}
    environment |= {"SOURCES__LINQ__BASE_URL": seeded.sandbox.url}
    for folder in (tmp_path, tmp_path / "other"):
        done = processes.run(arguments, folder, os.environ | environment, program)
        assert done.returncode == 0, done.stderr
        assert_equal_world(folder / "linq_messages.duckdb", seeded.world)
        assert f"loaded into {folder / 'linq_messages.duckdb'}" in done.stdout


def test_run_loads_and_reports_as_json_then_only_changes(seeded: Loader, tmp_path: Path) -> None:
    first = run_cli(tmp_path, *loading(seeded, "--json"))
    assert first.returncode == 0, first.stderr
    report = json.loads(first.stdout)
    assert [name for name in FIELDS if name not in report] == []
    assert (report["messages"], report["chats"], report["deleted"]) == (700, 16, 0)
    assert report["chats_failed"] == []
    assert len(report["loads"]) == 1
    assert report["destination"] == f"{tmp_path / 'linq_messages.duckdb'}, dataset linq"
    changes = grow(seeded.world)
    second = json.loads(run_cli(tmp_path, *loading(seeded, "--json")).stdout)
    assert second["deleted"] == changes.deleted_messages
    assert_equal_world(tmp_path / "linq_messages.duckdb", seeded.world)
    audit = run_cli(tmp_path, "audit", "--base-url", seeded.sandbox.url)
    assert audit.returncode == 0
    assert "every count agrees" in audit.stdout


def test_run_prints_a_short_report(seeded: Loader, tmp_path: Path) -> None:
    result = run_cli(tmp_path, *loading(seeded))
    assert result.returncode == 0
    *lines, last = result.stdout.splitlines()
    facts = dict(line.strip().split("  ", 1) for line in lines)
    assert facts["messages loaded"].strip() == "700"
    assert facts["chats"].strip() == "16 (0 unchanged and skipped)"
    assert last == f"loaded into {tmp_path / 'linq_messages.duckdb'}, dataset linq"


def test_audit_finds_a_difference_exits_3_and_repairs(seeded: Loader, tmp_path: Path) -> None:
    run_cli(tmp_path, *loading(seeded))
    database = tmp_path / "linq_messages.duckdb"
    ((chat_id, lost),) = query(
        database, "SELECT chat_id, min(id) FROM chat_messages GROUP BY 1 ORDER BY 1 LIMIT 1"
    )
    with duckdb.connect(str(database)) as connection:
        connection.execute("DELETE FROM linq.chat_messages WHERE id = ?", [lost])
    shallow = run_cli(tmp_path, "audit", "--base-url", seeded.sandbox.url, "--json")
    assert shallow.returncode == 3
    (difference,) = json.loads(shallow.stdout)["differences"]
    assert difference["chat_id"] == chat_id
    assert difference["message_count"] - difference["live_rows"] == 1
    deep = run_cli(tmp_path, "audit", "--deep", "--base-url", seeded.sandbox.url)
    assert deep.returncode == 0, deep.stdout
    assert_equal_world(database, seeded.world)


def test_no_token(seeded: Loader, tmp_path: Path) -> None:
    result = run_cli(tmp_path, *loading(seeded), token=None)
    assert result.returncode == 2
    assert_one_line(result, "SOURCES__LINQ__API_TOKEN", "[sources.linq]", "secrets.toml")


def test_wrong_token_loads_nothing_and_is_not_shown(seeded: Loader, tmp_path: Path) -> None:
    result = run_cli(tmp_path, *loading(seeded), token="wrong-token-value")
    assert result.returncode == 1
    assert_one_line(result, "401", "SOURCES__LINQ__API_TOKEN")
    assert "wrong-token-value" not in result.stderr + result.stdout
    assert len(seeded.sandbox.requests_log) == 1
    with duckdb.connect(str(tmp_path / "linq_messages.duckdb")) as connection:
        assert connection.execute("SELECT count(*) FROM information_schema.tables").fetchall() == [
            (0,)
        ]


def test_unknown_chat_is_reported_and_the_others_loaded(seeded: Loader, tmp_path: Path) -> None:
    result = run_cli(tmp_path, *loading(seeded, "--chat-id", "1", "--chat-id", "99999", "--json"))
    assert result.returncode == 3
    report = json.loads(result.stdout)
    (failure,) = report["chats_failed"]
    assert failure["chat_id"] == 99999
    assert "404" in failure["error"]
    assert report["messages"] == seeded.world.chats[1].message_count
    database = tmp_path / "linq_messages.duckdb"
    errors = query(database, "SELECT chat_id, verified FROM sync_windows WHERE error IS NOT NULL")
    assert errors == [(99999, False)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--start", "soon"], ["start", "'soon'", "ISO 8601"]),
        (["--start", "2026-02-01", "--end", "2026-01-01"], ["2026-02-01", "2026-01-01"]),
        (["--page-size", "101"], ["page_size", "101", "100"]),
        (["--workers", "0"], ["workers", "0"]),
        (["--lookback-days", "-1"], ["lookback_days", "-1"]),
        (["--shard", "4/4"], ["shard", "'4/4'"]),
        (["--destination", "mars"], ["mars", "duckdb"]),
        (["--database", "no/such/folder/x.duckdb"], ["no/such/folder"]),
        (["--database", ":memory:"], [":memory:", "name a file"]),
        (["--database", "md:linq"], ["md:linq", "--destination motherduck"]),
        (["--dataset", "linq_messages"], ["linq_messages", "--dataset"]),
        (["--dataset", "linq-messages"], ["linq_messages", "--dataset"]),
        (["--dataset", "temp"], ["temp", "DuckDB", "--dataset"]),
        (["--database", "LINQ.duckdb"], ["LINQ.duckdb", "linq", "--database"]),
        (["--database", "linq.prod.duckdb"], ["linq.prod.duckdb", "--database"]),
        (["--database", "linq_staging.duckdb"], ["linq_staging.duckdb", "--database"]),
        (["--base-url", "http://api.example.com"], ["api.example.com", "https"]),
        (["--chat-id", "1", "--phone-number", "+15550100001"], ["--chat-id", "--phone-number"]),
    ],
)
def test_bad_settings_exit_2_before_anything_is_asked(
    seeded: Loader, tmp_path: Path, options: list[str], words: list[str]
) -> None:
    result = run_cli(tmp_path, *loading(seeded, *options))
    assert result.returncode == 2, result.stderr
    assert_one_line(result, *words)
    assert seeded.sandbox.requests_log == []
    assert list(tmp_path.glob("*.duckdb")) == []


@pytest.mark.parametrize("command", ["run", "audit"])
def test_a_number_that_is_none_of_the_organisation_s_exits_2(
    seeded: Loader, tmp_path: Path, command: str
) -> None:
    """Its last digits name it: a whole number is nowhere in what is printed."""
    options = ["--base-url", seeded.sandbox.url, "--phone-number", "+15550109999"]
    result = run_cli(tmp_path, command, *options)
    assert result.returncode == 2, result.stderr
    assert_one_line(result, "...9999", "it has 3 (...0001, ...0002, ...0003)", "--phone-number")
    assert "+1555" not in result.stderr
    assert seeded.sandbox.requests_log[-1].route == "phone_numbers"


def test_a_number_is_found_however_it_is_written(seeded: Loader, tmp_path: Path) -> None:
    result = run_cli(tmp_path, *loading(seeded, "--phone-number", "+1 (555) 010-0003", "--json"))
    assert result.returncode == 0, result.stderr
    seen = [c for c in seeded.world.chats.values() if 3 in c.phone_number_ids]
    assert json.loads(result.stdout)["chats"] == len(seen) > 0
    options = ["--base-url", seeded.sandbox.url, "--phone-number", "+15550100003"]
    audit = json.loads(run_cli(tmp_path, "audit", *options, "--json").stdout)
    messages = sum(chat.message_count for chat in seen)
    assert (audit["chats"], audit["messages"], audit["differences"]) == (len(seen), messages, [])


def test_an_audit_of_a_chat_that_does_not_exist_agrees_with_nothing(
    seeded: Loader, tmp_path: Path
) -> None:
    run_cli(tmp_path, *loading(seeded))
    options = ["--base-url", seeded.sandbox.url, "--chat-id", "99999"]
    result = run_cli(tmp_path, "audit", *options)
    assert result.returncode == 3
    assert "not compared: chat 99999: HTTP 404" in " ".join(result.stdout.split())
    assert "agrees" not in result.stdout


def test_unknown_option_and_unreadable_number_exit_2(tmp_path: Path) -> None:
    for options in (["--bogus"], ["--page-size", "many"]):
        result = run_cli(tmp_path, "run", *options)
        assert result.returncode == 2
        assert "Traceback" not in result.stderr


@pytest.mark.long
def test_unreachable_host_ends_soon_in_one_line(tmp_path: Path) -> None:
    result = run_cli(tmp_path, "run", "--base-url", "http://127.0.0.1:9")
    assert result.returncode == 1
    assert_one_line(result, "127.0.0.1:9", "no connection", "base_url")


def test_help_teaches_by_example(tmp_path: Path) -> None:
    for command in ("run", "check", "status", "report", "audit", "views", "sandbox"):
        result = run_cli(tmp_path, command, "--help")
        assert result.returncode == 0
        assert f"linq-source {command}" in result.stdout
        # Words in square brackets would be left out, as markup.
        assert not re.search(r"\w \.\s", result.stdout)
    assert "3 loaded but" in " ".join(run_cli(tmp_path, "--help").stdout.split())


def test_demo_twice_in_one_place_but_never_over_a_foreign_file(
    seeded: Loader, tmp_path: Path
) -> None:
    for _ in range(2):
        result = run_cli(tmp_path, "demo", "--database", "demo.duckdb")
        assert result.returncode == 0, result.stderr
        assert "Second load" in result.stdout
        assert (tmp_path / "demo.html").read_text().startswith("<!doctype html>")
    # What only reads may look at it under any name.
    assert run_cli(tmp_path, "status", "--database", "demo.duckdb").returncode == 0
    run_cli(tmp_path, *loading(seeded, "--database", "mine.duckdb"))
    refused = run_cli(tmp_path, "demo", "--database", "mine.duckdb")
    assert refused.returncode == 2
    assert_one_line(refused, "mine.duckdb")
    assert query(tmp_path / "mine.duckdb", "SELECT count(*) FROM chat_messages") == [(700,)]


def test_a_run_never_adds_to_the_invented_messages_of_a_demo(
    seeded: Loader, tmp_path: Path
) -> None:
    assert run_cli(tmp_path, "demo").returncode == 0
    refused = run_cli(tmp_path, *loading(seeded))
    assert refused.returncode == 2
    assert_one_line(refused, "linq_messages.duckdb", "--database")
    assert seeded.sandbox.requests_log == []


def test_forget_erases_a_person_and_tells_what(seeded: Loader, tmp_path: Path) -> None:
    run_cli(tmp_path, *loading(seeded))
    database = tmp_path / "linq_messages.duckdb"
    ((number, chats, groups),) = query(
        database,
        "SELECT phone_number, count(*) FILTER (NOT is_group), count(*) FILTER (is_group)"
        " FROM chats__chat_handles h JOIN chats c ON c.id = h.chat_id"
        " GROUP BY phone_number HAVING count(*) FILTER (NOT is_group) = 1 ORDER BY 1 LIMIT 1",
    )
    result = run_cli(tmp_path, "forget", "--phone-number", number)
    assert result.returncode == 0, result.stderr
    assert f"{chats} chats erased whole, {groups} in part" in result.stdout
    assert number not in result.stdout + result.stderr
    assert query(database, f"SELECT count(*) FROM chat_messages WHERE sent_from = '{number}'") == [
        (0,)
    ]
    again = json.loads(run_cli(tmp_path, "forget", "--chat-id", "1", "--json").stdout)
    assert again["chats"] == [1]
    assert again["erased"]["chats"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ("name a phone number or a chat id",)),
        (["--chat-id", "1"], ("linq_messages.duckdb", "no such file")),
    ],
)
def test_forget_of_nothing_is_one_line(
    tmp_path: Path, arguments: list[str], words: tuple[str, ...]
) -> None:
    if not arguments:
        duckdb.connect(str(tmp_path / "linq_messages.duckdb")).close()
    result = run_cli(tmp_path, "forget", *arguments)
    assert result.returncode == 2
    assert_one_line(result, *words)
    assert (tmp_path / "linq_messages.duckdb").exists() == (not arguments)


def test_forget_in_another_pipelines_place_is_refused(seeded: Loader, tmp_path: Path) -> None:
    run_cli(tmp_path, *loading(seeded))
    result = run_cli(tmp_path, "forget", "--chat-id", "1", "--pipeline-name", "other")
    assert result.returncode == 2
    assert_one_line(result, "holds nothing of the pipeline other")


def test_run_hashes_with_the_configured_key(seeded: Loader, tmp_path: Path) -> None:
    without = run_cli(tmp_path, *loading(seeded, "--phones", "hash"))
    assert without.returncode == 2
    assert_one_line(without, "SOURCES__LINQ__PRIVACY_KEY")
    (tmp_path / ".dlt").mkdir()
    (tmp_path / ".dlt" / "secrets.toml").write_text(
        '[sources.linq]\nprivacy_key = "0123456789abcdef0123456789abcdef"\n'
    )
    assert run_cli(tmp_path, *loading(seeded, "--phones", "hash")).returncode == 0
    assert query(
        tmp_path / "linq_messages.duckdb",
        "SELECT count(*) FROM chat_messages WHERE NOT regexp_matches(sent_from, '^[0-9a-f]{64}$')",
    ) == [(0,)]
