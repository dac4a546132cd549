"""Reweighted wake-sleep with sigmoid belief layers."""

import torch
from torch import Tensor

from harness.blocks import exact
from harness.blocks.bernoulli import normalised_weights
from harness.blocks.sigmoid_belief import BeliefStack
from harness.method import Batch


class RWS(BeliefStack):
    """p climbs log p(x) by importance sampling; q follows half a wake and half a sleep update."""

    name = "rws"
    title = "RWS - SBN"
    kind = "latent"
    source = "Bornschein, Bengio: Reweighted Wake-Sleep, ICLR 2015"
    small = {"layers": [3, 2]}

    def accumulate_gradients(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """Weights softmax(lw) for log p and, in the wake half, for log q; the sleep half fits q to draws from p.

        The wake weights of q are centred by 1/K (E_q[d log q] = 0), as BiHM's are.
        """
        inferred = self.infer(batch.x, n_samples, generator, dtype=self.product_dtype)
        log_weights = inferred.log_p - inferred.log_q  # [B, K]
        n_rows = batch.x.shape[0]
        weights, log_means = normalised_weights(log_weights, batch.x.dtype)
        weights /= -n_rows
        self.add_p_gradients(inferred, weights)
        self.add_prior_gradients(inferred, weights)
        self.add_q_gradients(inferred, 0.5 * (weights + 1.0 / weights.numel()))
        x, h = self.descend(self.sample_prior(n_rows, generator), generator, dtype=self.product_dtype)
        self.add_sleep_gradients(x, h, -0.5 / n_rows)
        return -log_means.mean()

    def exact_loss(self, x: Tensor, n_samples: int | None = None) -> Tensor:
        """Wake loss of p, and the wake and sleep losses of q with p held fixed, half of each.

        Weights are those of n_samples draws, on average over all of them; with ever more samples they are p(h | x), and
        the first term has the gradient of mean -log p(x).
        """
        log_p, log_q = exact.joint_tables(self, x)
        weights = exact.expected_weights(log_p - log_q, log_q, n_samples)
        return 0.5 * exact.sleep_loss(self) - (weights * (log_p + 0.5 * log_q)).sum(1).mean()
