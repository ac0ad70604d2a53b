"""Query jobs and listings: what dbt asks of BigQuery's REST API beside what dlt does."""

from __future__ import annotations

from typing import Any

from tests.bigquery.catalog import BigQueryError, Catalog, beyond
from tests.bigquery.warehouse import Result, Warehouse

# Where BigQuery keeps the rows of a query that has no destination.
_RESULTS = "_results"
_KINDS = {
    "CREATE TABLE": "CREATE_TABLE_AS_SELECT",
    "CREATE VIEW": "CREATE_VIEW",
    "CREATE SCHEMA": "CREATE_SCHEMA",
    "CREATE": "CREATE_TABLE",
    "DROP": "DROP_TABLE",
    "ALTER": "ALTER_TABLE",
}


class QueryJobs:
    """Jobs that run a query: done, and their rows kept, when they are inserted."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._results: dict[str, Result] = {}

    def insert(self, resource: dict[str, Any]) -> dict[str, Any]:
        """Run a job; gives it with its statistics."""
        query = resource["configuration"]["query"]
        if query.get("useLegacySql"):
            raise beyond("legacy SQL")
        dataset = (query.get("defaultDataset") or {}).get("datasetId")
        result = self._warehouse.run(query["query"], query.get("queryParameters", ()), dataset)
        done = self._warehouse.statements[-1]
        job_id = resource["jobReference"]["jobId"]
        self._results[job_id] = result
        statistics: dict[str, Any] = {
            "statementType": _KINDS.get(done.kind, done.kind),
            "totalBytesProcessed": "0",
        }
        if result.affected is not None:
            statistics["numDmlAffectedRows"] = str(result.affected)
        target = done.target or (_RESULTS, job_id)
        project = self._warehouse.catalog.project
        query["destinationTable"] = {
            "projectId": project, "datasetId": target[0], "tableId": target[1],
        }  # fmt: skip
        return {
            **resource,
            "jobReference": {"projectId": project, "jobId": job_id, "location": "US"},
            "id": f"{project}:US.{job_id}",
            "status": {"state": "DONE"},
            "statistics": {
                "creationTime": "0", "startTime": "0", "endTime": "0", "query": statistics,
            },
        }  # fmt: skip

    def result(self, job_id: str) -> Result:
        """The rows of a job."""
        if job_id not in self._results:
            raise BigQueryError("notFound", f"Not found: Job {job_id}", 404)
        return self._results[job_id]

    def results_table(self, dataset: str, table: str) -> dict[str, Any] | None:
        """The anonymous table that holds a query's rows; none if it is another table."""
        if dataset != _RESULTS:
            return None
        reference = {
            "projectId": self._warehouse.catalog.project, "datasetId": dataset, "tableId": table,
        }  # fmt: skip
        rows = len(self.result(table).rows)
        return {"tableReference": reference, "schema": {"fields": []}, "numRows": str(rows)}


def dataset_list(catalog: Catalog) -> dict[str, Any]:
    """The project's datasets."""
    return {
        "datasets": [
            {
                "id": f"{catalog.project}:{name}",
                "datasetReference": {"projectId": catalog.project, "datasetId": name},
            }
            for name in catalog.datasets
        ]
    }


def table_list(catalog: Catalog, dataset: str) -> dict[str, Any]:
    """A dataset's tables and views."""
    return {
        "tables": [
            {
                "id": f"{catalog.project}:{dataset}.{table.name}",
                "tableReference": {
                    "projectId": catalog.project, "datasetId": dataset, "tableId": table.name,
                },
                "type": "VIEW" if table.is_view else "TABLE",
            }
            for table in catalog.dataset(dataset).values()
        ]
    }  # fmt: skip
