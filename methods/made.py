"""Masked autoencoder for distribution estimation: a feed-forward network whose masks make it autoregressive."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.blocks.autoregressive import uniform_weight
from harness.blocks.bernoulli import log_likelihood, sample_bernoulli
from harness.method import Batch, Method
from harness.ranges import Count, Size, Sizes


class MADE(Method):
    """Every unit has a degree; it sees the columns that come earlier in the ordering than that.

    The column at position i (from 0) has degree i + 1. A hidden unit of degree k takes units of at most its own degree,
    a logit units and columns of smaller degree only (Germain et al., equations 12 and 13). Orderings and degrees are
    drawn from ``order_seed``; the first ordering is that of the data. With several, each update takes one at random,
    and p(x) is the mean over all of them. ``direct``: logits also depend linearly on earlier columns.
    """

    name = "made"
    title = "MADE"
    kind = "autoregressive"
    source = "Germain, Gregor, Murray, Larochelle: MADE: Masked Autoencoder for Distribution Estimation, ICML 2015"
    small = {"hidden": [5]}

    def __init__(self, n_visible: int, hidden: Sizes, n_orders: Size = 1, direct: bool = True, order_seed: Count = 0):
        super().__init__(n_visible)
        self.n_orders, self.n_hidden = n_orders, len(hidden)
        sizes = [n_visible, *hidden, n_visible]
        self.weights = nn.ParameterList(uniform_weight(above, below) for below, above in pairwise(sizes))
        self.biases = nn.ParameterList(torch.zeros(n) for n in sizes[1:])
        self.direct_weight = nn.Parameter(torch.zeros(n_visible, n_visible)) if direct else None  # [D, D]
        for level, degrees in enumerate(_draw_degrees(n_visible, hidden, n_orders, order_seed)):
            self.register_buffer(f"degrees_{level}", degrees)  # of the columns [M, D], then of hidden layers [M, n_l]

    def _degrees(self, order: Tensor) -> list[Tensor]:
        """Degrees of the columns [D] and of every hidden layer [n_l] under ordering number ``order`` [1]."""
        return [getattr(self, f"degrees_{level}")[order].squeeze(0) for level in range(self.n_hidden + 1)]

    def _masked_weights(self, order: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Weights of all layers, and from columns to logits, with what the ordering forbids set to zero."""
        degrees = self._degrees(order)
        hidden = [
            weight * (above[:, None] >= below)
            for weight, (below, above) in zip(self.weights, pairwise(degrees), strict=False)
        ]
        columns = degrees[0][:, None]
        direct = None if self.direct_weight is None else self.direct_weight * (columns > degrees[0])
        return [*hidden, self.weights[-1] * (columns > degrees[-1])], direct

    def _log_prob(self, x: Tensor, order: Tensor) -> Tensor:
        """log p(x) [B] double under one ordering."""
        weights, direct = self._masked_weights(order)
        h = x
        for weight, bias in zip(weights[:-1], self.biases, strict=False):
            h = F.relu(F.linear(h, weight, bias))
        product = F.linear(h, weights[-1])
        if direct is not None:
            product = product + F.linear(x, direct)
        return log_likelihood(product, self.biases[-1], x)

    def log_prob_orders(self, x: Tensor) -> Tensor:
        """Exact log p(x) under every ordering, [B, M] double."""
        orders = torch.arange(self.n_orders, device=x.device).split(1)
        return torch.stack([self._log_prob(x, order) for order in orders], dim=1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log p(x) [B] double of the mean over orderings."""
        return torch.logsumexp(self.log_prob_orders(x), dim=1) - math.log(self.n_orders)

    def loss(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """Mean -log p(x) under an ordering drawn at random."""
        order = torch.randint(self.n_orders, (1,), generator=generator, device=batch.x.device)
        return -self._log_prob(batch.x, order).mean()

    def exact_loss(self, x: Tensor) -> Tensor:
        """Mean -log p(x) over rows and orderings."""
        return -self.log_prob_orders(x).mean()

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n rows [n, D], each from an ordering of its own.

        Every unit is computed once: after a column, those become known whose degree is the column's.
        """
        chosen = torch.randint(self.n_orders, (n,), generator=generator, device=self.biases[0].device)
        x = self.biases[-1].new_empty(n, self.n_visible)
        for order in torch.arange(self.n_orders, device=x.device).split(1):
            rows = (chosen == order).nonzero().squeeze(1)
            x[rows] = self._sample(len(rows), order, generator)
        return x

    def _sample(self, n: int, order: Tensor, generator: torch.Generator) -> Tensor:
        weights, direct = self._masked_weights(order)
        degrees = self._degrees(order)
        layers = [bias.new_zeros(n, weight.shape[1]) for weight, bias in zip(weights, self.biases, strict=True)]
        x = layers[0]
        for column in degrees[0].argsort().split(1):
            logit = F.linear(layers[-1], weights[-1][column], self.biases[-1][column])
            if direct is not None:
                logit = logit + F.linear(x, direct[column])
            x[:, column] = sample_bernoulli(torch.sigmoid(logit), generator)
            for level in range(1, len(layers)):
                units = (degrees[level] == degrees[0][column]).nonzero().squeeze(1)
                activation = F.linear(layers[level - 1], weights[level - 1][units], self.biases[level - 1][units])
                layers[level][:, units] = F.relu(activation)
        return x


def _draw_degrees(n_visible: int, hidden: list[int], n_orders: int, seed: int) -> list[Tensor]:
    """Degrees of the columns [M, D] and of the hidden layers [M, n_l].

    Those of a hidden layer are uniform between the smallest below, so that every unit sees something, and D - 1.
    """
    generator = torch.Generator().manual_seed(seed)
    per_order = []
    for order in range(n_orders):
        natural = torch.arange(1, n_visible + 1)
        degrees = [natural if order == 0 else natural[torch.randperm(n_visible, generator=generator)]]
        for size in hidden:
            smallest = int(degrees[-1].min())
            degrees.append(torch.randint(smallest, max(n_visible, smallest + 1), (size,), generator=generator))
        per_order.append(degrees)
    return [torch.stack(level) for level in zip(*per_order, strict=True)]
