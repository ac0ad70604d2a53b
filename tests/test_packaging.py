"""What is built holds what it needs and nothing that lies about: no old modules, no messages."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def build(project: Path, target: Path) -> tuple[Path, Path]:
    """The source distribution and the wheel of a project."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(target)], cwd=project, check=True,
        capture_output=True, timeout=100,
    )  # fmt: skip
    return next(target.glob("*.tar.gz")), next(target.glob("*.whl"))


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """The source distribution of this project, unpacked."""
    with tarfile.open(build(ROOT, tmp_path / "first")[0]) as archive:
        archive.extractall(tmp_path, filter="data")
    return next(tmp_path.glob("linq_source-*"))


@pytest.mark.long
def test_the_source_distribution_has_all_that_its_tests_need(unpacked: Path) -> None:
    for folder in ("tests", "pipelines", "linq_source", "benchmarks", "docs"):
        here = {p.relative_to(ROOT) for p in (ROOT / folder).rglob("*") if p.is_file()}
        there = {p.relative_to(unpacked) for p in (unpacked / folder).rglob("*") if p.is_file()}
        assert {path for path in here - there if "__pycache__" not in path.parts} == set()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_docs.py"],
        cwd=unpacked, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_nothing_that_lies_about_is_built_in(unpacked: Path, tmp_path: Path) -> None:
    left = [
        "build/lib/linq_source/deleted.py", "linq_messages.duckdb", "files/linq/photo.jpg",
        "lake/linq/chat_messages/1.parquet", ".dlt/secrets.toml", "dist/old.whl",
    ]  # fmt: skip
    for name in left:
        path = unpacked / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1")
    source, wheel = build(unpacked, tmp_path / "second")
    with tarfile.open(source) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert "tests/conftest.py" in names
    assert [name for name in left if name in names] == []
    package = {
        str(p.relative_to(ROOT))
        for suffix in ("py", "sql", "yml", "css", "js")
        for p in (ROOT / "linq_source").rglob(f"*.{suffix}")
    }
    assert "linq_source/transform/dbt_project.yml" in package
    with zipfile.ZipFile(wheel) as archive:
        built = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert set(built) == package | {"linq_source/py.typed"}
