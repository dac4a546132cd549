"""Every cell's own budget at other lengths: the trials that ``budget_trials`` of the settings ask for.

``lengths`` multiply the updates of all phases, and with them the updates between two looks at the validation set and
the hyperparameters that count updates (``scaled``): a trial is the whole training, drawn out or pressed together.
``rates`` multiply the learning rates. Models in closed form have no updates and no such trials. All trials of a cell
start from the same weights and see the same batches, and those at length 1 are the cells of the grid themselves. They
lie among the trials of searches and are never measured on a test set; ``harness.reporting.budgets`` says which length
is enough.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from harness.settings.config import Cell
from harness.settings.parts import Phase
from harness.storage.search import Trial

LENGTH, RATE = "length", "rate"


def budget_trials(settings: Mapping[str, Any], cells: Iterable[Cell]) -> list[Trial]:
    """All trials that the settings ask for of these cells, of each its repetition 0; its own budget is the first.

    Of lengths and rates that give the same training, the first.
    """
    asked = settings["budget_trials"]
    found: list[Trial] = []
    for cell in (each for each in cells if each.seed == 0 and each.training.phases):
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
