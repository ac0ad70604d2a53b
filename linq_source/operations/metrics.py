"""Metrics of the last run as a text file for Prometheus' textfile collector.

Needs the extra `metrics`. The file holds one series per pipeline, dataset and command, so runs and
audits of several pipelines may share a file, as long as they do not end at the same moment.
Names follow https://prometheus.io/docs/practices/naming/: base units, and gauges, because each
value describes the last run alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from linq_source.errors import ConfigurationError
from linq_source.instants import from_us
from linq_source.operations.output_file import check_output_file
from linq_source.operations.report import Report
from linq_source.planning.chat_cursors import remembered
from linq_source.state_keys import cursors_of, source_state

if TYPE_CHECKING:
    import dlt

    from linq_source.operations.audit import AuditReport

PREFIX = "linq_source_"
LABELS = ("pipeline", "dataset", "command")

Command = Literal["run", "audit"]


@dataclass(frozen=True)
class Metric:
    """A metric's name without the prefix, its help, and how a report gives its value.

    One that is `kept` holds on to its last value when a run has none to give.
    """

    name: str
    help: str
    value: Callable[[Any], float] | None = None
    kept: bool = False

    @property
    def full_name(self) -> str:
        """The name in the file."""
        return PREFIX + self.name


_OF_ALL = (
    Metric("exit_code", "How the last run ended: 0 done, 1 failed, 2 misconfigured, 3 incomplete."),
    Metric("last_run_timestamp_seconds", "When the last run ended, however it ended."),
    Metric("last_success_timestamp_seconds", "When a run last ended with exit code 0.", kept=True),
    Metric(
        "last_load_timestamp_seconds",
        "When a run last ended with exit code 0 or 3: all that could be read is loaded.",
        kept=True,
    ),
    Metric("run_duration_seconds", "How long the last run took."),
    Metric(
        "newest_message_timestamp_seconds",
        "The greatest sent_at that was read completely.",
        kept=True,
    ),
)
_OF_RUN = (
    Metric("chats", "Chats the last run was about.", lambda r: r.chats),
    Metric(
        "chats_skipped",
        "Chats the last run proved unchanged without asking for messages.",
        lambda r: r.chats_skipped,
    ),
    Metric("chats_failed", "Chats the last run could not read.", lambda r: len(r.chats_failed)),
    Metric(
        "numbers_failed",
        "Phone numbers whose chats the last run could not list.",
        lambda r: len(r.numbers_failed),
    ),
    Metric(
        "chats_unlisted",
        "Known chats that the last run's listing lacked, and that were not proved to be gone.",
        lambda r: r.chats_unlisted,
    ),
    Metric("messages_loaded", "Messages the last run loaded.", lambda r: r.messages),
    Metric("attachments_loaded", "Attachments the last run loaded.", lambda r: r.attachments),
    Metric("reactions_loaded", "Reactions the last run loaded.", lambda r: r.reactions),
    Metric(
        "messages_deleted", "Messages the last run newly marked as deleted.", lambda r: r.deleted
    ),
    Metric("messages_expired", "Messages the last run found forgotten.", lambda r: r.expired),
    Metric(
        "gaps",
        "Chats of which the API may have forgotten messages before the last run read them.",
        lambda r: r.gaps,
    ),
    Metric(
        "chats_rechecked",
        "Chats the last run read again from their beginning, unasked.",
        lambda r: r.chats_rechecked,
    ),
    Metric(
        "oldest_check_days",
        "How many days ago the chat was read from its beginning that waits for it longest.",
        lambda r: r.oldest_check_days or 0,
    ),
    Metric("windows_loaded", "Windows the last run loaded.", lambda r: r.windows),
    Metric(
        "windows_unverified",
        "Windows of the last run whose counts never agreed.",
        lambda r: r.windows_unverified,
    ),
    Metric(
        "rejected_records",
        "Records of the last run that could not be typed, or only after repair.",
        lambda r: r.rejected,
    ),
    Metric("requests", "Requests the last run sent, repeated ones included.", lambda r: r.requests),
    Metric("retries", "Requests the last run repeated after a failure.", lambda r: r.retries),
    Metric("packages", "Load packages of the last run.", lambda r: len(r.loads)),
)
_OF_AUDIT = (
    Metric("audit_chats", "Chats the last audit compared.", lambda r: r.chats),
    Metric("audit_live_messages", "Live messages the last audit counted.", lambda r: r.messages),
    Metric(
        "audit_differences",
        "Chats whose live rows are not as many as the API counts.",
        lambda r: len(r.differences),
    ),
    Metric("audit_gaps", "Gaps of the last seven days.", lambda r: len(r.gaps)),
)
METRICS = (*_OF_ALL, *_OF_RUN, *_OF_AUDIT)

# Samples by metric and by label values.
_Samples = dict[str, dict[tuple[str, ...], float]]


def write_metrics(
    report: Report | AuditReport | None,
    path: str | Path,
    *,
    pipeline_name: str,
    dataset_name: str,
    command: Command | None = None,
    exit_code: int | None = None,
    seconds: float | None = None,
    newest: datetime | None = None,
) -> None:
    """Replace what a file says about a pipeline's last run, in one step.

    Without a report (the run failed before there was one) its counts are left out, and `command`
    and `exit_code` tell what failed; the instants of the last success and load stay as they were.
    `newest` is the newest message's instant, see `newest_message`.

    Raises `ConfigurationError` like `check_metrics_file`, `OSError` if writing fails.
    """
    check_metrics_file(path)
    command = command or ("run" if report is None or isinstance(report, Report) else "audit")
    series = (pipeline_name, dataset_name, command)
    values = _values(report, command)
    code = getattr(report, "exit_code", 1) if exit_code is None else exit_code
    now_s = datetime.now(UTC).timestamp()
    values |= {"exit_code": code, "last_run_timestamp_seconds": now_s}
    if code == 0:
        values["last_success_timestamp_seconds"] = now_s
    if command == "run" and code in (0, 3):
        values["last_load_timestamp_seconds"] = now_s
    duration_s = getattr(report, "seconds", None) if seconds is None else seconds
    if duration_s is not None:
        values["run_duration_seconds"] = duration_s
    if newest is not None:
        values["newest_message_timestamp_seconds"] = newest.timestamp()
    samples = _read(Path(path))
    for metric in METRICS:
        of_metric = samples.setdefault(metric.full_name, {})
        if metric.name in values:
            of_metric[series] = values[metric.name]
        elif not metric.kept:
            of_metric.pop(series, None)
    _write(Path(path), samples)


def newest_message(pipeline: dlt.Pipeline) -> datetime | None:
    """The greatest `sent_at` of any chat, as the pipeline's state knows it; asks nobody."""
    cursors = cursors_of(source_state(pipeline.state))
    newest = [cursor.newest_us for cursor in map(remembered, cursors.values()) if cursor]
    known = [newest_us for newest_us in newest if newest_us is not None]
    return from_us(max(known)) if known else None


