"""Copies an organisation's Linq messages on a schedule: copy this file into Airflow's dags folder.

The token is the password of the Airflow connection `linq_api` (its host, if any, is another base
URL). What to edit stands at the top. docs/airflow.md leads from nothing to a scheduled run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import (
    Asset,
    AssetAlias,
    Connection,
    Param,
    TriggerRule,
    dag,
    get_current_context,
    task,
)
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
)

import linq_source

# ---- What to edit, or to set as environment variables of every Airflow process -----------------

DAG_ID = "linq_messages"
SCHEDULE = os.environ.get("LINQ_SCHEDULE", "@hourly") or None
CONNECTION = os.environ.get("LINQ_CONNECTION", "linq_api")
# A destination of dlt: duckdb, bigquery, postgres, filesystem (a bucket) ...
DESTINATION = os.environ.get("LINQ_DESTINATION", "duckdb")
# The path of the DuckDB file, or the bucket's URL; other destinations find themselves in dlt's
# own configuration (DESTINATION__BIGQUERY__CREDENTIALS, GOOGLE_APPLICATION_CREDENTIALS ...).
LOCATION = os.environ.get("LINQ_LOCATION", "~/linq_messages.duckdb")
# delta or iceberg; none: a bucket becomes a Parquet lake.
TABLE_FORMAT = os.environ.get("LINQ_TABLE_FORMAT") or None
# The version of the API: v2 or v3.
API = os.environ.get("LINQ_API", "v2")
DATASET = os.environ.get("LINQ_DATASET", "linq" if API == "v2" else "linq_v3")
# Shards that load at the same time. A DuckDB file and Delta and Iceberg tables take one writer at
# a time; BigQuery, Postgres and a Parquet lake take all of them, and then the API is what limits.
ONE_WRITER = DESTINATION == "duckdb" or TABLE_FORMAT is not None
PARALLEL = 1 if ONE_WRITER else int(os.environ.get("LINQ_PARALLEL", "8"))
# The chats are divided into so many shards, each a task that lists the chats and loads its own.
# The number may be changed later.
SHARDS = int(os.environ.get("LINQ_SHARDS", "1" if ONE_WRITER else "4"))
# A pool shared with other DAGs that ask the same API or load the same warehouse; it must exist.
POOL = os.environ.get("LINQ_POOL", "default_pool")
# Before a failed task is tried again, for the first time; then twice as long each time.
RETRY_DELAY_S = int(os.environ.get("LINQ_RETRY_DELAY_S", "60"))
# Options of `linq_source`, such as {"phones": "hash", "max_requests_per_second": 20}.
OPTIONS: dict[str, Any] = {"api": API}


def destination() -> Any:
    """Where the messages go: what `dlt.pipeline` takes as its destination."""
    import dlt  # here, so that reading this file is quick: Airflow does it again and again

    if DESTINATION == "duckdb":
        return dlt.destinations.duckdb(os.path.expanduser(LOCATION))
    if DESTINATION == "filesystem":
        return dlt.destinations.filesystem(os.path.expanduser(LOCATION))
    return DESTINATION


# ---- What follows needs no editing ------------------------------------------------------------

os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
# dlt would look for every setting of every task among Airflow's Variables, seconds of asking.
os.environ.setdefault("PROVIDERS__ENABLE_AIRFLOW_SECRETS", "false")

# An asset event is sent for these tables when something was loaded, and only then.
LOADED = AssetAlias("linq_loaded")
TABLES = {
    "messages": Asset(f"{DATASET}_chat_messages"),
    "attachments": Asset(f"{DATASET}_chat_messages__attachments"),
    "reactions": Asset(f"{DATASET}_chat_messages__reactions"),
}
# While chats differ that are being written to, they are read again so many times.
LOOKS = 3
LISTED = 20


@dag(
    dag_id=DAG_ID,
    schedule=SCHEDULE,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    # Two runs must never read the same chats at the same time: one run at a time, and no
    # `airflow backfill create`, whose runs Airflow does not count among `max_active_runs`.
    max_active_runs=1,
    catchup=False,
    allowed_run_types=["scheduled", "manual", "operator_triggered"],
    params={
        "start": Param(
            None, type=["null", "string"], description="Read [start, end) again: ISO 8601"
        ),
        "end": Param(None, type=["null", "string"], description="With start; both or neither"),
    },
    default_args={
        "owner": "linq-source",
        "retries": 3,
        "retry_delay": timedelta(seconds=RETRY_DELAY_S),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(hours=1),
        "pool": POOL,
    },
    tags=["linq", "dlt"],
    doc_md=__doc__,
)
def linq_messages() -> None:
    """Plan the shards, load each, settle what was loaded, audit."""

    @task(execution_timeout=timedelta(minutes=10))
    def plan() -> list[dict[str, Any]]:
        """Check the settings and divide the chats into shards; nothing is asked of the API."""
        context = get_current_context()
        start, end = context["params"]["start"], context["params"]["end"]
        if (start is None) != (end is None):
            raise AirflowFailException(
                f"start is {start!r} and end is {end!r}: pass both to read an interval again, "
                "or neither to load what changed"
            )
        running = context["ti"].get_dr_count(DAG_ID, states=["running"])
        if running > 1:
            raise AirflowException(
                f"{running - 1} other run(s) of {DAG_ID} are under way: this one must wait; mark "
                "as failed what a killed `airflow dags test` left running"
            )
        with _in_one_line():
            linq_source.linq_source(**_arguments(), start=start, end=end)
            return [
                {"shard": shard, "start": start, "end": end}
                for shard in linq_source.plan_shards(SHARDS)
            ]

    @task(
        max_active_tis_per_dag=PARALLEL,
        # What a long first load has finished is kept; the retry goes on from there.
        execution_timeout=timedelta(hours=12),
        multiple_outputs=False,
        map_index_template="{{ task.op_kwargs['shard'] }}",
    )
    def load(shard: str, start: str | None, end: str | None) -> dict[str, Any]:
        """Read and load one shard; what another try has loaded is not loaded twice.

        Gives the report: counts, ids and errors, no texts. A report may be incomplete (a chat
        failed, a window stayed unverified, records were rejected): `audit` then fails the run.
        """
        with _opened(shard) as pipeline:
            report = linq_source.sync(
                pipeline,
                shard=shard,
                start=start,
                end=end,
                settles=False,
                table_format=TABLE_FORMAT,
                **_arguments(),
            )
        if report.error:
            raise AirflowException(f"shard {shard}: {report.error}")
        values = json.loads(json.dumps(report.to_dict()))
        failed = values.pop("chats_failed")
        return {
            "shard": shard,
            "exit_code": report.exit_code,
            "doubts": report.doubts(),
            "tries": get_current_context()["ti"].try_number,
            "chats_failed": len(failed),
            "first_failed": failed[:LISTED],
            **values,
        }

    @task(
        # The shards that were loaded are settled even where another failed; then the run fails.
        trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS,
        outlets=[LOADED],
        execution_timeout=timedelta(hours=2),
        multiple_outputs=False,
    )
    def settle(reports: Any) -> dict[str, Any]:
        """Mark what was deleted upstream, and tell of the loaded rows in asset events."""
        loaded = list(reports[:])  # one by one, Airflow would log an error at their end
        deleted = 0
        for report in loaded:
            with _opened(report["shard"]) as pipeline:
                deleted += linq_source.settle(pipeline, shard=report["shard"])
        counts = {name: sum(report[name] for report in loaded) for name in TABLES}
        # A try that was killed may have loaded rows that no report counts.
        is_exact = len(loaded) == SHARDS and all(report["tries"] == 1 for report in loaded)
        events = get_current_context()["outlet_events"][LOADED]
        for name, asset in TABLES.items():
            if counts[name] or not is_exact or (name == "messages" and deleted):
                extra = {"rows": counts[name], "exact": is_exact}
                events.add(
                    asset, extra=extra | ({"deleted": deleted} if name == "messages" else {})
                )
        return {**counts, "deleted": deleted, "shards": [report["shard"] for report in loaded]}

    @task(
        inlets=list(TABLES.values()),
        retries=1,
        execution_timeout=timedelta(hours=2),
        multiple_outputs=False,
    )
    def audit(reports: Any, settled: dict[str, Any], plans: list[dict[str, Any]]) -> dict[str, Any]:
        """Compare live rows with the API's counts; fails on differences, gaps and doubts."""
        problems = [
            f"shard {report['shard']} is incomplete ({', '.join(report['doubts'])})"
            for report in reports[:]
            if report["doubts"]
        ]
        result: dict[str, Any] = {"compared": False}
        if plans[0]["end"] is None:  # an interval proves nothing about whole chats
            compared = [_compare(item["shard"]) for item in plans]
            whole = replace(
                compared[0],
                differences=tuple(item for report in compared for item in report.differences),
                failures=tuple(dict.fromkeys(text for each in compared for text in each.failures)),
                gaps=tuple(gap for report in compared for gap in report.gaps),
            )
            different = [vars(item) for item in whole.differences]
            result = {
                "compared": True,
                "chats": sum(report.chats for report in compared),
                "messages": sum(report.messages for report in compared),
                "differences": len(different),
                "first_different": different[:LISTED],
            }
            found = whole.problems()
            more = len(found) - LISTED
            problems += [*found[:LISTED], *([f"and {more} more"] if more > 0 else [])]
        if problems:
            raise AirflowFailException("; ".join(problems))
        return result

    plans = plan()
    reports = load.expand_kwargs(plans)
    audit(reports, settle(reports), plans)


