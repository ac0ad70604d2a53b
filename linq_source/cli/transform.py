"""The command `linq-source transform`."""

from __future__ import annotations

import json as json_text
import os
import re
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console

from linq_source.cli import logs
from linq_source.cli.observation import observing
from linq_source.cli.opening import location_of, open_pipeline
from linq_source.cli.options import (
    MODELS,
    AsJson,
    Debug,
    LogFormat,
    Logs,
    Variables,
)
from linq_source.cli.output import MAX_LISTED, print_json, print_table
from linq_source.cli.target_options import takes_target
from linq_source.cli.transform_vars import variables_of
from linq_source.destinations.targets import Target
from linq_source.errors import ConfigurationError, DestinationError

if TYPE_CHECKING:
    from linq_source.destinations.dbt_profiles import Profile

EPILOG = (
    "Examples:  linq-source transform   |   "
    "linq-source transform --select +fct_responses --vars '{linq_timezone: Europe/Berlin}'"
)


@dataclass(frozen=True)
class Outcome:
    """What became of a model or a test; `status` is dbt's word."""

    name: str
    kind: str
    status: str
    message: str
    seconds: float


@dataclass(frozen=True)
class TransformReport:
    """What a build did."""

    schema: str
    outcomes: tuple[Outcome, ...]
    seconds: float

    @property
    def models(self) -> list[Outcome]:
        """Those of models."""
        return [outcome for outcome in self.outcomes if outcome.kind == "model"]

    @property
    def tests(self) -> list[Outcome]:
        """Those of tests, of the data as of the models' logic."""
        return [outcome for outcome in self.outcomes if outcome.kind != "model"]

    @property
    def troubles(self) -> list[Outcome]:
        """What did not end well."""
        return [o for o in self.outcomes if o.status not in ("success", "pass", "skipped")]

    @property
    def exit_code(self) -> int:
        """1 where something could not be run, 3 where a test failed."""
        statuses = {outcome.status for outcome in self.outcomes}
        return 1 if "error" in statuses else 3 if "fail" in statuses else 0

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "models": _counts(self.models),
            "tests": _counts(self.tests),
            "troubles": [asdict(outcome) for outcome in self.troubles],
            "schema": self.schema,
            "seconds": round(self.seconds, 1),
        }


@takes_target("table_format", "pipeline_name", "pipelines_dir")
def transform(
    target: Target,
    select: Annotated[
        list[str] | None,
        typer.Option(
            help="Only these models, in dbt's words; may be repeated.", rich_help_panel=MODELS
        ),
    ] = None,
    full_refresh: Annotated[
        bool,
        typer.Option("--full-refresh", help="Rebuild all rows.", rich_help_panel=MODELS),
    ] = False,
    variables: Variables = "{}",
    json: AsJson = False,
    log_format: Logs = LogFormat.TEXT,
    debug: Debug = False,
) -> None:
    """Build and test the marts beside the messages, in the dataset named <dataset>_marts."""
    target = replace(target, given_pipeline_name="linq_transform")
    with (
        observing("transform", target) as observed,
        tempfile.TemporaryDirectory(prefix="linq-transform-") as folder,
    ):
        given = variables_of(variables)
        _forget_flags()
        _check_installed("dbt.cli.main", "dbt")
        from linq_source.destinations.kinds import destination_of

        # dlt notes down every pipeline; nobody will ask for this one again.
        pipeline = open_pipeline(replace(target, pipelines_dir=folder), only_reads=True)
        profile = destination_of(pipeline).dbt_profile(target.database)
        with _working(json):
            report = _build(profile, given, select or (), full_refresh, Path(folder))
        observed.report = report
        if json:
            print_json({**report.to_dict(), "destination": location_of(pipeline)})
        else:
            _print(Console(), report)


def _forget_flags() -> None:
    """Leave out what the environment tells dbt about other projects: target, profile, flags."""
    for name in [name for name in os.environ if name.startswith("DBT_")]:
        del os.environ[name]


