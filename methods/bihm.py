"""Bidirectional Helmholtz machine: p*(x, h) = sqrt(p(x, h) q(x, h)) / Z with any number of sigmoid belief layers."""

import torch
from torch import Tensor

from harness.blocks import exact, gibbs
from harness.blocks.bernoulli import normalised_weights
from harness.blocks.sigmoid_belief import BeliefStack
from harness.method import Batch


class BiHM(BeliefStack):
    """Trained to maximise log p~*(x) = 2 log E_q sqrt(p(x, h) / q(h | x)) (thesis, equations 3.2 to 3.8)."""

    name = "bihm"
    title = "BiHM"
    kind = "latent"
    source = "Bornschein, Shabanian, Fischer, Bengio: Bidirectional Helmholtz Machines, ICML 2016"
    small = {"layers": [3, 2]}

    def accumulate_gradients(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """Gradient of mean -log p~*(x), equation 3.7: weights softmax(lw / 2) for log p and for log q.

        As E_q[d log q] = 0, the weights of log q may be centred by 1/K: the same mean, far less variance.
        """
        inferred = self.infer(batch.x, n_samples, generator, dtype=self.product_dtype)
        half = 0.5 * (inferred.log_p - inferred.log_q)  # [B, K]
        weights, log_means = normalised_weights(half, batch.x.dtype)
        weights /= -batch.x.shape[0]
        self.add_p_gradients(inferred, weights)
        self.add_prior_gradients(inferred, weights)
        self.add_q_gradients(inferred, weights + 1.0 / weights.numel())
        return -2.0 * log_means.mean()

    @torch.no_grad()
    def log_z2_weights(self, n_outer: int, n_inner: int, generator: torch.Generator) -> Tensor:
        """log sqrt(p(x, h') q(h | x) / (p(x, h) q(h' | x))) for (x, h) ~ p, h' ~ q(h | x): equation 3.11."""
        top = self.sample_prior(n_outer, generator)
        log_joint = self.log_prior(top)
        x, h = self.descend(top, generator, log_joint)
        first_product = self.q_layers[0].product(x)  # serves the draw of h' and the value of log q(h | x)
        log_q = torch.zeros_like(log_joint)
        self.add_log_recognition(x, h, first_product, log_q)
        inferred = self.infer(x, n_inner, generator, first_product=first_product)
        return 0.5 * (inferred.log_p - inferred.log_q + (log_q - log_joint)[:, None])

    def sweep(self, state: list[Tensor], n_proposals: int, generator: torch.Generator) -> list[Tensor]:
        """One iteration of Algorithm 2 on chains [x, h_1 .. h_L], each [B, n_l]."""
        return gibbs.sweep(self, state, n_proposals, generator)

    def inpaint(
        self, x: Tensor, known: Tensor, n_sweeps: int, n_proposals: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """x [B, D] whose unknown entries are those of p* given the known ones, and with their expected values."""
        return gibbs.inpaint(self, x, known, n_sweeps, n_proposals, generator)

    def exact_loss(self, x: Tensor, n_samples: int | None = None) -> Tensor:
        """Mean -log p~*(x) with ever more samples; with n_samples, that of equation 3.7 averaged over all draws."""
        if n_samples is None:
            return -exact.log_p_star_unnormalised(self, x).mean()
        log_p, log_q = exact.joint_tables(self, x)
        weights = exact.expected_weights(0.5 * (log_p - log_q), log_q, n_samples)
        return -(weights * (log_p + log_q)).sum(1).mean()
