"""Files from strangers: what is sent, followed, named, stored and told."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from linq_source import ConfigurationError, DestinationError, forget
from linq_source.media.keys import MAX_NAME_BYTES, file_key, safe_name
from linq_source.media.links import (
    LinkRules,
    RefusedLink,
    check_address,
    checked,
    redirected,
)
from linq_source.sandbox import DEFAULT_TOKEN
from tests.attaching import (
    AT_MS,
    SECRET,
    add_file,
    assert_bucket_is_recorded,
    attach,
    bucket_of,
    fetch,
    files_of,
    records_of,
)
from tests.conftest import Loader
from tests.files import Answer, FileHost, content, file_host


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linq_source.media.fetching._BACKOFF", lambda _: 0.01)


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
        address = f"somebody:pass%20word@127.0.0.1:{proxy.getsockname()[1]}"
        monkeypatch.setenv("HTTPS_PROXY", f"http://{address}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        message = small.world.add_message(1, "x", sent_at_ms=AT_MS)
        small.world.add_attachment(message.id, url=f"https://files.example.com/a?sig={SECRET}")
        small.sync()
        assert fetch(small, allow_private_hosts=False).failed == 1
        thread.join(60)
    assert len(heard) == 4
    for request in heard:
        assert request.startswith(b"CONNECT files.example.com:443 HTTP/1.")
        assert base64.b64encode(b"somebody:pass word") in request
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


def test_an_unannounced_size_is_limited_too(small: Loader, host: FileHost) -> None:
    endless = Answer(lambda: iter([b"x" * 65_536] * 1000), length=-1)
    message = attach(small, host, "/a.pdf", answer=endless)
    message.attachments[0].extra["file_size"] = None
    small.sync()
    assert fetch(small, max_file_bytes=1_000_000).skipped == 1
    assert files_of(small) == {}


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
        capture_output=True, text=True, timeout=240, check=True,
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


def test_a_bucket_that_cannot_be_written_is_one_line(small: Loader, host: FileHost) -> None:
    message = attach(small, host, "/a.pdf", filename="personal.pdf")
    small.sync()
    key = file_key("linq", message.id, 0, message.attachments[0].id, "personal.pdf")
    folder = (bucket_of(small) / key).parent
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way")
    with pytest.raises(DestinationError, match=r"the bucket: .*; check") as caught:
        fetch(small)
    assert "personal" not in str(caught.value)
    folder.unlink()
    assert fetch(small).stored == 1


def test_withheld_links_are_told(small: Loader) -> None:
    small.world.add_message(1, "x", sent_at_ms=AT_MS)
    small.sync(text="drop")
    with pytest.raises(ConfigurationError, match="text=plain"):
        fetch(small)


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
