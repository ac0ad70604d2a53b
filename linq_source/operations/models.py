"""The models of the dbt package as plain SQL, without dbt."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import yaml
from jinja2 import StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

from linq_source.errors import ConfigurationError

PACKAGE = Path(__file__).resolve().parents[1] / "transform"
# What tells dbt where the tables are.
_PLACES = ("linq_dataset", "linq_database", "linq_lake")


def default_variables() -> dict[str, Any]:
    """The variables that a user may give, with their values where nobody does."""
    variables = _project_variables()
    return {name: value for name, value in variables.items() if name not in _PLACES}


def _project_variables() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((PACKAGE / "dbt_project.yml").read_text())["vars"]
    return found


class Models:
    """What dbt gives to a model when it compiles one, as far as these models ask for it."""

    def __init__(
        self,
        dialect: str,
        variables: Mapping[str, Any],
        tables: Mapping[str, tuple[str, list[str]]],
        quoted: Callable[[str], str],
    ) -> None:
        """`dialect` is the name of dbt's adapter; `quoted` makes an identifier of a name.

        `tables` has, of each table, what a statement calls it, and which columns it has; none
        where it is not there.
        """
        self._macros = SimpleNamespace()
        self._dialect = dialect
        self._environment = SandboxedEnvironment(undefined=StrictUndefined)
        self._environment.globals |= {
            "adapter": SimpleNamespace(dispatch=self._dispatch, quote=quoted),
            "config": lambda **_: "",
            "exceptions": SimpleNamespace(raise_compiler_error=_refuse),
            "execute": True,
            "is_incremental": lambda: False,
            "linq_source": self._macros,
            "modules": SimpleNamespace(re=re),
            "return": _return,
            "source": lambda _, name: tables[name][0],
            "target": SimpleNamespace(type=dialect),
            "var": (_project_variables() | dict(variables)).__getitem__,
        }
        for path in sorted((PACKAGE / "macros").glob("*.sql")):
            module = self._environment.from_string(path.read_text()).module
            for name, macro in vars(module).items():
                if callable(macro):
                    setattr(self._macros, name, _returning(macro))
        # What the package asks dbt for in the database.
        declared = _declared()
        self._macros.linq_declared = declared.__getitem__
        self._macros.linq_found = lambda name, relation: {
            "relation": relation,
            "columns": tables[name][1],
        }

    def sql_of(self, model: str) -> str:
        """One statement that gives a model's rows from the loaded tables."""
        parts: dict[str, str] = {}

        def ref(name: str) -> str:
            if name not in parts:
                # What it refers to is entered first.
                parts[name] = self._rendered(name, ref)
            return name

        ref(model)
        ctes = ",\n".join(f"{name} as (\n{sql}\n)" for name, sql in parts.items())
        return f"with {ctes}\nselect * from {model}"

    def _rendered(self, model: str, ref: Callable[[str], str]) -> str:
        (path,) = (PACKAGE / "models").glob(f"*/{model}.sql")
        return self._environment.from_string(path.read_text()).render(ref=ref).strip()

    def _dispatch(self, name: str, _package: str) -> Any:
        default = getattr(self._macros, f"default__{name}")
        return getattr(self._macros, f"{self._dialect}__{name}", default)


def _declared() -> dict[str, dict[str, dict[str, str]]]:
    """The columns that models may ask for, by table and name."""
    (source,) = yaml.safe_load((PACKAGE / "models" / "sources.yml").read_text())["sources"]
    return {
        table["name"]: {column["name"]: column for column in table["columns"]}
        for table in source["tables"]
    }


class _Returned(Exception):
    """What ends a macro that returns a value."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _return(value: Any) -> NoReturn:
    raise _Returned(value)


def _returning(macro: Callable[..., Any]) -> Callable[..., Any]:
    """A macro whose value is what it returned, else its text."""

    def call(*arguments: Any) -> Any:
        try:
            return macro(*arguments)
        except _Returned as returned:
            return returned.value

    return call


def _refuse(text: str) -> NoReturn:
    raise ConfigurationError(text)
