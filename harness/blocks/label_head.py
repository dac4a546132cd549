"""Class labels from binary inputs: softmax regression, or one layer of rectified units with dropout before it.

What the label-only controls see through pixels, and the semi-supervised models through latent units: with the same
family on both sides, a difference between them is one of inputs.

A head has a graph, or gradients of its own: between the products one fused pass each (``harness.kernels.gaussian``) for
float32 and bfloat16 on the CPU, tensor operations elsewhere. What is left out is drawn by PyTorch's numbers where there
is a graph, by a kernel's bits, 16 a unit, in fused passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.blocks.bernoulli import array, draw_seed
from harness.blocks.perceptron import Product, activate, pass_activation
from harness.blocks.scratch import Scratch
from harness.method import RoundedWeight


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
        self._scratch = Scratch()
        self._of_hidden, self._of_output = (
            None if linear is None else Product(linear, self._scratch, name)
            for linear, name in ((self.hidden, "hidden"), (self.output, "output"))
        )

    def use_rounded(self, weights: Mapping[nn.Parameter, RoundedWeight]) -> None:
        """From now on ``add_gradients`` in other data types by these, see ``harness.method.MixedPrecision``."""
        for product in (self._of_hidden, self._of_output):
            if product is not None:
                product.use_rounded(weights)

    def forward(self, inputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """log q(y | inputs), [N, n_classes], for inputs [N, n_inputs]; with dropout where a generator is given."""
        units = _drop(inputs, self.input_dropout, generator)
        if self.hidden is not None:
            units = _drop(F.relu(self.hidden(units)), self.dropout, generator)
        return F.log_softmax(self.output(units), dim=1)

    @torch.no_grad()
    def add_gradients(
        self,
        inputs: Tensor,
        labels: Tensor,
        weight: float,
        generator: torch.Generator,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Add the gradient of -weight sum_r log q(labels[r] | inputs[r]) with dropout; log q of every row, [N] double.

        inputs [N, n_inputs]; labels [N], where rows of negative ones count nothing and have 0. dtype: of the products.
        """
        seen = units = self._thin_out_inputs(inputs, generator, dtype or inputs.dtype)
        if self._of_hidden is not None:
            units = self._thin_out_hidden(self._of_hidden.forward(seen), generator)
        product, output = self._of_output.forward(units), self._of_output
        missed, log_prob = _softmax_gradients(product, output.bias, labels, weight)
        output.add_gradient(missed, units)
        if self._of_hidden is not None:
            slope = _scale(self.dropout, missed)
            back = pass_activation(output.back(missed), units, self._of_hidden.bias.grad, nn.ReLU, slope)
            self._of_hidden.add_gradient(back, seen)
        return log_prob

    @torch.no_grad()
    def add_decay_gradients(self, strength: float) -> float | Tensor:
        """Add the gradient of strength / 2 times the sum of squares of all weights; that sum."""
        total: float | Tensor = 0.0
        for product in (self._of_hidden, self._of_output):
            if product is None:
                continue
            weight = product.weight
            if weight.device.type == "cpu" and weight.dtype == torch.float32:
                total += _kernels().decay(array(weight), array(weight.grad), strength)
            else:
                weight.grad.add_(weight, alpha=strength)
                total += weight.square().sum()
        return total

    def _thin_out_inputs(self, inputs: Tensor, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        if dtype == inputs.dtype and self.input_dropout == 0.0:
            return inputs
        out = self._scratch.take("inputs", *inputs.shape, dtype, inputs.device)
        if self.input_dropout == 0.0 or not _fused(inputs):
            return out.copy_(_drop(inputs, self.input_dropout, generator))
        n_dropped, scale = _of_bits(self.input_dropout)
        _kernels().drop(array(inputs), n_dropped, scale, draw_seed(generator), array(out))
        return out

    def _thin_out_hidden(self, product: Tensor, generator: torch.Generator) -> Tensor:
        bias = self._of_hidden.bias
        if self.dropout == 0.0 or not _fused(product):
            return _drop(activate(product, bias, nn.ReLU), self.dropout, generator)
        n_dropped, scale = _of_bits(self.dropout)
        _kernels().drop_relu(array(product), array(bias), n_dropped, scale, draw_seed(generator))
        return product


def _drop(units: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    if generator is None or share == 0.0:
        return units
    kept = torch.rand(units.shape, generator=generator, device=units.device, dtype=units.dtype) >= share
    return units * kept / (1.0 - share)


def _of_bits(share: float) -> tuple[int, float]:
    """How many of 65,536 numbers leave a unit out, and the factor by which the others' units grow."""
    n_dropped = min(round(share * 65536), 65535)
    return n_dropped, 65536 / (65536 - n_dropped)


def _scale(share: float, product: Tensor) -> float:
    return _of_bits(share)[1] if _fused(product) else 1.0 / (1.0 - share)


def _softmax_gradients(product: Tensor, bias: nn.Parameter, labels: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """Gradient of -weight sum_r log q(labels[r]) by the product [N, C], and log q [N]; adds to that of the bias."""
    if _fused(product):
        log_prob = torch.zeros(len(labels), dtype=torch.float64)
        arrays = (array(t) for t in (product, bias, labels))
        _kernels().softmax_gradients(*arrays, weight, log_prob.numpy(), array(bias.grad))
        return product, log_prob
    log_labels = F.log_softmax(product + bias, dim=1)
    known, label = labels >= 0, labels.clamp(min=0)[:, None]
    log_prob = torch.where(known, log_labels.gather(1, label)[:, 0], 0.0)
    missed = torch.exp(log_labels).scatter_add(1, label, -torch.ones_like(log_labels[:, :1]))
    missed *= weight * known[:, None].to(missed.dtype)  # the product with a boolean would be in single precision
    bias.grad += missed.sum(0)
    return missed.to(product.dtype), log_prob.double()


def _fused(product: Tensor) -> bool:
    return product.is_cpu and product.dtype in (torch.float32, torch.bfloat16)


@cache
def _kernels() -> Any:
    from harness.kernels import gaussian  # for the reason that ``harness.blocks.bernoulli`` gives

    return gaussian
