"""Variational autoencoder with one layer of Gaussian latent variables."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from harness.blocks import normal
from harness.blocks.gaussian import GaussianStack
from harness.method import Batch, RoundedWeight
from harness.ranges import Size


class VAE(GaussianStack):
    """Trained on the evidence lower bound with the Kullback-Leibler term in closed form."""

    name = "vae"
    title = "VAE"
    kind = "latent"
    source = "Kingma, Welling: Auto-Encoding Variational Bayes, ICLR 2014"
    version = 2
    small = {"latent": 2, "hidden": [3]}

    def __init__(self, n_visible: int, latent: Size, hidden: list[Size]):
        super().__init__(n_visible, layers=[latent], hidden=[hidden], activation="relu")

    def multiply_in(self, dtype: torch.dtype | None, weights: Mapping[nn.Parameter, RoundedWeight]) -> None:
        """See ``harness.method.MixedPrecision``."""
        self.use_rounded(dtype, weights)

    def loss(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """Mean of -E_q[log p(x | h)] + KL(q(h | x) || p(h)) with n_samples draws per row."""
        mean, log_std = self.posterior(batch.x)
        h, _ = self.draw(mean, log_std, n_samples, generator)
        divergence = 0.5 * (mean.square() + torch.exp(2 * log_std) - 1.0).sum(-1) - log_std.sum(-1)
        return (divergence - self.log_likelihood(batch.x, h).mean(1)).mean()

    @torch.no_grad()
    def accumulate_gradients(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """The gradient of ``loss`` by the same draws."""
        n_rows = len(batch.x)
        inferred = self.infer(batch.x, n_samples, generator, with_prior=False)
        bound = inferred.log_p.mean(1).neg_()
        normal.add_divergence(inferred.encoded[0].product, self._encoders[0].bias, bound)
        weights = batch.x.new_full((n_rows * n_samples,), -1.0 / (n_rows * n_samples))
        self.add_gradients(inferred, weights, torch.zeros_like(weights), with_prior=False, divergence=1.0 / n_rows)
        return bound.mean()
