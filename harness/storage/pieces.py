"""Measuring in pieces: finished blocks of estimates stay on disk, so a killed measurement continues where it stopped.

Estimators cut their work into blocks that know nothing of each other, each with random numbers of its own (see
``harness.compute.parallel``). While ``kept`` is in force, ``run_all`` writes their results to one file every few
seconds, and at SIGTERM, and does only those blocks that the file lacks. So the end result is, bit for bit, that of a
measurement which nothing disturbed. A file that was made by other code, or of another model, data, device or settings,
is ignored.

The file stays when all is measured: of cells that share a job on a cluster, those that are done are asked again when
one of the others was cut short. A measurement that is over before the first writing leaves no file.
"""

from __future__ import annotations

import contextlib
import hashlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from functools import cache, partial
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import torch
from torch import Tensor

from harness.compute import parallel
from harness.compute.places import PACKAGE
from harness.compute.provenance import describe_device, versions
from harness.errors import InterruptedMeasuringError
from harness.settings.config import canonical_json
from harness.storage import checkpoint

T = TypeVar("T")
WRITE_EVERY_S = 10.0
SHARE_OF_WRITING = 0.05  # of all time, at most: what a long measurement has found so far is written less often


def run_all(pieces: Sequence[Callable[[], T]], kinds: Sequence[type] = ()) -> list[T]:
    """``parallel.run_all``, but for pieces whose results are known from an earlier try.

    Results are tensors, numbers, lists and tuples of those, and dataclasses of these ``kinds`` that hold them. Raises
    InterruptedMeasuringError, after writing what there is, when the process receives SIGTERM or SIGINT.
    """
    store = _store.get()
    if store is None:
        return parallel.run_all(pieces)
    token = _store.set(None)  # a piece within a piece belongs to the outer one
    try:
        return store.run_all(pieces, {kind.__name__: kind for kind in kinds})
    finally:
        _store.reset(token)


def run_one(piece: Callable[[], T], kinds: Sequence[type] = ()) -> T:
    """``run_all`` of a single piece, which may have pieces of its own: they are shared out, but not kept."""
    return run_all([piece], kinds)[0]


def clock() -> float:
    """Seconds on a clock that counts what pieces took in earlier tries as well."""
    store = _store.get()
    return time.perf_counter() + (store.earlier_seconds if store else 0.0)


@contextlib.contextmanager
def kept(file: Path, facts: Mapping[str, Any], device: torch.device) -> Iterator[None]:
    """Keep the results of ``run_all`` in ``file`` while the block lasts.

    facts: all that the results depend on, as JSON, but for what is asked here: the device, the number of threads and
    the versions of what computes. The block must ask for the same pieces in the same order every time.
    """
    conditions = [dict(facts), describe_device(device), torch.get_num_threads(), versions(), _digest_of_harness()]
    store = Pieces(file, hashlib.sha256(canonical_json(conditions).encode()).hexdigest(), device)
    token = _store.set(store)
    try:
        with store.told_of_signals():
            yield
            store.close()
    finally:
        _store.reset(token)


def digest_of_source(path: Path | None) -> str:
    """sha256 of all Python files in the folder of a module; '' where it has no file."""
    if path is None or not path.is_file():
        return ""
    return _digest_of(sorted(path.parent.glob("*.py")))


@cache
def _digest_of_harness() -> str:
    return _digest_of(sorted(PACKAGE.rglob("*.py")))


def _digest_of(paths: Sequence[Path]) -> str:
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


