"""All parameters of a model in one buffer, and all gradients in another.

An optimiser then steps one tensor instead of dozens, the L1 penalty is one operation, and a checkpoint holds a handful
of tensors. Parameters and their ``.grad`` stay views, so methods notice nothing. Methods that multiply in another
precision than that of their parameters find the rounded weights, and room for such products, in two further buffers.
"""

from __future__ import annotations

import torch
from torch import nn

ALIGNMENT = 16  # floats, one cache line: the views start where vector instructions like them to


class FlatParameters:
    """Moves the parameters of ``model`` into ``values`` [n], its gradients into ``gradients`` [n], weights first.

    product_dtype: each weight also gets the attributes ``rounded`` and ``product_grad``, a second gradient; these are
    views of ``rounded`` and ``products`` [n_weights]. ``product_is_zero``: nothing was added to the latter yet.
    """

    def __init__(self, model: nn.Module, product_dtype: torch.dtype | None = None):
        parameters = sorted(model.parameters(), key=lambda parameter: parameter.dim() < 2)
        offsets, end, self.n_weights = [], 0, 0
        for parameter in parameters:
            offsets.append(end)
            end += -(-parameter.numel() // ALIGNMENT) * ALIGNMENT
            if parameter.dim() >= 2:
                self.n_weights = end
        self.values = torch.zeros(end, device=parameters[0].device, dtype=parameters[0].dtype)
        self.gradients = torch.zeros_like(self.values)
        n_products = 0 if product_dtype is None else self.n_weights
        self.rounded, self.products = (
            torch.zeros(n_products, device=self.values.device, dtype=product_dtype) for _ in range(2)
        )
        self._rounded_weights = []
        for parameter, offset in zip(parameters, offsets, strict=True):
            part = slice(offset, offset + parameter.numel())
            self.values[part] = parameter.detach().flatten()
            parameter.data = self.values[part].view(parameter.shape)
            parameter.grad = self.gradients[part].view(parameter.shape)
            if part.stop <= n_products:
                parameter.rounded = self.rounded[part].view(parameter.shape)
                parameter.product_grad = self.products[part].view(parameter.shape)
                parameter.product_is_zero = True
                self._rounded_weights.append(parameter)

    def begin_update(self) -> None:
        """Bring the rounded weights up to date; all gradients must be zero."""
        self.rounded.copy_(self.values[: len(self.rounded)])
        for weight in self._rounded_weights:
            weight.product_is_zero = True
