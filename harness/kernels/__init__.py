"""Numba kernels for float32 on the CPU: what PyTorch needs several passes over memory for, they do in one.

Importing a kernel module imports Numba, which takes half a second: import them where a kernel is called. Compiled
kernels are kept in the user's cache, in a folder named by the digest of all sources here: Numba looks for changes in a
kernel's own file only, not in those that it calls into. What is missing there is compiled by one process at a time
(``once``).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.compute.cache_folder import cache_folder
from harness.compute.imports import without_looks_for_garbage

with without_looks_for_garbage():
    import numba

    from harness.kernels import once


def sources_digest(folder: Path) -> str:
    """Short digest of the Python files in a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


if not numba.config.CACHE_DIR:  # NUMBA_CACHE_DIR in the environment has the last word
    _own = Path(__file__).parent
    numba.config.CACHE_DIR = str(cache_folder("kernels") / sources_digest(_own))
once.use()
