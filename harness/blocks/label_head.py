"""Class labels from binary inputs: softmax regression, or one layer of rectified units with dropout before it.

What the label-only controls see through pixels, and the semi-supervised models through latent units: with the same
family on both sides, a difference between them is one of inputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LabelHead(nn.Module):
    """q(y | inputs) = softmax(W u + b), with u the inputs, or ``hidden`` rectified units over them.

    dropout: share of the hidden units that training leaves out at random; ``input_dropout`` of the inputs.
    """

    def __init__(
        self, n_inputs: int, n_classes: int, hidden: int = 0, dropout: float = 0.0, input_dropout: float = 0.0
    ):
        super().__init__()
        self.hidden = nn.Linear(n_inputs, hidden) if hidden else None
        self.output = nn.Linear(hidden or n_inputs, n_classes)
        self.dropout, self.input_dropout = dropout, input_dropout

    def forward(self, inputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """log q(y | inputs), [N, n_classes], for inputs [N, n_inputs]; with dropout where a generator is given."""
        units = _drop(inputs, self.input_dropout, generator)
        if self.hidden is not None:
            units = _drop(F.relu(self.hidden(units)), self.dropout, generator)
        return F.log_softmax(self.output(units), dim=1)


def _drop(units: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    if generator is None or share == 0.0:
        return units
    kept = torch.rand(units.shape, generator=generator, device=units.device, dtype=units.dtype) >= share
    return units * kept / (1.0 - share)
