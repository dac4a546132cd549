"""All parameters of a model in one buffer, and all gradients in another.

An optimiser then steps one tensor instead of dozens, the L1 penalty is one operation, and a checkpoint holds a handful
of tensors. Parameters and their ``.grad`` stay views, so methods notice nothing. For methods that multiply in another
precision a third buffer holds the rounded parameters, so that rounding them is one operation, too.
"""

from __future__ import annotations

import torch
from torch import nn

ALIGNMENT = 16  # floats, one cache line: the views start where vector instructions like them to


class FlatParameters:
    """Moves the parameters of ``model`` into ``values`` [n], its gradients into ``values.grad``, weights first.

    With a ``rounded_dtype`` each parameter also has an attribute ``rounded``, which ``round`` brings up to date.
    """

    def __init__(self, model: nn.Module, rounded_dtype: torch.dtype | None = None):
        parameters = sorted(model.parameters(), key=lambda parameter: parameter.dim() < 2)
        offsets, end, self.n_weights = [], 0, 0
        for parameter in parameters:
            offsets.append(end)
            end += -(-parameter.numel() // ALIGNMENT) * ALIGNMENT
            if parameter.dim() >= 2:
                self.n_weights = end
        reference = parameters[0]
        self.values = torch.zeros(end, device=reference.device, dtype=reference.dtype)
        self.values.grad = torch.zeros_like(self.values)
        self.rounded = None if rounded_dtype is None else torch.zeros_like(self.values, dtype=rounded_dtype)
        for parameter, offset in zip(parameters, offsets, strict=True):
            part = slice(offset, offset + parameter.numel())
            self.values[part] = parameter.detach().flatten()
            parameter.data = self.values[part].view(parameter.shape)
            parameter.grad = self.values.grad[part].view(parameter.shape)
            if self.rounded is not None:
                parameter.rounded = self.rounded[part].view(parameter.shape)

    def round(self) -> None:
        """Round the present values."""
        if self.rounded is not None:
            self.rounded.copy_(self.values)
