"""Error of a linear classifier of every layer: are lower layers more informative (thesis, section 4.4)?

The features of a layer are its mean activations under q(h | x), which one factor brings to a variance of 1, as deep
layers may hardly vary; layer 0 is x itself. The classifier is fitted twice, to the few labels that semi-supervised
models have and to many, its penalty chosen by the error on validation rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from harness.estimators.chunks import pairs_at_once
from harness.estimators.linear_classifier import LinearClassifier
from harness.evaluation.subject import LeftOutError, Subject
from harness.method import Batch
from harness.ranges import Positive, Range, Size
from harness.settings.seeds import seed_for
from harness.training.batches import Rows, balanced_rows, labels_seed

NEEDS = ("layer features",)
Penalties = Annotated[list[Positive], Range(items=1)]
SMALLEST = 1e-12  # standard deviation of a layer that does vary


def analyse(
    subject: Subject, few: Size, many: Size | None, penalties: Penalties, n_samples: Size, validation_rows: Size | None
) -> pd.DataFrame:
    """Columns layer, units, labels, value, sem, penalty, n_rows: error rates on all test rows, with binomial error.

    few: labelled training rows, equally many of each class, those that semi-supervised models of this repetition have.
    many: training rows drawn at random, all of them for None. penalties: of squared weights, to choose from.
    n_samples: draws per row behind the mean activations of layers above the first.
    """
    if subject.data.train_labels is None:
        raise LeftOutError(f"{subject.data.name} has no labels")
    generator = subject.generator("layer_features")
    parts = [
        *(_features(subject, rows, n_samples, generator) for rows in _training_rows(subject, few, many)),
        _features(subject, subject.rows("valid", validation_rows), n_samples, generator),
        _features(subject, subject.rows("test", None), n_samples, generator),
    ]
    records = []
    for layer, (*training, valid, test) in enumerate(zip(*parts, strict=True)):
        for train in training:
            error, penalty = _test_error(train, valid, test, penalties)
            n = len(test.y)
            sem = math.sqrt(error * (1.0 - error) / n)
            records.append((layer, train.x.shape[1], len(train.y), error, sem, penalty, n))
    columns = ["layer", "units", "labels", "value", "sem", "penalty", "n_rows"]
    return pd.DataFrame(records, columns=columns)


def _training_rows(subject: Subject, few: int, many: int | None) -> tuple[Batch, Batch]:
    rows = Rows.of_split(subject.data, "train", subject.device)
    dataset, repetition = subject.cell.dataset, subject.cell.seed
    known = balanced_rows(subject.data.train_labels, few, labels_seed(dataset, repetition))
    chosen = rows.random_part(many, seed_for(dataset, repetition, "rows with many labels"))
    return rows.batch(torch.from_numpy(np.asarray(known)).to(subject.device)), chosen


def _features(subject: Subject, rows: Batch, n_samples: int, generator: torch.Generator) -> list[Batch]:
    """Layers [N, n_l] from x upward, with their labels."""
    size = max(1, pairs_at_once(rows.x.device) // n_samples)
    blocks = [subject.model.encode(x, n_samples, generator) for x in rows.x.split(size)]
    layers = [rows.x, *(torch.cat(parts) for parts in zip(*blocks, strict=True))]
    return [Batch(layer, rows.y) for layer in layers]


def _test_error(train: Batch, valid: Batch, test: Batch, penalties: Sequence[float]) -> tuple[float, float]:
    """Error rate on the test rows with the penalty that is best on the validation rows, and that penalty."""
    center = train.x.mean(0)
    scale = 1.0 / (train.x - center).square().mean().sqrt().clamp(min=SMALLEST)

    def error(classifier: LinearClassifier, rows: Batch) -> float:
        return (classifier.probabilities(scaled(rows.x)).argmax(1) != rows.y).double().mean().item()

    def scaled(x: Tensor) -> Tensor:
        return (x - center) * scale

    fitted: dict[float, LinearClassifier] = {}
    for penalty in sorted(penalties, reverse=True):  # each begins where the next larger one ended
        last = list(fitted.values())[-1] if fitted else None
        fitted[penalty] = LinearClassifier(scaled(train.x), train.y, penalty, start=last)
    best = min(fitted, key=lambda penalty: error(fitted[penalty], valid))
    return error(fitted[best], test), best
