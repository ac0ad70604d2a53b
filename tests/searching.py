"""What must be told nowhere, every output of a run, and the runs whose outputs are searched."""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import re
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pyarrow.parquet as pq
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed
from rich.console import Console

from linq_source import (
    ApiContractError,
    ApiUnavailableError,
    AuthenticationError,
    ConfigurationError,
    DestinationError,
    Report,
    sync,
)
from linq_source.extraction import Extraction
from linq_source.operations.progress import show_progress
from linq_source.sandbox import Exchange, Fault, World
from linq_source.source import open_source
from tests.conftest import DAY_MS, NOW_MS, Loader

TOKEN = "sesame-token-4711-open"
TEXT = "pelican-text"
NUMBER = "1555987000"
NUMBERS = [f"+{NUMBER}{n}" for n in range(5)]
ADDRESS = "pelican-address@example.com"
CONTENT = (TEXT, NUMBER, ADDRESS)


def told(outputs: dict[str, str | bytes], words: tuple[str, ...]) -> list[str]:
    """Where which of the words stand, also packed in base64, zlib or gzip."""
    found = []
    for place, output in outputs.items():
        for form in unpacked(output if isinstance(output, bytes) else output.encode()):
            found += [f"{word} in {place}" for word in words if word.encode() in form]
    return sorted(set(found))


def unpacked(output: bytes) -> Iterator[bytes]:
    yield output
    for packed in (output, *re.findall(rb"[A-Za-z0-9+/_-]{40,}={0,2}", output)):
        with suppress(ValueError, binascii.Error):
            decoded = base64.b64decode(packed, validate=True)
            yield decoded
            with suppress(zlib.error):
                yield zlib.decompress(decoded)
        with suppress(OSError, EOFError, zlib.error):
            yield gzip.decompress(packed)
        with suppress(zlib.error):
            yield zlib.decompress(packed)


Load = Callable[..., Report]


def load_frozen(pipeline: dlt.Pipeline, *, listener: Any, **options: Any) -> Report:
    """A user's own pipeline, which lets no column in that it does not know."""
    source, session = open_source(**options)
    session.listener = listener
    source.schema_contract = "freeze"
    pipeline.run(source)
    return Report()


@dataclass
class Run:
    """One run and all it said. `objects` are what a user of the library can hold."""

    loader: Loader
    objects: dict[str, object] = field(default_factory=dict)
    error: BaseException | None = None
    report: Report | None = None
    progress: io.StringIO = field(default_factory=io.StringIO)

    def go(self, load: Load = sync, **options: Any) -> None:
        """Load, keeping what is said and every object that can be held."""
        console = Console(file=self.progress, force_terminal=True, width=200)
        ours = {"base_url": self.loader.sandbox.url, "page_size": 10, "workers": 1}
        options = {**ours, **options}
        with show_progress(console) as show:

            def listen(extraction: Extraction) -> None:
                self.objects |= {
                    "extraction": extraction,
                    "client": extraction.client,
                    "transport": extraction.client._transport,
                }
                if show is not None:
                    show(extraction)

            try:
                self.report = load(self.loader.pipeline, listener=listen, **options)
            except Exception as error:
                self.error = error
        self.objects["report"] = self.report
        with suppress(ConfigurationError):
            source, session = open_source(**options)
            self.objects |= {
                "source": source,
                "resources": list(source.resources.values()),
                "session": session,
                "settings": session.settings,
            }

    def said(self) -> dict[str, str | bytes]:
        """Everything but rows: nothing of it may hold content."""
        said: dict[str, str | bytes] = {"progress": self.progress.getvalue()}
        for name, thing in self.objects.items():
            said |= {f"repr of {name}": repr(thing), f"str of {name}": str(thing)}
        for number, error in enumerate(chain_of(self.error)):
            said[f"error {number}"] = f"{error!r} {error} {error.args!r} {plain_values(error)!r}"
        if self.error is not None:
            said["traceback"] = "".join(traceback.format_exception(self.error))
        trace = self.loader.pipeline.last_trace
        if trace is not None:
            said |= {
                "trace": str(trace),
                "trace as dict": repr(trace.asdict()),
                "trace in full": trace.asstr(verbosity=9),
                "repr of trace": repr(trace),
            }
        for path in self.files():
            if not holds_rows(path):
                said[f"file {path.name}"] = path.read_bytes()
        for name, rows in self.tables().items():
            if "._dlt_" in name:
                said[f"table {name}"] = rows
        return said

    def holds(self) -> dict[str, str | bytes]:
        """Everything that may hold rows: not even there is the token."""
        holds: dict[str, str | bytes] = {}
        for path in self.files():
            if holds_rows(path):
                holds[f"file {path.name}"] = path.read_bytes()
                if path.suffix == ".parquet":
                    holds[f"rows of {path.name}"] = repr(pq.read_table(path).to_pylist())
        return holds | {f"table {name}": rows for name, rows in self.tables().items()}

    def files(self) -> list[Path]:
        return [path for path in self.loader.folder.rglob("*") if path.is_file()]

    def tables(self) -> dict[str, str]:
        """The rows of every table of every dataset."""
        if not self.loader.database.is_file():
            return {}
        with duckdb.connect(str(self.loader.database), read_only=True) as connection:
            names = connection.execute(
                "SELECT table_schema || '.' || table_name FROM information_schema.tables"
            ).fetchall()
            return {
                name: repr(connection.execute(f"SELECT * FROM {name}").fetchall())
                for (name,) in names
            }


