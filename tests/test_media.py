"""Attachments as files: every byte, once, safely, whatever the host and the names."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from linq_source import ConfigurationError, forget
from linq_source.media import MediaReport, media
from linq_source.media.keys import MAX_NAME_BYTES, file_key, safe_name
from linq_source.media.links import LinkRules, RefusedLink, check_address, checked, redirected
from linq_source.sandbox import DEFAULT_TOKEN
from linq_source.sandbox.records import Message
from tests.conftest import DAY_MS, NOW_MS, Loader
from tests.files import Answer, FileHost, content, file_host
from tests.postgres import postgres_database
from tests.test_cli import run_cli
from tests.truth import Row

AT_MS = NOW_MS - 2 * DAY_MS
SECRET = "signature-not-to-be-seen"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linq_source.media.fetching._BACKOFF", lambda _: 0.01)


@pytest.fixture
def host() -> Iterator[FileHost]:
    with file_host() as running:
        yield running


def attach(
    loader: Loader,
    host: FileHost,
    path: str,
    size: int = 1000,
    *,
    answer: Answer | list[Answer] | None = None,
    file_size: int | None = None,
    **options: Any,
) -> Message:
    """A message with one attachment, served by the host under a path."""
    message = loader.world.add_message(1, "see this", sent_at_ms=AT_MS)
    add_file(loader, host, message, path, size, answer=answer, file_size=file_size, **options)
    return message


def add_file(
    loader: Loader,
    host: FileHost,
    message: Message,
    path: str,
    size: int = 1000,
    *,
    answer: Answer | list[Answer] | None = None,
    file_size: int | None = None,
    **options: Any,
) -> None:
    body = content(path, size)
    host.answers[path] = answer or Answer(body, headers={"Content-Type": "application/pdf"})
    options.setdefault("filename", path.rpartition("/")[2])
    loader.world.add_attachment(
        message.id,
        url=host.url(path) + f"?sig={SECRET}",
        file_size=size if file_size is None else file_size,
        **options,
    )


def fetch(loader: Loader, **options: Any) -> MediaReport:
    options.setdefault("allow_private_hosts", True)
    return media(loader.pipeline, str(bucket_of(loader)), **options)


def bucket_of(loader: Loader) -> Path:
    return loader.folder / "bucket"


def records_of(loader: Loader) -> list[Row]:
    rows = loader.query(
        "SELECT chat_message_id, position, attachment_id, status, sha256, size_bytes, bucket_path,"
        " http_status, error, attempts FROM attachment_files ORDER BY 1, 2"
    )
    names = ("message", "position", "id", "status", "sha256", "size", "path", "http", "error",
             "attempts")  # fmt: skip
    return [dict(zip(names, row, strict=True)) for row in rows]


def files_of(loader: Loader) -> dict[str, bytes]:
    """Every file in the bucket by its path."""
    bucket = bucket_of(loader)
    return {
        path.relative_to(bucket).as_posix(): path.read_bytes()
        for path in bucket.rglob("*")
        if path.is_file()
    }


def assert_bucket_is_recorded(loader: Loader, expected: dict[int, bytes]) -> None:
    """The bucket holds exactly the expected files, by message, and the records say so."""
    stored = [row for row in records_of(loader) if row["status"] == "stored"]
    files = files_of(loader)
    assert {row["message"]: files[row["path"]] for row in stored} == expected
    assert len(files) == len(stored)
    for row in stored:
        body = files[row["path"]]
        assert (row["sha256"], row["size"]) == (hashlib.sha256(body).hexdigest(), len(body))


def test_every_byte_arrives_once_and_is_recorded(small: Loader, host: FileHost) -> None:
    expected = {}
    for index, size in enumerate([0, 1, 65_536, 300_001]):
        message = attach(small, host, f"/{index}.pdf", size)
        expected[message.id] = content(f"/{index}.pdf", size)
    gone = attach(small, host, "/gone.pdf")
    small.sync()
    small.world.delete_message(gone.id)
    small.sync()
    report = fetch(small)
    assert (report.stored, report.stored_bytes, report.exit_code) == (4, 365_538, 0)
    assert_bucket_is_recorded(small, expected)
    assert sorted(host.paths()) == [f"/{i}.pdf?sig={SECRET}" for i in range(4)]
    (types,) = small.query("SELECT DISTINCT content_type, http_status, error FROM attachment_files")
    assert types == ("application/pdf", 200, None)
    host.asked.clear()
    again = fetch(small)
    assert (again.stored, again.found, again.loads, host.asked) == (0, 0, (), [])
    page = Path(__file__).parent.parent / "docs" / "media.md"
    sql = page.read_text().split("```sql\n")[1].split("```")[0].replace("42", "1")
    assert sorted(size for _, _, size in small.query(sql)) == [0, 1, 65_536, 300_001]


def test_the_messages_pipeline_is_not_disturbed(small: Loader, host: FileHost) -> None:
    attach(small, host, "/a.pdf")
    small.sync()
    state = small.pipeline.state
    tables = set(small.pipeline.default_schema.tables)
    fetch(small)
    assert small.pipeline.state == state
    assert set(small.pipeline.default_schema.tables) == tables
    small.world.add_message(1, "more", sent_at_ms=AT_MS)
    small.pipeline.extract(small.source())
    attach(small, host, "/b.pdf")
    fetch(small)
    assert small.sync().exit_code == 0
    small.assert_equal_world()
    assert fetch(small).stored == 1


def test_the_host_is_told_nothing_but_the_link(
    small: Loader, host: FileHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCES__LINQ__API_TOKEN", DEFAULT_TOKEN)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password from-netrc\ndefault login x password y\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with file_host() as other:
        other.answers["/there.pdf"] = Answer(b"there")
        cookie = {"Set-Cookie": "session=1; Path=/"}
        attach(small, host, "/a.pdf", 5, answer=[
            Answer(status=503, headers=cookie),
            Answer(status=302, headers=cookie | {"Location": "/next"}),
        ])  # fmt: skip
        host.answers["/next"] = Answer(
            status=307, headers=cookie | {"Location": other.url("/there.pdf", "localhost")}
        )
        small.sync()
        assert fetch(small).stored == 1
        for asked in (*host.asked, *other.asked):
            assert set(asked.headers) == {"Host", "User-Agent", "Accept", "Accept-Encoding"}
            assert asked.headers["Accept-Encoding"] == "identity"
            assert DEFAULT_TOKEN not in str(asked)
        assert [len(host.asked), len(other.asked)] == [3, 1]
    assert list(files_of(small).values()) == [b"there"]


def test_links_are_told_nowhere(
    small: Loader, host: FileHost, caplog: pytest.LogCaptureFixture
) -> None:
    attach(small, host, "/ok.pdf")
    attach(small, host, "/gone.pdf", answer=Answer(status=403, body=SECRET.encode()))
    attach(small, host, "/cut.pdf", answer=Answer(b"12", length=1000))
    attach(small, host, "/loop.pdf", answer=Answer(
        status=302, headers={"Location": f"/loop.pdf?sig={SECRET}"}))  # fmt: skip
    message = small.world.add_message(1, "x", sent_at_ms=AT_MS)
    small.world.add_attachment(message.id, url=f"http://[broken?{SECRET}")
    small.sync()
    with caplog.at_level(logging.DEBUG):
        fetch(small)
    assert SECRET not in caplog.text
    assert SECRET not in str(small.query("SELECT * FROM attachment_files"))
    errors = [row["error"] for row in records_of(small)]
    assert errors == [
        None, "HTTP 403", "the connection failed (ProtocolError)", "more than 5 redirects",
        "not a link",
    ]  # fmt: skip


def test_an_expired_link_is_recorded_and_a_newer_one_followed(
    small: Loader, host: FileHost
) -> None:
    message = attach(small, host, "/a.pdf", 10, answer=Answer(status=410))
    small.sync()
    report = fetch(small)
    assert (report.expired, report.exit_code) == (1, 3)
    (row,) = records_of(small)
    assert (row["status"], row["http"], row["attempts"]) == ("expired", 410, 1)
    again = fetch(small)
    assert (again.left_out, again.exit_code, len(host.asked)) == (1, 0, 1)
    assert fetch(small, retry_failed=True).expired == 1
    assert records_of(small)[0]["attempts"] == 2
    attachment = message.attachments[0]
    attachment.url = host.url("/fresh.pdf")
    host.answers["/fresh.pdf"] = Answer(content("fresh", 10))
    small.world.edit_message(message.id, "edited")
    small.sync()
    assert fetch(small).stored == 1
    assert_bucket_is_recorded(small, {message.id: content("fresh", 10)})


def test_another_attachment_at_the_same_place_is_fetched(small: Loader, host: FileHost) -> None:
    message = attach(small, host, "/a.pdf", 10, filename="same.pdf")
    small.sync()
    fetch(small)
    message.attachments.clear()
    add_file(small, host, message, "/b.pdf", 10, filename="same.pdf")
    small.sync()
    assert fetch(small).stored == 1
    (row,) = records_of(small)
    assert files_of(small)[row["path"]] == content("/b.pdf", 10)
    assert sorted(files_of(small).values()) == sorted(
        [content("/a.pdf", 10), content("/b.pdf", 10)]
    )


NOT_THE_FILE = [
    (Answer(b"x" * 9), 10, "wrong_size", 1),
    (Answer(b"x" * 11), 10, "wrong_size", 1),
    (Answer(b"x" * 9, length=-1), 10, "wrong_size", 1),
    (Answer(b"x" * 11, length=-1), 10, "wrong_size", 1),
    (Answer(b"x" * 9, length=10), 10, "failed", 4),
    (Answer(status=500), 10, "failed", 4),
    (Answer(status=402), 10, "failed", 1),
    (Answer(status=206, body=b"x" * 10), 10, "failed", 1),
    (Answer(status=302), 10, "failed", 1),
    (Answer(status=302, headers={"Location": "file:///etc/passwd"}), 10, "refused", 1),
    (Answer(b"x" * 201), 201, "skipped", 0),
]


def test_what_is_not_the_file_is_not_stored(small: Loader, host: FileHost) -> None:
    for index, (answer, file_size, _, _) in enumerate(NOT_THE_FILE):
        attach(small, host, f"/{index}", answer=answer, file_size=file_size)
    small.sync()
    report = fetch(small, max_file_bytes=200)
    assert (report.missing, report.skipped, report.exit_code) == (10, 1, 3)
    found = [(row["status"], row["attempts"]) for row in records_of(small)]
    assert found == [(status, attempts) for _, _, status, attempts in NOT_THE_FILE]
    assert len(host.asked) == sum(attempts for *_, attempts in NOT_THE_FILE)
    assert files_of(small) == {}
    expected = {}
    for index, (_, file_size, _, _) in enumerate(NOT_THE_FILE):
        host.answers[f"/{index}"] = Answer(b"x" * file_size)
        expected[index + 1] = b"x" * file_size
    # What failed is asked for again by itself, what is wrong or refused only when told to.
    assert fetch(small, max_file_bytes=200).stored == 5
    assert fetch(small, retry_failed=True).stored == 6
    assert_bucket_is_recorded(small, expected)


def test_what_fails_once_is_asked_again(small: Loader, host: FileHost) -> None:
    body = content("a", 70_000)
    message = attach(small, host, "/a.pdf", 70_000, answer=[
        Answer(body[:66_000], length=70_000), Answer(body),
    ])  # fmt: skip
    small.sync()
    assert fetch(small).stored == 1
    assert_bucket_is_recorded(small, {message.id: body})
    assert records_of(small)[0]["attempts"] == 2


def test_an_unannounced_size_is_limited_too(small: Loader, host: FileHost) -> None:
    endless = Answer(lambda: iter([b"x" * 65_536] * 1000), length=-1)
    message = attach(small, host, "/a.pdf", answer=endless)
    message.attachments[0].extra["file_size"] = None
    small.sync()
    assert fetch(small, max_file_bytes=1_000_000).skipped == 1
    assert files_of(small) == {}


def test_a_host_that_never_comes_to_an_end_is_given_up(
    small: Loader, host: FileHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linq_source.media.fetching._GRACE_S", 0.2)

    def drip() -> Iterator[bytes]:
        for _ in range(200):
            time.sleep(0.05)
            yield b"x"

    attach(small, host, "/a.pdf", answer=Answer(drip, length=1000))
    silent = socket.create_server(("127.0.0.1", 0))
    attach(small, host, "/b.pdf")
    message = attach(small, host, "/c.pdf")
    message.attachments[0].url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
    small.sync()
    assert fetch(small, timeout_s=0.3).failed == 2
    silent.close()
    errors = [row["error"] for row in records_of(small)]
    assert errors == [
        "the host sends too slowly", None, "the connection failed (ReadTimeoutError)"
    ]  # fmt: skip


def test_records_are_loaded_while_a_file_takes_long(
    small: Loader, host: FileHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linq_source.media.recording.BATCH_S", 0.0)
    with postgres_database(tmp_path) as place:
        small.place = place
        seen = 0

        def waiting() -> Iterator[bytes]:
            nonlocal seen
            end_s = time.monotonic() + 50
            while not seen and time.monotonic() < end_s:
                time.sleep(0.05)
                seen = len(place.rows("attachment_files"))
            yield b"late"

        attach(small, host, "/slow.pdf", 4, answer=Answer(waiting, length=4))
        for index in range(3):
            attach(small, host, f"/{index}.pdf")
        small.sync()
        assert fetch(small, timeout_s=60).stored == 4
        assert seen in (1, 2, 3)


def test_a_proxy_learns_the_host_and_no_more(
    small: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        heard: list[bytes] = []

        def refuse() -> None:
            for _ in range(4):
                connection, _ = proxy.accept()
                with connection:
                    heard.append(connection.recv(65_536))
                    connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        monkeypatch.setenv("SOURCES__LINQ__API_TOKEN", DEFAULT_TOKEN)
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        message = small.world.add_message(1, "x", sent_at_ms=AT_MS)
        small.world.add_attachment(message.id, url=f"https://files.example.com/a?sig={SECRET}")
        small.sync()
        assert fetch(small, allow_private_hosts=False).failed == 1
        thread.join(10)
    assert len(heard) == 4
    for request in heard:
        assert request.startswith(b"CONNECT files.example.com:443 HTTP/1.")
        assert SECRET.encode() not in request
        assert DEFAULT_TOKEN.encode() not in request


HOSTILE = [
    "", ".", "..", "../../../etc/passwd", "/etc/passwd", "..\\..\\x", "a/b", "con", "NUL.txt",
    "a\0b", "a\nb", "x" * 5000, "x" * 5000 + ".pdf", "é" * 300 + ".jpg", "e\u0301.txt",
    "\u202egpj.exe", "😀.png", "\U0010ffff", "*?[x]{y}", "~", "-rf", "%2e%2e%2f", "a::b", " . ",
    ".incoming", "#frag", "🇩🇪" * 100,
]  # fmt: skip


def test_hostile_names_stay_in_their_folders(small: Loader, host: FileHost) -> None:
    message = small.world.add_message(1, "many", sent_at_ms=AT_MS)
    ids = ["", "..", "../x", "A", "a", "_a", "same", "same"]
    for index, name in enumerate(HOSTILE):
        add_file(small, host, message, f"/{index}", 10 + index, filename=name)
        if index < len(ids):
            message.attachments[index].id = ids[index]
    small.sync()
    assert fetch(small).stored == len(HOSTILE)
    rows = records_of(small)
    files = files_of(small)
    assert len(files) == len(HOSTILE)
    assert [files[row["path"]] for row in rows] == [
        content(f"/{index}", 10 + index) for index in range(len(HOSTILE))
    ]
    assert {row["path"].split("/")[0:2] == ["linq", "files"] for row in rows} == {True}
    assert {row["path"].count("/") for row in rows} == {4}
    assert sorted(p.name for p in small.folder.iterdir()) == [
        "bucket",
        "messages.duckdb",
        "pipelines",
    ]


@given(st.text(), st.text())
def test_a_name_is_only_a_name(name: str, identity: str) -> None:
    safe = safe_name(name)
    assert 0 < len(safe.encode()) <= MAX_NAME_BYTES
    assert not set(safe) & set("/\\\0")
    assert safe not in (".", "..")
    assert safe == safe.strip(" .")
    key = file_key("linq", 7, 0, identity, name)
    folder = key.split("/")[3]
    assert key.split("/")[4:] == [safe]
    assert folder == "7-0" if not identity else folder.startswith("7-0-")
    assert folder.isascii()


@given(st.lists(st.text(max_size=3), min_size=2, max_size=2, unique=True))
def test_ids_have_keys_of_their_own(ids: list[str]) -> None:
    first, second = (file_key("linq", 7, 0, identity, "a").lower() for identity in ids)
    assert first != second


def test_a_long_name_keeps_its_extension() -> None:
    assert safe_name("x" * 300 + ".pdf") == "x" * 146 + ".pdf"
    assert safe_name("Brief vom 3. März.docx") == "Brief vom 3. März.docx"


def test_a_lost_record_is_made_anew_from_the_bucket(small: Loader, host: FileHost) -> None:
    message = attach(small, host, "/a.pdf")
    other = attach(small, host, "/b.pdf")
    small.sync()
    fetch(small)
    before = records_of(small)
    with small.pipeline.sql_client() as client:
        client.execute_sql("DELETE FROM attachment_files")
    path = bucket_of(small) / before[1]["path"]
    path.write_bytes(b"cut")
    shutil.rmtree(small.folder / "pipelines")
    host.asked.clear()
    report = fetch(small)
    assert (report.found, report.stored) == (1, 1)
    assert host.paths() == [f"/b.pdf?sig={SECRET}"]
    assert_bucket_is_recorded(
        small, {message.id: content("/a.pdf", 1000), other.id: content("/b.pdf", 1000)}
    )


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_ended_in_mid_run_the_next_run_goes_on(
    small: Loader, host: FileHost, ending: signal.Signals
) -> None:
    expected = {}
    for index in range(12):
        message = attach(small, host, f"/{index}.pdf", 5000)
        expected[message.id] = content(f"/{index}.pdf", 5000)
    small.sync()
    hanging = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield content("/9.pdf", 5000)[:100]
        hanging.wait(30)

    host.answers["/9.pdf"] = Answer(slowly, length=5000)
    process = subprocess.Popen(
        [sys.executable, "-m", "linq_source", "media", "--bucket-url", str(bucket_of(small)),
         "--database", str(small.database), "--pipelines-dir", str(small.folder / "pipelines"),
         "--pipeline-name", small.name, "--allow-private-hosts", "--workers", "2"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        end_s = time.monotonic() + 60
        while len(host.asked) < 12 and process.poll() is None:
            assert time.monotonic() < end_s
            time.sleep(0.02)
        time.sleep(0.2)
    finally:
        process.send_signal(ending)
        _, told = process.communicate(timeout=20)
        hanging.set()
    visible = {name: body for name, body in files_of(small).items() if ".incoming" not in name}
    left = [name for name in files_of(small) if ".incoming" in name]
    assert sorted(visible.values()) == sorted(
        body for index, body in enumerate(expected.values()) if index != 9
    )
    if ending == signal.SIGKILL:
        (unfinished,) = left
        os.utime(bucket_of(small) / unfinished, (1, 1))
    else:
        assert (process.returncode, left) == (1, [])
        assert told.startswith("error: interrupted")
        assert len(records_of(small)) == 11
    host.answers["/9.pdf"] = Answer(content("/9.pdf", 5000))
    host.asked.clear()
    report = fetch(small)
    assert (report.stored, report.found) == (1, 11 if ending == signal.SIGKILL else 0)
    assert host.paths() == [f"/9.pdf?sig={SECRET}"]
    assert_bucket_is_recorded(small, expected)


_FETCH = """
import json, resource, sys
import dlt
from linq_source.media import media
folder, name, bucket = sys.argv[1:]
pipeline = dlt.pipeline(name, destination=dlt.destinations.duckdb(folder + "/messages.duckdb"),
                        dataset_name="linq", pipelines_dir=folder + "/pipelines")
