"""The documentation says what the code says."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from typing import Any

import dlt
import pytest

import linq_source

ROOT = Path(__file__).resolve().parent.parent


def load_build() -> Any:
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readme_and_tables_page_are_up_to_date() -> None:
    for path, text in load_build().built().items():
        assert path.read_text() == text, f"{path.name} is stale: make docs"


@pytest.mark.parametrize(("page", "least"), [("guarantees.md", 20), ("security.md", 15)])
def test_every_test_named_in_the_guarantees_exists(page: str, least: int) -> None:
    text = (ROOT / "docs" / page).read_text()
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", text)
    assert len(named) > least
    for file, test in named:
        assert f"def {test}(" in (ROOT / "tests" / file).read_text(), f"{file}::{test}"


@pytest.mark.parametrize("page", ["guarantees.md", "security.md"])
def test_make_test_holds_what_is_not_said_of_another_destination(page: str) -> None:
    for line in (ROOT / "docs" / page).read_text().splitlines():
        named = re.findall(r"`(test_\w+\.py)::(\w+)`", line)
        if named and not re.search(
            "BigQuery|Delta|DuckLake|Iceberg|Postgres|S3", line.partition("`test")[0]
        ):
            assert not all(is_long(file, test) for file, test in named), line


def is_long(file: str, test: str) -> bool:
    """Only `make test-all` runs the test."""
    tree = ast.parse((ROOT / "tests" / file).read_text())
    marks: list[ast.expr] = []
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            marks.append(node.value)
        elif isinstance(node, ast.FunctionDef) and node.name == test:
            marks += node.decorator_list
    return "pytest.mark.long" in map(ast.unparse, marks)


def test_public_names() -> None:
    assert linq_source.__all__ == [
        "ApiContractError", "ApiUnavailableError", "AuditReport", "AuthenticationError",
        "ChatUnavailableError", "ConfigurationError", "DestinationError", "ForgetReport",
        "LinqError", "Report", "ScratchFolder", "audit", "forget", "linq_source", "open_shard",
        "plan_shards", "settle", "sync",
    ]  # fmt: skip
    for name in linq_source.__all__:
        assert getattr(linq_source, name).__doc__


def test_dlt_has_its_dashboard_where_the_docs_start_it() -> None:
    (path,) = re.findall(
        r"print\(\*dlt.__path__\)'\)(/\S+)\"", (ROOT / "docs/report.md").read_text()
    )
    assert "--pipeline" in Path(dlt.__path__[0] + path).with_name("runner.py").read_text()
    assert Path(dlt.__path__[0] + path).exists()


def test_every_link_in_the_docs_leads_somewhere() -> None:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
