"""Runs in Dagster's environment: prints as JSON what definitions say, or what runs recorded."""

from __future__ import annotations

import importlib.util
import json
import sys
from datetime import UTC, datetime
from typing import Any

import dagster as dg


def definitions(path: str) -> dict[str, Any]:
    """Each table's asset, and what the schedule would start."""
    spec = importlib.util.spec_from_file_location("dagster_defs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assets = {}
    for asset in module.table_specs:
        schema = asset.metadata["dagster/column_schema"]
        assets[asset.key.path[-1]] = {
            "description": asset.description,
            "columns": [
                [c.name, c.type, c.description, c.constraints.nullable] for c in schema.columns
            ],
            "key": schema.constraints.other,
            "deps": sorted(dep.asset_key.path[-1] for dep in asset.deps),
        }
    hour = dg.build_schedule_context(
        scheduled_execution_time=datetime(2026, 3, 2, 12, tzinfo=UTC),
        repository_def=module.defs.get_repository_def(),
    )
    tick = module.linq_hourly.evaluate_tick(hour)
    requests = [[r.run_key, r.partition_key, r.tags["linq/shard"]] for r in tick.run_requests]
    return {"assets": assets, "requests": requests}


def events() -> list[dict[str, Any]]:
    """Every run of the instance, oldest first, with its checks and materializations."""
    runs = []
    with dg.DagsterInstance.get() as instance:
        for record in reversed(instance.get_run_records()):
            run_id = record.dagster_run.run_id
            found: dict[str, Any] = {
                "job": record.dagster_run.job_name,
                "status": record.dagster_run.status.value,
                "tags": dict(record.dagster_run.tags),
                "times": [record.start_time, record.end_time],
                "checks": {},
                "metadata": {},
            }
            for entry in instance.all_logs(run_id):
                event = entry.dagster_event
                if event is None:
                    continue
                if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                    check = event.asset_check_evaluation_data
                    name = f"{check.asset_key.path[-1]}.{check.check_name}"
                    found["checks"][name] = [check.passed, check.description]
                elif event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
                    made = event.step_materialization_data.materialization
                    found["metadata"][made.asset_key.path[-1]] = {
                        name: value.value for name, value in made.metadata.items()
                    }
            runs.append(found)
    return runs


if __name__ == "__main__":
    answer = definitions(sys.argv[1]) if len(sys.argv) > 1 else events()
    sys.stdout.write(json.dumps(answer, default=str))
