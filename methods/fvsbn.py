"""Fully visible sigmoid belief network: a logistic regression of every column on the columns before it."""

import torch
from torch import Tensor, nn

from harness.blocks.autoregressive import add_earlier_gradient, earlier_product, sample_columns
from harness.blocks.bernoulli import log_likelihood, residual, score
from harness.method import Batch, Method


class FVSBN(Method):
    """log p(x) = sum_d log Bernoulli(x_d | b_d + sum_{j<d} W_dj x_j), concave in its parameters.

    It starts from zero: nothing has to break a symmetry, and columns without a relation stay without a weight. The
    part of W above the diagonal remains there.
    """

    name = "fvsbn"
    title = "FVSBN"
    kind = "autoregressive"
    source = "Frey, Hinton, Dayan: Does the wake-sleep algorithm produce good density estimators?, NIPS 1996"

    def __init__(self, n_visible: int):
        super().__init__(n_visible)
        self.weight = nn.Parameter(torch.zeros(n_visible, n_visible))  # W [D, D]
        self.bias = nn.Parameter(torch.zeros(n_visible))  # b [D]

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log p(x) [B] double."""
        return log_likelihood(earlier_product(x, self.weight), self.bias, x)

    @torch.no_grad()
    def accumulate_gradients(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """Gradient of mean -log p(x); neither samples nor the generator are used."""
        x = batch.x
        product = earlier_product(x, self.weight)
        log_p = torch.zeros(x.shape[0], dtype=torch.float64, device=x.device)
        score(product, self.bias, x, log_p)
        share = torch.full((x.shape[0],), -1.0 / x.shape[0], dtype=x.dtype, device=x.device)
        add_earlier_gradient(self.weight.grad, residual(product, self.bias, x, share, self.bias.grad), x)
        return -log_p.mean()

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n rows [n, D], column by column, the logits carried along."""
        return sample_columns(self.bias.repeat(n, 1), self.weight, generator)
