"""Kernels are compiled by one process of the machine, while others that need the same one wait for it, and it is said.

Numba compiles a function for the data types that it is called with when that first happens, which takes all kernels
together ten seconds, and keeps the result in files. Two processes that start on a fresh machine would both compile. So
a lock, which the kernel of the system lets go of however its holder ends, is held from the moment that a function is
missing among the files until it is there; whoever waited for it looks again.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import pkgutil
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core import ccallback, dispatcher
from numba.core.caching import FunctionCache

logger = logging.getLogger(__name__)
OURS = __name__.rpartition(".")[0]
WORD = "compiling kernels for this processor, once: about 10 s"
LOCK = ".lock"
POLL_S = 0.05
LONGEST_S = 120.0  # a process may be stopped while it compiles

tell: Callable[[str], None] = logger.warning  # replaced where somebody else should hear it
_held: list[int | None] = []  # descriptors of the lock: a kernel is compiled while one that calls it is
_loaded: dict[str, int] = {}  # index file -> when it was changed


class OnceCache(FunctionCache):
    """Numba's cache of a function's compiled forms, in which a form of ours that is missing is ours to compile."""

    def load_overload(self, signature: Any, target: Any) -> Any:
        found = super().load_overload(signature, target)
        if found is not None or not self._py_func.__module__.startswith(f"{OURS}."):
            return found
        _held.append(_lock(Path(numba.config.CACHE_DIR)) if not _held else None)
        found = super().load_overload(signature, target)  # by whoever held the lock
        if found is not None:
            _release()
        else:
            _tell_once()
        return found

    def save_overload(self, signature: Any, compiled: Any) -> None:
        try:
            super().save_overload(signature, compiled)
        finally:
            if _held and self._py_func.__module__.startswith(f"{OURS}."):
                _release()


@cache
def _tell_once() -> None:
    tell(WORD)


def use() -> None:
    """Let functions that are decorated from now on be compiled once."""
    dispatcher.FunctionCache = ccallback.FunctionCache = OnceCache


def _lock(folder: Path) -> int | None:
    """Descriptor of the locked file; None where there are no locks, or where another process keeps it too long."""
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError:
        return None
    end = time.monotonic() + LONGEST_S
    while time.monotonic() < end:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            time.sleep(POLL_S)
        except OSError:
            break
    os.close(descriptor)
    return None


def _release() -> None:
    descriptor = _held.pop()
    if descriptor is not None:
        os.close(descriptor)


def load_compiled() -> None:
    """Load what is compiled already, of all kernels, unless it was loaded before; compiles nothing."""
    for kernel in _kernels():
        with contextlib.suppress(Exception):  # Numba's own business, which each call minds by itself
            file = kernel._cache._cache_file
            changed = os.stat(file._index_path).st_mtime_ns
            if _loaded.get(file._index_path) != changed:
                _loaded[file._index_path] = changed
                codegen = kernel.targetctx.codegen()
                for key in file._load_index():
                    signature = key[0]
                    if key == kernel._cache._index_key(signature, codegen) and signature not in kernel.overloads:
                        kernel.compile(signature)


def _kernels() -> Iterator[Any]:
    for module in pkgutil.iter_modules(sys.modules[OURS].__path__, f"{OURS}."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, dispatcher.Dispatcher) and value.py_func.__module__ == module.name:
                yield value
