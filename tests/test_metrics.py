"""`--metrics-file`: what Prometheus' own parser reads after runs that went well and badly."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from prometheus_client.parser import text_string_to_metric_families

from linq_source import AuditReport, ConfigurationError, Report
from linq_source.operations.audit import Difference
from linq_source.operations.metrics import METRICS, newest_message, write_metrics
from linq_source.operations.report import ChatFailure
from linq_source.sandbox import World, seeded_world
from tests.conftest import Loader
from tests.searching import small_world
from tests.test_cli import assert_one_line, run_cli

Labels = tuple[str, str, str]
RUN: Labels = ("linq_messages", "linq", "run")
AUDIT: Labels = ("linq_messages", "linq", "audit")


def parsed(path: Path) -> dict[Labels, dict[str, float]]:
    """By labels: values by name without the prefix. Every metric is a gauge and has a help."""
    found: dict[Labels, dict[str, float]] = {}
    for family in text_string_to_metric_families(path.read_text()):
        assert (family.type, bool(family.documentation)) == ("gauge", True), family
        assert not family.name.endswith("_total")
        for sample in family.samples:
            labels = (
                sample.labels["pipeline"], sample.labels["dataset"], sample.labels["command"],
            )  # fmt: skip
            series = found.setdefault(labels, {})
            assert sample.name not in series
            series[sample.name.removeprefix("linq_source_")] = sample.value
    return found


def test_runs_and_audits_that_go_well_and_fail(
    serve: Callable[[World], Loader], tmp_path: Path
) -> None:
    loader = serve(seeded_world(chats=3, messages=40))
    path = tmp_path / "linq.prom"
    options = ("--base-url", loader.sandbox.url, "--metrics-file", str(path))
    began_s = time.time()
    assert run_cli(tmp_path, "run", *options).returncode == 0
    (first,) = parsed(path).values()
    newest_ms = max(message.sent_at_ms for message in loader.world.messages.values())
    assert first["newest_message_timestamp_seconds"] == newest_ms / 1000
    for name in ("last_run", "last_success", "last_load"):
        assert began_s <= first.pop(f"{name}_timestamp_seconds") <= time.time()
    assert 0 < first.pop("run_duration_seconds") < time.time() - began_s
    counts = {
        "exit_code": 0, "chats": 3, "chats_skipped": 0, "chats_failed": 0, "messages_loaded": 40,
        "messages_deleted": 0, "windows_unverified": 0, "rejected_records": 0, "retries": 0,
        "packages": 1, "requests": len(loader.sandbox.requests_log),
    }  # fmt: skip
    assert counts.items() <= first.items()

    # An audit has series of its own, and those of the run stay.
    before = parsed(path)[RUN]
    with duckdb.connect(str(tmp_path / "linq_messages.duckdb")) as connection:
        connection.execute("DELETE FROM linq.chat_messages WHERE chat_id = 1")
    assert run_cli(tmp_path, "audit", *options).returncode == 3
    after = parsed(path)
    assert after[RUN] == before
    assert (after[AUDIT]["audit_differences"], after[AUDIT]["exit_code"]) == (1, 3)
    assert after[AUDIT]["audit_chats"] == 3
    assert "last_success_timestamp_seconds" not in after[AUDIT]

    # A run that fails: what was known of the last success stays, its counts do not.
    assert run_cli(tmp_path, "run", *options, token="wrong").returncode == 1
    failed = parsed(path)[RUN]
    assert parsed(path)[AUDIT] == after[AUDIT]
    assert failed.pop("exit_code") == 1
    assert failed.pop("last_run_timestamp_seconds") > before["last_run_timestamp_seconds"]
    assert failed.pop("run_duration_seconds") > 0
    kept = ("last_success", "last_load", "newest_message")
    assert failed == {f"{n}_timestamp_seconds": before[f"{n}_timestamp_seconds"] for n in kept}
    assert run_cli(tmp_path, "run", *options, "--workers", "0").returncode == 2
    assert parsed(path)[RUN]["exit_code"] == 2
    assert sorted(p.name for p in tmp_path.glob("*.prom*")) == ["linq.prom"]


def test_what_was_incomplete_is_counted(serve: Callable[[World], Loader], tmp_path: Path) -> None:
    world = small_world()
    world.messages_of(2)[3].raw = '{"id": 5, "text": ["no"], "sent_at": "never"}'
    loader = serve(world)
    path = tmp_path / "linq.prom"
    chats = [f"--chat-id={chat_id}" for chat_id in (1, 2, 99999)]
    options = ("--base-url", loader.sandbox.url, "--metrics-file", str(path), *chats)
    assert run_cli(tmp_path, "run", *options).returncode == 3
    found = parsed(path)[RUN]
    assert (found["chats_failed"], found["rejected_records"], found["exit_code"]) == (1, 1, 3)
    assert "last_load_timestamp_seconds" in found
    assert "last_success_timestamp_seconds" not in found


def test_a_file_that_cannot_be_written_is_told_before_anything_is_read(
    serve: Callable[[World], Loader], tmp_path: Path
) -> None:
    loader = serve(seeded_world(chats=1, messages=1))
    options = ("--base-url", loader.sandbox.url, "--metrics-file", "no/such/linq.prom")
    result = run_cli(tmp_path, "run", *options)
    assert result.returncode == 2
    assert_one_line(result, "metrics file", "no/such/linq.prom", "does not exist")
    assert loader.sandbox.requests_log == []
    assert not (tmp_path / "linq_messages.duckdb").exists()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (".", None, "is not a file"),
        ("notes.txt", "Dear diary, {\n", "something else"),
        ("notes.txt", "Dear diary\n", "something else"),
        ("binary.prom", "\x00\x01\n", "something else"),
        ("node.prom", "# TYPE node_load1 gauge\nnode_load1 0.5\n", "node_load1"),
    ],
)
def test_what_is_no_file_of_metrics_stays_as_it_is(
    tmp_path: Path, name: str, text: str | None, words: str
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        write_metrics(Report(), path, pipeline_name="p", dataset_name="d")
    assert [p.name for p in tmp_path.iterdir()] == ([] if text is None else [name])
    assert text is None or path.read_text() == text


def test_without_the_extra_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # None makes an import fail as it does where nothing is installed.
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'linq-source\[metrics\]'"):
        write_metrics(Report(), tmp_path / "x.prom", pipeline_name="p", dataset_name="d")
    assert ConfigurationError.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_reports_in_python_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "all.prom"
    report = Report(
        chats=7, chats_skipped=2, chats_failed=(ChatFailure(3, "gone"),), windows=5,
        windows_unverified=1, messages=11, attachments=12, reactions=13, rejected=14, deleted=15,
        requests=16, retries=17, expired=18, gaps=19, chats_rechecked=20,
        oldest_check_days=21, loads=("a", "b"), seconds=1.5,
    )  # fmt: skip
    odd = 'a "name" with \\ and \n'
    write_metrics(report, path, pipeline_name=odd, dataset_name="linq")
    audited = AuditReport(9, 90, (Difference(1, 2, 3), Difference(4, 5, None)))
    write_metrics(audited, path, pipeline_name="p", dataset_name="linq", seconds=2.5)
    write_metrics(None, path, pipeline_name="q", dataset_name="linq", exit_code=1)
    found = parsed(path)
    run, compared = found[odd, "linq", "run"], found["p", "linq", "audit"]
    del run["last_run_timestamp_seconds"], run["last_load_timestamp_seconds"]
    assert run == {
        "exit_code": 3, "run_duration_seconds": 1.5, "chats": 7, "chats_skipped": 2,
        "chats_failed": 1, "numbers_failed": 0, "chats_unlisted": 0, "messages_loaded": 11,
        "attachments_loaded": 12, "reactions_loaded": 13, "messages_deleted": 15,
        "windows_loaded": 5, "windows_unverified": 1, "rejected_records": 14, "requests": 16,
        "retries": 17, "packages": 2, "messages_expired": 18, "gaps": 19, "chats_rechecked": 20,
            "oldest_check_days": 21,
    }  # fmt: skip
    del compared["last_run_timestamp_seconds"]
    assert compared == {
        "exit_code": 3, "run_duration_seconds": 2.5, "audit_chats": 9, "audit_live_messages": 90,
            "audit_differences": 2, "audit_gaps": 0,
    }  # fmt: skip
    assert set(found["q", "linq", "run"]) == {"exit_code", "last_run_timestamp_seconds"}
    newest = datetime(2026, 3, 2, 10, 13, 7, 565000, tzinfo=UTC)
    write_metrics(Report(), path, pipeline_name="q", dataset_name="linq", newest=newest)
    series = parsed(path)
    assert series["q", "linq", "run"]["newest_message_timestamp_seconds"] == newest.timestamp()
    assert {metric.name for metric in METRICS} == {name for of in series.values() for name in of}


def test_the_newest_message_of_a_pipeline_that_read_nothing(small: Loader) -> None:
    assert newest_message(small.pipeline) is None
    small.sync()
    assert newest_message(small.pipeline) is None
