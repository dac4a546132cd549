"""Variational autoencoder with one layer of Gaussian latent variables."""

import torch
from torch import Tensor

from harness.blocks.gaussian import GaussianStack
from harness.method import Batch
from harness.ranges import Size


class VAE(GaussianStack):
    """Trained on the evidence lower bound with the Kullback-Leibler term in closed form."""

    name = "vae"
    title = "VAE"
    kind = "latent"
    source = "Kingma, Welling: Auto-Encoding Variational Bayes, ICLR 2014"
    small = {"latent": 2, "hidden": [3]}

    def __init__(self, n_visible: int, latent: Size, hidden: list[Size]):
        super().__init__(n_visible, layers=[latent], hidden=[hidden], activation="relu")

    def loss(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """Mean of -E_q[log p(x | h)] + KL(q(h | x) || p(h)) with n_samples draws per row."""
        mean, log_std = self.posterior(batch.x)
        h, _ = self.draw(mean, log_std, n_samples, generator)
        divergence = 0.5 * (mean.square() + torch.exp(2 * log_std) - 1.0).sum(-1) - log_std.sum(-1)
        return (divergence - self.log_likelihood(batch.x, h).mean(1)).mean()
