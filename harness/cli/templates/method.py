"""A small variational autoencoder to start from: replace the model with your own."""

import math

import torch
from torch import Tensor, nn

from harness.blocks.bernoulli import log_bernoulli, sample_bernoulli
from harness.method import Batch, Method
from harness.ranges import Size


class NewMethod(Method):
    """Gaussian latent variables h, p(h) standard normal, p(x | h) and q(h | x) perceptrons with one hidden layer."""

    name = "new_method"
    title = "New method"
    kind = "latent"
    source = "not published yet"
    small = {"latent": 2, "hidden": 3}  # for `harness verify`

    def __init__(self, n_visible: int, latent: Size, hidden: Size):
        super().__init__(n_visible)
        self.encoder = nn.Sequential(nn.Linear(n_visible, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.Tanh(), nn.Linear(hidden, n_visible))

    def log_weights(self, x: Tensor, n_samples: int, generator: torch.Generator) -> Tensor:
        """log p(x, h_k) - log q(h_k | x) for h_k ~ q(h | x), [B, K], for rows x [B, D]."""
        mean, log_std = self.encoder(x)[:, None].chunk(2, dim=-1)  # [B, 1, latent] each
        noise = self.normal((len(x), n_samples), generator)  # [B, K, latent]
        h = mean + torch.exp(log_std) * noise
        log_prior = -0.5 * h.square().sum(-1)  # the constant is that of log q
        log_q = (-0.5 * noise.square() - log_std).sum(-1)
        return log_bernoulli(x[:, None], self.decoder(h)) + log_prior - log_q

    def loss(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """Mean of -log (1/K) sum_k w_k, nats per row."""
        log_weights = self.log_weights(batch.x, n_samples, generator)
        return math.log(n_samples) - torch.logsumexp(log_weights, dim=1).mean()

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n rows x ~ p(x), [n, D]."""
        return sample_bernoulli(torch.sigmoid(self.decoder(self.normal((n,), generator))), generator)

    def normal(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Standard normal draws for the latent variables, [*shape, latent]."""
        weight = self.decoder[0].weight  # [hidden, latent]; says device and precision
        return torch.randn((*shape, weight.shape[1]), generator=generator, device=weight.device, dtype=weight.dtype)