def _compare(shard: str) -> Any:
    """Live rows against the API's counts; what differs is read again, for people go on writing."""
    with _opened(shard) as pipeline:
        return linq_source.audit(pipeline, looks=LOOKS, shard=shard, **_arguments())


def _arguments() -> dict[str, Any]:
    """What every reading needs; the token is fetched by each task, and Airflow masks it in logs."""
    try:
        connection = Connection.get(CONNECTION)
    except AirflowNotFoundException:
        connection = None
    if connection is None or not connection.password:
        raise AirflowFailException(
            f"connection {CONNECTION} is missing or has no password: airflow connections add "
            f"{CONNECTION} --conn-type generic --conn-password YOUR_TOKEN"
        ) from None
    base_url = {"base_url": connection.host} if connection.host else {}
    return {**OPTIONS, **base_url, "api_token": connection.password}


@contextmanager
def _opened(shard: str) -> Iterator[Any]:
    """A shard's pipeline, in a folder that is this task's alone: the destination has the state."""
    with linq_source.ScratchFolder() as folder, _in_one_line():
        yield linq_source.open_shard(shard, destination(), DATASET, pipelines_dir=folder)


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Errors as one line of the log; those that no retry can help end the task at once."""
    try:
        yield
    except (linq_source.ConfigurationError, linq_source.AuthenticationError) as error:
        raise AirflowFailException(str(error)) from None
    except linq_source.LinqError as error:
        raise AirflowException(str(error)) from None


DAG = linq_messages()
