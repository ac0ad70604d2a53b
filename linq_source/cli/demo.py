"""The demo: an invented world, two loads, and five questions answered in SQL."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import dlt
from rich.console import Console

from linq_source.cli import logs
from linq_source.cli.opening import DEMO_PIPELINE
from linq_source.cli.output import print_report, print_table
from linq_source.cli.questions import QUESTIONS
from linq_source.destinations.dataset_pipelines import pipelines_in
from linq_source.errors import ConfigurationError
from linq_source.operations.report import Report
from linq_source.operations.sync import sync
from linq_source.reporting.making import report_page
from linq_source.sandbox import DEFAULT_TOKEN, Sandbox, grow, seeded_world


def run_demo(database: str, console: Console, asked: int = 5) -> None:
    """Load twice into a fresh `database` file, print what arrived, and ask some questions.

    An earlier demo's file is replaced; any other file is left alone (`ConfigurationError`).
    """
    path = Path(database)
    _make_room(path)
    world = seeded_world()
    with tempfile.TemporaryDirectory() as working_dir, Sandbox(world) as sandbox:
        pipeline = dlt.pipeline(
            DEMO_PIPELINE,
            destination=dlt.destinations.duckdb(str(path)),
            dataset_name="linq",
            pipelines_dir=working_dir,
        )
        console.print("[bold]First load[/bold]: everything", highlight=False)
        _load(pipeline, sandbox, console)
        changes = grow(world)
        console.print(
            f"\nMeanwhile {changes.advanced_ms / 3_600_000:.1f} hours pass: "
            f"{changes.new_messages} new messages, {changes.late_messages} late one, "
            f"{changes.edited_messages} edited, {changes.new_reactions} reactions added and "
            f"{changes.removed_reactions} removed, {changes.deleted_messages} message deleted, "
            f"{changes.new_chats} new chat",
            highlight=False,
            soft_wrap=True,
        )
        console.print("\n[bold]Second load[/bold]: only what changed", highlight=False)
        _load(pipeline, sandbox, console)
        page = _report(pipeline, world.now_ms)
        with pipeline.sql_client() as client:
            for question, sql, _ in QUESTIONS[:asked]:
                with client.execute_query(sql) as cursor:
                    names = [column[0] for column in cursor.description]
                    rows = [[_text(value) for value in row] for row in cursor.fetchall()]
                console.print(f"\n[bold]{question}[/bold]", highlight=False)
                print_table(console, None, names, rows)
    console.print(f"\nAll of it is in {path}, dataset linq.", highlight=False)
    if page is not None:
        report = path.with_suffix(".html")
        report.write_text(page, encoding="utf-8")
        console.print(f"Open {report} in a browser: what the messages show.", highlight=False)


def _make_room(path: Path) -> None:
    if not path.exists():
        return
    if pipelines_in(path) != {DEMO_PIPELINE}:
        raise ConfigurationError(
            f"{path} exists and does not come from a demo: name another file with --database"
        )
    path.unlink()


def _load(pipeline: dlt.Pipeline, sandbox: Sandbox, console: Console) -> Report:
    with logs.showing_progress() as listener:
        report = sync(pipeline, listener=listener, api_token=DEFAULT_TOKEN, base_url=sandbox.url)
    print_report(console, report)
    return report


def _report(pipeline: dlt.Pipeline, now_ms: int) -> str | None:
    """The report as of the world's clock, where the extra for it is installed."""
    if find_spec("vl_convert") is None:
        return None
    return report_page(pipeline, now=datetime.fromtimestamp(now_ms / 1000, UTC))


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M}"
    return f"{value:,}" if isinstance(value, int | float) else str(value)