def check_metrics_file(path: str | Path) -> None:
    """Raises `ConfigurationError` if metrics cannot be written to a file, or would spoil it."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            f"metrics need an extra: pip install 'linq-source[metrics]' ({error})"
        ) from error
    path = Path(path)
    check_output_file(path, "metrics file", ".prom")
    try:
        _read(path)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"metrics file {path}: it holds something else than metrics of linq-source; "
            f"name another file ({error})"
        ) from error


def _values(report: Any, command: Command) -> dict[str, float]:
    if report is None:
        return {}
    metrics = _OF_RUN if command == "run" else _OF_AUDIT
    return {m.name: float(m.value(report)) for m in metrics if m.value is not None}


def _read(path: Path) -> _Samples:
    """The samples of a file that this module wrote. Raises `ValueError` for any other file."""
    from prometheus_client.parser import text_string_to_metric_families

    samples: _Samples = {}
    if not path.exists():
        return samples
    for family in text_string_to_metric_families(path.read_text()):
        for sample in family.samples:
            if not sample.name.startswith(PREFIX):
                raise ValueError(f"the metric {sample.name}")
            if set(sample.labels) == set(LABELS):
                key = tuple(sample.labels[label] for label in LABELS)
                samples.setdefault(sample.name, {})[key] = sample.value
    return samples


def _write(path: Path, samples: Mapping[str, Mapping[tuple[str, ...], float]]) -> None:
    from prometheus_client import CollectorRegistry, write_to_textfile
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector

    class Families(Collector):
        def collect(self) -> Iterable[GaugeMetricFamily]:
            for metric in METRICS:
                family = GaugeMetricFamily(metric.full_name, metric.help, labels=LABELS)
                for labels, value in sorted(samples.get(metric.full_name, {}).items()):
                    family.add_metric(labels, value)
                if family.samples:
                    yield family

    registry = CollectorRegistry()
    registry.register(Families())
    write_to_textfile(str(path.resolve()), registry)
