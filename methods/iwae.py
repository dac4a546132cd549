"""Importance weighted autoencoder with any number of layers of Gaussian latent variables."""

import math

import torch
from torch import Tensor

from harness.blocks.gaussian import GaussianStack
from harness.method import Batch
from harness.ranges import Sizes


class IWAE(GaussianStack):
    """Trained on the K-sample bound; the published network has tanh units between its stochastic layers."""

    name = "iwae"
    title = "IWAE"
    kind = "latent"
    source = "Burda, Grosse, Salakhutdinov: Importance Weighted Autoencoders, ICLR 2016"
    small = {"layers": [2, 1], "hidden": [[3], [2]]}

    def __init__(self, n_visible: int, layers: Sizes, hidden: list[Sizes]):
        super().__init__(n_visible, layers, hidden, activation="tanh")

    def loss(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """Mean of -log (1/K) sum_k p(x, h_k) / q(h_k | x)."""
        log_weights = self.log_weights(batch.x, n_samples, generator)  # [B, K]
        return math.log(n_samples) - torch.logsumexp(log_weights, dim=1).mean()