peaks = []
def listen(report):
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
media(pipeline, bucket, allow_private_hosts=True, workers=1, listener=listen)
print(json.dumps(peaks))
"""


def test_a_large_file_takes_little_memory(small: Loader, host: FileHost) -> None:
    size = 200 * 1024 * 1024
    block = content("block", 1_048_576)
    attach(small, host, "/small.pdf", 10)
    attach(small, host, "/large.mov", 10, file_size=size, answer=Answer(
        lambda: iter([block] * 200), length=size))  # fmt: skip
    small.sync()
    result = subprocess.run(
        [sys.executable, "-c", _FETCH, str(small.folder), small.name, str(bucket_of(small))],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    before_kib, after_kib = json.loads(result.stdout)
    assert after_kib - before_kib < 50 * 1024
    digest = hashlib.sha256()
    for _ in range(200):
        digest.update(block)
    assert records_of(small)[1]["sha256"] == digest.hexdigest()


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("ftp://files.example.com/a", "https"),
        ("file:///etc/passwd", "https"),
        ("javascript:alert(1)", "https"),
        ("", "https"),
        ("https:///path", "host"),
        ("http://files.example.com/a", "plain http"),
        ("http://localhost.example.com/a", "plain http"),
        ("https://user:word@files.example.com/", "user name"),
        ("https://files.example.com\\@127.0.0.1/", "characters"),
        ("https://files example.com/a", "characters"),
        ("https://files.example.com/\r\nX: y", "characters"),
        ("https://[::1", "not a link"),
        ("https://files.example.com:99999/", "not a link"),
        ("https://127.0.0.1/", "private"),
        ("https://10.1.2.3/", "private"),
        ("https://169.254.169.254/latest/meta-data", "private"),
        ("https://100.64.0.1/", "private"),
        ("https://0.0.0.0/", "private"),
        ("https://224.0.0.1/", "private"),
        ("https://[::1]/", "private"),
        ("https://[fe80::1]/", "private"),
        ("https://[fd00::1]/", "private"),
        ("https://[::ffff:10.0.0.1]/", "private"),
        ("https://[64:ff9b::a00:1]/", "private"),
        ("https://[2002:a00:1::]/", "private"),
        ("https://localhost/", "this machine"),
        ("https://a.localhost/", "this machine"),
    ],
)
def test_links_that_are_not_followed(link: str, reason: str) -> None:
    with pytest.raises(RefusedLink, match=reason) as caught:
        checked(link, LinkRules())
    assert "example.com" not in str(caught.value)


def test_links_that_are_followed() -> None:
    for link in (
        "https://files.example.com/a?b=c#d",
        "https://93.184.215.14/",
        "https://é.example/",
    ):
        assert checked(link, LinkRules()) == link
    assert checked("https://a.example/b c?d e", LinkRules()) == "https://a.example/b%20c?d%20e"
    check_address("2606:2800:21f:cb07:6820:80da:af6b:8b2c", LinkRules())
    assert checked("http://10.0.0.1/", LinkRules(True, True)) == "http://10.0.0.1/"
    assert checked("http://127.0.0.1/", LinkRules(False, True)) == "http://127.0.0.1/"
    here = redirected("https://a.example/x/y?z", "../b", LinkRules())
    assert here == "https://a.example/b"
    for location in ("http://a.example/", "//10.0.0.1/", "file:///x", "https://[x"):
        with pytest.raises(RefusedLink):
            redirected("https://a.example/", location, LinkRules(allow_plain_http=True))


def test_private_hosts_are_refused_before_anything_is_said(small: Loader, host: FileHost) -> None:
    attach(small, host, "/a.pdf")
    message = attach(small, host, "/b.pdf")
    # No address as such, but resolved to one of this machine.
    message.attachments[0].url = host.url("/b.pdf", "127.1")
    small.sync()
    report = fetch(small, allow_private_hosts=False, allow_plain_http=True)
    assert (report.refused, host.asked, files_of(small)) == (2, [], {})
    errors = [row["error"] for row in records_of(small)]
    assert errors == ["a link to a private address", "a link to a private address"]


def test_a_redirect_from_https_to_plain_http_is_not_followed(
    small: Loader, host: FileHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with file_host(context) as secure:
        attach(small, secure, "/ok.pdf", 10)
        attach(small, secure, "/down.pdf", 10, answer=Answer(
            status=302, headers={"Location": host.url("/plain.pdf")}))  # fmt: skip
        small.sync()
        untrusted = fetch(small)
        assert (untrusted.failed, secure.asked) == (2, [])
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        report = fetch(small)
    assert (report.stored, report.refused, host.asked) == (1, 1, [])
    assert records_of(small)[1]["error"] == "a redirect from https to plain http"


def test_the_command_reports_and_ends_with_3_when_files_are_missing(
    small: Loader, host: FileHost
) -> None:
    attach(small, host, "/a.pdf")
    attach(small, host, "/gone.pdf", answer=Answer(status=404))
    small.sync()
    arguments = ["media", "--bucket-url", "files", "--database", str(small.database),
                 "--pipelines-dir", str(small.folder / "pipelines"), "--allow-private-hosts",
                 "--pipeline-name", small.name]  # fmt: skip
    result = run_cli(small.folder, *arguments, "--json", token=None)
    assert (result.returncode, result.stderr) == (3, "")
    report = json.loads(result.stdout)
    assert (report["stored"], report["expired"], report["stored_bytes"]) == (1, 1, 1000)
    again = run_cli(small.folder, *arguments, token=None)
    assert again.returncode == 0
    facts = dict(line.strip().split("  ", 1) for line in again.stdout.splitlines())
    assert facts["not tried again"].strip() == "1"


def test_wrong_settings_are_told_before_anything_is_asked(small: Loader) -> None:
    small.sync()
    for options in ({"workers": 0}, {"max_file_bytes": 0}, {"timeout_s": 0}):
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            fetch(small, **options)
    with pytest.raises(ConfigurationError, match="bucket-url"):
        media(small.pipeline, "")


def test_files_of_forgotten_messages_are_erased_when_asked(small: Loader, host: FileHost) -> None:
    deleted = attach(small, host, "/deleted.pdf")
    small.world.add_chat(chat_id=2)
    message = small.world.add_message(2, "private", sent_at_ms=AT_MS)
    add_file(small, host, message, "/private.pdf")
    small.sync()
    fetch(small)
    small.world.delete_message(deleted.id)
    small.sync()
    forget(small.pipeline, chat_ids=[2])
    assert (fetch(small).erased, len(files_of(small))) == (0, 2)
    assert fetch(small, erase_forgotten=True).erased == 1
    assert_bucket_is_recorded(small, {deleted.id: content("/deleted.pdf", 1000)})
    assert fetch(small, erase_forgotten=True).erased == 0


def test_withheld_links_are_told(small: Loader) -> None:
    small.world.add_message(1, "x", sent_at_ms=AT_MS)
    small.sync(text="drop")
    with pytest.raises(ConfigurationError, match="text=plain"):
        fetch(small)


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 of this machine with one bucket; gives its address."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    prefix = "DESTINATION__FILESYSTEM__CREDENTIALS__"
    for name, value in (("ENDPOINT_URL", url), ("AWS_ACCESS_KEY_ID", "a"),
                        ("AWS_SECRET_ACCESS_KEY", "b"), ("REGION_NAME", "us-east-1")):  # fmt: skip
        monkeypatch.setenv(prefix + name, value)
    requests.put(f"{url}/our-bucket", timeout=10).raise_for_status()
    yield url
    server.stop()


def test_an_object_store_serves_as_well(small: Loader, host: FileHost, moto: str) -> None:
    host.answers["/a%20b.pdf"] = Answer(content("/a b.pdf", 20_000_000))
    attach(small, host, "/a b.pdf", 20_000_000)
    attach(small, host, "/cut.pdf", 10, answer=Answer(b"1", length=10))
    small.sync()
    report = media(small.pipeline, "s3://our-bucket/here", allow_private_hosts=True)
    assert (report.stored, report.failed) == (1, 1)
    row, _ = records_of(small)
    listing = requests.get(f"{moto}/our-bucket", timeout=10).text
    assert listing.count("<Key>") == 1
    assert row["path"].endswith("/a b.pdf")
    stored = requests.get(f"{moto}/our-bucket/here/{row['path']}", timeout=10).content
    assert stored == content("/a b.pdf", 20_000_000)
    with small.pipeline.sql_client() as client:
        client.execute_sql("DELETE FROM attachment_files WHERE status = 'stored'")
    host.asked.clear()
    again = media(small.pipeline, "s3://our-bucket/here", allow_private_hosts=True)
    assert (again.found, again.failed) == (1, 1)
    assert records_of(small)[0]["sha256"] == row["sha256"]


def test_a_dataset_without_attachments_is_told(small: Loader) -> None:
    with pytest.raises(ConfigurationError, match="run linq-source first"):
        fetch(small)


def test_postgres_serves_as_well(small: Loader, host: FileHost, tmp_path: Path) -> None:
    with postgres_database(tmp_path) as place:
        small.place = place
        attach(small, host, "/a.pdf")
        attach(small, host, "/b.pdf", answer=Answer(status=404))
        small.sync()
        assert (fetch(small).stored, fetch(small).left_out) == (1, 1)
        rows = place.query("SELECT status, size_bytes FROM linq.attachment_files ORDER BY 1")
    assert [tuple(row.values()) for row in rows] == [("expired", None), ("stored", 1000)]
