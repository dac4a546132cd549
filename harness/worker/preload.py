"""What jobs would import, imported once, without a thread, a random number or a device.

What cells need comes first, for jobs wait for it; what only tables or figures need, when one of these is asked for.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import harness
from harness import methods
from harness.compute.imports import without_looks_for_garbage
from harness.kernels import once
from harness.settings.config import load_settings

# Called by hand, or for few jobs.
NOT_FOR_CELLS = (
    *("harness.__main__", "harness.bench", "harness.verify", "harness.shipped", "harness.data.embedded.build"),
    *("harness.reporting", "harness.check", "harness.cli.workflow", "harness.cli.cluster"),
)
FIGURES = "harness.reporting.figures"
CELLS = ("numba", "pyarrow.parquet", "safetensors.torch", "tqdm")
_TABLES = ("pandas", "harness.reporting", "harness.check")
MORE = {
    "tables": _TABLES,
    "report": (*_TABLES, "jinja2"),
    "check": _TABLES,
    "metrics": ("pandas",),
    "overview": _TABLES,
    "compare": (*_TABLES, "matplotlib"),
    "searches": ("pandas",),
    "budgets": ("pandas",),
    "figure": ("pandas", FIGURES),
}
_done: set[str] = set()


def preload() -> None:
    """Import libraries, the harness and its methods, and read what their sources and the default settings say."""
    with without_looks_for_garbage():
        _import(*CELLS)
        names = (
            module.name for module in pkgutil.walk_packages(harness.__path__, "harness.", onerror=lambda name: None)
        )
        _import(*(name for name in names if not name.startswith(NOT_FOR_CELLS)))
        _import(*(module.name for module in pkgutil.iter_modules(methods.__path__, f"{methods.__name__}.")))
        load_settings()
        once.load_compiled()


def preload_for(verb: str) -> bool:
    """Import what else jobs of this verb need; whether that was anything."""
    missing = [name for name in MORE.get(verb, ()) if name not in _done]
    _done.update(missing)
    for name in missing:
        _import(*_with_modules(name))
    return bool(missing)


def _with_modules(name: str) -> Iterator[str]:
    """A library; of a package of ours, all its modules, but figures only where they are asked for."""
    yield name
    if name.startswith("harness."):
        folder = importlib.import_module(name).__path__
        names = (module.name for module in pkgutil.walk_packages(folder, f"{name}.", onerror=lambda name: None))
        yield from (each for each in names if name == FIGURES or not each.startswith(FIGURES))


def _import(*names: str) -> None:
    """One that cannot be imported, such as a method under development, is left to the job that says what is wrong."""
    for name in names:
        try:
            importlib.import_module(name)
        except Exception:
            continue
