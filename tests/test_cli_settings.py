"""dlt's own configuration in the command: settings files, named destinations, proxies."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from linq_source.sandbox import World, seeded_world
from tests.conftest import Loader
from tests.test_cli import assert_one_line, loading, run_cli
from tests.truth import assert_equal_world

GOOD = b'[sources.linq]\nphones = "plain"\n'
COMMANDS = {
    "run": ["run", "--base-url", "http://127.0.0.1:9"],
    "audit": ["audit", "--base-url", "http://127.0.0.1:9"],
    "forget": ["forget", "--chat-id", "1"],
    "media": ["media", "--bucket-url", "files"],
    "lake": ["lake", "check", "--bucket-url", "lake"],
}


@pytest.mark.parametrize(
    ("command", "file", "content", "words"),
    [
        ("run", "secrets.toml", b"\xef\xbb\xbf" + GOOD, ["byte order mark", "without"]),
        ("audit", "secrets.toml", GOOD + b'privacy_key = "sesame\n', ["line 3", "not TOML"]),
        ("media", "config.toml", GOOD + b'text = "\xe9"\n', ["line 3", "UTF-8"]),
        ("forget", "secrets.toml", None, ["cannot be read", "Is a directory"]),
        ("lake", "config.toml", b"sesame\n", ["line 1", "not TOML"]),
        ("run", "secrets.toml", GOOD.decode().encode("utf-16"), ["line 1", "UTF-8"]),
        ("audit", "secrets.toml", GOOD + b"phones = 1\n", ["not TOML"]),
    ],
)
def test_a_settings_file_that_cannot_be_read_is_named(
    tmp_path: Path, command: str, file: str, content: bytes | None, words: list[str]
) -> None:
    path = tmp_path / ".dlt" / file
    path.parent.mkdir()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    duckdb.connect(str(tmp_path / "linq_messages.duckdb")).close()
    result = run_cli(tmp_path, *COMMANDS[command])
    assert result.returncode == 2, result.stderr
    assert_one_line(result, f".dlt/{file}", *words)
    assert "sesame" not in result.stderr + result.stdout


def test_a_named_destination_is_what_it_is_configured_as(
    serve: Callable[[World], Loader], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeded = serve(seeded_world(chats=3, messages=30))
    for message in seeded.world.messages.values():
        message.attachments.clear()
    monkeypatch.setenv("DESTINATION__WAREHOUSE__DESTINATION_TYPE", "duckdb")
    to_it = ["--destination", "warehouse"]
    assert run_cli(tmp_path, *loading(seeded, *to_it)).returncode == 0
    assert_equal_world(tmp_path / "linq_messages.duckdb", seeded.world)
    monkeypatch.setenv("DESTINATION__WAREHOUSE__CREDENTIALS", "duckdb:///other.duckdb")
    missing = run_cli(tmp_path, "forget", "--chat-id", "1", *to_it)
    assert missing.returncode == 2
    assert_one_line(missing, "other.duckdb", "no such file")
    done = run_cli(tmp_path, *loading(seeded, *to_it))
    assert done.returncode == 0, done.stderr
    assert f"loaded into {tmp_path / 'other.duckdb'}, dataset linq" in done.stdout
    assert_equal_world(tmp_path / "other.duckdb", seeded.world)
    audit = run_cli(tmp_path, "audit", "--base-url", seeded.sandbox.url, *to_it)
    assert (audit.returncode, "every count agrees" in audit.stdout) == (0, True), audit.stderr
    forgotten = run_cli(tmp_path, "forget", "--chat-id", "1", *to_it)
    assert (forgotten.returncode, "1 chats erased whole" in forgotten.stdout) == (0, True)
    media = run_cli(tmp_path, "media", "--bucket-url", "files", *to_it)
    assert media.returncode == 0, media.stderr


def test_a_named_destination_may_be_a_bucket(
    seeded: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESTINATION__OUR_LAKE__DESTINATION_TYPE", "dlt.destinations.filesystem")
    monkeypatch.setenv("DESTINATION__OUR_LAKE__BUCKET_URL", str(tmp_path / "lake"))
    done = run_cli(tmp_path, *loading(seeded, "--destination", "our_lake"))
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "lake") in done.stdout.splitlines()[-1]
    assert list((tmp_path / "lake" / "linq" / "current" / "chats").rglob("*.parquet"))


@pytest.mark.parametrize("type_", ["mars", "dlt.destinations.mars", ""])
def test_a_named_destination_of_no_known_type_is_refused(
    seeded: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, type_: str
) -> None:
    monkeypatch.setenv("DESTINATION__WAREHOUSE__DESTINATION_TYPE", type_)
    result = run_cli(tmp_path, *loading(seeded, "--destination", "warehouse"))
    assert result.returncode == 2
    assert_one_line(result, "warehouse", "duckdb", *([type_] if type_ else []))
    assert seeded.sandbox.requests_log == []


def test_a_destination_that_cannot_follow_deletions_is_refused(
    seeded: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "messages.sqlite"
    monkeypatch.setenv("DESTINATION__WAREHOUSE__DESTINATION_TYPE", "sqlalchemy")
    monkeypatch.setenv("DESTINATION__WAREHOUSE__CREDENTIALS", f"sqlite:///{file}")
    result = run_cli(tmp_path, *loading(seeded, "--destination", "warehouse"))
    assert result.returncode == 2
    assert_one_line(result, "sqlalchemy (SQLite, MySQL, MariaDB)", "postgres")
    assert seeded.sandbox.requests_log == []
    assert not file.exists()


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "all_proxy"])
def test_a_proxy_that_is_no_address_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for other in [n for n in os.environ if n.lower().endswith("_proxy")]:
        monkeypatch.delenv(other)
    monkeypatch.setenv(name, "http://host:abc")
    result = run_cli(tmp_path, "run", "--base-url", "https://127.0.0.1:9")
    assert result.returncode == 2
    assert_one_line(result, "HTTPS_PROXY", "host:abc", "http://host:port")
