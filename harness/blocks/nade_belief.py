"""Stacks of belief layers whose conditionals are NADEs: the networks of RWS - NADE and BiHM - NADE.

The stack is used as a ``BeliefStack`` is, so that a method is a weighting of samples and a network, each written once:
``class BiHMNade(NadeBeliefStack, BiHM)``. Every conditional p(h_{l-1} | h_l) and q(h_l | h_{l-1}) and the prior p(h_L)
is a ``NadeLayer``. Samples count as data here as well, so no gradient crosses a layer. What depends on x alone, the
shift of the biases of q(h_1 | x), is computed once per row. Of what bfloat16 may multiply there are only the shifts of
the biases; the recurrences over columns stay in the precision of the parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.blocks.nade import NadeLayer, Scored
from harness.blocks.scratch import Scratch
from harness.blocks.sigmoid_belief import BeliefStack
from harness.errors import ConfigError
from harness.method import Method
from harness.ranges import Sizes

DRAWS_A_MEAN = 100  # behind an expected value


@dataclass
class NadeInferred:
    """K samples h ~ q(h | x) a row with what their gradients need, valid for one computation of each layer's.

    x: [B, D]. h: L tensors [B * K, n_l]. q_layers: h_1 .. h_L scored by q; p_layers: x [B * K, D], h_1 .. h_{L-1}
    scored by p; prior: h_L, or None. log_p, log_q: [B, K] double, nats.
    """

    x: Tensor
    h: list[Tensor]
    q_layers: list[Scored]
    p_layers: list[Scored]
    prior: Scored | None
    log_p: Tensor
    log_q: Tensor


class NadeBeliefStack(BeliefStack):
    """p(h_L) prod p(h_{l-1} | h_l) and q(h | x) = prod q(h_l | h_{l-1}), every factor a NADE given its condition.

    layers: sizes of the latent layers, from the data upward. hidden: hidden units of the NADE over each layer of
    variables, x, h_1 .. h_L; p and q have as many. Raises ConfigError unless there is one more of these.
    """

    def __init__(self, n_visible: int, layers: Sizes, hidden: Sizes):
        Method.__init__(self, n_visible)
        if len(hidden) != len(layers) + 1:
            raise ConfigError(f"hidden: expected {len(layers) + 1} sizes, for x and each layer, found {len(hidden)}")
        units = list(zip([n_visible, *layers], hidden, strict=True))
        self.p_layers = nn.ModuleList(NadeLayer(*below, above[0]) for below, above in pairwise(units))
        self.q_layers = nn.ModuleList(NadeLayer(*above, below[0]) for below, above in pairwise(units))
        self.prior = NadeLayer(*units[-1], 0)
        self._scratch = Scratch()

    def _list_layers(self) -> None:
        """Nothing to do: layers are modules here, which keep their parameters themselves."""

    @property
    def q_weight(self) -> list[Tensor]:
        """The weights that each layer's condition is multiplied by, [H_l + n_l, n_{l-1}]."""
        return [layer.condition for layer in self.q_layers]

    @property
    def q_bias(self) -> list[Tensor]:
        """Bias [n_l] of each latent layer."""
        return [layer.visible_bias for layer in self.q_layers]

    @property
    def prior_bias(self) -> Tensor:
        """Bias [n_L] of the top layer."""
        return self.prior.visible_bias

    @torch.no_grad()
    def infer(
        self,
        x: Tensor,
        n_samples: int,
        generator: torch.Generator,
        with_prior: bool = True,
        dtype: torch.dtype | None = None,
        first_product: Tensor | None = None,
    ) -> NadeInferred:
        """Draw h ~ q(h | x) and evaluate log p(x, h) and log q(h | x).

        ``with_prior=False`` leaves log p(h_L) out. dtype: of the products with conditions, by default that of the
        parameters. first_product: q_weight[0] x [B, H_1 + n_1], where the caller has it already.
        """
        n_pairs = x.shape[0] * n_samples
        q_layers, p_layers = [], []
        below = x
        for level, layer in enumerate(self.q_layers):
            known = level == 0 and first_product is not None
            given = first_product if known else self._multiply("given", below, layer.condition, dtype)
            q_layers.append(layer.draw(given, n_pairs, generator))
            below = q_layers[-1].value
        h = [scored.value for scored in q_layers]
        rows = x.repeat_interleave(n_samples, dim=0)
        for below, above, layer in zip([rows, *h[:-1]], h, self.p_layers, strict=True):
            p_layers.append(layer.score(below, self._multiply("given", above, layer.condition, dtype)))
        prior = self.prior.score(h[-1], None) if with_prior else None
        log_p = sum(scored.log_prob for scored in [*p_layers, *([prior] if with_prior else [])])
        log_q = sum(scored.log_prob for scored in q_layers)
        shape = (x.shape[0], n_samples)
        return NadeInferred(x, h, q_layers, p_layers, prior, log_p.view(shape), log_q.view(shape))

    @torch.no_grad()
    def encode(self, x: Tensor, n_samples: int, generator: torch.Generator) -> list[Tensor]:
        """E_q[h_l | x] of every layer, from x upward, [B, n_l], by the mean of n_samples draws."""
        inferred = self.infer(x, n_samples, generator, with_prior=False)
        return [h.view(x.shape[0], n_samples, -1).mean(1) for h in inferred.h]

    def log_prior(self, top: Tensor) -> Tensor:
        """log p(h_L) [N] double for h_L [N, n_L]."""
        return self.prior.log_likelihood(top, None)

    def log_joint(self, x: Tensor, h: list[Tensor]) -> Tensor:
        """log p(x, h) [N] double for x [N, D] and L tensors h_l [N, n_l]."""
        total = self.log_prior(h[-1])
        for below, above, layer in zip([x, *h[:-1]], h, self.p_layers, strict=True):
            total = total + layer.log_likelihood(below, F.linear(above, layer.condition))
        return total

    def log_recognition(self, x: Tensor, h: list[Tensor]) -> Tensor:
        """log q(h | x) [N] double for x [N, D] and L tensors h_l [N, n_l]."""
        total = torch.zeros(x.shape[0], dtype=torch.float64, device=x.device)
        for below, above, layer in zip([x, *h[:-1]], h, self.q_layers, strict=True):
            total = total + layer.log_likelihood(above, F.linear(below, layer.condition))
        return total

    @torch.no_grad()
    def add_log_recognition(self, x: Tensor, h: list[Tensor], first_product: Tensor, log_q: Tensor) -> None:
        """Add log q(h | x) to ``log_q`` [N] double, given first_product = q_weight[0] x [N, H_1 + n_1]; no gradient."""
        given = first_product
        for level, layer in enumerate(self.q_layers):
            if level > 0:
                given = self._multiply("given", h[level - 1], layer.condition, None)
            log_q += layer.score(h[level], given).log_prob

    @torch.no_grad()
    def sample_prior(self, n: int, generator: torch.Generator) -> Tensor:
        """n draws of h_L ~ p(h_L), [n, n_L]."""
        return self.prior.draw(None, n, generator).value

    @torch.no_grad()
    def descend(
        self,
        top: Tensor,
        generator: torch.Generator,
        log_prob: Tensor | None = None,
        dtype: torch.dtype | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """(x, [h_1 .. h_L]) ~ p given h_L [n, n_L], from the top layer downward, in the precision of the parameters.

        log p(x, h_1 .. h_{L-1} | h_L) is added to ``log_prob`` [n] double where that is given. dtype: of the products
        with conditions, by default that of the parameters.
        """
        layers = [top]
        for layer in reversed(self.p_layers):
            scored = layer.draw(self._multiply("given", layers[-1], layer.condition, dtype), len(top), generator)
            layers.append(scored.value)
            if log_prob is not None:
                log_prob += scored.log_prob
        layers.reverse()
        return layers[0], layers[1:]

    @torch.no_grad()
    def expected_visible(self, h1: Tensor, generator: torch.Generator) -> Tensor:
        """E[x | h_1] under p, [n, D], for h_1 [n, n_1]: the mean of draws, since it has no closed form."""
        return self.draw_p(0, h1, DRAWS_A_MEAN, generator).view(len(h1), DRAWS_A_MEAN, -1).mean(1)

    @torch.no_grad()
    def draw_p(self, level: int, above: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """See ``BeliefStack``."""
        layer, given = self._p_layer(level, above)
        return layer.draw(given, len(above) * n, generator).value

    @torch.no_grad()
    def draw_unknown(
        self, x: Tensor, known: Tensor, h1: Tensor, n: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See ``BeliefStack``: unknown entries are drawn in order, each given all before it."""
        layer, given = self._p_layer(0, h1)
        fixed = torch.where(known, x, math.nan).repeat_interleave(n, dim=0)
        scored = layer.draw_columns(given, len(fixed), generator, fixed)
        return scored.value, layer.score(scored.value, given).log_prob, scored.log_prob

    @torch.no_grad()
    def draw_q(self, level: int, below: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """See ``BeliefStack``."""
        layer = self.q_layers[level - 1]
        return layer.draw(F.linear(below, layer.condition), len(below) * n, generator).value

    @torch.no_grad()
    def log_p_layer(self, level: int, value: Tensor, above: Tensor) -> Tensor:
        """See ``BeliefStack``."""
        return _pairwise_log_prob(*self._p_layer(level, above), value, len(above))

    @torch.no_grad()
    def log_q_layer(self, level: int, value: Tensor, below: Tensor, product: Tensor | None = None) -> Tensor:
        """See ``BeliefStack``."""
        layer = self.q_layers[level - 1]
        given = F.linear(below, layer.condition) if product is None else product
        return _pairwise_log_prob(layer, given, value, len(below))

    def _p_layer(self, level: int, above: Tensor) -> tuple[NadeLayer, Tensor | None]:
        """The layer of p(h_l | h_{l+1}), and what its biases are shifted by."""
        if level == len(self.p_layers):
            return self.prior, None
        return self.p_layers[level], F.linear(above, self.p_layers[level].condition)

    def add_p_gradients(self, inferred: NadeInferred, weights: Tensor) -> None:
        """Add sum_bk weights[b, k] d log p(x_b, h_bk | prior) to the gradients of p's layers; weights [B * K]."""
        for layer, scored, above in zip(self.p_layers, inferred.p_layers, inferred.h, strict=True):
            layer.add_gradients(scored, weights, above)

    def add_prior_gradients(self, inferred: NadeInferred, weights: Tensor) -> None:
        """Add sum_bk weights[b, k] d log p(h_L) to the gradients of the prior; weights [B * K]."""
        self.prior.add_gradients(inferred.prior, weights, None)

    def add_q_layer_gradients(self, inferred: NadeInferred, level: int, weights: Tensor) -> None:
        """Add sum_bk weights[b, k] d log q(h_l | h_{l-1}) to the gradients of layer l = level + 1; weights [B * K]."""
        below = inferred.x if level == 0 else inferred.h[level - 1]
        self.q_layers[level].add_gradients(inferred.q_layers[level], weights, below)

    @torch.no_grad()
    def add_sleep_gradients(self, x: Tensor, h: list[Tensor], factor: float) -> None:
        """Add factor * sum_n d log q(h_n | x_n) for complete samples x [N, D], h_l [N, n_l]."""
        weights = torch.full((x.shape[0],), factor, dtype=self.prior_bias.dtype, device=x.device)
        for below, above, layer in zip([x, *h[:-1]], h, self.q_layers, strict=True):
            given = self._multiply("given", below, layer.condition, None)
            layer.add_gradients(layer.score(above, given), weights, below)


def _pairwise_log_prob(layer: NadeLayer, given: Tensor | None, value: Tensor, n_given: int) -> Tensor:
    """log p(value | given) [max(V, n_given)] double for value [V, n]; either may have several rows for the other's."""
    return layer.score(value.repeat_interleave(max(1, n_given // len(value)), dim=0), given).log_prob
