"""An organisation's Linq chat messages as Dagster assets: `dagster dev -f dagster_defs.py`.

Copy this file and change the settings at its top. docs/dagster.md explains it.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

# dlt looks for it when it is imported.
os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")

import dagster as dg
import dlt
from dagster_dlt import DagsterDltTranslator
from dagster_dlt.translator import DltResourceTranslatorData

import linq_source as linq
from linq_source.planning.contracts import contract_of
from linq_source.tables import SYNCED_AT, Table

SHARDS = linq.plan_shards(int(os.environ.get("LINQ_SHARDS", "1")))
DESTINATION = os.environ.get("LINQ_DESTINATION", "duckdb")  # what `dlt.pipeline` takes
API = os.environ.get("LINQ_API", "v2")  # the version of the API: v2 or v3
DATASET = os.environ.get("LINQ_DATASET", "linq" if API == "v2" else "linq_v3")
DUCKDB_FILE = os.environ.get("LINQ_DUCKDB_FILE", "linq_messages.duckdb")
FIRST_MONTH = os.environ.get("LINQ_FIRST_MONTH", "2020-01-01")  # of the backfill's partitions

STALE_AFTER = timedelta(hours=3)
RECENT = timedelta(hours=24)
# `sync` asks again by itself for two minutes; this is for what lasts longer.
RETRIES = dg.RetryPolicy(
    max_retries=3, delay=60, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)

# Two runs must never read the same chats at once. The pool's limit says how many runs read at all;
# the tag, with a limit of one per value, that each of them has chats of its own.
POOL = "linq"
SHARD_TAG = "linq/shard"

shards = dg.StaticPartitionsDefinition(SHARDS)
months = dg.MonthlyPartitionsDefinition(start_date=FIRST_MONTH, end_offset=1)
months_of_shards = dg.MultiPartitionsDefinition({"month": months, "shard": shards})


class LinqApi(dg.ConfigurableResource):
    """The API. Dagster keeps the name of the token's variable, never the token."""

    api_token: str
    base_url: str | None = None

    def arguments(self, shard: str) -> dict[str, Any]:
        """What `sync` and `audit` must be told; dlt's configuration says the rest."""
        known = {"api_token": self.api_token, "base_url": self.base_url, "shard": shard}
        return {name: value for name, value in known.items() if value is not None} | {"api": API}


class LinqDestination(dg.ConfigurableResource):
    """Where the tables are: a destination of dlt, with credentials from dlt's configuration."""

    destination: str
    dataset_name: str
    duckdb_file: str

    @contextmanager
    def pipeline(self, shard: str) -> Iterator[dlt.Pipeline]:
        """The shard's pipeline in a folder of its own.

        The destination holds the state; a folder that outlives the run would only let a run that
        was given up for dead meddle with its successor.
        """
        place: Any = self.destination
        if place == "duckdb":
            place = dlt.destinations.duckdb(self.duckdb_file)
        with linq.ScratchFolder() as folder:
            yield linq.open_shard(shard, place, self.dataset_name, pipelines_dir=folder)


class LinqTranslator(DagsterDltTranslator):
    """Names, descriptions and columns as `linq_source.tables` has them."""

    def get_asset_spec(self, data: DltResourceTranslatorData) -> dg.AssetSpec:
        """The spec of the resource's own table."""
        return self.table_specs(data)[0]

    def table_specs(self, data: DltResourceTranslatorData) -> list[dg.AssetSpec]:
        """One spec per table: a resource of this source fills several."""
        base = super().get_asset_spec(data)
        return [
            base.replace_attributes(
                key=asset_key(table.name),
                description=table.description,
                deps=[asset_key(table.parent) if table.parent else "linq_partner_api"],
                group_name="linq",
                kinds={*base.kinds, DESTINATION.rsplit(".", 1)[-1]},
                metadata={
                    **base.metadata,
                    "dagster/column_schema": column_schema(table),
                    "dagster/table_name": f"{DATASET}.{table.name}",
                },
            )
            for table in contract_of(API).resource_tables[data.resource.name]
        ]


