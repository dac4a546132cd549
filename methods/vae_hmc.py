"""Variational autoencoder whose posterior draws take Hamiltonian transitions inside the bound.

A draw z_0 ~ q(z | x) is moved by T transitions; each draws a momentum v'_t ~ N(0, 1) and takes leapfrog steps towards
larger log p(x, z). A leapfrog step is a chain of shears, so it keeps volumes, and
p(x, z_T) prod_t r_t(v_t | x, z_t) / (q(z_0 | x) prod_t N(v'_t)) is an importance weight on the space of (z, v_1 .. v_T)
whatever the reverse model r is: its mean is p(x), the mean of its logarithm a bound. The force, d log p(x, z) / dz, is
written out as tensor operations, which evaluation makes without a graph and ``loss`` with one. Training computes the
gradient of the latter by ``harness.blocks.leapfrog`` and ``harness.blocks.reverse_momenta``, which keep no graph.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.blocks import normal
from harness.blocks.bernoulli import log_likelihood
from harness.blocks.features import Features
from harness.blocks.gaussian import GaussianStack, log_normal
from harness.blocks.leapfrog import Leapfrog
from harness.blocks.reverse_momenta import ReverseMomenta
from harness.errors import ConfigError
from harness.method import Batch, RoundedWeight
from harness.ranges import Count, Positive, Size, Sizes


def force(x: Tensor, z: Tensor, decoder: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """d log p(x, z) / dz [B, K, n], and the decoder's last product, without the bias, [B * K, D].

    x [B, D], z [B, K, n]; decoder: (weight, bias) of its layers. Differentiable.
    """
    *layers, (last, last_bias) = decoder
    below, slopes = z.flatten(0, 1), []  # [B * K, n]
    for weight, bias in layers:
        below = torch.tanh(F.linear(below, weight, bias))
        slopes.append(1.0 - below.square())
    product = F.linear(below, last)
    missed = x[:, None] - torch.sigmoid(product + last_bias).view(*z.shape[:2], -1)  # d log p(x | z) / d logits
    result = missed.flatten(0, 1) @ last
    for (weight, _), slope in zip(reversed(layers), reversed(slopes), strict=True):
        result = (result * slope) @ weight
    return result.view_as(z) - z, product


class VAEHMC(GaussianStack):
    """One latent Gaussian layer; tanh units, since the force must be smooth.

    iterations: T. leapfrog_steps: in each. Step sizes are learned for every iteration and latent dimension, which
    stands for a diagonal mass matrix as well. reverse_hidden: tanh units of r_t, whose inputs are the encoder's last
    hidden layer and z_t. warm_up: so many updates first climb the bound of the plain VAE, which costs a tenth.
    """

    name = "vae_hmc"
    title = "VAE + HMC"
    kind = "latent"
    source = "Salimans, Kingma, Welling: Markov Chain Monte Carlo and Variational Inference, ICML 2015"
    version = 3
    small = {"latent": 1, "hidden": [3], "iterations": 2, "reverse_hidden": 2}

    def __init__(
        self,
        n_visible: int,
        latent: Size,
        hidden: Sizes,
        iterations: Size = 8,
        leapfrog_steps: Size = 1,
        reverse_hidden: Size = 100,
        initial_step: Positive = 0.05,
        warm_up: Count = 0,
    ):
        super().__init__(n_visible, layers=[latent], hidden=[hidden], activation="tanh")
        if not hidden or min(iterations, leapfrog_steps) < 1:
            raise ConfigError(
                "vae_hmc: hidden, iterations, leapfrog_steps: expected at least one each, "
                f"found {hidden}, {iterations}, {leapfrog_steps}"
            )
        self.iterations, self.leapfrog_steps, self.warm_up = iterations, leapfrog_steps, warm_up
        self.capturable = warm_up == 0
        self.register_buffer("n_updates", torch.zeros((), dtype=torch.int64))  # counted while there is a warm-up
        # one dimension: these are no weights that a penalty should shrink
        self.log_step = nn.Parameter(torch.full((iterations * latent,), math.log(initial_step)))
        bound = math.sqrt(6.0 / (hidden[-1] + latent + reverse_hidden))
        shapes = (iterations * reverse_hidden, hidden[-1]), (iterations, latent, reverse_hidden)
        self.reverse_features, self.reverse_state = (
            nn.Parameter(torch.empty(shape).uniform_(-bound, bound)) for shape in shapes
        )
        self.reverse_bias = nn.Parameter(torch.zeros(iterations * reverse_hidden))
        # zero: r begins as the distribution from which momenta are drawn
        self.reverse_output = nn.Parameter(torch.zeros(iterations, reverse_hidden, 2 * latent))
        self.reverse_output_bias = nn.Parameter(torch.zeros(iterations * 2 * latent))
        self._features = Features(self.encoders[0], self._scratch)
        self._leapfrog = Leapfrog(self.decoders[0], iterations, leapfrog_steps, self._scratch)
        self._reverse = ReverseMomenta(self._parameters, iterations, self._scratch)

    def multiply_in(self, dtype: torch.dtype | None, weights: Mapping[nn.Parameter, RoundedWeight]) -> None:
        """All products of training, see ``harness.method.MixedPrecision``."""
        self.use_rounded(dtype, weights)
        for part in (self._features, self._leapfrog, self._reverse):
            part.use_rounded(weights)

    def decoder_layers(self) -> list[tuple[Tensor, Tensor]]:
        """(weight, bias) of the decoder's layers."""
        return [(layer.weight, layer.bias) for layer in self.decoders[0] if isinstance(layer, nn.Linear)]

    def leapfrog(
        self, x: Tensor, z: Tensor, v: Tensor, slope: Tensor, step: Tensor, decoder: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, ...]:
        """``leapfrog_steps`` steps of sizes ``step`` [n] from position z and momentum v, each [B, K, n].

        slope: the force at z, [B, K, n]. Returns the new z, v, force and the decoder's product there (see ``force``).
        """
        for _ in range(self.leapfrog_steps):
            v = v + 0.5 * step * slope
            z = z + step * v
            slope, product = force(x, z, decoder)
            v = v + 0.5 * step * slope
        return z, v, slope, product

    def log_reverse(self, features: Tensor, z: Tensor, v: Tensor) -> Tensor:
        """sum_t log r_t(v_t | x, z_t), [B, K], for features of x [B, H], z and v [T, B, K, n].

        Like ``log_normal``, without the density's constant.
        """
        n_iterations, n_rows, n_samples = z.shape[:3]
        of_x = F.linear(features, self.reverse_features, self.reverse_bias).view(n_rows, n_iterations, 1, -1)
        of_z = torch.bmm(z.flatten(1, 2), self.reverse_state).view(n_iterations, n_rows, n_samples, -1)
        hidden = torch.tanh(of_x.transpose(0, 1) + of_z).flatten(1, 2)  # [T, B * K, R]
        outputs = torch.baddbmm(self.reverse_output_bias.view(n_iterations, 1, -1), hidden, self.reverse_output)
        mean, log_std = outputs.view(n_iterations, n_rows, n_samples, -1).chunk(2, dim=-1)
        return log_normal(v, mean, log_std).sum(0)

    def log_weights(self, x: Tensor, n_samples: int, generator: torch.Generator) -> Tensor:
        """log p(x, z_T) prod_t r_t(v_t | x, z_t) - log q(z_0 | x) prod_t N(v'_t), [B, K]; differentiable.

        The constants of the normal densities, as many above as below, are left out.
        """
        decoder = self.decoder_layers()
        features = self.encoders[0][:-1](x)
        mean, log_std = self.encoders[0][-1](features).chunk(2, dim=-1)
        z, log_q = self.draw(mean, log_std, n_samples, generator)
        shape = (self.iterations, *z.shape)
        drawn = torch.randn(shape, generator=generator, device=z.device, dtype=z.dtype)
        steps = torch.exp(self.log_step).view(self.iterations, -1)
        slope, _ = force(x, z, decoder)
        positions, momenta = [], []
        for noise, step in zip(drawn, steps, strict=True):
            z, v, slope, product = self.leapfrog(x, z, noise, slope, step, decoder)
            positions.append(z)
            momenta.append(v)
        log_r = self.log_reverse(features, torch.stack(positions), torch.stack(momenta))
        log_p = log_likelihood(product, decoder[-1][1], x).view(z.shape[:2]) - 0.5 * z.square().sum(-1)
        return log_p + log_r - log_q + 0.5 * drawn.square().sum((0, -1))

    def loss(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """Mean of -lw: the bound, with n_samples draws per row; while warming up, that of the plain VAE."""
        weigh = super().log_weights if self._warming_up() else self.log_weights
        return -weigh(batch.x, n_samples, generator).mean()

    @torch.no_grad()
    def accumulate_gradients(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """The gradient of ``loss`` by the same draws."""
        n_draws = len(batch.x) * n_samples
        by_log_p = batch.x.new_full((n_draws,), -1.0 / n_draws)
        if not self._warming_up():
            return self._add_gradients(batch.x, n_samples, generator, by_log_p)
        inferred = self.infer(batch.x, n_samples, generator)
        self.add_gradients(inferred, by_log_p, -by_log_p)
        return (inferred.log_q - inferred.log_p).mean()

    def _add_gradients(self, x: Tensor, n_samples: int, generator: torch.Generator, by_log_p: Tensor) -> Tensor:
        """Mean of -lw over N = B * K draws for rows x [B, D], double; by_log_p [N]: its gradient by lw, -1 / N."""
        passed = self._features.forward(self._for_products(x))
        log_q, log_p = (torch.zeros(len(by_log_p), dtype=torch.float64, device=x.device) for _ in range(2))
        posterior = passed.product, self._features.bias
        noise, z, _ = normal.draw(*posterior, n_samples, generator, log_q, self._scratch, "z")
        shape = self.iterations, *z.shape
        momenta, drawn = self._scratch.take_parts("drawn", *shape, z.dtype, z.device)
        momenta.normal_(generator=generator)
        steps = torch.exp(self.log_step).view(self.iterations, -1)
        moved = self._leapfrog.forward(x, z, drawn, steps, passed.product.dtype)
        log_p += moved.log_likelihood
        log_p -= 0.5 * moved.z[-1].square().sum(1)
        seen = passed.features, self._leapfrog.ends(moved), moved.whole_v
        through = self._reverse.add_gradients(*seen, by_log_p, log_p)
        by_steps = torch.zeros_like(steps)
        by_z = self._leapfrog.add_gradients(moved, -1.0 / len(by_log_p), through.z, through.v, by_steps)
        self.log_step.grad += (by_steps * steps).flatten()
        missed = normal.draw_gradients(*posterior, noise, by_z, -by_log_p, 0.0, self._features.bias.grad)
        self._features.add_gradients(passed, missed, through.features)
        drawn_energy = 0.5 * momenta.square().sum(dtype=torch.float64) / len(by_log_p)
        return (log_q - log_p).mean() - drawn_energy

    def _warming_up(self) -> bool:
        """Count this update; whether it is one of the first ``warm_up``."""
        if self.warm_up == 0:
            return False
        self.n_updates += 1
        return self.n_updates.item() <= self.warm_up
