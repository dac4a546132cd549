"""NADE layers: p(v | u) = prod_d p(v_d | v_<d, u), one hidden layer shared by all columns, its biases linear in u.

The hidden activation before column d is c + U u + sum_{j<d} v_j W_j, the logit of column d is b_d + A_d u + V_d h.
Float32 on the CPU goes to a kernel that follows each row's own changes of the hidden layer (``harness.kernels.nade``),
in drawing as in scoring. What stands here is for the GPU, and in double precision the kernel's reference: columns are
taken in blocks, within a block the running sums are one product with a triangular mask of v, between blocks one carried
[N, H] sum. Drawing goes column by column with that sum carried along.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.blocks.bernoulli import sample_bernoulli

COLUMNS_A_BLOCK = 16


def column_blocks(n_columns: int) -> list[slice]:
    """Slices of at most ``COLUMNS_A_BLOCK`` columns, in order."""
    return [slice(d, min(d + COLUMNS_A_BLOCK, n_columns)) for d in range(0, n_columns, COLUMNS_A_BLOCK)]


def hidden_units(x_block: Tensor, carried: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden units [d, N, H] before each column of a block, and the mask [d, N, d'] of x that they see.

    x_block [N, d], carried [N, H], the activation before the block; inputs [d, H], the block's rows of W.
    """
    mask = x_block * _earlier(x_block.shape[1], x_block.dtype, x_block.device)  # x_d' where d' < d
    return torch.matmul(mask, inputs).add_(carried).sigmoid_(), mask


