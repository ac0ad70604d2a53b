"""A Meltano pair: a `singer-sdk` tap piped into `target-duckdb`, both with default settings.

The target keeps attachments and reactions as JSON in the message's row; they are counted there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.contenders.common import TOKEN, parser, report_counts
from benchmarks.contenders.environments import python_of

TAP = Path(__file__).with_name("meltano_tap.py")


def main() -> int:
    """Pipe, wait for both, count; the peak is that of both together."""
    arguments = parser(__doc__).parse_args()
    folder = arguments.database.parent
    tap_config, target_config = folder / "tap.json", folder / "target.json"
    tap_config.write_text(json.dumps({"base_url": arguments.base_url, "api_token": TOKEN}))
    target_config.write_text(
        json.dumps({"path": str(arguments.database), "default_target_schema": "linq"})
    )
    target_program = python_of("meltano-target").with_name("target-duckdb")
    tap = subprocess.Popen(
        [python_of("meltano-tap"), TAP, "--config", tap_config],
        stdout=subprocess.PIPE,
        cwd=folder,
    )
    with tap:
        target = subprocess.Popen(
            [target_program, "--config", target_config],
            stdin=tap.stdout,
            stdout=subprocess.DEVNULL,
            cwd=folder,
        )
        assert tap.stdout is not None
        tap.stdout.close()
        peak_kb = 0
        for process in (target, tap):
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            peak_kb += usage.ru_maxrss
    report_counts(arguments.database, "linq", peak_kb=peak_kb)
    return tap.returncode or target.returncode


if __name__ == "__main__":
    sys.exit(main())
