"""The token is nowhere, texts and numbers only where rows belong: every output is searched.

Outputs are log records of every level, standard output and error, errors with their whole chain,
the `repr` of every object a user can hold, dlt's trace in all its forms, every file below the
pipeline's folder and every table of the destination, unpacked where something is packed.
"""

from __future__ import annotations

import base64
import gzip
import json
import logging
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dlt.common.configuration.utils import get_resolved_traces
from tenacity import wait_chain, wait_fixed

from linq_source.api import client, transport
from linq_source.sandbox import Sandbox
from tests import processes
from tests.conftest import Loader
from tests.searching import CASES, CONTENT, NUMBERS, TEXT, TOKEN, Run, small_world, told


def test_the_search_itself_finds_what_is_packed() -> None:
    packed = base64.b64encode(zlib.compress(TOKEN.encode() * 9)).decode()
    outputs: dict[str, str | bytes] = {
        "plain": f"a {TOKEN}", "state": f'{{"state":"{packed}"}}',
        "file": gzip.compress(TOKEN.encode()), "nothing": "nothing",
    }  # fmt: skip
    assert told(outputs, (TOKEN,)) == [f"{TOKEN} in {p}" for p in ("file", "plain", "state")]


FROM_ENVIRONMENT = (
    "success", "one number", "one number, refused", "401", "no list", "no server in mid-run",
    "no chat", "a crash while reading", "a load that fails", "no database",
)  # fmt: skip
# dlt keeps every setting that is not a secret, with its value, in the trace of a failed extract.
KEPT = ("one number, refused",)
# Where the token comes from is tried in all of them by `make test-all`.
FEW = ("success", "one number, refused", "a load that fails")
PENDING = pytest.mark.xfail(strict=True, reason="phone_numbers of the configuration are in a trace")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    # After two more tries the next pause is longer than the deadline.
    pauses = wait_chain(wait_fixed(0.02), wait_fixed(0.02), wait_fixed(3600))
    monkeypatch.setattr(client, "_BACKOFF", pauses)
    monkeypatch.setattr(transport, "MAX_BODY_BYTES", 40_000)
    for name in [name for name in os.environ if name.startswith("SOURCES__")]:
        monkeypatch.delenv(name)
    # dlt notes every setting it resolved until a run has ended, also those of other tests.
    get_resolved_traces().clear()
    with Sandbox(small_world(), TOKEN) as sandbox:
        yield Run(Loader(sandbox, tmp_path))
    get_resolved_traces().clear()


@pytest.mark.parametrize(
    ("name", "in_environment"),
    [
        pytest.param(name, False, id=name, marks=[pytest.mark.long] * (name not in FEW))
        for name in CASES
    ]
    + [
        pytest.param(
            name,
            True,
            id=f"{name}, from the environment",
            marks=[PENDING] * (name in KEPT) + [pytest.mark.long] * (name not in FEW),
        )
        for name in FROM_ENVIRONMENT
    ],
)
def test_nothing_is_told(
    run: Run, name: str, in_environment: bool, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    case = CASES[name]
    options = dict(case.prepare(run, monkeypatch) or {})
    if in_environment:
        monkeypatch.setenv("SOURCES__LINQ__API_TOKEN", TOKEN)
        for key, value in options.items():
            monkeypatch.setenv(f"SOURCES__LINQ__{key.upper()}", json.dumps(value))
        options = {}
    else:
        options["api_token"] = TOKEN
    with caplog.at_level(logging.DEBUG), logged_by_dlt(caplog.handler):
        run.go(case.load, **options)
    out, err = capfd.readouterr()
    if isinstance(case.outcome, int):
        assert run.error is None
        assert run.report is not None
        assert run.report.exit_code == case.outcome
    else:
        assert type(run.error) is case.outcome
    records = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    said = run.said() | {"stdout": out, "stderr": err, "log": records}
    assert told(said | run.holds(), (TOKEN,)) == []
    assert told(said, CONTENT) == []


def test_what_is_searched_is_there(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """A search that finds nothing proves something only where there is something to search."""
    with caplog.at_level(logging.DEBUG), logged_by_dlt(caplog.handler):
        run.go(api_token=TOKEN)
    said, holds = run.said(), run.holds()
    for name in (
        "progress", "repr of extraction", "repr of client", "repr of transport", "repr of report",
        "repr of source", "repr of session", "repr of settings", "trace", "trace as dict",
        "file trace.pickle", "file state.json", "table linq._dlt_version",
        "table linq._dlt_pipeline_state",
    ):  # fmt: skip
        assert said[name], name
    assert "30 messages" in str(said["progress"])
    assert any(record.name == "dlt" for record in caplog.records)
    assert told({"rows": holds["table linq.chat_messages"]}, (TEXT, NUMBERS[3]))
    state = {"state": said["table linq._dlt_pipeline_state"]}
    assert told(state, ("cursors",)) == ["cursors in state"]


@contextmanager
def logged_by_dlt(handler: logging.Handler) -> Iterator[None]:
    """The logger of dlt does not pass its records on."""
    logger = logging.getLogger("dlt")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


COMMANDS: dict[str, tuple[str, list[str], int]] = {
    "success, as JSON": ("success", ["--json", "--debug", "--phone-number", NUMBERS[0]], 0),
    "401, with --debug": ("401", ["--debug"], 1),
    "an outage in mid-run": ("no server in mid-run", ["--debug"], 1),
}
MORE_COMMANDS: dict[str, tuple[str, list[str], int]] = {
    "success": ("success", [], 0),
    "401": ("401", [], 1),
    "no chat": ("no chat", ["--json"], 3),
    "no database": ("no database", ["--debug"], 1),
}


@pytest.mark.parametrize(
    "name", [*COMMANDS, *(pytest.param(name, marks=pytest.mark.long) for name in MORE_COMMANDS)]
)
def test_the_command_tells_nothing(run: Run, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, more, exit_code = (COMMANDS | MORE_COMMANDS)[name]
    CASES[case].prepare(run, monkeypatch)
    folder = run.loader.folder
    environment = dict(os.environ) | {
        "SOURCES__LINQ__API_TOKEN": TOKEN, "SOURCES__LINQ__REQUEST_DEADLINE_S": "2",
        "RUNTIME__LOG_LEVEL": "DEBUG", "DLT_DATA_DIR": str(folder / "dlt"), "HOME": str(folder),
    }  # fmt: skip
    command = [
        "run", "--base-url", run.loader.sandbox.url,
        "--database", str(run.loader.database), "--pipelines-dir", str(folder / "pipelines"),
        "--pipeline-name", run.loader.name, "--page-size", "10", "--workers", "1", *more,
    ]  # fmt: skip
    result = processes.run(command, folder, environment)
    assert result.returncode == exit_code, result.stderr[-2000:]
    assert ("--debug" in more and exit_code == 1 and "mid" not in name) == (
        "Traceback" in result.stderr
    )
    said = run.said() | {"stdout": result.stdout, "stderr": result.stderr}
    assert told(said | run.holds(), (TOKEN,)) == []
    assert told(said, CONTENT) == []
