"""One conditional of a stack of belief layers at a time: draws and log-probabilities, from any layer downward.

What Gibbs sampling and pictures of layers are made of, where training and likelihoods go through all layers at once
(``harness.blocks.sigmoid_belief``). h_0 = x, layers l = 1..L from the data upward, ``n_l`` units.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.blocks.conditional import Conditional, Prior


class SingleLayers:
    """Functions of a stack whose ``p_layers`` are p(h_{l-1} | h_l) and ``q_layers`` q(h_l | h_{l-1}), l upward from 1.

    ``prior`` is p(h_L).
    """

    p_layers: Sequence[Conditional]
    q_layers: Sequence[Conditional]
    prior: Prior

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n rows x ~ p(x), [n, D]."""
        return self.sample_layers(n, generator)[0]

    def sample_layers(self, n: int, generator: torch.Generator) -> list[Tensor]:
        """n joint draws [x, h_1 .. h_L] ~ p, each [n, n_l]."""
        x, h = self.descend(self.sample_prior(n, generator), generator)
        return [x, *h]

    def sample_below(self, level: int, h: Tensor, generator: torch.Generator) -> list[Tensor]:
        """[x, h_1 .. h_{l-1}] ~ p(x, h_1 .. h_{l-1} | h_l) for l = level and h [n, n_l], one draw per row."""
        layers = [h]
        for below in reversed(range(level)):
            layers.append(self.draw_p(below, layers[-1], 1, generator))
        return layers[:0:-1]

    @torch.no_grad()
    def expected_visible(self, h1: Tensor, generator: torch.Generator) -> Tensor:
        """E[x | h_1] under p, [n, D], for h_1 [n, n_1]."""
        layer = self.p_layers[0]
        return layer.mean(layer.product(h1), generator)

    @torch.no_grad()
    def draw_p(self, level: int, above: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """n draws of h_l ~ p(h_l | h_{l+1}) for every row of ``above`` [R, n_{l+1}]; [R * n, n_l] for l = level.

        Above the top layer, where p(h_L) needs nothing, stands [R, 0].
        """
        layer = self._p_layer(level)
        return layer.draw(layer.product(above), n, generator)

    @torch.no_grad()
    def draw_unknown(
        self, x: Tensor, known: Tensor, h1: Tensor, n: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """n proposals [R * n, D] a row of x [R, D] with its known entries; log p(x | h_1) and that of their density.

        Both [R * n] double. The density is that of the unknown entries, up to a factor that a row's proposals share.
        """
        layer = self.p_layers[0]
        return layer.draw_unknown(layer.product(h1), x, known, n, generator)

    @torch.no_grad()
    def draw_q(self, level: int, below: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """n draws of h_l ~ q(h_l | h_{l-1}) for every row of ``below`` [R, n_{l-1}]; [R * n, n_l] for l = level."""
        layer = self.q_layers[level - 1]
        return layer.draw(layer.product(below), n, generator)

    @torch.no_grad()
    def log_p_layer(self, level: int, value: Tensor, above: Tensor) -> Tensor:
        """log p(h_l | h_{l+1}) double, for value [V, n_l] and above [A, n_{l+1}], as ``draw_p`` has it; [max(V, A)].

        Either may have several rows for each row of the other.
        """
        layer = self._p_layer(level)
        return layer.pairwise_log_likelihood(layer.product(above), value)

    @torch.no_grad()
    def log_q_layer(self, level: int, value: Tensor, below: Tensor, product: Tensor | None = None) -> Tensor:
        """log q(h_l | h_{l-1}) double, for value [V, n_l] and below [B, n_{l-1}]; [max(V, B)].

        Either may have several rows for each row of the other. product: the layer's with h_{l-1}, where it is known.
        """
        layer = self.q_layers[level - 1]
        return layer.pairwise_log_likelihood(layer.product(below) if product is None else product, value)

    def _p_layer(self, level: int) -> Conditional:
        """p(h_l | h_{l+1}), of the top layer p(h_L)."""
        return self.prior if level == len(self.p_layers) else self.p_layers[level]
