"""Finding the files of a lake's log by the `layout` that dlt's filesystem destination has.

A file can be found again where its path says which table and which load it belongs to. A layout
that does not, or under which two files of a load would have one path, is refused before anything
is read. Layouts may change from run to run: those ever used are remembered in the bucket.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property, lru_cache
from string import Formatter

from linq_source.destinations.bucket import DEFAULT_LAYOUT, Bucket
from linq_source.destinations.lake.layout import CURRENT, LOADS
from linq_source.errors import ConfigurationError
from linq_source.tables import ALL_TABLES, Table

_REMEMBERED = "_linq_layouts.json"
_NEEDED = ("table_name", "load_id", "file_id")
# A load's id is an instant in seconds, which nothing else in a path looks like.
_LOAD = r"[0-9]{9,}\.[0-9]+"
# Loads whose files are looked for one by one.
FEW_LOADS = 20


class Naming:
    """One layout: what the files of a table and a load are called."""

    def __init__(self, layout: str) -> None:
        """Raise `ConfigurationError` for a layout by which files cannot be found again."""
        self.layout = layout
        # As dlt does: it writes with the separators of the bucket.
        text = layout.replace("\\", "/")
        try:
            # Pairs of text and the placeholder after it; none after the last.
            self._parts = [(before, name) for before, name, _, _ in Formatter().parse(text)]
        except ValueError as error:
            raise self._refusal(f"cannot be understood ({error})") from error
        names = [name for _, name in self._parts if name is not None]
        for needed in _NEEDED:
            if needed not in names:
                raise self._refusal(f"lacks {{{needed}}}")
        if re.search(r"}{load_id}|{load_id}{|}{table_name}|{table_name}{", text):
            raise self._refusal("needs a separator around {table_name} and {load_id}")
        folders = text.split("/")[:-1]
        if text.startswith("/") or ".." in folders or folders[:1] in ([CURRENT], [LOADS]):
            raise self._refusal("leads out of the log")
        if "ext" not in names:  # dlt adds it, too
            self._parts += [(".", "ext")]

    def prefix(self, table: Table, load: str | None = None) -> str:
        """What the paths of a table's files begin with, those of a load where one is given."""
        known = {"table_name": table.name} | ({} if load is None else {"load_id": load})
        found = ""
        for before, name in self._parts:
            found += before
            if name not in known:
                break
            found += known[name]
        return found

    def load_of(self, path: str, table: Table) -> str | None:
        """The load that a table's Parquet file was written by; none for any other file."""
        match = _compiled(self._expression, table.name).fullmatch(path)
        return match["load_id"] if match else None

    @cached_property
    def _expression(self) -> str:
        """A regular expression with TABLE where the table's name stands."""
        forms = {"table_name": "TABLE", "file_id": "[^/.]+", "ext": "parquet"}
        found = ""
        for before, name in self._parts:
            # A folder of the machine takes many slashes for one.
            found += re.sub("/+", "/+", re.escape(before))
            if name == "load_id":
                found += "(?P=load_id)" if "<load_id>" in found else f"(?P<load_id>{_LOAD})"
            elif name is not None:
                found += forms.get(name, ".*?")
        return found

    def _refusal(self, what: str) -> ConfigurationError:
        return ConfigurationError(
            f"layout {self.layout!r} of the filesystem destination {what}, and files of a lake "
            f"could not be found again: use for example {DEFAULT_LAYOUT!r}, which is the default"
        )


@lru_cache(maxsize=256)
def _compiled(expression: str, table_name: str) -> re.Pattern[str]:
    return re.compile(expression.replace("TABLE", re.escape(table_name)))


class Log:
    """The files of a lake's log, under whichever layouts they were written."""

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


_LOAD_IN_PATH = re.compile(rf"(?<![0-9]){_LOAD}(?![0-9])")
_OF_A_TABLE = re.compile(rf"(?<![A-Za-z0-9_])({'|'.join(ALL_TABLES)})(?![A-Za-z0-9]|__)")
