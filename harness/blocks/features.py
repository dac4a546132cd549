"""A perceptron whose last hidden layer others see as well: passes forward, and back with the gradient by them all.

``harness.blocks.perceptron.Passes`` goes back from the last product alone; here what others would have the features
change joins in before their activation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from harness.blocks.perceptron import Passed, Passes, Product, activate, pass_activation
from harness.blocks.scratch import Scratch
from harness.method import RoundedWeight


class Seen(NamedTuple):
    """One pass: of the layers below, the features [B, H], and the product of the last layer, without bias, [B, n]."""

    below: Passed
    features: Tensor
    product: Tensor


class Features:
    """Forward and backward through layers of a ``perceptron`` with tanh units; nothing here is differentiable."""

    def __init__(self, layers: nn.Sequential, scratch: Scratch):
        *below, _, last = layers
        self._below = Passes(nn.Sequential(*below), scratch, "below features")
        self._last = Product(last, scratch, "of features")

    @property
    def bias(self) -> nn.Parameter:
        """Of the last layer."""
        return self._last.bias

    def use_rounded(self, weights: Mapping[nn.Parameter, RoundedWeight]) -> None:
        """See ``Product.use_rounded``."""
        self._below.use_rounded(weights)
        self._last.use_rounded(weights)

    def forward(self, inputs: Tensor) -> Seen:
        """One pass of inputs [B, D], in whose data type it multiplies; valid until the next one."""
        below = self._below.forward(inputs)
        features = activate(below.product, self._below.bias, nn.Tanh)
        return Seen(below, features, self._last.forward(features))

    def add_gradients(self, seen: Seen, missed: Tensor, by_features: Tensor) -> None:
        """Add the gradients of all parameters but the last bias.

        missed: the gradient by the last product, [B, n]; by_features: that by the features from elsewhere, [B, H]. What
        was seen is overwritten.
        """
        self._last.add_gradient(missed, seen.features)
        by_units = self._last.back(missed).add_(by_features)
        by_product = pass_activation(by_units, seen.features, self._below.bias.grad, nn.Tanh)
        self._below.add_gradients(seen.below, by_product, with_inputs=False)
