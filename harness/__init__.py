"""Reference benchmark and evaluation harness for bidirectional Helmholtz machines.

    import harness
    run = harness.run("adult", "bihm", preset="smoke")  # or a Method class of your own
    run.metrics, run.curve, run.log_prob(harness.load_dataset("adult").test)

Data flows one way: ``data`` reads verified data sets, ``training`` fits a method to one, ``evaluation`` measures it,
``reporting`` renders the measurements beside the thesis' numbers (docs/architecture.md). What is listed here is
imported when it is first used: PyTorch takes a second.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from harness.compute.imports import without_looks_for_garbage

__version__ = "0.1.0"

if TYPE_CHECKING:
    from harness import verify
    from harness.api.compare import compare
    from harness.api.dataset import dataset
    from harness.api.results import Results, results
    from harness.api.run import LogProb, Run, load_dataset, run
    from harness.method import Batch, Method
    from harness.settings.config import load_settings
    from harness.settings.seeds import seeds

__all__ = [
    "Batch",
    "LogProb",
    "Method",
    "Results",
    "Run",
    "compare",
    "dataset",
    "load_dataset",
    "load_settings",
    "results",
    "run",
    "seeds",
    "verify",
]
_PLACES = {
    "compare": "harness.api.compare",
    "dataset": "harness.api.dataset",
    **dict.fromkeys(("Results", "results"), "harness.api.results"),
    **dict.fromkeys(("LogProb", "Run", "load_dataset", "run"), "harness.api.run"),
    **dict.fromkeys(("Batch", "Method"), "harness.method"),
    "load_settings": "harness.settings.config",
    "seeds": "harness.settings.seeds",
}


def __getattr__(name: str) -> Any:
    if name == "verify":
        return importlib.import_module("harness.verify")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with without_looks_for_garbage():
        return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
