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

from harness.estimators import layer_use
from harness.estimators.chunks import pairs_at_once
from harness.estimators.layer_use import LayerUse
from harness.evaluation.subject import LeftOutError, Subject
from harness.method import LayerEncoder
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
    try:
        found, waiting = layer_use.layers_used(model, x, n_samples, generator, pairs_at_once(x.device))
    except layer_use.NotBinaryError as error:
        raise LeftOutError(str(error)) from error
    return found + [LayerUse(n_units, 0, 0.0, 0.0, 0.0, 0.0, 0.0) for n_units in waiting]
