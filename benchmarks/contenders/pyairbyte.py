"""PyAirbyte, offline, with a declarative manifest (see `pyairbyte_read`).

Its cache keeps attachments and reactions as JSON in the message's row; they are counted there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.contenders.common import TOKEN, parser, report_counts
from benchmarks.contenders.environments import python_of

READ = Path(__file__).with_name("pyairbyte_read.py")


def main() -> int:
    """Read in the other environment, then count."""
    arguments = parser(__doc__).parse_args()
    folder = arguments.database.parent
    process = subprocess.Popen(
        [python_of("pyairbyte"), READ, arguments.base_url, TOKEN, str(arguments.database)],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        env=os.environ
        | {
            "AIRBYTE_OFFLINE_MODE": "1",
            "DO_NOT_TRACK": "1",
            "AIRBYTE_PROJECT_DIR": str(folder),
            "AIRBYTE_LOGGING_ROOT": str(folder / "logs"),
            "PYTHONPATH": "",
        },
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode == 0:
        report_counts(arguments.database, "linq", peak_kb=usage.ru_maxrss)
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
