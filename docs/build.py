"""Writes what the documentation quotes from the code: `make docs`.

The README's table of tables, `docs/tables.md` and the columns in `docs/security.md` come from
`linq_source.tables`, as do the sources and staging models of the dbt package; `docs/marts.md` from
the package, `docs/questions.md` from the demo. A test compares, so that none of them goes stale.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from linq_source import tables_v3
from linq_source.cli.demo import run_demo
from linq_source.cli.questions import QUESTIONS
from linq_source.tables import ALL_TABLES, TABLES, TOMBSTONE, Column, Table

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
TABLES_PAGE = ROOT / "docs" / "tables.md"
TABLES_V3_PAGE = ROOT / "docs" / "tables-v3.md"
QUESTIONS_PAGE = ROOT / "docs" / "questions.md"
SECURITY_PAGE = ROOT / "docs" / "security.md"
MARTS_PAGE = ROOT / "docs" / "marts.md"
MODELS = ROOT / "linq_source" / "transform" / "models"
_KINDS = ("fct", "dim", "agg", "data")
# What tells how fresh the messages are, and from when on that is worth a word.
FRESHNESS = {
    "loaded_at_query": "{{ linq_source.linq_newest_run(this) }}",
    "freshness": {
        "warn_after": {"count": 6, "period": "hour"},
        "error_after": {"count": 24, "period": "hour"},
    },
}


def tables_overview() -> str:
    """The README's table of tables; the text beside it names the logs."""
    kept = [table for table in TABLES.values() if not table.is_appended]
    rows = [f"| `{table.name}` | {table.description} |" for table in kept]
    return "\n".join(["| table | rows |", "|---|---|", *rows])


def tables_page(tables: Mapping[str, Table], *begin: str) -> str:
    """Every column of every table, and how they refer to each other, after some lines."""
    parts = [*begin, "", "```mermaid", *_diagram(tables.values()), "```"]
    for table in tables.values():
        parts += ["", *_columns(table)]
    return "\n".join(parts) + "\n"


def _diagram(tables: Iterable[Table]) -> list[str]:
    """The tables and what they refer to, as Mermaid draws them."""
    lines = ["erDiagram"]
    for table in tables:
        refers = {
            found[1]: column.name
            for column in table.columns
            if (found := re.search(r"`(\w+)\.id`", column.description))
        }
        if "chat_messages" in refers:
            refers = {"chat_messages": refers["chat_messages"]}
        lines += [f'    {name} ||--o{{ {table.name} : "{by}"' for name, by in refers.items()]
    return lines


def _columns(table: Table) -> list[str]:
    key = f"Key: {', '.join(table.key)}." if table.key else "Rows are only added."
    refers = f" Refers to `{table.parent}` by `{table.merge_key}`." if table.is_child else ""
    return [
        f"## `{table.name}`",
        "",
        f"{table.description} {key}{refers}",
        "",
        "| column | type | meaning |",
        "|---|---|---|",
        *(f"| `{c.name}` | {c.type} | {c.description} |" for c in table.columns),
    ]


def private_columns() -> str:
    """What the settings `phones` and `text` cover, by column."""

    def columns(*kinds: str) -> str:
        tables = (*TABLES.values(), *tables_v3.TABLES.values())
        found = [f"`{t.name}.{c.name}`" for t in tables for c in t.columns
                 if c.personal_data in kinds]  # fmt: skip
        return ", ".join(dict.fromkeys(found))

    return "\n".join(
        [
            "| setting | covers |",
            "|---|---|",
            f"| `phones` | {columns('phone')}; numbers and e-mail addresses in {columns('name')} |",
            f"| `text` | {columns('writing', 'link')} |",
            f"| both | {columns('anything')} |",
        ]
    )


def both_versions() -> list[Table]:
    """The tables with what they have of API v2 and of v3: a dbt package is one for both."""
    found = []
    for name, table in ALL_TABLES.items():
        v3 = tables_v3.TABLES.get(name, table)
        columns = [*table.columns, *(c for c in v3.columns if c.name not in table.column_names)]
        # What one version lacks is null.
        filled = [{c.name for c in each.columns if not c.nullable} for each in (table, v3)]
        columns = [replace(c, nullable=c.name not in set.intersection(*filled)) for c in columns]
        key = (*v3.key, *(name for name in table.key if name not in v3.key))
        found.append(replace(table, columns=tuple(columns), key=key))
    return found


def dbt_sources() -> str:
    """The tables as dbt's sources."""
    tables = []
    for table in both_versions():
        columns = [{**_described(c), "data_type": c.type} for c in table.columns]
        entry: dict[str, Any] = {"name": table.name, "description": table.description}
        if table.name == "chat_messages":
            entry["config"] = FRESHNESS
        tables.append({**entry, "columns": columns})
    source = {
        "name": "linq",
        "description": "What `linq-source run` loads.",
        "database": "{{ var('linq_database', target.database) }}",
        "schema": "{{ var('linq_dataset', 'linq') }}",
        "tables": tables,
    }
    return _yaml({"version": 2, "sources": [source]})


