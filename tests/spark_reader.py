"""Runs in Spark's environment: what each command of a JSON list reads becomes a file of Arrow."""

from __future__ import annotations

import json
import sys

import pyarrow as pa
from pyspark.sql import SparkSession

SETTINGS = {
    # Optimizing code costs more than so little of it takes.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
    "spark.driver.memory": "512m",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "1",
    "spark.ui.enabled": "false",
}


def main() -> None:
    builder = SparkSession.builder.master("local[1]")
    for name, value in SETTINGS.items():
        builder = builder.config(name, value)
    with builder.getOrCreate() as spark:
        for number, command in enumerate(json.load(sys.stdin)):
            table = eval(command, {"spark": spark}).toArrow()
            with pa.ipc.new_file(f"spark-{number}.arrow", table.schema) as file:
                file.write_table(table)


if __name__ == "__main__":
    main()