def asset_key(table_name: str) -> dg.AssetKey:
    """The asset of a table."""
    return dg.AssetKey(["linq", table_name])


def column_schema(table: Table) -> dg.TableSchema:
    """What Dagster shows as a table's columns."""
    columns = []
    for column in table.columns:
        unique = (column.name,) == table.key
        limits = dg.TableColumnConstraints(nullable=column.nullable, unique=unique)
        columns.append(dg.TableColumn(column.name, column.type, column.description, limits))
    key = [f"primary key: {', '.join(table.key)}"] if table.key else []
    return dg.TableSchema(columns, dg.TableConstraints(other=key))


# Building the source asks nobody; the token comes with the resource, when a run needs it.
found_specs = [
    spec
    for resource in linq.linq_source(api_token="later", api=API).selected_resources.values()  # noqa: S106
    for spec in LinqTranslator().table_specs(
        DltResourceTranslatorData(resource=resource, pipeline=None)
    )
]
# A table that several resources fill is one asset.
table_specs = list({spec.key: spec for spec in found_specs}.values())
TABLE_NAMES = [spec.key.path[-1] for spec in table_specs]

reading_checks = [
    dg.AssetCheckSpec(name, asset=asset_key("chat_messages"), description=description)
    for name, description in {
        "read_completely": "Every chat was read, every count agreed, every record was typed.",
        "agrees_with_api": "Each chat has as many live rows as the API counts messages.",
    }.items()
]


# Not `dlt_assets` and `DagsterDltResource.run`: they make one asset of each resource, which has
# several tables here, and load one package, where `sync` goes on until everything is read,
# finishes what an earlier run left and marks what was deleted upstream.
@dg.multi_asset(
    name="linq_tables",
    specs=table_specs,
    check_specs=reading_checks,
    partitions_def=shards,
    retry_policy=RETRIES,
    pool=POOL,
)
def linq_tables(
    context: dg.AssetExecutionContext, linq_api: LinqApi, linq_destination: LinqDestination
) -> Iterator[Any]:
    """Read what changed in a shard's chats, load it, and compare counts with the API."""
    shard = context.partition_key
    arguments = linq_api.arguments(shard)
    with linq_destination.pipeline(shard) as pipeline, told_plainly():
        report = finished(linq.sync(pipeline, **arguments))
        # Somebody may write in between: what differs is read again.
        audited = linq.audit(pipeline, looks=1, **arguments)
        with pipeline.sql_client() as client:
            counts = {name: row_count(client, name) for name in TABLE_NAMES}
    faults = {
        "read_completely": ", ".join(report.doubts()),
        "agrees_with_api": shortened(audited.problems()),
    }
    for name in TABLE_NAMES:
        metadata: dict[str, Any] = {"dagster/row_count": counts[name]}
        if name == "chat_messages":
            metadata |= report_metadata(report) | {f"linq/{k}": text for k, text in faults.items()}
        yield dg.MaterializeResult(asset_key=asset_key(name), metadata=metadata)
    for check_name, text in faults.items():
        # One shard's result would hide another's: a check shows what the latest run of each found.
        found = {shard: text}
        for other in SHARDS:
            if other != shard and (latest := latest_loading(context, other)):
                found[other] = latest.asset_materialization.metadata[f"linq/{check_name}"].value
        # What could be read is loaded, and the next run asks for the rest: no failed run.
        lines = [f"shard {which}: {text}" for which, text in sorted(found.items()) if text]
        yield result("chat_messages", check_name, lines)


@dg.asset(
    key=asset_key("backfill"),
    group_name="linq_backfill",
    deps=["linq_partner_api"],
    kinds={"dlt"},
    partitions_def=months_of_shards,
    retry_policy=RETRIES,
    pool=POOL,
)
def linq_backfill(
    context: dg.AssetExecutionContext, linq_api: LinqApi, linq_destination: LinqDestination
) -> dg.MaterializeResult:
    """A month of `sent_at` read again as it is, into the same tables; no cursor moves."""
    shard = context.partition_key.keys_by_dimension["shard"]
    month = context.partition_time_window
    arguments = linq_api.arguments(shard) | {"start": month.start, "end": month.end}
    with linq_destination.pipeline(shard) as pipeline, told_plainly():
        report = finished(linq.sync(pipeline, **arguments))
    if not report.is_complete:
        # Nothing reads this month again by itself, so its partition must not turn green.
        raise dg.Failure(", ".join(report.doubts()), report_metadata(report))
    return dg.MaterializeResult(metadata=report_metadata(report))


