"""Latent Gaussian layers between multilayer perceptrons, Bernoulli visible units: the networks of VAE and IWAE.

q(h_l | h_{l-1}) and p(h_{l-1} | h_l) are diagonal Gaussians whose means and log standard deviations are outputs of
perceptrons; p(h_L) is standard normal; p(x | h_1) is Bernoulli. Samples are reparametrised, so losses differentiate
through them. Constants of the normal densities cancel between p and q and are left out of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.blocks import bernoulli, normal
from harness.blocks.bernoulli import log_likelihood, sample_bernoulli
from harness.blocks.perceptron import Passed, Passes, perceptron
from harness.blocks.scratch import Scratch
from harness.errors import ConfigError
from harness.method import Method, RoundedWeight


@dataclass
class Inferred:
    """K draws h ~ q(h | x) per row with what their gradients need, valid for one computation of these.

    x: [B, D]. h, noise: L tensors [B * K, n_l], the draws and what they were made of. encoded, decoded: the passes that
    gave q(h_l | h_{l-1}) and p(h_{l-1} | h_l). log_p, log_q: [B, K] double, nats; log_p without the prior of the top
    layer where that was left out. All but x, log_p and log_q may be memory that the model uses again.
    """

    x: Tensor
    h: list[Tensor]
    noise: list[Tensor]
    encoded: list[Passed]
    decoded: list[Passed]
    log_p: Tensor
    log_q: Tensor


def log_normal(value: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Sum over the last axis of log N(value | mean, exp(log_std)^2), without the constant -log(2 pi) / 2 an entry."""
    return (-0.5 * ((value - mean) * torch.exp(-log_std)).square() - log_std).sum(-1)


class GaussianStack(Method):
    """L stochastic layers; ``hidden[l]`` are the deterministic layers between stochastic layer l and l + 1."""

    product_dtype: torch.dtype | None = None  # of the products of training, where not that of the parameters

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
        self._scratch = Scratch()
        self._encoders, self._decoders = (
            [Passes(layers, self._scratch, f"{name} {level}") for level, layers in enumerate(networks)]
            for name, networks in (("encoder", self.encoders), ("decoder", self.decoders))
        )

    def use_rounded(self, dtype: torch.dtype | None, weights: Mapping[nn.Parameter, RoundedWeight]) -> None:
        """Make the products of ``infer`` and ``add_gradients`` in ``dtype``, see ``harness.method.MixedPrecision``."""
        self.product_dtype = dtype
        for passes in (*self._encoders, *self._decoders):
            passes.use_rounded(weights)

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
    def infer(self, x: Tensor, n_samples: int, generator: torch.Generator, with_prior: bool = True) -> Inferred:
        """Draw h ~ q(h | x), evaluate log p(x, h) and log q(h | x), for ``add_gradients``: as ``log_weights`` draws.

        ``with_prior=False`` leaves log p(h_L) out. Products are in the data type that ``use_rounded`` was given.
        """
        n_pairs = x.shape[0] * n_samples
        log_p, log_q = (torch.zeros(n_pairs, dtype=torch.float64, device=x.device) for _ in range(2))
        h, noise, encoded, decoded = [], [], [], []
        below = self._for_products(x)
        for level, (encoder, decoder) in enumerate(zip(self._encoders, self._decoders, strict=True)):
            encoded.append(encoder.forward(below))
            drawn = (n_samples if level == 0 else 1), generator, log_q, self._scratch, f"h {level}"
            layer_noise, value, below = normal.draw(encoded[-1].product, encoder.bias, *drawn)
            decoded.append(decoder.forward(below))
            if level == 0:
                bernoulli.score(decoded[-1].product, decoder.bias, x, log_p)
            else:
                normal.score(decoded[-1].product, decoder.bias, h[-1], log_p)
            h.append(value)
            noise.append(layer_noise)
        if with_prior:
            log_p -= 0.5 * h[-1].square().sum(1)
        shape = (x.shape[0], n_samples)
        return Inferred(x, h, noise, encoded, decoded, log_p.view(shape), log_q.view(shape))

    def _for_products(self, x: Tensor) -> Tensor:
        """x [B, D] in the data type of products."""
        if self.product_dtype is None:
            return x
        return self._scratch.take("x", *x.shape, self.product_dtype, x.device).copy_(x)

    @torch.no_grad()
    def add_gradients(
        self,
        inferred: Inferred,
        by_log_p: Tensor,
        by_log_q: Tensor,
        with_prior: bool = True,
        divergence: float = 0.0,
    ) -> None:
        """Add the gradients of a loss, given that by log p(x, h) and by log q(h | x), each [B * K].

        divergence: that by the Kullback-Leibler divergence of q(h_1 | x) from the standard normal distribution, for
        every row. ``with_prior`` as for ``infer``. Gradients pass through the draws.
        """
        top = len(inferred.h) - 1
        by_h = inferred.h[top] * -by_log_p[:, None] if with_prior else None  # [B * K, n_l], as far as it is known
        for level in range(top, -1, -1):
            encoder, decoder = self._encoders[level], self._decoders[level]
            product, bias = inferred.decoded[level].product, decoder.bias
            if level == 0:
                missed, by_below = bernoulli.residual(product, bias, inferred.x, by_log_p, bias.grad), None
            else:
                below = inferred.h[level - 1]
                by_below = self._scratch.take(f"by h {level}", *below.shape, below.dtype, below.device)
                missed = normal.score_gradients(product, bias, below, by_log_p, bias.grad, by_below)
            through_decoder = decoder.add_gradients(inferred.decoded[level], missed)
            by_h = through_decoder if by_h is None else by_h.add_(through_decoder)
            encoded, bias, row = inferred.encoded[level], encoder.bias, divergence if level == 0 else 0.0
            drawn = encoded.product, bias, inferred.noise[level], by_h, by_log_q, row, bias.grad
            through_encoder = encoder.add_gradients(encoded, normal.draw_gradients(*drawn), with_inputs=level > 0)
            by_h = by_below if by_below is None else by_below.add_(through_encoder)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n rows x ~ p(x), [n, D]."""
        reference = next(self.parameters())
        h = torch.randn(n, self.top_size, generator=generator, device=reference.device, dtype=reference.dtype)
        for decoder in reversed(self.decoders[1:]):
            h = self.draw(*decoder(h).chunk(2, dim=-1), 1, generator)[0].squeeze(1)
        return sample_bernoulli(torch.sigmoid(self.decoders[0](h)), generator)
