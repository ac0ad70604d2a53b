"""A lake in a folder, and what lies in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from linq_source.destinations.bucket import Bucket
from linq_source.sandbox import World, seeded_world
from tests.conftest import Loader
from tests.destinations import Lake


@pytest.fixture
def lake(serve: Callable[[World], Loader], tmp_path: Path) -> Loader:
    """A loader of a world into a lake."""
    loader = serve(seeded_world(chats=5, messages=150))
    loader.place = Lake(tmp_path)
    return loader


def bucket_of(loader: Loader) -> Bucket:
    assert isinstance(loader.place, Lake)
    return Bucket(LocalFileSystem(), str(loader.place.bucket / "linq"))


def current_of(loader: Loader) -> Path:
    return Path(bucket_of(loader).root, "current")


def contents(loader: Loader) -> dict[str, bytes]:
    """Every visible file of the current state."""
    root = current_of(loader)
    return {str(f.relative_to(root)): f.read_bytes() for f in sorted(root.rglob("*.parquet"))}


def inodes(loader: Loader) -> dict[str, int]:
    root = current_of(loader)
    return {str(f.relative_to(root)): f.stat().st_ino for f in sorted(root.rglob("*.parquet"))}
