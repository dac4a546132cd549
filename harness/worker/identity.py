"""What must be equal for a forked process to do what a fresh one would: Python, its options, paths, code, libraries.

Read by a client that has to be quick: nothing is imported that takes a millisecond.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping

PROTOCOL = "1"
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Variables that Python and libraries read when they are loaded, or that lead to what was loaded.
_READ_AT_START = (
    *("ARROW_", "ATEN_", "BLIS_", "CUBLAS", "CUDA", "CUDNN", "DNNL_", "GLIBC_", "GOMP_", "GOTO_", "HIP_", "HARNESS_"),
    *("HSA_", "KMP_", "LANG", "LC_", "LD_", "MALLOC_", "MIMALLOC_", "MKL_", "MPL", "NPY_", "NUMBA_", "NUMEXPR_"),
    *("NUMPY_", "NVIDIA_", "OMP_", "ONEDNN_", "OPENBLAS_", "PYTHON", "PYTORCH_", "ROCR_", "SCIPY_", "TORCH"),
    *("VECLIB_", "HOME", "TZ", "VIRTUAL_ENV", "XDG_CACHE_HOME"),
)
# Snakemake sets these to the cores that it reserves for a job. What computes has its own number of threads
# (``--threads``), and NumPy's pool has one (``harness.__main__``).
RESERVED = ("GOTO_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def identity(environment: Mapping[bytes, bytes]) -> bytes:
    """Of this process, with ``environment``: equal bytes, equal behaviour. Raises OSError where the code is gone."""
    python = os.path.realpath(sys.executable), sys.prefix, sys.exec_prefix
    parts = [PROTOCOL, python, sys.version, sys.flags, sorted(sys._xoptions.items()), sys.warnoptions]
    parts += [sys.path, list(_stamps())]
    read = [
        each
        for each in sorted(environment.items())
        if os.fsdecode(each[0]).startswith(_READ_AT_START) and os.fsdecode(each[0]) not in RESERVED
    ]
    return repr([*parts, read]).encode(errors="surrogateescape")


def _stamps() -> Iterator[tuple[str, int, int]]:
    """Path, size and time of change of every file of the harness that may have been imported."""
    folders = [_PACKAGE]
    beside = os.path.join(os.path.dirname(_PACKAGE), "methods")
    if os.path.isdir(beside):
        folders.append(beside)
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.endswith(".py"):
                    found = entry.stat()
                    yield entry.path, found.st_size, found.st_mtime_ns
                elif entry.name != "__pycache__" and entry.is_dir():
                    folders.append(entry.path)
