"""The REST API: datasets, tables, queries, resumable uploads of load jobs, and a token server."""

from __future__ import annotations

import json
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.bigquery.catalog import LEGACY_TYPES, BigQueryError, Table
from tests.bigquery.definitions import Definitions
from tests.bigquery.jobs import QueryJobs, dataset_list, table_list
from tests.bigquery.loading import load
from tests.bigquery.warehouse import Result, Statement, Warehouse

TOKEN = "double-token"
PROJECT = "double-project"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Answer = tuple[int, dict[str, Any], dict[str, str]]


class BigQueryDouble:
    """BigQuery on a free port of this machine, with one project, until it is stopped.

    `failures` are requests that were refused although a correct client would not be; `hooks` are
    called with "query" and its SQL before it runs, and with "loaded" and the job's id before a
    load job that is done is answered.
    """

    def __init__(self) -> None:
        self.warehouse = Warehouse(PROJECT)
        self.failures: list[str] = []
        self.hooks: list[Callable[[str, str], None]] = []
        self.jobs: dict[str, dict[str, Any]] = {}
        self.query_jobs = QueryJobs(self.warehouse)
        self.repeated_jobs: list[str] = []
        self.tokens = {TOKEN}
        self.uploads: dict[str, dict[str, Any]] = {}
        double = self

        class Handler(_Handler):
            api = double

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def statements(self) -> list[Statement]:
        """Every statement that was run, in order."""
        return self.warehouse.statements

    def __enter__(self) -> BigQueryDouble:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.warehouse.close()

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> Answer:
        """Route one request under /bigquery/v2/projects/."""
        parts = path.split("/")
        if parts[0] != PROJECT:
            raise BigQueryError("accessDenied", f"Access Denied: Project {parts[0]}", 403)
        data = json.loads(body) if body and method == "POST" else {}
        match (method, parts[1:]):
            case ("POST", ["queries"]):
                return self._query(data)
            case ("POST", ["jobs"]):
                return self._insert_job(data)
            case ("GET", ["queries", job]):
                return 200, _rows_answer(self.query_jobs.result(job), job), {}
            case ("GET", ["datasets"]):
                return 200, dataset_list(self.warehouse.catalog), {}
            case ("GET", ["datasets", dataset, "tables"]):
                return 200, table_list(self.warehouse.catalog, dataset), {}
            case ("GET", ["datasets", _, "routines"]):
                return 200, {}, {}
            case ("GET", ["datasets", _, "routines", name]):
                raise BigQueryError("notFound", f"Not found: Routine {name}", 404)
            case ("DELETE", ["datasets", dataset, "tables", table]):
                with self.warehouse.lock:
                    self._definitions().drop_table(dataset, table)
                return 204, {}, {}
            case ("GET", ["jobs", job]):
                return self._job(job)
            case ("GET", ["datasets", dataset]):
                self.warehouse.catalog.dataset(dataset)
                return 200, self._dataset(dataset), {}
            case ("POST", ["datasets"]):
                name = data["datasetReference"]["datasetId"]
                with self.warehouse.lock:
                    self._definitions().create_dataset(name)
                return 200, self._dataset(name), {}
            case ("GET", ["datasets", dataset, "tables", table]):
                found = self.query_jobs.results_table(dataset, table)
                return 200, found or self._table(self.warehouse.catalog.table(dataset, table)), {}
            case ("DELETE", ["datasets", dataset]):
                cascade = query.get("deleteContents") == "true"
                with self.warehouse.lock:
                    self._definitions().drop_dataset(dataset, cascade=cascade)
                return 204, {}, {}
        raise BigQueryError("notImplemented", f"the double knows no {method} {path}", 501)

    def begin_upload(self, body: bytes) -> Answer:
        """The first request of a resumable upload; a job id serves once."""
        resource = json.loads(body)
        job_id = resource["jobReference"]["jobId"]
        with self.warehouse.lock:
            if job_id in self.jobs or job_id in self.uploads:
                self.repeated_jobs.append(job_id)
                text = f"Already Exists: Job {PROJECT}:US.{job_id}"
                raise BigQueryError("duplicate", text, 409)
            self.uploads[job_id] = resource
        return 200, {}, {"Location": f"{self.url}/upload/{job_id}"}

    def end_upload(self, job_id: str, content: bytes) -> Answer:
        """The content of a resumable upload, in one request."""
        resource = self.uploads.pop(job_id)
        status: dict[str, Any] = {"state": "DONE"}
        statistics: dict[str, Any] = {"creationTime": "0", "startTime": "0", "endTime": "0"}
        try:
            rows = load(self.warehouse, resource["configuration"]["load"], content)
            statistics["load"] = {"outputRows": str(rows), "inputFiles": "1"}
        except BigQueryError as error:
            self._note(error, f"load job {job_id}")
            problem = {"reason": error.reason, "message": str(error)}
            status |= {"errorResult": problem, "errors": [problem]}
        resource |= {"id": f"{PROJECT}:US.{job_id}", "status": status, "statistics": statistics}
        self.jobs[job_id] = resource
        self._call_hooks("loaded", job_id)
        return 200, resource, {}

    def token(self, form: dict[str, str]) -> Answer:
        """Google's token server: whoever can sign an assertion gets a token."""
        if form.get("assertion", "").count(".") != 2:
            return 400, {"error": "invalid_grant", "error_description": "Invalid JWT"}, {}
        return 200, {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}, {}

    def _query(self, data: dict[str, Any]) -> Answer:
        unknown = data.keys() - _QUERY_OPTIONS
        if unknown or data.get("useLegacySql"):
            raise BigQueryError("notImplemented", f"the double knows no {sorted(unknown)}", 501)
        self._call_hooks("query", data["query"])
        dataset = (data.get("defaultDataset") or {}).get("datasetId")
        result = self.warehouse.run(data["query"], data.get("queryParameters", ()), dataset)
        return 200, _rows_answer(result), {}

    def _insert_job(self, resource: dict[str, Any]) -> Answer:
        """A query job; its id serves once. It is done when it is answered."""
        job_id = resource["jobReference"]["jobId"]
        if job_id in self.jobs:
            self.repeated_jobs.append(job_id)
            raise BigQueryError("duplicate", f"Already Exists: Job {PROJECT}:US.{job_id}", 409)
        self._call_hooks("query", resource["configuration"]["query"]["query"])
        self.jobs[job_id] = self.query_jobs.insert(resource)
        return 200, self.jobs[job_id], {}

    def _job(self, job_id: str) -> Answer:
        if job_id not in self.jobs:
            raise BigQueryError("notFound", f"Not found: Job {PROJECT}:{job_id}", 404)
        return 200, self.jobs[job_id], {}

    def _definitions(self) -> Definitions:
        return Definitions(self.warehouse.catalog, self.warehouse.cursor())

    def _dataset(self, name: str) -> dict[str, Any]:
        reference = {"projectId": PROJECT, "datasetId": name}
        return {"id": f"{PROJECT}:{name}", "datasetReference": reference, "location": "US"}

    def _table(self, table: Table) -> dict[str, Any]:
        fields = [
            {
                "name": column.name,
                "type": LEGACY_TYPES.get(column.type, column.type),
                "mode": "REQUIRED" if column.required else "NULLABLE",
                "description": column.description,
            }
            for column in table.columns.values()
        ]
        reference = {"projectId": PROJECT, "datasetId": table.dataset, "tableId": table.name}
        answer: dict[str, Any] = {
            "tableReference": reference,
            "schema": {"fields": fields},
            "description": table.description,
            "labels": table.labels,
            "type": "VIEW" if table.is_view else "TABLE",
            "numRows": "0" if table.is_view else str(self.warehouse.count(table)),
        }
        if table.partition_by:
            answer["timePartitioning"] = {"type": "DAY", "field": table.partition_by}
        if table.cluster_by:
            answer["clustering"] = {"fields": list(table.cluster_by)}
        return answer

    def _call_hooks(self, what: str, text: str) -> None:
        for hook in self.hooks:
            hook(what, text)

    def _note(self, error: BigQueryError, what: str) -> None:
        if not error.is_expected:
            self.failures.append(f"{what}: {error.reason}: {error}")


