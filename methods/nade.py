"""Neural autoregressive distribution estimator: p(x) = prod_d p(x_d | x_<d) with one shared hidden layer.

The hidden pre-activation before column d is c + sum_{j<d} W_j x_j. Float32 on the CPU goes to a kernel that follows
each row's own changes of it (``harness.kernels.nade``). What stands here is for the GPU, and in double precision the
kernel's reference: columns are taken in blocks, within a block the running sums are one product with a triangular mask
of x, between blocks one carried [B, H] sum. The gradients are written out, since a graph would keep all [B, D, H]
activations.
"""

import math

import torch
from torch import Tensor, nn

from harness.blocks.bernoulli import sample_bernoulli
from harness.blocks.nade import column_blocks, has_kernel, hidden_units, output_products
from harness.method import Batch, Method
from harness.ranges import Size


class NADE(Method):
    """Fixed order of the columns, sigmoid hidden units, weights not shared between input and output."""

    name = "nade"
    title = "NADE"
    kind = "autoregressive"
    source = "Larochelle, Murray: The Neural Autoregressive Distribution Estimator, AISTATS 2011"
    small = {"hidden": 3}

    def __init__(self, n_visible: int, hidden: Size):
        super().__init__(n_visible)
        bound = math.sqrt(6.0 / (n_visible + hidden))
        self.input_weight = nn.Parameter(torch.empty(n_visible, hidden).uniform_(-bound, bound))  # W' [D, H]
        self.output_weight = nn.Parameter(torch.empty(n_visible, hidden).uniform_(-bound, bound))  # V [D, H]
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))  # c [H]
        self.visible_bias = nn.Parameter(torch.zeros(n_visible))  # b [D]

    def _parameters_in_order(self) -> tuple[nn.Parameter, ...]:
        """In the order of ``harness.kernels.nade.Weights``."""
        return self.input_weight, self.output_weight, self.hidden_bias, self.visible_bias

    @torch.no_grad()
    def _logits(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits of p(x_d | x_<d), [D, B], and the carried sums at the start of every block."""
        carried = self.hidden_bias.expand(x.shape[0], -1)
        products, starts = output_products(x, self.input_weight, self.output_weight, carried)
        return products.add_(self.visible_bias[:, None]), starts

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log p(x) [B], without a graph."""
        if has_kernel(x):
            from harness.kernels import nade as kernel

            weights = kernel.Weights(*(parameter.detach().numpy() for parameter in self._parameters_in_order()))
            return torch.from_numpy(kernel.log_prob(x.contiguous().numpy(), weights)).to(x.dtype)
        logits, _ = self._logits(x)
        return (x.t() * logits - nn.functional.softplus(logits)).sum(0)

    @torch.no_grad()
    def accumulate_gradients(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """Gradient of mean -log p(x); neither samples nor the generator are used."""
        x = batch.x
        if has_kernel(x):
            from harness.kernels import nade as kernel

            weights = kernel.Weights(*(parameter.detach().numpy() for parameter in self._parameters_in_order()))
            gradients = kernel.Weights(*(parameter.grad.numpy() for parameter in self._parameters_in_order()))
            log_p = kernel.add_gradients(x.contiguous().numpy(), weights, gradients)
            return torch.tensor(-log_p.mean(), dtype=x.dtype)
        logits, starts = self._logits(x)
        missed = (torch.sigmoid(logits) - x.t()).div_(x.shape[0])  # d loss / d logits, [D, B]
        self.visible_bias.grad.add_(missed.sum(1))
        later = torch.zeros_like(starts[0])  # d loss / d pre-activation, summed over all later columns, [B, H]
        blocks = column_blocks(self.n_visible)
        for columns, carried in zip(reversed(blocks), reversed(starts), strict=True):
            hidden, mask = hidden_units(x[:, columns], carried, self.input_weight[columns])
            self.output_weight.grad[columns] += torch.matmul(missed[columns][:, None, :], hidden).squeeze(1)
            slope = hidden.mul_(1.0 - hidden)
            slope.mul_(self.output_weight[columns][:, None, :]).mul_(missed[columns][:, :, None])  # [d, B, H]
            within = torch.matmul(mask.flatten(0, 1).t(), slope.flatten(0, 1))
            self.input_weight.grad[columns] += torch.addmm(within, x[:, columns].t(), later)
            later += slope.sum(0)
        self.hidden_bias.grad.add_(later.sum(0))
        return -(x.t() * logits - nn.functional.softplus(logits)).sum(0).mean()

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n rows [n, D], column by column, the hidden sums carried along."""
        carried = self.hidden_bias.expand(n, -1).clone()
        x = carried.new_empty(n, self.n_visible)
        for d in range(self.n_visible):
            logit = torch.sigmoid(carried) @ self.output_weight[d] + self.visible_bias[d]
            x[:, d] = sample_bernoulli(torch.sigmoid(logit), generator)
            carried.addr_(x[:, d], self.input_weight[d])
        return x
