"""GoogleSQL, BigQuery's own front end, in Google's C++ compiled to WebAssembly: `zetasql`."""

from __future__ import annotations

import ctypes
from pathlib import Path
from threading import Lock
from typing import Any

import tzdata
from wasmtime import Config, Engine, Linker, Module, Store, WasiConfig
from zetasql.wasi import get_wasm_path


class Refusal(Exception):
    """What GoogleSQL says of something that it does not take."""


class GoogleSQL:
    """One instance of it, which does one thing at a time."""

    def __init__(self) -> None:
        """Start it. Compiling takes half a minute, once: wasmtime keeps the result for the user."""
        config = Config()
        config.cache = True
        config.shared_memory = True
        wasi = WasiConfig()
        wasi.preopen_dir(str(Path(tzdata.__file__).parent / "zoneinfo"), "/usr/share/zoneinfo")
        engine = Engine(config)
        self._store = Store(engine)
        self._store.set_wasi(wasi)
        linker = Linker(engine)
        linker.define_wasi()
        module = Module.from_file(engine, str(get_wasm_path()))
        exports: Any = linker.instantiate(self._store, module).exports(self._store)
        self._exports = exports
        # Shared memory never moves.
        self._start = ctypes.addressof(self._exports["memory"].data_ptr().contents)
        self._lock = Lock()
        self._call("_initialize")

    def ask(self, method: str, request: Any) -> bytes:
        """Call a method of its service; gives its answer, a message that may be nested deeply.

        Raises `Refusal`.
        """
        data = request.SerializeToString()
        with self._lock:
            # Room for the request, then for the size of the answer.
            place = self._call("wasm_malloc", len(data) + 4)
            size_place = place + len(data)
            ctypes.memmove(self._start + place, data, len(data))
            found = self._call(f"ZetaSqlLocalService_{method}", place, len(data), size_place)
            size = int.from_bytes(self._read(size_place, 4), "little")
            self._call("wasm_free", place)
            if not found:
                size = self._call("wasm_get_last_error_size")
                text = self._read(self._call("wasm_get_last_error"), size).decode()
                # "Code: 3, Message: ...", in several lines.
                raise Refusal(" ".join(text.partition("Message: ")[2].split()))
            content = self._read(found, size)
            self._call("wasm_free", found)
        return content

    def _call(self, function: str, *arguments: int) -> Any:
        return self._exports[function](self._store, *arguments)

    def _read(self, place: int, size: int) -> bytes:
        return ctypes.string_at(self._start + place, size)
