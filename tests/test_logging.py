"""`--log-format json`: standard error is one JSON object per line, whatever happens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from linq_source.cli.main import app
from linq_source.sandbox import DEFAULT_TOKEN, Exchange, Fault, Sandbox, World, seeded_world
from tests.conftest import Loader
from tests.destinations import Lake
from tests.searching import CONTENT, NUMBERS, TOKEN, small_world, told
from tests.test_cli import run_cli

# A process may begin before the clock of the test is read again.
SLACK = timedelta(minutes=10)

Result = subprocess.CompletedProcess[str]


def lines_of(result: Result) -> list[dict[str, Any]]:
    """Every line of standard error as JSON, each with what every line must have."""
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert lines, result
    for line in lines:
        assert {"time", "level", "logger", "message", "run"} <= set(line), line
        at = datetime.fromisoformat(line["time"])
        assert at.tzinfo == UTC
        assert abs(datetime.now(UTC) - at) < SLACK
        assert line["level"] in ("debug", "info", "warning", "error", "critical")
    assert len({line["run"] for line in lines}) == 1
    assert lines[-1]["message"] == "finished"
    assert lines[-1]["exit_code"] == result.returncode
    assert "\x1b" not in result.stderr
    return lines


def with_message(lines: list[dict[str, Any]], message: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["message"] == message]


def test_a_run_and_an_audit_are_told_in_json_lines(
    serve: Callable[[World], Loader], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = serve(seeded_world(chats=3, messages=40))
    listed = [f"--chat-id={chat_id}" for chat_id in loader.world.chats]
    arguments = ("--base-url", loader.sandbox.url, *listed, "--pipeline-name", "linq_0")
    # The progress of dlt's own steps, too.
    monkeypatch.setenv("RUNTIME__LOG_LEVEL", "INFO")
    run = run_cli(
        tmp_path, "run", *arguments, "--chat-id=99999", "--shard=0/1", "--json",
        "--log-format=json",
    )  # fmt: skip
    report = json.loads(run.stdout)
    assert run.returncode == 3
    lines = lines_of(run)
    about = {
        "command": "run", "pipeline": "linq_0", "dataset": "linq", "destination": "duckdb",
        "shard": "0/1",
    }  # fmt: skip
    assert [line for line in lines if not about.items() <= line.items()] == []
    assert lines[0]["message"] == "started"
    progress = with_message(lines, "progress")
    assert progress
    assert all(line["chats"] == 3 for line in progress)
    (package,) = with_message(lines, "package loaded")
    assert (package["loads"], package["messages"]) == (report["loads"], 40)
    assert any(line["logger"] == "dlt" and line["level"] == "info" for line in lines)
    (failure,) = [line for line in lines if line.get("chat_id") == 99999]
    assert failure["level"] == "warning"
    assert "404" in failure["message"]
    counts = {
        name: len(value) if isinstance(value, list) else value
        for name, value in report.items()
        if value is not None and name not in ("seconds", "destination")
    }
    assert counts.items() <= lines[-1].items()
    assert (counts["messages"], counts["chats_failed"]) == (40, 1)
    assert lines[-1]["seconds"] >= report["seconds"]
    assert lines[-1]["level"] == "warning"

    monkeypatch.setenv("LINQ_SOURCE_LOG_FORMAT", "json")
    audit = run_cli(tmp_path, "audit", *arguments)
    ended = lines_of(audit)[-1]
    assert audit.returncode == 0, audit.stderr
    assert (ended["command"], ended["differences"], ended["messages"]) == ("audit", 0, 40)
    assert ended["level"] == "info"
    assert "every count agrees with the API" in audit.stdout
    # The option goes before the environment; what is said in text is as it was.
    assert run_cli(tmp_path, "audit", *arguments, "--log-format", "text").stderr == ""
    forgotten = run_cli(tmp_path, "forget", "--chat-id", "1", "--pipeline-name", "linq_0")
    assert lines_of(forgotten)[-1]["erased"]["chats"] == 1


def test_a_lake_and_its_commands(
    serve: Callable[[World], Loader], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINQ_SOURCE_LOG_FORMAT", "json")
    loader = serve(seeded_world(chats=2, messages=10))
    where = ("--bucket-url", str(Lake(tmp_path).bucket))
    load = ("--base-url", loader.sandbox.url, "--destination", "parquet", *where)
    assert lines_of(run_cli(tmp_path, "run", *load))[-1]["messages"] == 10
    checked = lines_of(run_cli(tmp_path, "lake", "check", *where))[-1]
    assert (checked["command"], checked["findings"]) == ("lake check", 0)
    rebuilt = run_cli(tmp_path, "lake", "rebuild", *where, "--json")
    assert lines_of(rebuilt)[-1]["files"] == json.loads(rebuilt.stdout)["files"]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "kind", "words"),
    [
        (["run", "--bogus"], 2, "NoSuchOption", "--bogus"),
        (["run", "--start", "soon"], 2, "ConfigurationError", "'soon'"),
        (["media", "--bucket-url", "files"], 2, "ConfigurationError", "no such file"),
        (["lake", "check", "--bucket-url", "b"], 2, "ConfigurationError", "there is no lake"),
    ],
)
def test_errors_are_one_line_and_keep_their_exit_code(
    tmp_path: Path, arguments: list[str], exit_code: int, kind: str, words: str
) -> None:
    result = run_cli(tmp_path, *arguments, "--log-format", "json")
    assert result.returncode == exit_code
    assert result.stdout == ""
    (error,) = [line for line in lines_of(result) if "error_type" in line]
    assert (error["error_type"], error["level"]) == (kind, "error")
    assert error["exit_code"] == exit_code
    assert words in error["message"]
    assert "Traceback" not in result.stderr


def test_debug_puts_the_traceback_into_the_line_and_keeps_the_exit_code(tmp_path: Path) -> None:
    wrong = ("run", "--start", "soon", "--debug")
    result = run_cli(tmp_path, *wrong, "--log-format", "json")
    (error,) = [line for line in lines_of(result) if "exception" in line]
    assert error["exception"].startswith("Traceback")
    assert result.returncode == 2
    text = run_cli(tmp_path, *wrong)
    assert text.returncode == 2
    assert "Traceback" in text.stderr
    assert text.stderr.splitlines()[-1].startswith("error: start is 'soon'")


WHAT_OTHERS_SAY = """
import logging, sys, threading, warnings
from linq_source.cli import logs
assert logs.configure(["run", "--log-format", "json", *sys.argv[1:]], {})
import dlt
pipeline = dlt.pipeline("other", destination="duckdb", pipelines_dir="p")
pipeline.activate()
from dlt.common import logger
logger.warning("of dlt")
warnings.warn("of Python\\nin two lines", UserWarning)
logging.getLogger("of.a.library").warning("with %s", "arguments")
logging.getLogger("of.a.library").info("not shown")
logging.getLogger("of.a.library").warning("%d", "no number")
try:
    raise ValueError("pelican")
