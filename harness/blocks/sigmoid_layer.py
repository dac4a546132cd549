"""Sigmoid belief layers: products of Bernoullis with logits linear in the condition, by ``harness.blocks.bernoulli``.

Their gradient is a product of what the layer saw and what it missed; no graph is built. Between the matrix products a
layer costs one pass over its activations, which reads x row by row: the bilinear term of p(x | h_1) is a by-product of
that pass. A product of these layers lacks the bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.blocks import bernoulli
from harness.blocks.conditional import multiply
from harness.blocks.scratch import Scratch
from harness.method import RoundedWeight


class Scored(NamedTuple):
    """value: v [V, n]. product: [R, n], without the bias; computing gradients overwrites it."""

    value: Tensor
    product: Tensor


class Bernoullis:
    """p(v) with logits ``bias`` [n], given nothing: a ``harness.blocks.conditional.Prior``.

    biases: the parameters of the module that has the bias, by name. key: of the memory for what gradients need, which
    no other layer with this scratch has.
    """

    def __init__(self, biases: Mapping[str, nn.Parameter], name: str, scratch: Scratch, key: str):
        self._biases, self._name, self._scratch = biases, name, scratch
        self._key, self._value_key = key, f"{key} value"

    @property
    def bias(self) -> nn.Parameter:
        return self._biases[self._name]

    def parameters(self) -> tuple[nn.Parameter, ...]:
        return (self.bias,)

    def use_rounded(self, weights: Mapping[nn.Parameter, RoundedWeight]) -> None:
        """There is no weight."""

    def product(self, u: Tensor) -> Tensor:
        return u.new_zeros(u.shape[0], self.bias.shape[0])

    def multiply(self, u: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        return self.product(u)

    def multiply_for_gradients(self, u: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        return self._scratch.take(self._key, u.shape[0], self.bias.shape[0], u.dtype, u.device).zero_()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return bernoulli.sample_bernoulli(torch.sigmoid(self.bias).expand(n, -1), generator)

    def draw(self, product: Tensor, repeats: int, generator: torch.Generator, log_prob: Tensor | None = None) -> Tensor:
        return bernoulli.draw(product, self.bias, repeats, generator, log_prob)

    def draw_scored(self, product: Tensor, repeats: int, generator: torch.Generator, log_prob: Tensor) -> Scored:
        n_rows, n = product.shape
        out = self._scratch.take(self._value_key, n_rows * repeats, n, product.dtype, product.device)
        return Scored(bernoulli.draw(product, self.bias, repeats, generator, log_prob, out), product)

    def draw_unknown(
        self, product: Tensor, value: Tensor, known: Tensor, repeats: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        drawn = self.draw(product, repeats, generator).view(value.shape[0], repeats, -1)
        proposals = torch.where(known[:, None], value[:, None], drawn).flatten(0, 1)
        log_p = self.pairwise_log_likelihood(product, proposals)
        return proposals, log_p, log_p

    def score(self, product: Tensor, value: Tensor, log_prob: Tensor) -> Scored:
        bernoulli.score(product, self.bias, value, log_prob)
        return Scored(value, product)

    def log_prob(self, scored: Scored) -> Tensor:
        value, product = scored
        if product.shape[0] < value.shape[0]:
            product = product.repeat_interleave(value.shape[0] // product.shape[0], dim=0)
        total = torch.zeros(product.shape[0], dtype=torch.float64, device=product.device)
        bernoulli.score(product, self.bias, value, total)
        return total

    def log_likelihood(self, product: Tensor, value: Tensor) -> Tensor:
        return bernoulli.log_likelihood(product, self.bias, value)

    def pairwise_log_likelihood(self, product: Tensor, value: Tensor) -> Tensor:
        return bernoulli.pairwise_log_likelihood(product, self.bias, value)

    def mean(self, product: Tensor, generator: torch.Generator) -> Tensor:
        return torch.sigmoid(product + self.bias)

    def mean_of(self, scored: Scored) -> Tensor:
        return torch.sigmoid(scored.product + self.bias)

    def add_gradients(self, scored: Scored, weights: Tensor, u: Tensor) -> None:
        bias = self.bias
        self._add_product(bernoulli.residual(scored.product, bias, scored.value, weights, bias.grad), u)

    def add_pooled_gradients(self, scored: Scored, weights: Tensor, u: Tensor) -> None:
        bias = self.bias  # a row of logits serves all samples of its row of u
        self._add_product(bernoulli.pooled_residual(scored.product, bias, scored.value, weights, bias.grad), u)

    def add_gradients_of(self, value: Tensor, u: Tensor, weights: Tensor) -> None:
        self.add_gradients(Scored(value, self.multiply(u, u.dtype)), weights, u)

    def _add_product(self, missed: Tensor, u: Tensor) -> None:
        """Add missed' u to the gradient of the weight; there is none."""


class SigmoidLayer(Bernoullis):
    """p(v | u) with logits ``weight`` u + ``bias``: a ``harness.blocks.conditional.Conditional``.

    The weight [n, n_given] and the bias [n] are those at ``level`` of the lists, which belong to a module. What moving
    a module puts in their place is found; taking them out of a ParameterList itself costs microseconds.
    """

    def __init__(self, weights: nn.ParameterList, biases: nn.ParameterList, level: int, scratch: Scratch, key: str):
        super().__init__(biases._parameters, str(level), scratch, key)
        self._weights = weights._parameters
        self._rounded: RoundedWeight | None = None

    @property
    def weight(self) -> nn.Parameter:
        return self._weights[self._name]

    def parameters(self) -> tuple[nn.Parameter, ...]:
        return self.weight, self.bias

    def use_rounded(self, weights: Mapping[nn.Parameter, RoundedWeight]) -> None:
        self._rounded = weights.get(self.weight)

    def product(self, u: Tensor) -> Tensor:
        return F.linear(u, self.weight)

    def multiply(self, u: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        return multiply(u, self.weight, self._rounded, dtype, self._scratch, "product")

    def multiply_for_gradients(self, u: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        return multiply(u, self.weight, self._rounded, dtype, self._scratch, self._key)

    def _add_product(self, missed: Tensor, u: Tensor) -> None:
        weight = self.weight
        if missed.dtype == weight.dtype:
            weight.grad.addmm_(missed.t(), u)
        else:
            self._rounded.add_product(missed, u)
