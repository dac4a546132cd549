"""NADE layers: p(v | u) = prod_d p(v_d | v_<d, u), one hidden layer shared by all columns, its biases linear in u.

The hidden activation before column d is c + U u + sum_{j<d} v_j W_j, the logit of column d is b_d + A_d u + V_d h. The
product of such a layer with its condition is that by U and A. Float32 on the CPU goes to a kernel, in drawing as in
scoring; what stands here is for the GPU and in double precision (see ``harness.blocks.nade``). Drawing goes column by
column with the hidden activation carried along.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.blocks.bernoulli import sample_bernoulli
from harness.blocks.conditional import multiply
from harness.blocks.nade import has_kernel, output_products
from harness.blocks.scratch import Scratch
from harness.method import RoundedWeight

DRAWS_A_MEAN = 100  # behind an expected value


@dataclass
class Scored:
    """Rows of a layer with what their gradients need.

    value: [N, n]. log_prob: [N] double, nats. product: what the biases were shifted by, [N, H + n], or [N, 0]; on the
    CPU in float32 there is none, and the kernel's ``passed`` stands for it, which computing gradients uses up.
    """

    value: Tensor
    log_prob: Tensor
    product: Tensor | None
    passed: Any = None


class NadeLayer(nn.Module):
    """Conditional NADE of ``n_units`` columns and ``hidden`` hidden units, given ``n_given`` columns u.

    It is a ``harness.blocks.conditional.Conditional``, and a ``Prior`` where it is given nothing, n_given = 0. Products
    are [R, H + n], what the biases are shifted by, then [R, 0]. scratch: memory for them; layers may share it.
    """

    def __init__(self, n_units: int, hidden: int, n_given: int, scratch: Scratch | None = None):
        super().__init__()
        bound = math.sqrt(6.0 / (n_units + hidden))
        self.input_weight = nn.Parameter(torch.empty(n_units, hidden).uniform_(-bound, bound))  # W [n, H]
        self.output_weight = nn.Parameter(torch.empty(n_units, hidden).uniform_(-bound, bound))  # V [n, H]
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))  # c [H]
        self.visible_bias = nn.Parameter(torch.zeros(n_units))  # b [n]
        self.register_parameter("condition", None)
        if n_given:
            bound = math.sqrt(6.0 / (n_given + hidden + n_units))
            self.condition = nn.Parameter(torch.empty(hidden + n_units, n_given).uniform_(-bound, bound))  # U over A
        self._scratch = scratch or Scratch()
        self._rounded: RoundedWeight | None = None

    @property
    def bias(self) -> nn.Parameter:
        return self.visible_bias

    def use_rounded(self, weights: Mapping[nn.Parameter, RoundedWeight]) -> None:
        self._rounded = None if self.condition is None else weights.get(self.condition)

    def product(self, u: Tensor) -> Tensor:
        return u if self.condition is None else F.linear(u, self.condition)

    def multiply(self, u: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        if self.condition is None:
            return u
        return multiply(u, self.condition, self._rounded, dtype, self._scratch, "product")

    multiply_for_gradients = multiply  # what gradients need is copied

    def draw(self, product: Tensor, repeats: int, generator: torch.Generator, log_prob: Tensor | None = None) -> Tensor:
        scored = self._draw(product, repeats, generator)
        if log_prob is not None:
            log_prob += scored.log_prob
        return scored.value

    def draw_scored(self, product: Tensor, repeats: int, generator: torch.Generator, log_prob: Tensor) -> Scored:
        scored = self._draw(product, repeats, generator)
        log_prob += scored.log_prob
        return scored

    def draw_unknown(
        self, product: Tensor, value: Tensor, known: Tensor, repeats: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        # unknown entries are drawn in order, each given all before it
        fixed = torch.where(known, value, math.nan).repeat_interleave(repeats, dim=0)
        drawn = self.draw_columns(product, len(fixed), generator, fixed)
        return drawn.value, self._score(product, drawn.value).log_prob, drawn.log_prob

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return self.draw(self.visible_bias.new_empty(n, 0), 1, generator)

    @torch.no_grad()
    def _draw(self, product: Tensor, repeats: int, generator: torch.Generator) -> Scored:
        n = len(product) * repeats
        if has_kernel(self.visible_bias):
            from harness.kernels import nade as kernel

            seed = torch.empty((), dtype=torch.int64).random_(generator=generator).item()
            passed = kernel.draw(seed, self._weights(product, n))
            return Scored(torch.from_numpy(passed.x[:n]), torch.from_numpy(passed.log_prob), None, passed)
        return self.draw_columns(product, n, generator)

    @torch.no_grad()
    def draw_columns(self, product: Tensor, n: int, generator: torch.Generator, fixed: Tensor | None = None) -> Scored:
        """n draws without the kernel, n / R for every row of product [R, m].

        fixed: [n, n_units], values not to be drawn, NaN for those to be drawn. log_prob is that of what was drawn, each
        column given all before it.
        """
        # a copy, see ``multiply_for_gradients``
        product = product.to(self.visible_bias.dtype).repeat_interleave(n // len(product), dim=0)
        carried, visible_bias = self._biases(product, n)
        n_columns = visible_bias.shape[1]
        logits, value = visible_bias.t().clone(), visible_bias.new_empty(n_columns, n)  # a column is contiguous
        for d in range(n_columns):
            logits[d].addmv_(torch.sigmoid(carried), self.output_weight[d])
            value[d] = sample_bernoulli(torch.sigmoid(logits[d]), generator)
            if fixed is not None:
                value[d] = torch.where(fixed[:, d].isnan(), value[d], fixed[:, d])
            if d + 1 < n_columns:
                carried = torch.addcmul(carried, value[d, :, None], self.input_weight[d])
        log_prob = value * logits - F.softplus(logits)
        if fixed is not None:
            log_prob *= fixed.t().isnan()
        return Scored(value.t().contiguous(), log_prob.sum(0, dtype=torch.float64), product)

    def score(self, product: Tensor, value: Tensor, log_prob: Tensor) -> Scored:
        scored = self._score(product, value)
        log_prob += scored.log_prob
        return scored

    def log_prob(self, scored: Scored) -> Tensor:
        return scored.log_prob

    def log_likelihood(self, product: Tensor, value: Tensor) -> Tensor:
        hidden_bias, visible_bias = self._biases(product, len(value))
        products, _ = output_products(value, self.input_weight, self.output_weight, hidden_bias)
        logits = products.t() + visible_bias
        return (value * logits - F.softplus(logits)).sum(1, dtype=torch.float64)

    def pairwise_log_likelihood(self, product: Tensor, value: Tensor) -> Tensor:
        return self._score(product, value).log_prob

    def mean(self, product: Tensor, generator: torch.Generator) -> Tensor:
        # there is no closed form
        return self.draw(product, DRAWS_A_MEAN, generator).view(len(product), DRAWS_A_MEAN, -1).mean(1)

    def mean_of(self, scored: Scored) -> Tensor:
        return scored.value

    @torch.no_grad()
    def _score(self, product: Tensor, value: Tensor) -> Scored:
        """For product [R, m] and value [V, n], each row of either for one or several of the other."""
        value = _repeated(value.to(self.visible_bias.dtype), max(len(value), len(product)))
        if has_kernel(value):
            from harness.kernels import nade as kernel

            passed = kernel.evaluate(value.contiguous().numpy(), self._weights(product, len(value)))
            return Scored(value, torch.from_numpy(passed.log_prob), None, passed)
        kept = product.to(value.dtype, copy=True)  # see ``multiply_for_gradients``
        return Scored(value, self.log_likelihood(product, value), kept)

    @torch.no_grad()
    def add_gradients(self, scored: Scored, weights: Tensor, u: Tensor) -> None:
        self._add_condition_gradient(self._add_own_gradients(scored, weights), u)

    @torch.no_grad()
    def add_pooled_gradients(self, scored: Scored, weights: Tensor, u: Tensor) -> None:
        by_biases = self._add_own_gradients(scored, weights)
        self._add_condition_gradient(by_biases.view(len(u), -1, by_biases.shape[1]).sum(1), u)

    @torch.no_grad()
    def add_gradients_of(self, value: Tensor, u: Tensor, weights: Tensor) -> None:
        self.add_gradients(self._score(self.multiply(u, u.dtype), value), weights, u)

    def _add_own_gradients(self, scored: Scored, weights: Tensor) -> Tensor:
        """Add the gradients by W, V and the biases; the terms [N, H + n] of those by the biases."""
        if scored.passed is not None:
            from harness.kernels import nade as kernel

            gradients = kernel.Weights(self.input_weight.grad.numpy(), self.output_weight.grad.numpy(), None, None)
            rows = kernel.add_weighted_gradients(scored.passed, weights.numpy(), self._matrices(), gradients)
            by_biases = torch.cat([torch.from_numpy(by_bias) for by_bias in rows], dim=1)
        else:
            by_biases = self._add_tensor_gradients(scored, weights)
        by_hidden_bias, by_visible_bias = by_biases.sum(0).split(self._sizes())
        self.hidden_bias.grad += by_hidden_bias
        self.visible_bias.grad += by_visible_bias
        return by_biases

    def _add_tensor_gradients(self, scored: Scored, weights: Tensor) -> Tensor:
        """Add those by W and V; the terms [N, H + n] of those by the biases."""
        if self.condition is None:
            shift = weights.new_zeros(len(scored.value), sum(self._sizes()))
        else:
            shift = scored.product.clone()
        shift.requires_grad_()
        with torch.enable_grad():
            total = (weights * self.log_likelihood(shift, scored.value)).sum()
            by_inputs, by_outputs, by_biases = torch.autograd.grad(
                total, [self.input_weight, self.output_weight, shift], materialize_grads=True
            )
        self.input_weight.grad += by_inputs
        self.output_weight.grad += by_outputs
        return by_biases

    def _add_condition_gradient(self, by_biases: Tensor, u: Tensor) -> None:
        """Add those by U and A, for the gradient by the shift of the biases [R, H + n] and u [R, n_given]."""
        if self.condition is not None:
            self.condition.grad.addmm_(by_biases.t(), u.to(by_biases.dtype))

    def _sizes(self) -> list[int]:
        return [len(self.hidden_bias), len(self.visible_bias)]

    def _biases(self, product: Tensor, n: int) -> list[Tensor]:
        """Biases of the hidden [n, H] and of the visible units [n, n_units] for n rows."""
        bias = torch.cat([self.hidden_bias, self.visible_bias])
        shifted = _repeated(product + bias, n) if product.shape[1] else bias.expand(n, -1)
        return list(shifted.split(self._sizes(), dim=1))

    def _matrices(self) -> Any:
        from harness.kernels import nade as kernel

        return kernel.Weights(self.input_weight.detach().numpy(), self.output_weight.detach().numpy(), None, None)

    def _weights(self, product: Tensor, n: int) -> Any:
        hidden_bias, visible_bias = (bias.detach().numpy() for bias in self._biases(product, n))
        return self._matrices()._replace(hidden_bias=hidden_bias, visible_bias=visible_bias)


def _repeated(rows: Tensor, n: int) -> Tensor:
    """n rows, each of ``rows`` as often as another, next to its copies."""
    return rows if len(rows) == n else rows.repeat_interleave(n // len(rows), dim=0)