@contextmanager
def told_plainly() -> Iterator[None]:
    """One line instead of a traceback; what no repetition can help is not repeated."""
    try:
        yield
    except linq.LinqError as error:
        lasts = isinstance(error, linq.AuthenticationError | linq.ConfigurationError)
        raise dg.Failure(str(error), allow_retries=not lasts) from None


def finished(report: linq.Report) -> linq.Report:
    """The report, unless the API failed half-way: what was read until then is loaded."""
    if report.error:
        raise dg.Failure(report.error, report_metadata(report))
    return report


def report_metadata(report: linq.Report) -> dict[str, Any]:
    """Counts, seconds, ids of loads; of a chat that failed its id and the reason."""
    values = report.to_dict()
    del values["error"]
    failures = {str(chat["chat_id"]): chat["error"] for chat in values.pop("chats_failed")}
    values |= {"chats_failed": len(failures), "failures": dict(list(failures.items())[:20])}
    values |= {name: list(values[name]) for name in ("loads", "notes", "numbers_failed")}
    return {f"linq/{name}": value for name, value in values.items()}


def latest_loading(context: Any, shard: str) -> Any:
    """Dagster's record of the last run that loaded a shard; none if there is none."""
    wanted = dg.AssetRecordsFilter(asset_key("chat_messages"), asset_partitions=[shard])
    records = context.instance.fetch_materializations(wanted, limit=1).records
    return records[0] if records else None


# A lake's log keeps every version of a row, and the current state is made one row per key.
KEYED_TABLES = [
    table
    for name, table in contract_of(API).tables.items()
    if name in TABLE_NAMES and table.key and DESTINATION != "filesystem"
]
table_checks = [
    *(dg.AssetCheckSpec("unique_key", asset=asset_key(table.name)) for table in KEYED_TABLES),
    dg.AssetCheckSpec("fresh", asset=asset_key("sync_runs")),
    dg.AssetCheckSpec("verified_windows", asset=asset_key("sync_windows")),
]


@dg.multi_asset_check(name="linq_table_checks", specs=table_checks, pool=POOL)
def linq_table_checks(
    context: dg.AssetCheckExecutionContext, linq_destination: LinqDestination
) -> Iterator[dg.AssetCheckResult]:
    """Look at the tables as they are, without the API."""
    now = datetime.now(UTC)
    with linq_destination.pipeline(SHARDS[0]) as pipeline, told_plainly():
        pipeline.sync_destination()
        with pipeline.sql_client() as client:
            for table in KEYED_TABLES:
                yield result(table.name, "unique_key", repeated_keys(client, table))
            yield result("sync_runs", "fresh", late_runs(client, now) + late_shards(context, now))
            yield result("sync_windows", "verified_windows", unverified(client, now - RECENT))


def result(table_name: str, check_name: str, faults: Sequence[str]) -> dg.AssetCheckResult:
    """A check that passes when nothing is wrong."""
    return dg.AssetCheckResult(
        asset_key=asset_key(table_name),
        check_name=check_name,
        passed=not faults,
        description=shortened(faults) or "as it should be",
    )


def shortened(lines: Sequence[str], most: int = 5) -> str:
    """The first lines, and how many more there are."""
    return "; ".join([*lines[:most], *([f"and {len(lines) - most} more"] * (len(lines) > most))])


def repeated_keys(client: Any, table: Table) -> list[str]:
    """Keys that more than one row has."""
    key = ", ".join(table.key)
    rows = client.execute_sql(
        f"SELECT {key}, COUNT(*) FROM {client.make_qualified_table_name(table.name)}"
        f" GROUP BY {key} HAVING COUNT(*) > 1 ORDER BY {key}"
    )
    return [
        f"{row[-1]} rows of {', '.join(f'{n} {v}' for n, v in zip(table.key, row, strict=False))}"
        for row in rows or ()
    ]


