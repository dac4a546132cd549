"""A weight as a factor of products whose memory the caller has laid out, one matrix or a batch of them.

``harness.blocks.perceptron.Product`` gives every product of a layer memory of its own; where those of many passes lie
side by side, so that one product makes the gradient of them all, the caller multiplies, and asks here for the weight in
the data type of products and for a place to add the gradient to.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from harness.method import RoundedWeight


class Factor:
    """A parameter [n, m], or [T, n, m], of a module; nothing here is differentiable.

    parameters: the module's own, where what moves the module puts them.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], name: str):
        self._parameters, self._name = parameters, name
        self._rounded: RoundedWeight | None = None

    def use_rounded(self, weights: Mapping[nn.Parameter, RoundedWeight]) -> None:
        """From now on multiply in other data types by these, see ``harness.method.MixedPrecision``."""
        self._rounded = weights.get(self._parameters[self._name])

    def value(self, dtype: torch.dtype) -> Tensor:
        """The parameter, in the data type of the products."""
        weight = self._parameters[self._name]
        return weight if dtype == weight.dtype else self._rounded.value

    def add_product(self, left: Tensor, right: Tensor) -> None:
        """Add left' right to the gradient, for left [N, n] and right [N, m], or [T, N, n] and [T, N, m]."""
        weight, rounded = self._parameters[self._name], self._rounded
        if left.dtype != weight.dtype:
            rounded.add_product(left, right)
        else:
            (weight.grad.addmm_ if left.dim() == 2 else weight.grad.baddbmm_)(left.mT, right)
