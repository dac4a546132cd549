"""The user's cache of this package: data, compiled kernels, locks; elsewhere where the home cannot be written to."""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from functools import cache
from pathlib import Path

import platformdirs

logger = logging.getLogger(__name__)
NAME = "bihm-harness"


def cache_folder(part: str = "") -> Path:
    """A folder of the cache that can be written to; nothing is made yet.

    Where the home is read-only, one in the temporary folder that nobody else can write to, and a line that says so.
    """
    usual = Path(platformdirs.user_cache_dir(NAME)) / part
    return usual if _is_writable(usual) else _fallback(usual.parent if part else usual) / part


def _is_writable(folder: Path) -> bool:
    """Whether files can be made in a folder, or the folder in the nearest one above it that exists."""
    existing = next((path for path in (folder, *folder.parents) if path.exists()), None)
    return existing is not None and existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


@cache
def _fallback(usual: Path) -> Path:
    """A folder of this user alone: compiled kernels are run from it."""
    folder = Path(tempfile.gettempdir()) / f"{NAME}-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            folder = Path(tempfile.mkdtemp(prefix=f"{NAME}-"))
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix=f"{NAME}-"))
    logger.warning("%s: cannot be written to; the cache is in %s for now", usual, folder)
    return folder
