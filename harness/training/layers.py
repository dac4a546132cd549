"""What becomes of layers in the course of training: columns of the learning curve, measured at looks.

Of every method whose layers can be seen (``LayerEncoder``) and are binary, what ``harness.estimators.layer_use``
defines: on part of the rows of the look, with one draw per estimate, and not more often than every ``APART`` training
rows but at the ends of phases, so that it costs about a hundredth of training. All looks draw from a generator of their
own, seeded alike, as validation does: training draws the same numbers with it and without it, and a curve moves with
the weights. A layer that still waits for its time has no values.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import torch

from harness.estimators.chunks import pairs_at_once
from harness.estimators.layer_use import NotBinaryError, layers_used
from harness.method import Batch, LayerEncoder
from harness.settings import seeds
from harness.settings.parts import Training
from harness.training.state import Position, TrainingState
from harness.training.validation import NEAR_THE_CACHE, evaluating

log = logging.getLogger(__name__)

APART = 20_000  # training rows
PER_ROW = 125  # training rows between looks for each row that is measured on
FEWEST, MOST, DRAWS = 200, 1000, 1
FIELDS = ("live", "reliability", "information")  # columns are live_1, reliability_1, ..., from the data upward
DIGITS = 6


@torch.no_grad()
def columns(state: TrainingState, rows: Batch) -> dict[str, Any]:
    """Column -> value for every layer, None for those that wait.

    None at all where layers cannot be seen or are not binary, and at looks that are too close to the last ones. Where
    ``encode`` fails, training goes on without them, which is told in one line.
    """
    model, budget, axes = state.model, state.cell.training, seeds.axes_of(state.cell)
    x = rows.x[: min(max(FEWEST, budget.validate_every * budget.batch_size // PER_ROW), MOST)]
    if not isinstance(model, LayerEncoder) or len(x) < 2 or not _is_due(state.position, budget):
        return {}
    generator = seeds.generator_for(state.device, *axes, "layers of the learning curve")
    chunk = pairs_at_once(state.device, NEAR_THE_CACHE)
    try:
        with evaluating(model), seeds.global_seed(state.device, *axes, "layers of the learning curve"):
            found, waiting = layers_used(model, x.clone(), DRAWS, generator, chunk)
    except NotBinaryError:
        return {}
    except torch.OutOfMemoryError:  # as of an update
        raise
    except Exception as error:  # a method may raise anything, and its training does not depend on this
        _tell(state.cell.path, f"{type(error).__name__}: {error}")
        return {}
    values = {name_of(field, i): getattr(use, field) for i, use in enumerate(found, start=1) for field in FIELDS}
    above = range(len(found) + 1, len(found) + len(waiting) + 1)
    return {
        **{name: round(value, DIGITS) + 0.0 for name, value in values.items()},
        **{name_of(field, i): None for i in above for field in FIELDS},
    }


def name_of(field: str, layer: int) -> str:
    """The column of a field of ``FIELDS`` and a layer, counted from 1."""
    return f"{field}_{layer}"


def _is_due(position: Position, budget: Training) -> bool:
    seen = [row["update"] for row in position.curve if row.get(name_of("live", 1)) is not None]
    apart = (position.update - seen[-1]) * budget.batch_size if seen else APART
    return apart >= APART or position.update == position.phase_end


@cache
def _tell(path: str, reason: str) -> None:
    """Once, not at every look."""
    log.warning(f"{path}: the learning curve goes on without layers: encode: {reason}")
