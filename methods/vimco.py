"""Variational inference for Monte Carlo objectives (VIMCO) with sigmoid belief layers."""

import math

import torch
from torch import Tensor

from harness.blocks import exact
from harness.blocks.bernoulli import normalised_weights
from harness.blocks.sigmoid_belief import BeliefStack
from harness.errors import ConfigError
from harness.method import Batch


def leave_one_out_log_means(log_weights: Tensor) -> Tensor:
    """log (1/K) (sum_{i != k} w_i + w^_k) for every k, [B, K], where w^_k is the geometric mean of the w_i, i != k.

    log_weights [B, K], K >= 2. Running sums from both ends leave out each k in turn: memory and time grow with K, not
    with its square, and nothing is subtracted, so a dominating weight costs no precision.
    """
    n_samples = log_weights.shape[1]
    geometric = (log_weights.sum(1, keepdim=True) - log_weights) / (n_samples - 1)
    nothing = torch.full_like(log_weights[:, :1], -math.inf)
    before = torch.cat([nothing, torch.logcumsumexp(log_weights[:, :-1], dim=1)], dim=1)
    after = torch.cat([torch.logcumsumexp(log_weights[:, 1:].flip(1), dim=1).flip(1), nothing], dim=1)
    return torch.logaddexp(torch.logaddexp(before, after), geometric) - math.log(n_samples)


class VIMCO(BeliefStack):
    """p and q climb the K-sample bound E log (1/K) sum_k p(x, h_k) / q(h_k | x)."""

    name = "vimco"
    title = "VIMCO"
    kind = "latent"
    source = "Mnih, Rezende: Variational Inference for Monte Carlo Objectives, ICML 2016"
    small = {"layers": [3, 2]}

    def accumulate_gradients(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """Gradient of the negative K-sample bound, unbiased.

        With w~ = softmax(lw), log p has weights w~, and log q has those of the score function, the bound less what it
        would be without the sample, minus w~. Raises ConfigError for n_samples < 2, which leave nothing when one is
        left out.
        """
        if n_samples < 2:
            raise ConfigError(f"vimco: n_samples: expected at least 2, found {n_samples}")
        inferred = self.infer(batch.x, n_samples, generator, dtype=self.product_dtype)
        log_weights = inferred.log_p - inferred.log_q  # [B, K]
        n_rows = batch.x.shape[0]
        weights, log_means = normalised_weights(log_weights, self.prior_bias.dtype)
        signals = (log_means[:, None] - leave_one_out_log_means(log_weights)).flatten().to(weights.dtype)
        self.add_q_gradients(inferred, (weights - signals) / n_rows)
        weights /= -n_rows
        self.add_p_gradients(inferred, weights)
        self.add_prior_gradients(inferred, weights)
        return -log_means.mean()

    def exact_loss(self, x: Tensor, n_samples: int) -> Tensor:
        """Mean negative n_samples-sample bound, by a sum over all ways to draw the samples."""
        return -exact.sample_bound(*exact.joint_tables(self, x), n_samples).mean()