def holds_rows(path: Path) -> bool:
    """Load files and the database; all other files of dlt tell of runs, states and schemas."""
    return path.suffix in (".parquet", ".duckdb", ".jsonl", ".insert_values", ".wal")


def chain_of(error: BaseException | None) -> list[BaseException]:
    """An error, its causes, and what was being handled when each was raised."""
    chain: list[BaseException] = []
    rest = [error]
    while rest:
        link = rest.pop()
        if link is not None and link not in chain:
            chain.append(link)
            rest += [link.__cause__, link.__context__]
    return chain


def plain_values(error: BaseException) -> list[str | bytes]:
    """The texts an error carries, also those that its own text leaves out."""
    values = [getattr(error, name, None) for name in (*vars(error), "object")]
    return [value for value in values if isinstance(value, str | bytes)]


@dataclass(frozen=True)
class Case:
    """What happens in a run, and what comes of it: an error, or a report's exit code."""

    prepare: Callable[[Run, pytest.MonkeyPatch], dict[str, Any] | None]
    outcome: type[BaseException] | int
    load: Load = sync


def answers(where: str, **fault: Any) -> Callable[[Run, pytest.MonkeyPatch], None]:
    """A fault wherever a path ends like this, as long as it is asked for."""

    def prepare(run: Run, _: pytest.MonkeyPatch) -> None:
        run.loader.sandbox.faults.append(
            lambda exchange: Fault(**fault) if exchange.path.endswith(where) else None
        )

    return prepare


def gone(run: Run, _: pytest.MonkeyPatch) -> None:
    run.loader.sandbox.stop()


def gone_in_mid_run(run: Run, _: pytest.MonkeyPatch) -> None:
    def fault(exchange: Exchange) -> Fault | None:
        return Fault(action="close") if exchange.params.get("page") == "2" else None

    run.loader.sandbox.faults.append(fault)


def bad_records(run: Run, _: pytest.MonkeyPatch) -> None:
    message = run.loader.world.messages_of(2)[3]
    message.raw = f'{{"id":"{TEXT}","text":["{TEXT}"],"sent_at":"{TEXT}"}}'


def wrong_bytes(run: Run, _: pytest.MonkeyPatch) -> None:
    body = f'{{"data":[{{"{TEXT}":{NUMBER}}}'.encode() + b'\xff],"meta":{"page":1}}'
    run.loader.sandbox.faults.append(
        lambda exchange: Fault(status=200, body=body) if exchange.chat_id == 2 else None
    )