@lru_cache(maxsize=64)
def _earlier(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[d, 1, d'] of ones where d' < d, zeros elsewhere."""
    return torch.ones(size, size, dtype=dtype, device=device).tril_(-1)[:, None, :]


def output_products(x: Tensor, inputs: Tensor, outputs: Tensor, hidden_bias: Tensor) -> tuple[Tensor, list[Tensor]]:
    """V_d h_d before every column, [D, N], and the activations [N, H] before every block; differentiable.

    x [N, D]; inputs, outputs [D, H]; hidden_bias [N, H]. With the visible bias they are the logits of p(x_d | x_<d).
    """
    starts, products, before = [hidden_bias], [], slice(0)
    for columns in column_blocks(x.shape[1]):
        if products:
            starts.append(torch.addmm(starts[-1], x[:, before], inputs[before]))
        hidden, _ = hidden_units(x[:, columns], starts[-1], inputs[columns])
        products.append(torch.matmul(hidden, outputs[columns][:, :, None]).squeeze(-1))
        before = columns
    return torch.cat(products), starts


def _repeated(rows: Tensor, n: int) -> Tensor:
    """n rows, each of ``rows`` as often as another, next to its copies."""
    return rows if len(rows) == n else rows.repeat_interleave(n // len(rows), dim=0)


def has_kernel(x: Tensor) -> bool:
    """Whether tensors like this one go to ``harness.kernels.nade``."""
    return x.device.type == "cpu" and x.dtype == torch.float32


@dataclass
class Scored:
    """Rows of a layer with what their gradients need.

    value: [N, n]. log_prob: [N] double, nats. given: what the biases were shifted by, [N, H + n], or None; on the CPU
    in float32 the kernel's ``passed`` stands for both, which computing gradients uses up.
    """

    value: Tensor
    log_prob: Tensor
    given: Tensor | None
    passed: Any = None


class NadeLayer(nn.Module):
    """Conditional NADE of ``n_units`` columns and ``hidden`` hidden units, given ``n_given`` columns u (0: none).

    The caller multiplies: ``given`` [N, H + n] below is u [N, n_given] times the transpose of ``condition``, (U, A).
    """

    def __init__(self, n_units: int, hidden: int, n_given: int, visible_bias: float = 0.0):
        super().__init__()
        bound = math.sqrt(6.0 / (n_units + hidden))
        self.input_weight = nn.Parameter(torch.empty(n_units, hidden).uniform_(-bound, bound))  # W [n, H]
        self.output_weight = nn.Parameter(torch.empty(n_units, hidden).uniform_(-bound, bound))  # V [n, H]
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))  # c [H]
        self.visible_bias = nn.Parameter(torch.full((n_units,), visible_bias))  # b [n]
        if n_given:
            bound = math.sqrt(6.0 / (n_given + hidden + n_units))
            self.condition = nn.Parameter(torch.empty(hidden + n_units, n_given).uniform_(-bound, bound))  # U over A

    def log_likelihood(self, value: Tensor, given: Tensor | None) -> Tensor:
        """log p(value | given) [N] double, nats, differentiable; value [N, n]."""
        hidden_bias, visible_bias = self._biases(given, len(value))
        products, _ = output_products(value, self.input_weight, self.output_weight, hidden_bias)
        logits = products.t() + visible_bias
        return (value * logits - F.softplus(logits)).sum(1, dtype=torch.float64)

    @torch.no_grad()
    def score(self, value: Tensor, given: Tensor | None) -> Scored:
        """``log_likelihood`` with what ``add_gradients`` needs."""
        if has_kernel(value):
            from harness.kernels import nade as kernel

            passed = kernel.evaluate(value.contiguous().numpy(), self._weights(given, len(value)))
            return Scored(value, torch.from_numpy(passed.log_prob), None, passed)
        kept = None if given is None else given.to(value.dtype, copy=True)  # the caller may use its memory again
        return Scored(value, self.log_likelihood(value, given), kept)

    @torch.no_grad()
    def draw(self, given: Tensor | None, n: int, generator: torch.Generator) -> Scored:
        """n rows; each row of ``given`` [R, H + n] serves n / R of them next to each other."""
        if has_kernel(self.visible_bias):
            from harness.kernels import nade as kernel

            seed = torch.empty((), dtype=torch.int64).random_(generator=generator).item()
            passed = kernel.draw(seed, self._weights(given, n))
            return Scored(torch.from_numpy(passed.x[:n]), torch.from_numpy(passed.log_prob), None, passed)
        return self.draw_columns(given, n, generator)

    @torch.no_grad()
    def draw_columns(
        self, given: Tensor | None, n: int, generator: torch.Generator, fixed: Tensor | None = None
    ) -> Scored:
        """``draw`` without the kernel. fixed: [n, n_units], values not to be drawn, NaN for those to be drawn.

        log_prob is that of what was drawn, each column given all before it.
        """
        if given is not None:
            given = given.to(self.visible_bias.dtype).repeat_interleave(n // len(given), dim=0)  # a copy, see ``score``
        carried, visible_bias = self._biases(given, n)
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
        return Scored(value.t().contiguous(), log_prob.sum(0, dtype=torch.float64), given)

    @torch.no_grad()
    def add_gradients(self, scored: Scored, weights: Tensor, u: Tensor | None) -> None:
        """Add sum_n weights_n d log p(value_n | u_n) to the parameters' gradients; weights [N].

        u [R, n_given], each row for N / R rows of the value; None for a layer that is given nothing.
        """
        if scored.passed is not None:
            from harness.kernels import nade as kernel

            gradients = kernel.Weights(self.input_weight.grad.numpy(), self.output_weight.grad.numpy(), None, None)
            rows = kernel.add_weighted_gradients(scored.passed, weights.numpy(), self._matrices(), gradients)
            by_biases = torch.cat([torch.from_numpy(by_bias) for by_bias in rows], dim=1)  # [N, H + n]
        else:
            by_biases = self._add_tensor_gradients(scored, weights)
        by_hidden_bias, by_visible_bias = by_biases.sum(0).split(self._sizes())
        self.hidden_bias.grad += by_hidden_bias
        self.visible_bias.grad += by_visible_bias
        if u is not None:
            if len(u) != len(by_biases):
                by_biases = by_biases.view(len(u), -1, by_biases.shape[1]).sum(1)
            self.condition.grad.addmm_(by_biases.t(), u.to(by_biases.dtype))

    def _add_tensor_gradients(self, scored: Scored, weights: Tensor) -> Tensor:
        """Add those by W and V; the terms [N, H + n] of those by the biases."""
        shift = torch.zeros(len(scored.value), sum(self._sizes()), dtype=weights.dtype, device=weights.device)
        shift = (shift if scored.given is None else scored.given.clone()).requires_grad_()
        with torch.enable_grad():
            total = (weights * self.log_likelihood(scored.value, shift)).sum()
            by_inputs, by_outputs, by_biases = torch.autograd.grad(
                total, [self.input_weight, self.output_weight, shift], materialize_grads=True
            )
        self.input_weight.grad += by_inputs
        self.output_weight.grad += by_outputs
        return by_biases

    def _sizes(self) -> list[int]:
        return [len(self.hidden_bias), len(self.visible_bias)]

    def _biases(self, given: Tensor | None, n: int) -> list[Tensor]:
        """Biases of the hidden [n, H] and of the visible units [n, n_units] for n rows."""
        bias = torch.cat([self.hidden_bias, self.visible_bias])
        shifted = bias.expand(n, -1) if given is None else _repeated(given + bias, n)
        return list(shifted.split(self._sizes(), dim=1))

    def _matrices(self) -> Any:
        from harness.kernels import nade as kernel

        return kernel.Weights(self.input_weight.detach().numpy(), self.output_weight.detach().numpy(), None, None)

    def _weights(self, given: Tensor | None, n: int) -> Any:
        hidden_bias, visible_bias = (bias.detach().numpy() for bias in self._biases(given, n))
        return self._matrices()._replace(hidden_bias=hidden_bias, visible_bias=visible_bias)
