"""Wake-sleep with sigmoid belief layers: the first way to train a Helmholtz machine, and the baseline of the others."""

import torch
from torch import Tensor

from harness.blocks import exact
from harness.blocks.sigmoid_belief import BeliefStack
from harness.method import Batch


class WakeSleep(BeliefStack):
    """p climbs the bound E_q[log p(x, h)] on data; q climbs log q(h | x) on dreams of p, not the bound."""

    name = "wake_sleep"
    title = "Wake-sleep"
    kind = "latent"
    source = "Hinton, Dayan, Frey, Neal: The wake-sleep algorithm for unsupervised neural networks, Science 1995"
    small = {"layers": [3, 2]}

    def accumulate_gradients(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """Wake phase: p on n_samples draws of q a row (one in the paper); sleep phase: q on one dream a row.

        Returns the mean of -(log p(x, h) - log q(h | x)), the bound, whose gradient only p's part is.
        """
        inferred = self.infer(batch.x, n_samples, generator, dtype=self.product_dtype)
        n_rows = batch.x.shape[0]
        n_pairs = n_rows * n_samples
        weights = torch.full((n_pairs,), -1.0 / n_pairs, dtype=self.prior_bias.dtype, device=batch.x.device)
        self.add_p_gradients(inferred, weights)
        self.add_prior_gradients(inferred, weights)
        x, h = self.descend(self.sample_prior(n_rows, generator), generator, dtype=self.product_dtype)
        self.add_sleep_gradients(x, h, -1.0 / n_rows)
        return (inferred.log_q - inferred.log_p).mean()

    def exact_loss(self, x: Tensor, n_samples: int | None = None) -> Tensor:
        """Mean -E_q log p(x, h) with q held fixed, and the sleep loss of q, whatever the number of samples."""
        log_p, log_q = exact.joint_tables(self, x)
        return exact.sleep_loss(self) - (log_q.exp().detach() * log_p).sum(1).mean()
