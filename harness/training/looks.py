"""Looks at the validation set: which weights are the best, when a phase has seen enough, and the learning curve."""

from __future__ import annotations

import math
from typing import Any

import torch

from harness.data import Dataset
from harness.method import Batch
from harness.settings.config import Cell
from harness.settings.parts import Training
from harness.settings.seeds import seed_for
from harness.training import layers, rates, validation
from harness.training.batches import Rows
from harness.training.state import Position, TrainingState


def validation_rows(cell: Cell, data: Dataset, device: torch.device) -> Batch:
    """What every look is at: the same rows for all methods on a data set."""
    seed = seed_for(cell.dataset, "validation rows")
    return Rows.of_split(data, "valid", device).random_part(cell.training.validation_rows, seed)


def is_due(position: Position, budget: Training) -> bool:
    """Whether it is time for a look: so many updates after the last one, and at the end of a phase."""
    return position.since_look >= budget.validate_every or position.update == position.phase_end


def ends_phase(position: Position, budget: Training) -> bool:
    """Whether the phase has had its updates, or its last looks saw nothing better, which is early stopping."""
    return position.update >= position.phase_end or position.misses >= budget.patience


def look(state: TrainingState, rows: Batch, phase: int) -> bool:
    """Measure on the validation rows, keep the weights if they are the best; False when something is not finite.

    phase: index of the one that the look belongs to.
    """
    with state.averaged():
        return _look(state, rows, phase)


def _look(state: TrainingState, rows: Batch, phase: int) -> bool:
    position = state.position
    losses = validation.losses(state.model, state.step, rows, state.cell, state.device)
    of_layers = layers.columns(state, rows)
    if state.step is not None:
        state.step.parameters.reattach()
        state.step.parameters.check()
    value = losses.mean().item()
    train_loss = state.loss_sum.item() / position.since_look if position.since_look else math.nan
    finite = math.isfinite(value) and (math.isfinite(train_loss) or position.since_look == 0)
    is_best = finite and value < position.best
    if is_best:
        position.best, position.best_update, position.misses = value, position.update, 0
        state.keep_as_best()
    else:
        position.misses += 1
    position.curve.append(
        {
            **_place_on_curve(position, state.cell.training, phase),
            "train_loss": train_loss,
            "valid_loss": value,
            "valid_sem": losses.std().item() / math.sqrt(len(losses)),
            "best": is_best,
            **of_layers,
        }
    )
    state.loss_sum.zero_()
    position.since_look = 0
    return finite


def _place_on_curve(position: Position, budget: Training, phase: int) -> dict[str, Any]:
    of_phase = budget.phases[phase] if budget.phases else None  # a closed form has none
    begun = position.update - (position.phase_end - of_phase.updates) if of_phase else 0
    return {
        "update": position.update,
        "seconds": round(position.seconds, 3),
        "phase": phase,
        "learning_rate": rates.rate_of(of_phase, max(0, begun - 1)) if of_phase else math.nan,
        "n_samples": of_phase.n_samples if of_phase else 0,
    }
