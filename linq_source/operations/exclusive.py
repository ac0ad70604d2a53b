"""One run of a pipeline at a time on a machine.

dlt lets several runs share a pipeline's working folder: each would read everything, and load the
other's packages. The operating system's lock ends with the process that holds it, however it ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dlt

from linq_source.errors import AlreadyRunningError

try:
    import fcntl
except ImportError:  # on Windows, where it is left to whoever schedules runs
    fcntl = None  # type: ignore[assignment]


@contextmanager
def exclusive(pipeline: dlt.Pipeline) -> Iterator[None]:
    """Hold the pipeline's lock. Raises `AlreadyRunningError` where another run holds it."""
    # Beside the working folder: dlt removes that as a whole where a state is given up.
    path = Path(pipeline.working_dir)
    path = path.with_name(path.name + ".lock")
    if fcntl is None:
        yield
        return
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunningError(
                f"another run of the pipeline {pipeline.pipeline_name} is under way ({path} is "
                "locked): nothing was read; run again when it has ended"
            ) from error
        except OSError:
            pass  # a file system without locks
        yield
