"""What the files of a lake's log are called: the `layout` of dlt's filesystem destination.

A file can be found again where its path says which table and which load it belongs to. A layout
that does not, or under which two files of a load would have one path, is refused before anything
is read.
"""

from __future__ import annotations

import re
from functools import cached_property, lru_cache
from string import Formatter

from linq_source.destinations.bucket import DEFAULT_LAYOUT
from linq_source.destinations.lake.layout import CURRENT, LOADS
from linq_source.errors import ConfigurationError
from linq_source.tables import Table

_NEEDED = ("table_name", "load_id", "file_id")
# A load's id is an instant in seconds, which nothing else in a path looks like.
LOAD = r"[0-9]{9,}\.[0-9]+"


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
                found += "(?P=load_id)" if "<load_id>" in found else f"(?P<load_id>{LOAD})"
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
