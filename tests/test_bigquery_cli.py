"""BigQuery by the command line, as whole processes: killed, side by side, badly configured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import dlt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from linq_source import ConfigurationError, sync
from linq_source.sandbox import DEFAULT_TOKEN, World, grow, seeded_world
from tests import processes
from tests.bigquery.server import PROJECT
from tests.conftest import HOUR_MS, NOW_MS, Loader
from tests.destinations import BigQuery, bigquery_project
from tests.truth import assert_equal_tables, live_tables

pytestmark = pytest.mark.long


@pytest.fixture
def project(tmp_path: Path) -> Iterator[BigQuery]:
    with bigquery_project(tmp_path) as place:
        yield place


def test_a_killed_load_is_taken_up_again(
    serve: Callable[[World], Loader], project: BigQuery, service_account: Path
) -> None:
    """Killed with a load job done but not heard of, then with a merge sent but not answered."""
    loader = serve(seeded_world(chats=3, messages=40))
    arguments = cli_arguments(loader)
    kill_at(project, service_account, arguments, "loaded", "chat_messages_")
    grow(loader.world)
    kill_at(project, service_account, arguments, "query", "MERGE INTO")
    loader.world.advance(HOUR_MS)
    done = run_cli(project, service_account, arguments)
    assert done.returncode == 0, done.stderr
    assert any(job.startswith("chat_messages_") for job in project.double.repeated_jobs)
    assert_equal_tables(live_tables(project.rows), loader.world)


def test_shards_load_at_the_same_time(
    serve: Callable[[World], Loader], project: BigQuery, service_account: Path
) -> None:
    loader = serve(seeded_world(chats=6, messages=90))
    running = [
        start_cli(
            project,
            service_account,
            [*cli_arguments(loader), "--shard", f"{n}/2", "--pipeline-name", f"shard_{n}"],
        )
        for n in range(2)
    ]
    for process in running:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert_equal_tables(live_tables(project.rows), loader.world)
    assert set(project.double.warehouse.catalog.datasets) == {
        "linq",
        "linq_staging_shard_0",
        "linq_staging_shard_1",
    }


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


@pytest.fixture
def service_account(project: BigQuery, private_key: str, tmp_path: Path) -> Path:
    """A service account's file, whose tokens the double gives out."""
    return write_account(tmp_path, private_key, f"{project.double.url}/token")


def write_account(folder: Path, private_key: str, token_uri: str, name: str = PROJECT) -> Path:
    path = folder / "account.json"
    account = {
        "type": "service_account", "project_id": name, "private_key_id": "1",
        "private_key": private_key, "client_email": "loader@example.test", "client_id": "1",
        "token_uri": token_uri,
    }  # fmt: skip
    path.write_text(json.dumps(account))
    return path


def cli_arguments(loader: Loader) -> list[str]:
    return ["--base-url", loader.sandbox.url, "--pipelines-dir", str(loader.folder / "pipelines")]


def start_cli(
    project: BigQuery, account: Path | None, arguments: list[str], **variables: str
) -> processes.Process:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SOURCES__", "GOOGLE_"))}
    environment = kept | {
        "NO_COLOR": "1",
        "NO_GCE_CHECK": "true",
        "HOME": str(project.folder),
        "DLT_DATA_DIR": str(project.folder / "dlt"),
        "SOURCES__LINQ__API_TOKEN": DEFAULT_TOKEN,
    }
    if account is not None:
        environment["GOOGLE_APPLICATION_CREDENTIALS"] = str(account)
    command = ["run", "--destination", "bigquery", *arguments]
    return processes.start(command, project.folder, environment | variables)


def run_cli(
    project: BigQuery, account: Path | None, arguments: list[str], **variables: str
) -> subprocess.CompletedProcess[str]:
    process = start_cli(project, account, arguments, **variables)
    output, errors = process.communicate()
    return subprocess.CompletedProcess(arguments, process.wait(), output, errors)


def kill_at(project: BigQuery, account: Path, arguments: list[str], what: str, text: str) -> None:
    """Run the command and kill it while BigQuery holds back its answer to a certain request."""
    reached, released = Event(), Event()

    def hold(event: str, content: str) -> None:
        if event == what and text in content:
            reached.set()
            released.wait(processes.PATIENCE_S)

    project.double.hooks.append(hold)
    process = start_cli(project, account, arguments)
    try:
        assert reached.wait(processes.PATIENCE_S)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        project.double.hooks.remove(hold)
        released.set()


def assert_one_line(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 2, result.stderr
    (line,) = result.stderr.splitlines()
    for word in words:
        assert word in line


def test_missing_credentials_are_named(serve: Callable[[World], Loader], project: BigQuery) -> None:
    arguments = cli_arguments(serve(World(NOW_MS)))
    result = run_cli(project, None, arguments)
    assert_one_line(result, "missing configuration: credentials", "GOOGLE_APPLICATION_CREDENTIALS")
    lost = run_cli(project, None, arguments, GOOGLE_APPLICATION_CREDENTIALS="/no/key.json")
    assert_one_line(lost, "GOOGLE_APPLICATION_CREDENTIALS is /no/key.json: there is no such file")


@pytest.mark.parametrize("fault", ["refused", "project", "key", "text"])
def test_wrong_credentials_are_told_in_one_line(
    fault: str,
    serve: Callable[[World], Loader],
    project: BigQuery,
    private_key: str,
    tmp_path: Path,
) -> None:
    url = project.double.url
    account = {
        "refused": lambda: write_account(tmp_path, private_key, f"{url}/nowhere"),
        "project": lambda: write_account(tmp_path, private_key, f"{url}/token", "another"),
        "key": lambda: write_account(tmp_path, "no key", f"{url}/token"),
        "text": lambda: Path("no JSON"),
    }[fault]()
    text: Any = account.read_text() if account.is_file() else str(account)
    loader = serve(World(NOW_MS))
    pipeline = dlt.pipeline(
        "test_wrong",
        destination=dlt.destinations.bigquery(text),
        dataset_name="linq",
        pipelines_dir=str(tmp_path / "pipelines"),
    )
    with pytest.raises(ConfigurationError, match="the credentials cannot be used") as caught:
        sync(pipeline, **loader.arguments())
    assert "docs/bigquery.md" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert private_key not in str(caught.value)
    # A project that is not there is refused; the double notes that as it does every refusal.
    assert ["accessDenied" in failure for failure in project.double.failures] == (
        [True] if fault == "project" else []
    )
    project.double.failures.clear()


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['google.cloud.bigquery'] = None; "
        "sys.argv[1:] = ['run', '--destination', 'bigquery']; "
        "from linq_source.cli import main; main()"
    )
    environment = os.environ | {"SOURCES__LINQ__API_TOKEN": "t", "NO_COLOR": "1"}
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment,
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert_one_line(result, "pip install 'linq-source[bigquery]'")


def test_the_check_of_a_real_project_compares_and_cleans_up(
    project: BigQuery, service_account: Path
) -> None:
    script = Path(__file__).parent.parent / "pipelines" / "check_bigquery.py"
    environment = os.environ | {
        "GOOGLE_APPLICATION_CREDENTIALS": str(service_account),
        "PYTHONWARNINGS": "ignore",
    }
    result = subprocess.run(
        [sys.executable, str(script), "--messages", "60"], cwd=project.folder, env=environment,
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr + result.stdout
    first, second, last = result.stdout.splitlines()
    assert first.startswith("first load: 60 messages loaded, 0 marked deleted")
    assert second.endswith(" 0 differences")
    assert last == "every row agrees"
    assert project.double.warehouse.catalog.datasets == {}