def _check_installed(module: str, extra: str) -> None:
    try:
        is_there = find_spec(module) is not None
    except ModuleNotFoundError:
        is_there = False
    if not is_there:
        raise ConfigurationError(
            f"transform needs an extra: pip install 'linq-source[{extra}]' (no module {module})"
        )


def _build(
    profile: Profile, given: dict[str, Any], select: Any, full_refresh: bool, folder: Path
) -> TransformReport:
    """Run `dbt build`; all that dbt writes beside the models goes to a folder."""
    _check_installed(f"dbt.adapters.{profile.adapter}.impl", profile.extra)
    from dbt.cli.main import dbtRunner
    from dbt_common.exceptions import CompilationError

    from linq_source.operations.models import PACKAGE

    content = {"linq_source": {"target": "linq", "outputs": {"linq": profile.output}}}
    (folder / "profiles.yml").write_text(yaml.safe_dump(content))
    os.environ |= profile.secrets
    arguments = [
        "build", "--project-dir", str(PACKAGE), "--profiles-dir", str(folder),
        "--target-path", str(folder / "target"), "--log-path", str(folder / "logs"),
        "--log-level", "none", "--log-level-file", "none", "--no-send-anonymous-usage-stats",
        "--no-use-colors", "--no-partial-parse", "--no-write-json",
        "--exclude-resource-type", "unit_test",
        # A test between what is built and what is not would compare the new with the old.
        "--indirect-selection", "cautious",
        "--vars", json_text.dumps({**given, **profile.variables}),
    ]  # fmt: skip
    for selector in select:
        arguments += ["--select", selector]
    if full_refresh:
        arguments.append("--full-refresh")
    started_s = time.monotonic()
    done = dbtRunner().invoke(arguments)
    if isinstance(done.exception, KeyboardInterrupt):
        raise done.exception
    if done.exception is not None:
        # What our models refuse to be compiled with are variables of the user's.
        is_refused = isinstance(done.exception, CompilationError)
        kind = ConfigurationError if is_refused else DestinationError
        raise kind(_one_line(str(done.exception))) from done.exception
    results = getattr(done.result, "results", ())
    if not results:
        raise ConfigurationError(f"--select {' '.join(select)}: there is no such model")
    outcomes = tuple(
        Outcome(
            name=str(result.node.name),
            kind=str(result.node.resource_type.value),
            status=str(result.status.value),
            message=_one_line(result.message or ""),
            seconds=round(result.execution_time, 3),
        )
        for result in results
    )
    seconds = time.monotonic() - started_s
    return TransformReport(
        profile.output.get("schema") or profile.output["dataset"], outcomes, seconds
    )


def _one_line(text: str) -> str:
    """What dbt tells in several lines, without its trail of macros and files gone by then."""
    return " ".join(re.split(r"compiled code at|\n *> in macro", text)[0].split())


def _counts(outcomes: list[Outcome]) -> dict[str, int]:
    statuses = [outcome.status for outcome in outcomes]
    return {status: statuses.count(status) for status in sorted(set(statuses))}


def _working(is_quiet: bool) -> Any:
    """A line that moves on a terminal, for a build takes half a minute."""
    console = Console(stderr=True, quiet=is_quiet or logs.is_json())
    return console.status("building and testing the models")


def _print(console: Console, report: TransformReport) -> None:
    rows = [
        (outcome.name, outcome.status, f"{outcome.seconds:.1f}")
        for outcome in report.models
        if not outcome.name.startswith(("stg_", "int_"))
    ]
    print_table(console, None, ("model", "outcome", "seconds"), sorted(rows))
    for outcome in report.troubles[:MAX_LISTED]:
        console.print(
            f"{outcome.status}: {outcome.name}: {outcome.message}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
    for what, counts in (("models", _counts(report.models)), ("tests", _counts(report.tests))):
        told = ", ".join(f"{count:,} {status}" for status, count in counts.items())
        console.print(f"{what}: {told or 'none'}", highlight=False)
    console.print(f"built in the schema {report.schema}, {report.seconds:.1f} s", highlight=False)
