"""Imports of large libraries, for whoever pays for them: the command, the workers, users of ``import harness``."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_looks_for_garbage() -> Iterator[None]:
    """No garbage collection within the block, unless it is off anyway.

    Nearly all of PyTorch's million objects stay: looking for garbage among them, again and again while they are made,
    takes a third of the time of the imports and finds nothing.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
