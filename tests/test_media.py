"""Attachments as files: every byte, once, and what is recorded of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dlt
import pytest
import requests
from moto.server import ThreadedMotoServer

from linq_source import ConfigurationError, DestinationError
from linq_source.media import media
from linq_source.media.choosing import Attachment
from linq_source.media.links import (
    link_hash,
)
from linq_source.media.recording import Outcome, records_source
from linq_source.tables import ATTACHMENT_FILES
from tests import processes
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
from tests.files import Answer, FileHost, content
from tests.postgres import postgres_database
from tests.test_cli import run_cli


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linq_source.media.fetching._BACKOFF", lambda _: 0.01)


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


def test_what_arrives_encoded_is_not_taken_for_the_file(small: Loader, host: FileHost) -> None:
    packed = Answer(b"packed", headers={"Content-Encoding": "gzip"})
    attach(small, host, "/known.pdf", 6, answer=packed)
    attach(small, host, "/unknown.pdf", 6, answer=packed).attachments[0].extra["file_size"] = None
    small.sync()
    report = fetch(small)
    assert (report.stored, report.failed) == (1, 1)
    assert list(files_of(small).values()) == [b"packed"]


def test_what_was_recorded_and_not_loaded_is_loaded_first(small: Loader, host: FileHost) -> None:
    message = attach(small, host, "/a.pdf")
    small.sync()
    (attachment,) = message.attachments
    row = Outcome(
        Attachment(message.id, 0, 1, attachment.id, attachment.url, "a.pdf", 1000),
        "expired", 1, link_hash(attachment.url),
    ).row(datetime.now(UTC))  # fmt: skip
    killed = dlt.pipeline(
        f"{small.name}_media", destination=small.pipeline.destination, dataset_name="linq",
        pipelines_dir=str(small.folder / "pipelines"),
    )  # fmt: skip
    killed.extract(records_source(ATTACHMENT_FILES, [row]))
    report = fetch(small)
    assert (report.left_out, len(report.loads), host.asked) == (1, 1, [])


@pytest.mark.long
def test_records_are_loaded_while_a_file_takes_long(
    small: Loader, host: FileHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linq_source.media.recording.BATCH_S", 0.0)
    with postgres_database(tmp_path) as place:
        small.place = place
        seen = 0

        def waiting() -> Iterator[bytes]:
            nonlocal seen
            end_s = time.monotonic() + 240
            while not seen and time.monotonic() < end_s:
                time.sleep(0.05)
                seen = len(place.rows("attachment_files"))
            yield b"late"

        attach(small, host, "/slow.pdf", 4, answer=Answer(waiting, length=4))
        for index in range(3):
            attach(small, host, f"/{index}.pdf")
        small.sync()
        assert fetch(small, timeout_s=300).stored == 4
        assert seen in (1, 2, 3)


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
        hanging.wait(processes.PATIENCE_S)

    host.answers["/9.pdf"] = Answer(slowly, length=5000)
    command = [
        "media", "--bucket-url", str(bucket_of(small)),
        "--database", str(small.database), "--pipelines-dir", str(small.folder / "pipelines"),
        "--pipeline-name", small.name, "--allow-private-hosts", "--workers", "2",
    ]  # fmt: skip
    process = processes.start(command, small.folder, os.environ)

    def whole() -> list[Path]:
        names = bucket_of(small).rglob("*.pdf")
        return [path for path in names if ".incoming" not in path.parts]

    try:
        end_s = time.monotonic() + processes.PATIENCE_S
        while (len(host.asked) < 12 or len(whole()) < 11) and process.poll() is None:
            assert time.monotonic() < end_s
            time.sleep(0.02)
    finally:
        process.send_signal(ending)
        _, told = process.communicate()
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
        assert told.splitlines()[-1].startswith("error: interrupted")
        assert len(records_of(small)) == 11
    host.answers["/9.pdf"] = Answer(content("/9.pdf", 5000))
    host.asked.clear()
    report = fetch(small)
    assert (report.stored, report.found) == (1, 11 if ending == signal.SIGKILL else 0)
    assert host.paths() == [f"/9.pdf?sig={SECRET}"]
    assert_bucket_is_recorded(small, expected)


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
    # A slow machine is told how far the run is.
    assert [line for line in result.stderr.splitlines() if " files " not in line] == []
    assert result.returncode == 3
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
    with pytest.raises(DestinationError, match="bucket-url"):
        media(small.pipeline, str(small.database))


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


@pytest.mark.long
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


@pytest.mark.long
def test_postgres_serves_as_well(small: Loader, host: FileHost, tmp_path: Path) -> None:
    with postgres_database(tmp_path) as place:
        small.place = place
        attach(small, host, "/a.pdf")
        attach(small, host, "/b.pdf", answer=Answer(status=404))
        small.sync()
        assert (fetch(small).stored, fetch(small).left_out) == (1, 1)
        rows = place.query("SELECT status, size_bytes FROM linq.attachment_files ORDER BY 1")
    assert [tuple(row.values()) for row in rows] == [("expired", None), ("stored", 1000)]
