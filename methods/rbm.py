"""Restricted Boltzmann machine: p(x) = p~(x) / Z with log p~(x) = b.x + sum_j log(1 + exp(c_j + W_j x)).

Training follows the difference of two means, over the data and over Gibbs chains: chains that persist from update to
update (PCD), or chains that start from the batch's rows (CD). Z is estimated by annealed importance sampling from the
columns' means in the training data, which the model counts while it trains.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from harness.blocks import exact
from harness.blocks.bernoulli import draw, residual, sample_bernoulli, score
from harness.method import Batch, Method
from harness.ranges import Count, Size


def _log_sums(product: Tensor, bias: Tensor) -> Tensor:
    """sum_j log(1 + exp(product_j + bias_j)), [N] double, for product [N, H] and bias [H]."""
    total = torch.zeros(product.shape[0], dtype=torch.float64, device=product.device)
    score(product, bias, product.new_zeros(1, product.shape[1]), total)
    return -total


class RBM(Method):
    """Binary units on both sides; a phase's ``n_samples`` is the number k of Gibbs steps between two updates.

    hidden: units. chains: that persist (Tieleman's PCD-k); 0 starts a chain from every row of the batch (Hinton's
    CD-k). gibbs_steps: of ``sample``.
    """

    name = "rbm"
    title = "RBM"
    kind = "latent"
    source = (
        "Hinton, Neural Computation 14, 2002 (CD); Tieleman, ICML 2008 (PCD); Salakhutdinov, Murray, ICML 2008 (AIS)"
    )
    small = {"hidden": 3, "chains": 20, "gibbs_steps": 50}

    def __init__(self, n_visible: int, hidden: Size, chains: Count = 100, gibbs_steps: Size = 1000):
        super().__init__(n_visible)
        self.gibbs_steps = gibbs_steps
        self.weight = nn.Parameter(0.01 * torch.randn(hidden, n_visible))  # W [H, D]
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))  # c [H]
        self.visible_bias = nn.Parameter(torch.zeros(n_visible))  # b [D]
        self.register_buffer("chains", (torch.rand(chains, n_visible) < 0.5).float())
        self.register_buffer("column_sums", torch.zeros(n_visible, dtype=torch.float64))  # of all rows trained on
        self.register_buffer("n_rows", torch.zeros((), dtype=torch.float64))

    def log_unnormalised(self, x: Tensor) -> Tensor:
        """log p~(x) [B] double, minus the free energy."""
        with torch.no_grad():
            return _log_sums(x @ self.weight.t(), self.hidden_bias) + x @ self.visible_bias

    @torch.no_grad()
    def accumulate_gradients(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """Gradient of the mean free energy of the batch minus that of the chains, after ``n_samples`` Gibbs steps.

        Returned is that difference, whose gradient with the chains held fixed this is; it is no likelihood.
        """
        data = batch.x
        self.column_sums += data.sum(0)
        self.n_rows += data.shape[0]
        persistent = self.chains.shape[0] > 0
        chains = self.chains if persistent else data
        for _ in range(n_samples):
            chains = self._gibbs(chains, chains @ self.weight.t(), self.visible_bias, 1.0, generator)
        if persistent:
            self.chains.copy_(chains)
        rows = torch.cat([data, chains])
        share = rows.new_full((rows.shape[0],), 1.0 / data.shape[0])
        share[data.shape[0] :] = -1.0 / chains.shape[0]
        product = rows @ self.weight.t()
        loss = -(share * (_log_sums(product, self.hidden_bias) + rows @ self.visible_bias)).sum()
        # d free energy / d activation = -sigmoid: the residual of a value of zero
        missed = residual(
            product, self.hidden_bias, product.new_zeros(1, product.shape[1]), share, self.hidden_bias.grad
        )
        self.weight.grad.addmm_(missed.t(), rows)
        self.visible_bias.grad.sub_(rows.t() @ share)
        return loss

    def exact_loss(self, x: Tensor, n_samples: int) -> Tensor:
        """Mean free energy of rows x less that of the chains after n_samples steps, over all ways that they can go.

        The distribution of the chains, from where they stand or from x, is held fixed: this is what contrastive updates
        are on average, no likelihood. With ever more steps it becomes p(x), and the gradient that of mean -log p(x).
        """
        rows = exact.all_binary(self.n_visible, x.dtype)  # [X, D]
        with torch.no_grad():
            hidden = exact.all_binary(len(self.hidden_bias), x.dtype)  # [H, n]
            by_hidden = torch.softmax((hidden @ self.weight + self.visible_bias) @ rows.t(), dim=1)  # p(x' | h), [H, X]

            def step(start: Tensor) -> Tensor:  # p(x' | x), [N, X], for x [N, D]
                activation = start @ self.weight.t() + self.hidden_bias
                return torch.softmax(activation @ hidden.t(), dim=1) @ by_hidden

            reached = step(self.chains if len(self.chains) else x).mean(0)  # [X]
            for _ in range(n_samples - 1):
                reached = reached @ step(rows)
        return reached @ self._log_p(rows) - self._log_p(x).mean()

    def _log_p(self, x: Tensor) -> Tensor:
        """``log_unnormalised`` with a graph."""
        return nn.functional.softplus(x @ self.weight.t() + self.hidden_bias).sum(1) + x @ self.visible_bias

    def _gibbs(
        self, x: Tensor, product: Tensor, visible_bias: Tensor, beta: float, generator: torch.Generator
    ) -> Tensor:
        """x' [N, D] after h | x and x' | h, W and c scaled by ``beta``; product: W x [N, H]."""
        h = draw(beta * product, beta * self.hidden_bias, 1, generator)
        return draw(beta * (h @ self.weight), visible_bias, 1, generator)

    def _base_logits(self) -> Tensor:
        """Logits [D] of the columns' means with Laplace's rule of succession: the start of the annealing path."""
        return torch.logit((self.column_sums + 1.0) / (self.n_rows + 2.0)).to(self.visible_bias.dtype)

    @torch.no_grad()
    def log_partition_samples(self, n: int, n_temperatures: int, generator: torch.Generator) -> Tensor:
        """Log-weights [n] double of annealed importance sampling; the mean of their exp is Z.

        Along the path, log p~_beta(x) = ((1 - beta) base + beta b).x + sum_j log(1 + exp(beta (c_j + W_j x))) with
        beta = 0, 1 / n_temperatures, ..., 1; each chain makes one Gibbs step a temperature (Salakhutdinov and Murray,
        section 4.1, with a base-rate model that has no hidden units).
        """
        base = self._base_logits()
        step = self.visible_bias - base
        x = sample_bernoulli(torch.sigmoid(base).expand(n, -1), generator)
        log_weight = x.new_zeros(n, dtype=torch.float64)
        for before, beta in pairwise(k / n_temperatures for k in range(n_temperatures + 1)):
            product = x @ self.weight.t()
            log_weight += (beta - before) * (x @ step)
            log_weight += _log_sums(beta * product, beta * self.hidden_bias)
            log_weight -= _log_sums(before * product, before * self.hidden_bias)
            x = self._gibbs(x, product, base + beta * step, beta, generator)
        return log_weight + nn.functional.softplus(base).sum() + len(self.hidden_bias) * math.log(2.0)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n rows [n, D]: chains that go on from the persistent ones, drawn with replacement.

        Without those, from the columns' means, cooled down during half of their steps; from there chains may stay where
        they came to first.
        """
        steps, n_chains = self.gibbs_steps, self.chains.shape[0]
        if n_chains > 0:
            betas = [1.0] * steps
            x = self.chains[torch.randint(n_chains, (n,), generator=generator, device=self.chains.device)]
        else:
            betas = [min(1.0, 2.0 * (step + 1) / steps) for step in range(steps)]
            x = sample_bernoulli(torch.sigmoid(self._base_logits()).expand(n, -1), generator)
        for beta in betas:
            bias = torch.lerp(self._base_logits(), self.visible_bias, beta)
            x = self._gibbs(x, x @ self.weight.t(), bias, beta, generator)
        return x