class Pieces:
    """Results of pieces, by the number of the call of ``run_all`` and their own, and the file that holds them."""

    def __init__(self, file: Path, digest: str, device: torch.device):
        self.file, self.digest, self.device = file, digest, device
        self.earlier_seconds = 0.0
        found = checkpoint.load(file, digest, consequence="everything is measured again")
        if found is None:
            file.unlink(missing_ok=True)  # of something else
        tensors, state = found or ({}, {"pieces": {}})
        self._tensors, self._entries = tensors, state["pieces"]  # of earlier tries; structures by "call/piece"
        self._new: dict[str, tuple[Any, float]] = {}
        self._calls = 0
        self._lock = threading.Lock()
        self._written = bool(self._entries)
        self._due = time.monotonic() + WRITE_EVERY_S
        self._stop = threading.Event()

    def run_all(self, pieces: Sequence[Callable[[], T]], kinds: Mapping[str, type]) -> list[T]:
        """See the function of this name."""
        call, self._calls = self._calls, self._calls + 1
        names = [f"{call}/{index}" for index in range(len(pieces))]
        missing = [index for index, name in enumerate(names) if name not in self._entries]
        try:
            done = parallel.run_all([partial(self._do, names[index], pieces[index]) for index in missing])
        except InterruptedMeasuringError:
            self._write()
            raise
        results = dict(zip(missing, done, strict=True))
        known = [index for index in range(len(pieces)) if index not in results]
        seconds = sum(self._entries[names[index]]["seconds"] for index in known)
        self.earlier_seconds += seconds / max(1, min(torch.get_num_threads(), len(pieces)))
        for index in known:
            results[index] = self._decoded(self._entries[names[index]]["value"], kinds)
        return [results[index] for index in range(len(pieces))]

    def _do(self, name: str, piece: Callable[[], T]) -> T:
        if self._stop.is_set():
            raise InterruptedMeasuringError(f"{self.file.parent}: measuring stopped; finished parts are kept")
        started = time.perf_counter()
        result = piece()
        with self._lock:
            self._new[name] = result, time.perf_counter() - started
            if time.monotonic() >= self._due:
                self._write()
        return result

    def close(self) -> None:
        """Complete the file, if there is one: what took long is not measured twice."""
        if self._written and self._new:
            self._write()

    def _write(self) -> None:
        started = time.monotonic()
        for name, (value, seconds) in self._new.items():
            with contextlib.suppress(TypeError):  # of a kind that cannot be kept: done again after a kill
                tensors: dict[str, Tensor] = {}
                structure = _encoded(value, name, tensors)
                self._tensors.update(tensors)
                self._entries[name] = {"value": structure, "seconds": seconds}
        self._new.clear()
        checkpoint.save(self.file, self._tensors, {"pieces": self._entries}, self.digest)
        self._written = True
        now = time.monotonic()
        self._due = now + max(WRITE_EVERY_S, (now - started) / SHARE_OF_WRITING)

    def _decoded(self, structure: Any, kinds: Mapping[str, type]) -> Any:
        match structure:
            case {"tensor": name}:
                return self._tensors[name].to(self.device)
            case {"kind": kind, "fields": values}:
                return kinds[kind](**{key: self._decoded(value, kinds) for key, value in values.items()})
            case {"list": values}:
                return [self._decoded(value, kinds) for value in values]
            case {"tuple": values}:
                return tuple(self._decoded(value, kinds) for value in values)
        return structure

    @contextlib.contextmanager
    def told_of_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the measuring after the pieces under way; a second one ends the process at once."""
        previous: dict[int, Any] = {}

        def handle(number: int, frame: FrameType | None) -> None:
            self._stop.set()
            signal.signal(number, previous[number])

        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                previous[number] = signal.signal(number, handle)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


_store: ContextVar[Pieces | None] = ContextVar("pieces", default=None)


def _encoded(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """A structure of JSON for ``value``, its tensors put into ``tensors`` under names that begin with ``name``."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous().clone()  # views of one storage cannot be saved
        return {"tensor": name}
    if is_dataclass(value) and not isinstance(value, type):
        found = {each.name: getattr(value, each.name) for each in fields(value)}
        inside = {key: _encoded(each, f"{name}/{key}", tensors) for key, each in found.items()}
        return {"kind": type(value).__name__, "fields": inside}
    if isinstance(value, list | tuple):
        inside = [_encoded(each, f"{name}/{index}", tensors) for index, each in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": inside}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be kept")
