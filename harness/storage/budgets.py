"""Every cell's own budget at other lengths: the trials that ``budget_trials`` of the settings ask for.

``lengths`` multiply the updates of all phases, and with them the updates between two looks at the validation set and
the hyperparameters that count updates (``scaled``): a trial is the whole training, drawn out or pressed together.
``rates`` multiply the learning rates. ``cells`` says whose: groups, data sets, ``DATASET/METHOD`` or
``DATASET/METHOD/VARIANT``, with the names of paths, where ``*`` stands for any name. Models in closed form have no
updates and no such trials. All trials of a cell start from the same weights and see the same batches, and those at
length 1 are the cells of the grid themselves. They lie among the trials of searches and are never measured on a test
set; ``harness.reporting.budgets`` says which length is enough.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from harness.data import CATALOGUE
from harness.errors import ConfigError
from harness.settings.config import Cell, Phase, cells, is_ablation
from harness.storage.search import Trial

LENGTH, RATE = "length", "rate"


def budget_trials(settings: Mapping[str, Any]) -> list[Trial]:
    """All trials that the settings ask for, repetition 0 of each cell; a cell's own budget is first among its trials.

    Of lengths and rates that give the same training, the first. Raises ConfigError for an entry of ``cells`` that
    names no cell.
    """
    asked = settings["budget_trials"]
    found: list[Trial] = []
    for cell in _chosen_cells(settings):
        of_cell: dict[str, Trial] = {}
        for rate, length in [(1, 1), *itertools.product(asked["rates"], asked["lengths"])]:
            trial = _trial(cell, length, rate, asked["scaled"])
            of_cell.setdefault(trial.cell.training_digest, trial)
        found += of_cell.values()
    return found


def _trial(cell: Cell, length: float, rate: float, scaled: list[str]) -> Trial:
    values = {LENGTH: length} if rate == 1 else {LENGTH: length, RATE: rate}
    changed = _drawn_out(cell, length, rate, scaled)
    return Trial(changed, values, chosen=changed == cell)


def _drawn_out(cell: Cell, length: float, rate: float, scaled: list[str]) -> Cell:
    phases = tuple(
        Phase(_times(phase.updates, length), float(f"{phase.learning_rate * rate:.6g}"), phase.n_samples)
        for phase in cell.training.phases
    )
    training = replace(cell.training, phases=phases, validate_every=_times(cell.training.validate_every, length))
    model = {key: round(value * length) if key in scaled else value for key, value in cell.model.items()}
    return replace(cell, training=training, model=model)


def _times(updates: int, length: float) -> int:
    return max(1, round(updates * length))


def _chosen_cells(settings: Mapping[str, Any]) -> Iterator[Cell]:
    trained = [c for c in cells(settings) if c.seed == 0 and c.training.phases and not is_ablation(settings, c)]
    patterns, groups = settings["budget_trials"]["cells"], settings["groups"]
    for i, pattern in enumerate(patterns):
        # a data set that a smaller grid does not have is no mistake: the default names those of all tables
        if pattern not in (*groups, *CATALOGUE) and not any(_names(pattern, cell, groups) for cell in trained):
            expected = "a group, a data set, DATASET/METHOD or DATASET/METHOD/VARIANT of a cell with updates"
            raise ConfigError(f"budget_trials.cells.{i}: expected {expected}, found {pattern!r}")
    for cell in trained:
        if any(_names(pattern, cell, groups) for pattern in patterns):
            yield cell


def _names(pattern: str, cell: Cell, groups: Mapping[str, list[str]]) -> bool:
    first, *rest = pattern.split("/")
    dataset, *others = Path(cell.path).parent.parts
    of_dataset = dataset in groups[first] if first in groups else fnmatchcase(dataset, first)
    return of_dataset and len(rest) <= len(others) and all(map(fnmatchcase, others, rest))
