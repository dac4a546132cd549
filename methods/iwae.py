"""Importance weighted autoencoder with any number of layers of Gaussian latent variables."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from harness.blocks.bernoulli import normalised_weights
from harness.blocks.gaussian import GaussianStack
from harness.method import Batch, RoundedWeight
from harness.ranges import Sizes


class IWAE(GaussianStack):
    """Trained on the K-sample bound; the published network has tanh units between its stochastic layers."""

    name = "iwae"
    title = "IWAE"
    kind = "latent"
    source = "Burda, Grosse, Salakhutdinov: Importance Weighted Autoencoders, ICLR 2016"
    version = 2
    small = {"layers": [2, 1], "hidden": [[3], [2]]}

    def __init__(self, n_visible: int, layers: Sizes, hidden: list[Sizes]):
        super().__init__(n_visible, layers, hidden, activation="tanh")

    def multiply_in(self, dtype: torch.dtype | None, weights: Mapping[nn.Parameter, RoundedWeight]) -> None:
        """See ``harness.method.MixedPrecision``."""
        self.use_rounded(dtype, weights)

    def loss(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """Mean of -log (1/K) sum_k p(x, h_k) / q(h_k | x)."""
        log_weights = self.log_weights(batch.x, n_samples, generator)  # [B, K]
        return math.log(n_samples) - torch.logsumexp(log_weights, dim=1).mean()

    @torch.no_grad()
    def accumulate_gradients(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """The gradient of ``loss`` by the same draws."""
        inferred = self.infer(batch.x, n_samples, generator)
        weights, log_means = normalised_weights(inferred.log_p - inferred.log_q, batch.x.dtype)
        weights /= -len(batch.x)
        self.add_gradients(inferred, weights, -weights)
        return -log_means.mean()
