"""Class labels of the batches that label controls are measured on: times do not depend on which they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from harness.bench.cases import Case

N_CLASSES = 10  # where a model's hyperparameters do not say


def n_classes(model: Mapping[str, Any]) -> int:
    """The number of classes of a model by its hyperparameters."""
    return model.get("n_classes", N_CLASSES)


def labels_of(x: Tensor, case: Case) -> Tensor | None:
    """A label for every row of x [B, D], each class in turn, [B] int64; None for methods that learn from none."""
    if not case.method.startswith("label_"):
        return None
    return torch.arange(len(x), device=x.device) % n_classes(case.model)