def late_runs(client: Any, now: datetime) -> list[str]:
    """Whether nobody loaded anything for too long, by whatever way."""
    name = client.make_qualified_table_name("sync_runs")
    ((newest, bound),) = client.execute_sql(f"SELECT MAX({SYNCED_AT}), MAX(bound) FROM {name}")
    if newest is not None and newest - now > timedelta(hours=1):
        newest = bound  # a clock was wrong; this one is the API's
    if newest is not None and now - newest <= STALE_AFTER:
        return []
    return [f"the newest run in the table is of {newest}, more than {STALE_AFTER} ago"]


def late_shards(context: dg.AssetCheckExecutionContext, now: datetime) -> list[str]:
    """Shards that Dagster has not loaded for too long: other shards' runs would hide them."""
    faults = []
    for shard in SHARDS:
        latest = latest_loading(context, shard)
        if latest is None:
            faults.append(f"shard {shard} was never loaded")
        elif now - (loaded_at := datetime.fromtimestamp(latest.timestamp, UTC)) > STALE_AFTER:
            faults.append(f"shard {shard} was last loaded {loaded_at:%Y-%m-%d %H:%M} UTC")
    return faults


def unverified(client: Any, since: datetime) -> list[str]:
    """Windows whose counts did not agree, of runs since an instant."""
    name = client.make_qualified_table_name("sync_windows")
    rows = client.execute_sql(
        f"SELECT chat_id, window_start, window_end FROM {name} WHERE NOT verified"
        f" AND {SYNCED_AT} >= '{since.isoformat()}' ORDER BY chat_id, window_end"
    )
    return [f"chat {row[0]} from {row[1] or 'the beginning'} to {row[2]}" for row in rows or ()]


def row_count(client: Any, table_name: str) -> int:
    """Rows of a table, all shards together."""
    name = client.make_qualified_table_name(table_name)
    ((count,),) = client.execute_sql(f"SELECT COUNT(*) FROM {name}")
    return int(count)


def tagged_by_shard(partitions: dg.PartitionsDefinition) -> dg.PartitionedConfig:
    """Run tags by which the queue keeps two runs from reading the same chats."""
    return dg.PartitionedConfig(
        partitions,
        run_config_for_partition_key_fn=lambda _: {},
        tags_for_partition_key_fn=lambda key: {SHARD_TAG: key.rsplit("|", 1)[-1]},
    )


read_job = dg.define_asset_job(
    "linq_read",
    dg.AssetSelection.groups("linq").without_checks()
    | dg.AssetSelection.checks(*[spec.key for spec in reading_checks]),
    config=tagged_by_shard(shards),
)
backfill_job = dg.define_asset_job(
    "linq_backfill_job",
    dg.AssetSelection.groups("linq_backfill"),
    config=tagged_by_shard(months_of_shards),
)
check_job = dg.define_asset_job("linq_checks", dg.AssetSelection.checks(linq_table_checks))


@dg.schedule(job=read_job, cron_schedule="0 * * * *")
def linq_hourly(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
    """All shards, every hour."""
    hour = context.scheduled_execution_time.isoformat()
    return [
        dg.RunRequest(f"{hour} {shard}", partition_key=shard, tags={SHARD_TAG: shard})
        for shard in SHARDS
    ]


defs = dg.Definitions(
    assets=[linq_tables, linq_backfill],
    asset_checks=[linq_table_checks],
    jobs=[read_job, backfill_job, check_job],
    schedules=[linq_hourly, dg.ScheduleDefinition(job=check_job, cron_schedule="30 * * * *")],
    executor=dg.in_process_executor,  # a run is one or two steps
    resources={
        "linq_api": LinqApi(api_token=dg.EnvVar("SOURCES__LINQ__API_TOKEN")),
        "linq_destination": LinqDestination(
            destination=DESTINATION, dataset_name=DATASET, duckdb_file=DUCKDB_FILE
        ),
    },
)