_QUERY_OPTIONS = {
    "query",
    "queryParameters",
    "parameterMode",
    "defaultDataset",
    "useLegacySql",
    "formatOptions",
    "requestId",
    "location",
    "maxResults",
    "timeoutMs",
    "jobCreationMode",
    "dryRun",
    "labels",
}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients are killed on purpose here.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    api: BigQueryDouble
    protocol_version = "HTTP/1.1"
    # Without it every answer waits for the client's delayed acknowledgement.
    disable_nagle_algorithm = True

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        try:
            body = self.rfile.read(length) if length else self._read_chunks()
        except ValueError:
            raise ConnectionError("the client was killed between two chunks") from None
        if len(body) < length:
            raise ConnectionError("the client was killed while it sent its request")
        url = urlsplit(self.path)
        try:
            answer = self._route(url.path, {k: v[0] for k, v in parse_qs(url.query).items()}, body)
        except BigQueryError as error:
            self.api._note(error, f"{self.command} {url.path} {body[:2000]!r}")
            answer = _error_answer(error)
        except Exception as error:
            self.api.failures.append(
                f"{self.command} {url.path} {body[:2000]!r}: {traceback.format_exc()}"
            )
            answer = _error_answer(BigQueryError("notImplemented", repr(error), 501))
        self._send(*answer)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _handle

    def _route(self, path: str, query: dict[str, str], body: bytes) -> Answer:
        if path == "/token" and self.command == "POST":
            form = {key: value[0] for key, value in parse_qs(body.decode()).items()}
            return self.api.token(form)
        if path.startswith("/upload/") and self.command == "PUT":
            return self.api.end_upload(path.split("/")[2], body)
        if self.headers.get("Authorization", "").removeprefix("Bearer ") not in self.api.tokens:
            raise BigQueryError("authError", "Invalid Credentials", 401)
        if path.startswith("/upload/bigquery/v2/") and query.get("uploadType") == "resumable":
            return self.api.begin_upload(body)
        prefix = "/bigquery/v2/projects/"
        if not path.startswith(prefix):
            raise BigQueryError("notImplemented", f"the double knows no {path}", 501)
        return self.api.answer(self.command, path.removeprefix(prefix), query, body)

    def _read_chunks(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return b""
        parts = []
        while size := int(self.rfile.readline().strip(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, status: int, data: dict[str, Any], headers: dict[str, str]) -> None:
        content = json.dumps(data).encode() if status != 204 else b""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Tests read `failures`, not a log."""


def _error_answer(error: BigQueryError) -> Answer:
    problem = {"reason": error.reason, "message": str(error), "domain": "global"}
    data = {"error": {"code": error.status, "message": str(error), "errors": [problem]}}
    return error.status, data, {}


def _rows_answer(result: Result, job: str = "query") -> dict[str, Any]:
    answer: dict[str, Any] = {
        "jobComplete": True,
        "jobReference": {"projectId": PROJECT, "jobId": job, "location": "US"},
        "totalBytesProcessed": "0",
        "cacheHit": False,
    }
    if result.affected is not None or not result.columns:
        return answer | {"numDmlAffectedRows": str(result.affected or 0), "totalRows": "0"}
    fields = [
        {"name": name, "type": LEGACY_TYPES.get(type_, type_), "mode": "NULLABLE"}
        for name, type_ in result.columns
    ]
    rows = [{"f": [{"v": _cell(value)} for value in row]} for row in result.rows]
    return answer | {"schema": {"fields": fields}, "rows": rows, "totalRows": str(len(rows))}


def _cell(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        delta = value - _EPOCH
        return str((delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds)
    if isinstance(value, date):
        return value.isoformat()
    return str(value)
