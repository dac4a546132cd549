"""A small run on which plugins are tried: models with initial parameters on random rows, measured and analysed.

What it has is what the workflow leaves: folders of runs with ``metrics.json`` and the tables of analyses, of real
methods and by the code that measures real runs. Its numbers mean nothing; what is made of them has to be sound.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from harness.capability import has_members, members
from harness.compute.places import WORKFLOWS
from harness.data import CATALOGUE, Dataset, Status
from harness.evaluation.evaluate import evaluate
from harness.evaluation.perform import analyse_cell
from harness.evaluation.plan import analyses_of
from harness.method import CAPABILITIES
from harness.plugins.analyses import built_in_analyses
from harness.plugins.finding import name_of
from harness.plugins.registry import build, built_in_names, method_class
from harness.reporting.plain_frames import in_words
from harness.settings.check import merged
from harness.settings.config import Cell, cells
from harness.settings.text import read_yaml
from harness.storage.collect import read_metrics
from harness.storage.runs import OK, RunFolder
from harness.verify.subject import FailedCheckError, NotCheckedError

METHODS = ("factorised", "nade", "rws", "bihm")  # unless a plugin is about others
DATASETS = ("adult", "connect4")
N_ROWS, N_CLASSES = 24, 2
PRESET = "smoke"
EVALUATION = {"n_samples": 8, "rows": 10, "z_outer": 20, "z_inner": 2}
CPU = torch.device("cpu")


class SmallRun:
    """A run of some methods on some data sets, two seeds each, with the analyses that are asked for, in ``folder``."""

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        methods: Sequence[str] = METHODS,
        datasets: Sequence[str] = DATASETS,
        analyses: Iterable[str] = (),
        seeds: int = 2,
    ):
        self.folder, self.runs = folder, folder / "runs"
        grid = {method: {name: {"model": dict(method_class(method).small)} for name in datasets} for method in methods}
        of_defaults = {**settings["defaults"], "evaluation": EVALUATION}
        mine = {"grid": grid, "ablations": {}, "searches": {}, "budgets": {}, "defaults": of_defaults}
        asked = {"only": None, "updates": None, "seeds": seeds, "strict": True, "preset": PRESET}
        due = {_asked(name, settings): {"*": _settings_of(name, settings)} for name in analyses}
        self.settings = {**settings, **mine, **asked, "analyses": due}

    @property
    def planned(self) -> list[Cell]:
        """Its cells, whether or not there is anything of them."""
        return cells(self.settings)

    @cached_property
    def cells(self) -> list[Cell]:
        """Its cells, which are measured and analysed when they are asked for first."""
        found = self.planned
        for cell in found:
            make(cell, self.data(cell), RunFolder(self.runs / cell.path))
            planned = analyses_of(self.settings, cell)
            if planned:
                analyse_cell(self.runs / cell.path, cell, planned, lambda cell=cell: self.data(cell), CPU, strict=True)
        return found

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """What ``metrics.parquet`` would hold."""
        return read_metrics(self.cells, self.runs)

    def data(self, cell: Cell) -> Dataset:
        """Random rows with labels, as many columns as the data set of a cell has."""
        known = self.settings["data"]["known"].get(cell.dataset) or {}
        columns = CATALOGUE[cell.dataset].columns if cell.dataset in CATALOGUE else known.get("columns", 16)
        return rows_of(cell.dataset, columns, cell.model.get("n_classes", N_CLASSES))


def make(cell: Cell, data: Dataset, run: RunFolder) -> None:
    """A model with initial parameters in the folder of a run, measured."""
    torch.manual_seed(1 + cell.seed)
    model = build(cell.method, data.n_features, dict(cell.model)).eval()
    run.write_config(cell)
    run.write_status(OK, model_sha256=run.save_model(model, cell), n_updates=0)
    evaluate(run.path, cell, data, CPU, PRESET)


def rows_of(name: str, columns: int, n_classes: int) -> Dataset:
    """Random rows of 0 and 1 with labels, the same ones at every call."""
    rng = np.random.default_rng(0)
    rows = {split: rng.integers(0, 2, (N_ROWS, columns), dtype=np.uint8) for split in ("train", "valid", "test")}
    labels = {f"{split}_labels": (np.arange(N_ROWS) % n_classes).astype(np.uint8) for split in rows}
    return Dataset(name=name, grey=False, status=Status(True), origin="verify", digest="", **rows, **labels)


def methods_with(needs: Iterable[str]) -> list[str]:
    """The built-in methods that have these capabilities, by name."""
    wanted = [members(CAPABILITIES[need]) for need in needs]
    return [name for name in sorted(built_in_names()) if all(has_members(method_class(name), each) for each in wanted)]


def _asked(name: str, settings: Mapping[str, Any]) -> str:
    """The key by which settings ask for an analysis, its name where they do not."""
    return next((asked for asked in settings["analyses"] if name_of(asked) == name), name)


def _settings_of(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Small settings of a built-in analysis, those of the smallest preset; the given ones of a user's."""
    if name in built_in_analyses():
        base, preset = (read_yaml(WORKFLOWS / part)["analyses"] for part in ("config.yaml", f"presets/{PRESET}.yaml"))
        entries = merged(base, preset)[name]
    else:
        entries = settings["analyses"].get(_asked(name, settings)) or {}
    return dict(next((entry for entry in entries.values() if entry is not None), {}))


@contextmanager
def process_as_it_was() -> Iterator[None]:
    """Raises FailedCheckError where the block changes what other code of the process depends on.

    It has to be the first that code is run in, which may change something once and for all. Raises NotCheckedError
    where that code fails, as other checks will say.
    """
    before = _state()
    try:
        yield
    except (Exception, SystemExit) as error:
        raise NotCheckedError(f"it fails: {in_words(error)}") from error
    for what, value in _state().items():
        if value != before[what]:
            raise FailedCheckError(f"expected {what} as before, found another")


def _state() -> dict[str, Any]:
    import matplotlib.pyplot as plt

    return {
        "random numbers of Python": random.getstate(),
        "random numbers of NumPy": np.random.get_state()[1].tobytes(),
        "random numbers of PyTorch": torch.get_rng_state().numpy().tobytes(),
        "the environment": dict(os.environ),
        "the current folder": os.getcwd(),
        "open figures": plt.get_fignums(),
        "settings of matplotlib": dict(plt.rcParams),
    }
