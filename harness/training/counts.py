"""Buffers that count a model's own progress, which neither goes back nor passes to another model with the weights."""

from __future__ import annotations

import torch
from torch import Tensor

INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)


def is_count(tensor: Tensor) -> bool:
    """Whether it is one integer, such as the updates of a warm-up or the batches that a layer has seen."""
    return tensor.dim() == 0 and tensor.dtype in INTEGERS
