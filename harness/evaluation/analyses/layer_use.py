"""Which layers a model uses, in the course of training and at its end: live units, reliability, information.

``harness.estimators.layer_use`` says what these are. They need no draws of a layer, only ``encode``, called twice: its
results are unbiased for E_q[h | x] whatever the number of draws, and independent of each other. What it gives for one
draw may be that draw (0 or 1) or the probabilities of a layer given a draw of the one below, which is less noisy; a
unit drawn from either has the distribution that q(h_i | x) says. Layers that still wait for their time
(``harness.method.InStages``) are in no use: none of their units lives.

On validation rows, as a curve over training is what one would choose a budget by. All weights meet the same rows and
the same random numbers.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from harness.estimators.layer_use import LayerUse, layer_use
from harness.evaluation.measure import CHUNK
from harness.evaluation.subject import LeftOutError, Subject
from harness.method import InStages, LayerEncoder
from harness.ranges import Draws, Size

NEEDS = ("layer features",)
SNAPSHOT, TRAINED = "snapshot", "trained"


def analyse(subject: Subject, rows: Draws | None, n_samples: Size) -> pd.DataFrame:
    """Columns weights, update, layer, those of ``LayerUse``, n_rows; layers count from 1, from the data upward.

    rows: of the validation set, drawn at random. n_samples: draws per row behind each of two estimates of E_q[h | x].
    weights: ``trained`` for those that training chose, at their update, ``snapshot`` for those kept on the way.
    """
    x = subject.rows("valid", rows).x

    def measured(model: LayerEncoder, weights: str, update: int) -> list[dict[str, Any]]:
        layers = layers_used(model, x, n_samples, subject.generator("layer use"))
        shared = {"weights": weights, "update": update}
        return [{**shared, "layer": i, **asdict(layer), "n_rows": len(x)} for i, layer in enumerate(layers, start=1)]

    records = []
    for update, model in subject.snapshots():
        records += measured(model, SNAPSHOT, update)
    status = subject.run.status()
    records += measured(subject.model, TRAINED, status.get("best_update", status["n_updates"]))
    return pd.DataFrame(records)


def layers_used(model: LayerEncoder, x: Tensor, n_samples: int, generator: torch.Generator) -> list[LayerUse]:
    """What becomes of every layer on rows x [N, D]; raises LeftOutError where activations are no probabilities."""

    def encoded() -> list[Tensor]:
        blocks = [model.encode(part, n_samples, generator) for part in x.split(max(1, CHUNK // n_samples))]
        return [torch.cat(parts) for parts in zip(*blocks, strict=True)]

    found = []
    for level, (first, second) in enumerate(zip(encoded(), encoded(), strict=True), start=1):
        if not all(((each >= 0) & (each <= 1)).all() for each in (first, second)):
            raise LeftOutError(f"activations of layer {level} are no probabilities of binary units")
        found.append(layer_use(first, second))
    waiting = model.waiting_units() if isinstance(model, InStages) else []
    return found + [LayerUse(n_units, 0, 0.0, 0.0, 0.0, 0.0, 0.0) for n_units in waiting]
