"""Logistic autoregression: a layer whose column d has logits a_d + sum_{j<d} W_dj x_j.

Fully visible belief networks consist of it, and deep autoregressive networks have it inside their layers. The weights
are a square matrix of which only the part below the diagonal counts: all logits of given rows are then one product
with it, and the part on and above the diagonal neither has an influence nor gets a gradient. Sampling goes from column
to column and adds what a column contributes to the later logits as soon as it is drawn.
"""

import math

import torch
from torch import Tensor, nn

from harness.blocks.bernoulli import sample_bernoulli


def uniform_weight(n_out: int, n_in: int) -> nn.Parameter:
    """[n_out, n_in], uniform in +-sqrt(6 / (n_in + n_out)) (Glorot and Bengio, 2010): for layers of hidden units."""
    bound = math.sqrt(6.0 / (n_in + n_out))
    return nn.Parameter(torch.empty(n_out, n_in).uniform_(-bound, bound))


def earlier_product(x: Tensor, weight: Tensor) -> Tensor:
    """sum_{j<d} weight[d, j] x[:, j], [N, D] for x [N, D] and weight [D, D]."""
    return torch.mm(x, weight.tril(-1).t())


def add_earlier_gradient(gradient: Tensor, missed: Tensor, x: Tensor) -> None:
    """Add the gradient by ``weight`` to ``gradient`` [D, D], given that by the logits, missed [N, D], and x [N, D]."""
    gradient += torch.mm(missed.t(), x).tril_(-1)


def sample_columns(logits: Tensor, weight: Tensor, generator: torch.Generator) -> Tensor:
    """x [N, D] given the logits a [N, D] without the earlier columns' part, which is added to them in place."""
    x = torch.empty_like(logits)
    for d in range(logits.shape[1]):
        x[:, d] = sample_bernoulli(torch.sigmoid(logits[:, d]), generator)
        logits[:, d + 1 :].addr_(x[:, d], weight[d + 1 :, d])
    return x