def dbt_staging() -> str:
    """The staging models: the same columns, of the rows that are current."""
    models = []
    for table in both_versions():
        model: dict[str, Any] = {
            "name": f"stg_linq__{table.name}",
            "description": f"{table.description} Rows that are current, with every column.",
        }
        if len(table.key) > 1:
            model["data_tests"] = [{"unique_together": {"arguments": {"columns": [*table.key]}}}]
        columns = [_staged(table, c) for c in table.columns if c.name != TOMBSTONE]
        models.append({**model, "columns": columns})
    return _yaml({"version": 2, "models": models})


def marts() -> str:
    """Every column of every mart, as the dbt package describes it."""
    described = {
        model["name"]: model
        for path in sorted((MODELS / "marts").glob("*.yml"))
        for model in yaml.safe_load(path.read_text())["models"]
    }
    parts = []
    for name in sorted(described, key=lambda name: (_KINDS.index(name.split("_")[0]), name)):
        model = described[name]
        parts += [f"### `{name}`", "", _one_line(model["description"]), "", "| column | meaning |"]
        parts += ["|---|---|"]
        parts += [f"| `{c['name']}` | {_one_line(c['description'])} |" for c in model["columns"]]
        parts += [""]
    return "\n".join(parts).rstrip()


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _staged(table: Table, column: Column) -> dict[str, Any]:
    tests: list[Any] = [] if column.nullable else ["not_null"]
    if table.key == (column.name,):
        tests.append("unique")
    return {**_described(column), **({"data_tests": tests} if tests else {})}


def _described(column: Column) -> dict[str, Any]:
    return {"name": column.name, "description": column.description}


def _yaml(value: dict[str, Any]) -> str:
    text = yaml.safe_dump(value, sort_keys=False, width=100, allow_unicode=True)
    return f"# Made from linq_source/tables.py by make docs.\n{text}"


def questions_page() -> str:
    """`docs/questions.md`: the questions, their SQL and what the demo's database answers."""
    with tempfile.TemporaryDirectory() as folder:
        console = Console(file=io.StringIO(), width=100)
        run_demo(str(Path(folder) / "linq_messages.duckdb"), console, len(QUESTIONS))
        printed = console.file.getvalue()  # type: ignore[attr-defined]
    parts = [
        "# Ten questions",
        "",
        "In DuckDB's SQL, with the answers of `make demo`'s database, whose world is invented.",
        "A line is one of the organisation's numbers; now is the API's clock when it was last",
        "read. Made from `linq_source/cli/questions.py` by `make docs`.",
        "",
        "[The marts](marts.md) answer in less. Those below were made by",
        "`linq-source transform --vars '{linq_timezone: America/New_York}'`.",
    ]
    for question, sql, marts_sql in QUESTIONS:
        answer = re.split(r"\n\s*\n", printed.split(question)[1])[0].strip("\n")
        trimmed = "\n".join(line.rstrip() for line in answer.splitlines())
        parts += ["", f"## {question}", "", f"```sql\n{sql}\n```\n```\n{trimmed}\n```"]
        if marts_sql is not None:
            parts += ["With the marts:", f"```sql\n{marts_sql}\n```"]
    return "\n".join(parts) + "\n"


def with_block(text: str, name: str, content: str) -> str:
    """The text with the block between the markers of `name` replaced."""
    begin, end = f"<!-- {name}: made by make docs -->", f"<!-- end of {name} -->"
    head, rest = text.split(begin)
    tail = rest.split(end)[1]
    return f"{head}{begin}\n{content}\n{end}{tail}"


def built() -> dict[Path, str]:
    """Every file this script writes, with its content."""
    readme = with_block(README.read_text(), "tables", tables_overview())
    security = with_block(SECURITY_PAGE.read_text(), "private columns", private_columns())
    return {
        README: readme,
        TABLES_PAGE: tables_page(
            TABLES,
            "# Tables",
            "",
            "All instants are UTC with microseconds. Columns that begin with `_` are technical.",
            "Made from `linq_source/tables.py` by `make docs`. [Ten questions](questions.md) use",
            "them. Those of API v3 are on [a page of their own](tables-v3.md).",
        ),
        TABLES_V3_PAGE: tables_page(
            tables_v3.TABLES,
            "# Tables of API v3",
            "",
            "The names and meanings are those of [API v2](tables.md) where v2 has them, so that",
            "the same SQL asks both; ids are texts, and columns that v3 has no field for are null.",
            "[What else is otherwise](api-v3.md). Made from `linq_source/tables_v3.py` by",
            "`make docs`.",
        ),
        QUESTIONS_PAGE: questions_page(),
        SECURITY_PAGE: security,
        MARTS_PAGE: with_block(MARTS_PAGE.read_text(), "marts", marts()),
        MODELS / "sources.yml": dbt_sources(),
        MODELS / "staging" / "staging.yml": dbt_staging(),
    }


if __name__ == "__main__":
    for path, text in built().items():
        path.write_text(text)
