"""Hosts of files: the sandbox as one, and those that never answer."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest
import requests

from linq_source.media.fetching import MAX_FAILED_FILES
from linq_source.sandbox.files import content_of
from tests.attaching import AT_MS, add_file, attach, fetch, files_of, records_of
from tests.conftest import HOUR_MS, Loader
from tests.files import Answer, FileHost
from tests.test_cli import run_cli


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linq_source.media.fetching._BACKOFF", lambda _: 0.01)


def links_of(loader: Loader) -> list[str]:
    return [url for (url,) in loader.query("SELECT url FROM chat_messages__attachments")]


def test_the_sandbox_serves_the_files_it_links_to(seeded: Loader) -> None:
    seeded.sandbox.serves_files = True
    seeded.sync()
    assert len(links_of(seeded)) > 50
    report = fetch(seeded)
    assert (report.stored, report.missing, report.exit_code) == (len(links_of(seeded)), 0, 0)
    messages = seeded.world.messages.values()
    sent = [item for message in messages for item in message.attachments]
    assert sorted(files_of(seeded).values()) == sorted(content_of(item) for item in sent)
    types = {item.mime_type for item in sent}
    kept = seeded.query("SELECT DISTINCT content_type FROM attachment_files")
    assert {content_type for (content_type,) in kept} == types


def test_the_sandboxs_links_are_its_own_and_expire(seeded: Loader) -> None:
    seeded.sandbox.serves_files = True
    seeded.sync()
    link, other, *_ = links_of(seeded)
    with requests.Session() as session:
        session.trust_env = False
        assert session.get(link, timeout=10).status_code == 200
        signature = link.rpartition("=")[2]
        assert session.get(link.replace(signature, "0" * 64), timeout=10).status_code == 403
        assert session.get(link.replace("expires=", "expires=9"), timeout=10).status_code == 403
        assert session.get(link.partition("?")[0], timeout=10).status_code == 403
        assert session.get(link.replace(signature, "é"), timeout=10).status_code == 403
        assert session.get(f"{seeded.sandbox.url}/sandbox/files/1/x/y", timeout=10).ok is False
        seeded.world.advance(2 * HOUR_MS)
        assert session.get(other, timeout=10).status_code == 403
    assert fetch(seeded).expired == len(links_of(seeded))
    seeded.sync(end="2100-01-01")
    assert fetch(seeded).stored == len(links_of(seeded))


def test_a_host_that_never_answers_is_given_up_and_the_others_are_asked(
    small: Loader, host: FileHost
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    message = small.world.add_message(1, "many", sent_at_ms=AT_MS)
    for index in range(40):
        small.world.add_attachment(message.id, url=f"http://localhost:{port}/{index}?sig=s3cret")
    for index in range(3):
        add_file(small, host, message, f"/{index}", 100)
    small.sync()
    report = fetch(small, workers=2)
    assert report.stored == 3
    assert MAX_FAILED_FILES <= report.failed <= MAX_FAILED_FILES + 2
    assert report.given_up == 40 - report.failed
    assert (report.missing, report.exit_code) == (40, 3)
    ((reason, count),) = report.reasons.items()
    assert (reason.startswith("failed: the connection failed"), count) == (True, report.failed)
    (note,) = report.notes
    assert "localhost" in note
    assert "run again when it answers" in note
    assert "s3cret" not in note
    # Nothing is recorded of what was not asked for: the next run asks.
    assert len(records_of(small)) == 3 + report.failed
    for index, attachment in enumerate(message.attachments[:40]):
        add_file(small, host, message, f"/late/{index}", attachment.file_size)
        late = message.attachments.pop()
        message.attachments[index] = replace(attachment, url=late.url)
    small.world.edit_message(message.id, "edited", edited_at_ms=AT_MS + 1)
    small.sync()
    assert (fetch(small).stored, fetch(small).missing) == (40, 0)


def test_a_host_that_fails_now_and_then_is_not_given_up(small: Loader, host: FileHost) -> None:
    message = small.world.add_message(1, "many", sent_at_ms=AT_MS)
    for index in range(20):
        answer = Answer(status=500) if index % MAX_FAILED_FILES else None
        add_file(small, host, message, f"/{index}", 100, answer=answer)
    small.sync()
    report = fetch(small, workers=1)
    assert (report.stored, report.failed, report.given_up) == (4, 16, 0)
    assert report.reasons == {"failed: HTTP 500": 16}


def test_the_command_says_why_files_could_not_be_had(small: Loader, host: FileHost) -> None:
    attach(small, host, "/gone.pdf", answer=Answer(status=404))
    attach(small, host, "/a.pdf")
    small.sync()
    result = run_cli(
        small.folder, "media", "--bucket-url", "files", "--database", str(small.database),
        "--pipelines-dir", str(small.folder / "pipelines"), "--allow-private-hosts",
        "--pipeline-name", small.name, token=None,
    )  # fmt: skip
    assert result.returncode == 3
    assert "1 expired: HTTP 404" in result.stdout