def echo(run: Run, _: pytest.MonkeyPatch) -> None:
    """An API whose error answers repeat what they were sent, the token included."""

    def fault(exchange: Exchange) -> Fault | None:
        told = f"{exchange.headers} {exchange.params} {TEXT}".encode()
        return Fault(status=422, body=told) if exchange.chat_id == 2 else None

    run.loader.sandbox.faults.append(fault)


def crash(name: str) -> Callable[[Run, pytest.MonkeyPatch], None]:
    def prepare(_: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*args: Any, **kwargs: Any) -> None:
            raise ZeroDivisionError("inside")

        monkeypatch.setattr(name, fail)

    return prepare


def surprise(run: Run, _: pytest.MonkeyPatch) -> None:
    for message in run.loader.world.messages_of(2):
        message.extra["surprise"] = f"{TEXT} from {NUMBERS[3]}"


def no_database(run: Run, _: pytest.MonkeyPatch) -> None:
    run.loader.database.mkdir()


def load_fails(_: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOAD__RAISE_ON_MAX_RETRIES", "1")

    def fail(*args: Any, **kwargs: Any) -> None:
        raise duckdb.IOException("No space left on device")

    monkeypatch.setattr("dlt.destinations.impl.duckdb.duck.DuckDbCopyJob.run", fail)


def one_number_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    answers("/chats", status=400)(run, monkeypatch)
    return {"phone_numbers": [NUMBERS[0]]}


def setting(**options: Any) -> Callable[[Run, pytest.MonkeyPatch], dict[str, Any]]:
    return lambda _, __: options


CASES: dict[str, Case] = {
    "success": Case(lambda _, __: None, 0),
    "one number": Case(setting(phone_numbers=[NUMBERS[0]]), 0),
    "one number, refused": Case(one_number_refused, ApiContractError),
    "401": Case(answers("/phone_numbers", status=401), AuthenticationError),
    "401 in mid-run": Case(answers("2/chat_messages", status=401), 1),
    "no server": Case(gone, ApiUnavailableError),
    "no list": Case(answers("/chats", status=503), ApiUnavailableError),
    "no server in mid-run": Case(gone_in_mid_run, 1),
    "an echo": Case(echo, 3),
    "a redirect": Case(
        answers("/chats", action="redirect", location="http://127.0.0.1:9"), ApiContractError
    ),
    "too large": Case(answers("/chats", status=200, body=b" " * 50_000), ApiContractError),
    "no chat": Case(answers("2/chat_messages", status=404), 3),
    "bad records": Case(bad_records, 3),
    "wrong bytes": Case(wrong_bytes, 3),
    "a wrong setting": Case(setting(page_size=0), ConfigurationError),
    "a wrong number": Case(setting(phone_numbers=NUMBERS[0]), ConfigurationError),
    "a crash while reading": Case(
        crash("linq_source.planning.window_reading.decode_pages"), PipelineStepFailed
    ),
    "a crash while writing": Case(
        crash("linq_source.rows.building.message_rows"), PipelineStepFailed
    ),
    "no database": Case(no_database, DestinationError),
    "a load that fails": Case(load_fails, DestinationError),
    "a frozen schema": Case(surprise, PipelineStepFailed, load_frozen),
}


def small_world() -> World:
    world = World(now_ms=NOW_MS)
    world.add_phone_number(NUMBERS[0], forwarding_number=NUMBERS[1])
    for chat_id in (1, 2):
        world.add_chat(display_name=f"{NUMBERS[2]}, {ADDRESS}", chat_id=chat_id)
        world.add_handle(chat_id, NUMBERS[2])
        world.add_handle(chat_id, ADDRESS)
        for number in range(15):
            message = world.add_message(
                chat_id, f"{TEXT} {number}", sent_from=NUMBERS[3],
                sent_at_ms=NOW_MS - DAY_MS + number * 60_000,
            )  # fmt: skip
            world.add_reaction(message.id, from_phone=NUMBERS[4])
            world.add_attachment(message.id, filename=f"{TEXT}.pdf")
    return world
