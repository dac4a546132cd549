"""Latent Gaussian layers between multilayer perceptrons, Bernoulli visible units: the networks of VAE and IWAE.

q(h_l | h_{l-1}) and p(h_{l-1} | h_l) are diagonal Gaussians whose means and log standard deviations are outputs of
perceptrons; p(h_L) is standard normal; p(x | h_1) is Bernoulli. Samples are reparametrised, so losses differentiate
through them. Constants of the normal densities cancel between p and q and are left out of both.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.blocks.bernoulli import log_likelihood, sample_bernoulli
from harness.errors import ConfigError
from harness.method import Method

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


def perceptron(sizes: list[int], activation: str) -> nn.Sequential:
    """Linear layers of the given sizes with the activation between them, Glorot-uniform weights, zero biases."""
    if activation not in ACTIVATIONS:
        raise ConfigError(f"activation: expected one of {', '.join(ACTIVATIONS)}, found {activation!r}")
    modules: list[nn.Module] = []
    for below, above in pairwise(sizes):
        linear = nn.Linear(below, above)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        modules += [linear, ACTIVATIONS[activation]()]
    return nn.Sequential(*modules[:-1])


def log_normal(value: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Sum over the last axis of log N(value | mean, exp(log_std)^2), without the constant -log(2 pi) / 2 an entry."""
    return (-0.5 * ((value - mean) * torch.exp(-log_std)).square() - log_std).sum(-1)


class GaussianStack(Method):
    """L stochastic layers; ``hidden[l]`` are the deterministic layers between stochastic layer l and l + 1."""

    def __init__(self, n_visible: int, layers: list[int], hidden: list[list[int]], activation: str):
        super().__init__(n_visible)
        if len(hidden) != len(layers):
            raise ConfigError(f"hidden: expected one list for each of {len(layers)} layers, found {len(hidden)}")
        sizes = [n_visible, *layers]
        self.encoders, self.decoders = nn.ModuleList(), nn.ModuleList()
        for level, between in enumerate(hidden):
            below, above = sizes[level], sizes[level + 1]
            n_outputs = below if level == 0 else 2 * below
            self.encoders.append(perceptron([below, *between, 2 * above], activation))
            self.decoders.append(perceptron([above, *reversed(between), n_outputs], activation))
        self.top_size = layers[-1]

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of q(h_1 | x), each [B, n_1]."""
        return self.encoders[0](x).chunk(2, dim=-1)

    def log_likelihood(self, x: Tensor, h1: Tensor) -> Tensor:
        """log p(x | h_1) [B, K] for x [B, D] and h_1 [B, K, n_1]."""
        *hidden, last = self.decoders[0]
        below = h1.flatten(0, 1)  # [B * K, n_1]
        for layer in hidden:
            below = layer(below)
        return log_likelihood(F.linear(below, last.weight), last.bias, x).view(h1.shape[:2])

    def draw(self, mean: Tensor, log_std: Tensor, n_samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Reparametrised normal draws [N, n_samples, n] and their log-density [N, n_samples], for mean, log_std [N, n].

        The density is that of ``log_normal``, which at a draw depends on its noise and log_std alone.
        """
        shape = (len(mean), n_samples, mean.shape[1])
        noise = torch.randn(shape, generator=generator, device=mean.device, dtype=mean.dtype)
        draws = torch.addcmul(mean[:, None], torch.exp(log_std)[:, None], noise)
        return draws, -0.5 * noise.square().sum(-1) - log_std.sum(-1, keepdim=True)

    def log_weights(self, x: Tensor, n_samples: int, generator: torch.Generator) -> Tensor:
        """log p(x, h_k) - log q(h_k | x), [B, K]; differentiable."""
        h, log_q = self.draw(*self.posterior(x), n_samples, generator)
        total = self.log_likelihood(x, h) - log_q
        h = h.flatten(0, 1)  # [B * K, n_1]
        for encoder, decoder in zip(self.encoders[1:], self.decoders[1:], strict=True):
            above, log_q = self.draw(*encoder(h).chunk(2, dim=-1), 1, generator)
            above = above.squeeze(1)
            ratio = log_normal(h, *decoder(above).chunk(2, dim=-1)) - log_q.squeeze(1)
            total = total + ratio.view_as(total)
            h = above
        return total - 0.5 * h.square().sum(-1).view_as(total)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n rows x ~ p(x), [n, D]."""
        reference = next(self.parameters())
        h = torch.randn(n, self.top_size, generator=generator, device=reference.device, dtype=reference.dtype)
        for decoder in reversed(self.decoders[1:]):
            h = self.draw(*decoder(h).chunk(2, dim=-1), 1, generator)[0].squeeze(1)
        return sample_bernoulli(torch.sigmoid(self.decoders[0](h)), generator)
