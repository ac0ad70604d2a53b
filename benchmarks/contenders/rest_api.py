"""dlt's own `rest_api` source, configured for the same pages; nested tables are left to dlt."""

from __future__ import annotations

import os

import dlt
from dlt.sources.rest_api import rest_api_source
from dlt.sources.rest_api.typing import RESTAPIConfig

from benchmarks.contenders.common import PER_PAGE, TOKEN, TOKEN_HEADER, parser, report_counts


def configuration(base_url: str, *, is_parallelized: bool) -> RESTAPIConfig:
    """Numbers, the chats of each number, the messages of each chat."""
    return {
        "client": {
            "base_url": f"{base_url}/api/partner/v2/",
            "headers": {TOKEN_HEADER: TOKEN},
            "paginator": {
                "type": "page_number",
                "base_page": 1,
                "page_param": "page",
                "total_path": "meta.total_pages",
            },
        },
        "resources": [
            {
                "name": "phone_numbers",
                "endpoint": {
                    "path": "phone_numbers",
                    "data_selector": "phone_numbers",
                    "paginator": "single_page",
                },
            },
            {
                "name": "chats",
                "primary_key": "id",
                "write_disposition": "merge",
                "endpoint": {
                    "path": "chats",
                    "data_selector": "data",
                    "params": {
                        "phone_number": "{resources.phone_numbers.phone_number}",
                        "per_page": PER_PAGE,
                    },
                },
            },
            {
                "name": "chat_messages",
                "primary_key": "id",
                "write_disposition": "merge",
                "parallelized": is_parallelized,
                "include_from_parent": ["id"],
                "endpoint": {
                    "path": "chats/{resources.chats.id}/chat_messages",
                    "data_selector": "data",
                    "params": {"per_page": PER_PAGE},
                },
            },
        ],
    }


def main() -> None:
    """Read everything into the database."""
    options = parser(__doc__)
    options.add_argument("--parallelized", action="store_true")
    arguments = options.parse_args()
    os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
    pipeline = dlt.pipeline(
        pipeline_name="rest_api",
        destination=dlt.destinations.duckdb(str(arguments.database)),
        dataset_name="linq",
        pipelines_dir=str(arguments.database.parent / "pipelines"),
    )
    source = rest_api_source(
        configuration(arguments.base_url, is_parallelized=arguments.parallelized)
    )
    pipeline.run(source)
    report_counts(arguments.database, "linq")


if __name__ == "__main__":
    main()
