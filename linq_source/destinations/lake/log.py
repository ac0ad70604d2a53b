"""Finding the files of a lake's log, under whichever layouts they were written.

Layouts may change from run to run: those ever used are remembered in the bucket.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from linq_source.destinations.bucket import DEFAULT_LAYOUT, Bucket
from linq_source.destinations.lake.layout import CURRENT
from linq_source.destinations.lake.naming import LOAD, Naming
from linq_source.errors import ConfigurationError
from linq_source.tables import ALL_TABLES, Table

_REMEMBERED = "_linq_layouts.json"
# Loads whose files are looked for one by one.
FEW_LOADS = 20
_LOAD_IN_PATH = re.compile(rf"(?<![0-9]){LOAD}(?![0-9])")
_OF_A_TABLE = re.compile(rf"(?<![A-Za-z0-9_])({'|'.join(ALL_TABLES)})(?![A-Za-z0-9]|__)")


class Log:
    """The files of a lake's log."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._remembered: list[str] = bucket.read_json(_REMEMBERED) or []
        layouts = dict.fromkeys([DEFAULT_LAYOUT, *self._remembered, bucket.layout])
        self._namings = [Naming(layout) for layout in layouts]

    def remember_layout(self) -> None:
        """Note the layout in use, for a day when it is another. To be called under the lock."""
        layout = self._bucket.layout
        if layout not in (DEFAULT_LAYOUT, *self._remembered):
            self._remembered.append(layout)
            self._bucket.write_json(_REMEMBERED, self._remembered)

    def files_of(self, table: Table, loads: Sequence[str] | None = None) -> dict[str, str]:
        """Paths of a table's files, each with its load.

        Of some loads; or of all, completed or not.
        """
        wanted = None if loads is None else set(loads)
        begun: Sequence[str | None] = [None]
        if loads is not None and len(loads) <= FEW_LOADS:
            begun = loads
        found = {}
        for naming in self._namings:
            for prefix in dict.fromkeys(naming.prefix(table, load) for load in begun):
                folder, _, start = prefix.rpartition("/")
                for path in self._bucket.list(folder, start):
                    load = naming.load_of(path, table)
                    if load is not None and (wanted is None or load in wanted):
                        found[path] = load
        return found

    def check_all_found(self) -> None:
        """Raise `ConfigurationError` where the log has files that no known layout explains."""
        known = {path for table in ALL_TABLES.values() for path in self.files_of(table)}
        for path in self._of_tables():
            if path not in known:
                raise self._refusal(path)

    def check_found(self, missing: Collection[str]) -> None:
        """Raise `ConfigurationError` where loads of which no file was found did leave some.

        A load may have brought nothing but state, or tables of another source. What it must not
        have is files that no known layout explains: settled without them, they would be lost.
        """
        for path in self._of_tables() if missing else ():
            load = _LOAD_IN_PATH.search(path)
            if load is None or load.group() in missing:
                raise self._refusal(path)

    def _of_tables(self) -> Iterator[str]:
        """Paths of the log that name one of the tables."""
        for path in self._bucket.list(""):
            if not path.startswith((f"{CURRENT}/", "_dlt")) and _OF_A_TABLE.search(path):
                yield path

    def _refusal(self, path: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self._bucket.root}/{path}: has another layout or format than "
            f"{self._bucket.layout!r} and Parquet, and its rows would be missing: run "
            "once with the layout that it was written with, or move it away"
        )
