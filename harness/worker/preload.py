"""What every job would import, imported once, without a thread, a random number or a device."""

from __future__ import annotations

import importlib
import pkgutil

import harness
from harness import methods
from harness.kernels import once

# called by hand, started by users, or drawing, which takes half a second and few jobs do
NOT_IN_JOBS = ("harness.__main__", "harness.bench", "harness.verify", "harness.reporting.figures", "harness.shipped")
LIBRARIES = ("pandas", "pyarrow.compute", "pyarrow.parquet", "safetensors.torch", "numba", "tqdm")


def preload() -> None:
    """Import libraries, the harness and its methods; one that cannot be imported is left to the jobs that use it."""
    for name in (*LIBRARIES, *_modules()):
        try:
            importlib.import_module(name)
        except Exception:  # a method under development: the job says what is wrong
            continue
    once.load_compiled()


def _modules() -> list[str]:
    found = [*pkgutil.walk_packages(harness.__path__, "harness.", onerror=lambda name: None)]
    found += pkgutil.iter_modules(methods.__path__, f"{methods.__name__}.")
    names = [module.name for module in found if not module.name.startswith(NOT_IN_JOBS)]
    return [name for name in names if name != "harness.data.embedded.build"]