except ValueError:
    logging.getLogger("of.a.library").exception("with a traceback")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
class Refuses:
    def __del__(self):
        raise KeyError("in the end")
Refuses()
logs.finished(0)
"""


def speak(folder: Path, *options: str) -> list[dict[str, Any]]:
    environment = dict(os.environ) | {"DLT_DATA_DIR": str(folder), "HOME": str(folder)}
    return lines_of(
        subprocess.run(
            [sys.executable, "-c", WHAT_OTHERS_SAY, *options],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=True,
        )
    )  # fmt: skip


def test_what_others_say_is_json_too(tmp_path: Path) -> None:
    lines = speak(tmp_path)
    said = [(line["logger"], line["level"], line["message"]) for line in lines]
    assert said == [
        ("dlt", "warning", "of dlt"),
        ("py.warnings", "warning", "of Python\nin two lines"),
        ("of.a.library", "warning", "with arguments"),
        ("of.a.library", "error", "a log record could not be written"),
        ("of.a.library", "error", "with a traceback"),
        ("linq_source.cli", "error", "an error ended a thread"),
        ("linq_source.cli", "error", "an error was ignored"),
        ("linq_source.cli", "info", "finished"),
    ]
    assert lines[1]["category"] == "UserWarning"
    kinds = [line["exception"] for line in lines if "exception" in line]
    assert kinds == ["builtins.ValueError", "builtins.ZeroDivisionError", "builtins.KeyError"]
    full = [line["exception"] for line in speak(tmp_path, "--debug") if "exception" in line]
    assert "pelican" in full[0]
    assert all(trace.startswith("Traceback") for trace in full)


def outage(exchange: Exchange) -> Fault | None:
    return Fault(action="close") if exchange.params.get("page") == "2" else None


def bad_token(exchange: Exchange) -> Fault | None:
    return Fault(status=401)


@pytest.mark.parametrize(
    ("fault", "exit_code"),
    [(None, 3), (outage, 1), pytest.param(bad_token, 1, marks=pytest.mark.long)],
)
def test_no_line_tells_the_token_a_text_or_a_number(
    tmp_path: Path, fault: Any, exit_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME__LOG_LEVEL", "DEBUG")
    (tmp_path / ".dlt").mkdir()
    (tmp_path / ".dlt" / "config.toml").write_text("[sources.linq]\nrequest_deadline_s = 2\n")
    world = small_world()
    bad = CONTENT[0]
    world.messages_of(2)[3].raw = f'{{"id":"{bad}","text":["{bad}"],"sent_at":"{bad}"}}'
    with Sandbox(world, TOKEN) as sandbox:
        if fault is not None:
            sandbox.faults.append(fault)
        options = ("--base-url", sandbox.url, "--page-size", "10", "--log-format", "json")
        number = ("--phone-number", NUMBERS[0], "--metrics-file", "linq.prom")
        result = run_cli(tmp_path, "run", *options, *number, "--debug", token=TOKEN)
    assert result.returncode == exit_code, result.stderr[-2000:]
    lines_of(result)
    said: dict[str, str | bytes] = {
        "stdout": result.stdout, "stderr": result.stderr,
        "metrics": (tmp_path / "linq.prom").read_text(),
    }  # fmt: skip
    assert told(said, (TOKEN, DEFAULT_TOKEN, *CONTENT)) == []


def test_help_teaches_it() -> None:
    for command in (["run"], ["audit"], ["forget"], ["media"], ["lake", "check"], ["demo"]):
        shown = CliRunner(env={"COLUMNS": "120"}).invoke(app, [*command, "--help"]).output
        assert "--log-format" in shown
        assert "LINQ_SOURCE_LOG_FORMAT" in shown
