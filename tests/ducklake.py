"""DuckLakes for the tests: a catalog in a DuckDB file or in Postgres, data in a folder or a bucket.

DuckDB's extensions come from packages, because a test downloads nothing.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pytest
from dlt.common.configuration.specs import AwsCredentials
from dlt.common.storages import FilesystemConfiguration
from dlt.destinations.impl.ducklake.configuration import DuckLakeCredentials
from fsspec.implementations.local import LocalFileSystem
from s3fs import S3FileSystem

from tests.postgres import Postgres
from tests.truth import Row

_EXTENSIONS = ("ducklake", "httpfs", "postgres_scanner")


@cache
def _extension_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder in which DuckDB finds its extensions; it goes with this process."""
    folder = tempfile.TemporaryDirectory(prefix="linq-duckdb-")
    with duckdb.connect() as connection:
        found = connection.execute("SELECT version(), platform FROM pragma_platform()").fetchone()
    assert found is not None
    there = Path(folder.name, *found)
    there.mkdir(parents=True)
    for name in _EXTENSIONS:
        spec = importlib.util.find_spec(f"duckdb_extension_{name}")
        assert spec is not None, "pip install 'linq-source[test]'"
        assert spec.origin is not None
        file = f"{name}.duckdb_extension"
        (there / file).symlink_to(Path(spec.origin).parent / "extensions" / found[0] / file)
    return folder


@contextmanager
def extensions() -> Iterator[Mapping[str, str]]:
    """Let DuckLakes of this process find them; gives what another needs in its environment."""
    key = "DESTINATION__DUCKLAKE__CREDENTIALS__GLOBAL_CONFIG"
    value = f'{{"extension_directory": "{_extension_folder().name}"}}'
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(key, value)
        yield {key: value}


class DuckLake:
    """A DuckLake: where its catalog and its files are, as DuckDB and as dlt are told of them."""

    options: Mapping[str, Any] = {}

    def __init__(
        self, catalog: str, data: str, attach: str, prepare: str = "", keys: Any = None
    ) -> None:
        """`attach` follows `ATTACH`, without the alias; `prepare` is a statement before it."""
        self.catalog = catalog
        self.data = data
        self._attach = attach
        self._prepare = prepare
        self._keys = keys
        # All its files, and the folder or bucket that they are in.
        self.files: Any = LocalFileSystem()
        self.root = str(Path(data).parent)
        # Every row of a catalog that is not a file.
        self.catalog_rows: Callable[[], list[Row]] = list

    @property
    def environment(self) -> dict[str, str]:
        """What the command needs besides its options."""
        if self._keys is None:
            return {}
        section = "DESTINATION__DUCKLAKE__CREDENTIALS"
        keys = {f"{section}__STORAGE__CREDENTIALS__{k.upper()}": v for k, v in self._keys.items()}
        return {f"{section}__CATALOG": self.catalog, **keys}

    def destination(self) -> Any:
        storage: Any = self.data
        if self._keys is not None:
            keys = AwsCredentials(**self._keys)
            storage = FilesystemConfiguration(bucket_url=self.data, credentials=keys)
        credentials = DuckLakeCredentials(catalog=self.catalog, storage=storage)
        return dlt.destinations.ducklake(credentials)

    def rows(self, table: str) -> list[Row]:
        try:
            return self.query(f"SELECT * FROM lake.linq.{table}")
        except duckdb.CatalogException:
            return []

    def query(self, sql: str) -> list[Row]:
        """The rows of a statement, in which the lake is called so; instants in UTC."""
        # DuckDB would compare an extension of some 60 MB with its signature every time.
        config = {"extension_directory": _extension_folder().name}
        with duckdb.connect(config={**config, "allow_unsigned_extensions": "true"}) as lake:
            lake.execute("SET TimeZone = 'UTC'")
            lake.execute(self._prepare)
            lake.execute(f"ATTACH {self._attach}")
            found = lake.execute(sql)
            names = [column[0] for column in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


@contextmanager
def catalog_in_a_file(folder: Path) -> Iterator[DuckLake]:
    """A catalog in a DuckDB file beside the folder of the data."""
    file = folder / "catalog.ducklake"
    with extensions():
        attach = f"'ducklake:{file}' AS lake (READ_ONLY)"
        yield DuckLake(f"duckdb:///{file}", str(folder / "data"), attach)


@contextmanager
def catalog_in_postgres(
    database: Postgres, files: S3FileSystem, s3: str, bucket: str
) -> Iterator[DuckLake]:
    """A catalog in a Postgres database, the data in a bucket of an S3 server."""
    attach = f"'ducklake:postgres:{database.url}' AS lake (READ_ONLY, METADATA_SCHEMA 'ducklake')"
    secret = (
        "CREATE SECRET (TYPE S3, KEY_ID 'key', SECRET 'secret', REGION 'us-east-1', USE_SSL false,"
        f" URL_STYLE 'path', ENDPOINT '{s3.removeprefix('http://')}')"
    )
    keys = {
        "aws_access_key_id": "key",
        "aws_secret_access_key": "secret",
        "endpoint_url": s3,
        "region_name": "us-east-1",
        "s3_url_style": "path",
    }

    def catalog_rows() -> list[Row]:
        tables = database.query("SELECT tablename FROM pg_tables WHERE schemaname = 'ducklake'")
        return [
            row
            for table in tables
            for row in database.query(f"TABLE ducklake.{table['tablename']}")
        ]

    with extensions():
        place = DuckLake(database.url, f"s3://{bucket}/deep", attach, secret, keys)
        place.files, place.root, place.catalog_rows = files, bucket, catalog_rows
        yield place
