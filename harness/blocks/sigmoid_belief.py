"""Stacks of belief layers: a top-down model p and a bottom-up model q over the same binary latent layers.

BiHM, reweighted wake-sleep and their semi-supervised forms share this network and differ in how they weight samples;
so everything that goes through the layers is here: sampling, log-probabilities, and gradients. What a layer does is its
own affair (``harness.blocks.conditional``); here they are sigmoid belief layers, and ``harness.blocks.nade_belief`` has
others. Samples count as data, hence no gradient crosses a layer. What depends on x alone, the product that q(h_1 | x)
has with it, is computed once per row, not once per sample. Small layers at the top go together, where they can
(``harness.blocks.small_layers``). Upper layers may wait until those below them are reliable
(``harness.blocks.release``): as long as they do, they are no part of the stack.

Training may multiply in bfloat16 (``multiply_in``): samples are 0/1, hence exact, weights are rounded, products are
summed in float32 and rounded, and everything else, biases, log-probabilities, gradients' sums and the parameters
themselves, stays as it was. Likelihoods are always estimated in the precision of the parameters.

Notation: h_0 = x, layers l = 1..L from the data upward, ``B`` rows, ``K`` samples per row, ``n_l`` units. Latent
samples are stored as [B * K, n_l] with the K samples of a row next to each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from harness.blocks.conditional import Scored
from harness.blocks.release import Release
from harness.blocks.scratch import Scratch
from harness.blocks.sigmoid_layer import Bernoullis, SigmoidLayer
from harness.blocks.single_layers import SingleLayers
from harness.blocks.small_layers import Passed, SmallLayers
from harness.method import Method, RoundedWeight
from harness.ranges import Share, Size, Sizes


def initial_weight(n_out: int, n_in: int) -> nn.Parameter:
    """[n_out, n_in], uniform in +-sqrt(6 / (n_in + n_out)) / n_in: the initialisation of the thesis' experiments."""
    bound = math.sqrt(6.0 / (n_in + n_out)) / n_in
    return nn.Parameter(torch.empty(n_out, n_in).uniform_(-bound, bound))


def initial_bias(n: int) -> nn.Parameter:
    """[n], -1 everywhere (thesis, section 3.6)."""
    return nn.Parameter(torch.full((n,), -1.0))


@dataclass
class Inferred:
    """K samples h ~ q(h | x) a row with what their gradients need, valid for one computation of each layer's.

    x: [B, D]. h: L tensors [B * K, n_l] in the data type that the layers draw in. q: h_1 .. h_L scored by q; p: x,
    h_1 .. h_{L-1} scored by p; prior: h_L by p, or None. log_p, log_q: [B, K] double, nats; log_p without the prior of
    the top layer where that was left out. upper: what the layers that went together keep, or None; theirs in h, q and p
    are made when they are asked for, and there is no ``prior`` then. All but x, log_p and log_q may be memory that the
    model uses again: they are valid until it infers again in the same thread.
    """

    x: Tensor
    h: Sequence[Tensor]
    q: Sequence[Scored]
    p: Sequence[Scored]
    prior: Scored | None
    log_p: Tensor
    log_q: Tensor
    upper: Passed | None = None

    @property
    def n_single(self) -> int:
        """How many layers, from below, went by themselves."""
        return len(self.q) if self.upper is None else self.upper.first


class BeliefStack(SingleLayers, Method):
    """p(h_L) prod p(h_{l-1} | h_l) and q(h | x) = prod q(h_l | h_{l-1}), every factor a ``Conditional``.

    As made here, every factor is a product of Bernoullis: p(h_{l-1} | h_l) has logits p_weight[l-1] h_l + p_bias[l-1],
    q(h_l | h_{l-1}) has q_weight[l-1] h_{l-1} + q_bias[l-1], and p(h_L) has prior_bias (thesis, section 3.3).

    release: reliability of a layer from which on the one above it is in use, see ``harness.blocks.release``, decided
    every ``release_every`` updates; None: all are in use from the start. L is the number of layers in use: p_layers,
    q_layers and prior are those of a stack without the layers that wait, which has p_bias[L] in the place of
    prior_bias.
    """

    product_dtype: torch.dtype | None = None  # of the matrix products that training makes, as ``multiply_in`` has it
    _small_layers: SmallLayers | None = None  # that go together; a stack of other layers has none
    _whole: tuple[Sequence[Any], Sequence[Any], Any] | None = None  # p_layers, q_layers and prior once none waits
    waits = False  # whether there are layers that are not released
    _waiting: tuple[nn.Parameter, ...] | None = ()  # their parameters; None: not looked for yet

    def __init__(self, n_visible: int, layers: Sizes, release: Share | None = None, release_every: Size = 100):
        super().__init__(n_visible)
        scratch = Scratch()
        self._make_layers([n_visible, *layers], scratch)
        self.release = None if release is None else Release(len(layers), release, release_every)
        if self.release is not None:
            self._whole, self._scratch = (self.p_layers, self.q_layers, self.prior), scratch
            self._use_released()
            self.register_load_state_dict_post_hook(_use_loaded)

    def _make_layers(self, sizes: list[int], scratch: Scratch) -> None:
        """Set p_layers, q_layers and prior, with this scratch, over layers of these sizes, x first."""
        pairs = list(pairwise(sizes))
        self.p_weight = nn.ParameterList(initial_weight(below, above) for below, above in pairs)
        self.p_bias = nn.ParameterList(initial_bias(below) for below, _ in pairs)
        self.q_weight = nn.ParameterList(initial_weight(above, below) for below, above in pairs)
        self.q_bias = nn.ParameterList(initial_bias(above) for _, above in pairs)
        self.prior_bias = initial_bias(sizes[-1])
        self.p_layers = [
            SigmoidLayer(self.p_weight, self.p_bias, level, scratch, f"p {level}") for level in range(len(pairs))
        ]
        self.q_layers = [
            SigmoidLayer(self.q_weight, self.q_bias, level, scratch, f"q {level}") for level in range(len(pairs))
        ]
        self.prior = Bernoullis(self._parameters, "prior_bias", scratch, "prior")
        self._small_layers = SmallLayers(self.p_layers, self.q_layers, self.prior, scratch)

    def _use_released(self) -> None:
        """Be a stack of the layers that are released."""
        n = self.release.n_released
        p_layers, q_layers, self.prior = self._whole
        self.p_layers, self.q_layers = p_layers[:n], q_layers[:n]
        self.waits, self._waiting = n < len(p_layers), None
        if self.waits:
            self.prior = Bernoullis(self.p_bias._parameters, str(n), self._scratch, "prior")
        self._small_layers = SmallLayers(self.p_layers, self.q_layers, self.prior, self._scratch)

    def begin_update(self) -> Sequence[nn.Parameter]:
        """See ``harness.method.InStages``: the next layer is released where it is time."""
        if self.waits and self.release.advance():
            self._use_released()
        if self._waiting is None:  # only now, since moving a model may put others in their place
            self._waiting = self.parameters_above(len(self.p_layers)) if self.waits else ()
        return self._waiting

    def parameters_above(self, n: int) -> tuple[nn.Parameter, ...]:
        """Those that are in no use while only the n lowest layers are."""
        above = *self.p_weight[n:], *self.q_weight[n:], *self.p_bias[n + 1 :], *self.q_bias[n:]
        return (*above, self.prior_bias)

    def waiting_units(self) -> list[int]:
        """See ``harness.method.InStages``."""
        return [len(layer.bias) for layer in self._whole[1][len(self.q_layers) :]] if self.waits else []

    def take_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
        """See ``harness.method.TakesWeights``: layers start from layers, by their level, and come with their release.

        Where the other stack has fewer, its prior becomes the bias of p below the first layer that is only here, which
        is the prior as long as that layer is off, and where it has more, its prior is of another layer: in either case
        the prior here stays its own. Layers that were in use there are in use here. A label above the top layer has
        weights of its own, which begin close to zero, and ``prior_bias`` is what p(h_L) and every p(h_L | y) share: a
        semi-supervised stack begins as the unsupervised one, with a label that is all but independent of it.
        """
        n_there, n_here = (sum(name.startswith("q_bias.") for name in each) for each in (weights, self.state_dict()))
        if not n_there:
            return {}
        changed: dict[str, Tensor | None] = {}
        if n_there != n_here:
            changed |= {"prior_bias": None, "release.reliability": None}
        if n_there < n_here:
            changed[f"p_bias.{n_there}"] = weights["prior_bias"]
        if self.release is not None:
            released = int(weights.get("release.released", n_there))
            changed["release.released"] = torch.tensor(min(released, n_here))
        return changed

    def multiply_in(self, dtype: torch.dtype | None, weights: Mapping[nn.Parameter, RoundedWeight]) -> None:
        """See ``harness.method.MixedPrecision``."""
        self.product_dtype = dtype
        p_layers, q_layers, prior = self._whole or (self.p_layers, self.q_layers, self.prior)
        for layer in (*p_layers, *q_layers, prior):
            layer.use_rounded(weights)

    def log_prior(self, top: Tensor) -> Tensor:
        """log p(h_L) [N] double for h_L [N, n_L]."""
        return self.prior.log_likelihood(self.prior.product(_nothing(top)), top)

    @torch.no_grad()
    def infer(
        self,
        x: Tensor,
        n_samples: int,
        generator: torch.Generator,
        with_prior: bool = True,
        dtype: torch.dtype | None = None,
        first_product: Tensor | None = None,
    ) -> Inferred:
        """Draw h ~ q(h | x) and evaluate log p(x, h) and log q(h | x).

        ``with_prior=False`` leaves log p(h_L) out. dtype: of the matrix products, by default that of the parameters.
        first_product: the product of q's lowest layer with x, [B, m], where the caller has it already.
        """
        n_pairs = x.shape[0] * n_samples
        log_p, log_q = (torch.zeros(n_pairs, dtype=torch.float64, device=x.device) for _ in range(2))
        q, p, prior, upper = [], [], None, None
        below, repeats, product = x, n_samples, first_product
        n_single = len(self.q_layers) if self._small_layers is None else self._small_layers.first()
        for layer in self.q_layers[:n_single]:
            if product is None:
                product = layer.multiply_for_gradients(below, dtype)
            q.append(layer.draw_scored(product, repeats, generator, log_q))
            below, repeats, product = q[-1].value, 1, None
        h = [scored.value for scored in q]
        for below, above, layer in zip([x, *h[:-1]], h, self.p_layers[:n_single], strict=True):
            p.append(layer.score(layer.multiply_for_gradients(above, dtype), below, log_p))
        if n_single < len(self.q_layers):
            upper = self._small_layers.infer(h[-1], n_single, generator, log_p, log_q, with_prior)
            h, q, p = upper.all_layers(h, q, p)
        elif with_prior:
            prior = self.prior.score(self.prior.multiply_for_gradients(_nothing(h[-1])), h[-1], log_p)
        shape = (x.shape[0], n_samples)
        return Inferred(x, h, q, p, prior, log_p.view(shape), log_q.view(shape), upper)

    def log_weights(self, x: Tensor, n_samples: int, generator: torch.Generator) -> Tensor:
        """log p(x, h_k) - log q(h_k | x) for h_k ~ q(h | x), [B, K] double."""
        inferred = self.infer(x, n_samples, generator)
        return inferred.log_p - inferred.log_q

    @torch.no_grad()
    def encode(self, x: Tensor, n_samples: int, generator: torch.Generator) -> list[Tensor]:
        """E_q[h_l | x] of every layer, from x upward, [B, n_l], by n_samples draws; that of a sigmoid h_1 is exact."""
        inferred = self.infer(x, n_samples, generator, with_prior=False)
        means = (layer.mean_of(scored) for layer, scored in zip(self.q_layers, inferred.q, strict=True))
        return [mean.view(x.shape[0], -1, mean.shape[1]).mean(1) for mean in means]

    def log_joint(self, x: Tensor, h: list[Tensor]) -> Tensor:
        """log p(x, h) [N] double for x [N, D] and L tensors h_l [N, n_l]."""
        total = self.log_prior(h[-1])
        for below, above, layer in zip([x, *h[:-1]], h, self.p_layers, strict=True):
            total = total + layer.log_likelihood(layer.product(above), below)
        return total

    def log_recognition(self, x: Tensor, h: list[Tensor]) -> Tensor:
        """log q(h | x) [N] double for x [N, D] and L tensors h_l [N, n_l]."""
        total = torch.zeros(x.shape[0], dtype=torch.float64, device=x.device)
        for below, above, layer in zip([x, *h[:-1]], h, self.q_layers, strict=True):
            total = total + layer.log_likelihood(layer.product(below), above)
        return total

    @torch.no_grad()
    def add_log_recognition(self, x: Tensor, h: list[Tensor], first_product: Tensor, log_q: Tensor) -> None:
        """Add log q(h | x) to ``log_q`` [N] double, given first_product, that of ``infer`` [N, m]; no gradient."""
        for level, layer in enumerate(self.q_layers):
            layer.score(first_product if level == 0 else layer.multiply(h[level - 1]), h[level], log_q)

    @torch.no_grad()
    def sample_prior(self, n: int, generator: torch.Generator) -> Tensor:
        """n draws of h_L ~ p(h_L), [n, n_L]."""
        return self.prior.sample(n, generator)

    @torch.no_grad()
    def descend(
        self,
        top: Tensor,
        generator: torch.Generator,
        log_prob: Tensor | None = None,
        dtype: torch.dtype | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """(x, [h_1 .. h_L]) ~ p given h_L [n, n_L], from the top layer downward.

        log p(x, h_1 .. h_{L-1} | h_L) is added to ``log_prob`` [n] double where that is given. dtype: of the products
        and of what sigmoid layers draw, by default that of the parameters.
        """
        layers = [top if dtype is None else top.to(dtype)]
        for layer in reversed(self.p_layers):
            layers.append(layer.draw(layer.multiply(layers[-1], dtype), 1, generator, log_prob))
        layers.reverse()
        return layers[0], layers[1:]

    @torch.no_grad()
    def add_p_gradients(self, inferred: Inferred, weights: Tensor) -> None:
        """Add sum_bk weights[b, k] d log p(x_b, h_bk | prior) to the gradients of p's layers; weights [B * K].

        As updates do it, the samples tell whether the next layer may be released.
        """
        if self.waits:
            self.release.see(inferred.h[-1], inferred.log_p.shape[1])
        for level in range(inferred.n_single):
            self.p_layers[level].add_gradients(inferred.p[level], weights, inferred.h[level])
        if inferred.upper is not None:
            inferred.upper.add_gradients(weights, inferred.n_single, len(self.p_layers), of_p=True)

    @torch.no_grad()
    def add_prior_gradients(self, inferred: Inferred, weights: Tensor) -> None:
        """Add sum_bk weights[b, k] d log p(h_L) to the gradients of the prior; weights [B * K]."""
        if inferred.upper is not None:
            inferred.upper.add_gradients(weights, len(self.p_layers), len(self.p_layers) + 1, of_p=True)
        else:
            self.prior.add_gradients(inferred.prior, weights, _nothing(inferred.h[-1]))

    @torch.no_grad()
    def add_q_gradients(self, inferred: Inferred, weights: Tensor) -> None:
        """Add sum_bk weights[b, k] d log q(h_bk | x_b) to the gradients of q's layers; weights [B * K]."""
        for level in range(inferred.n_single):
            self.add_q_layer_gradients(inferred, level, weights)
        if inferred.upper is not None:
            inferred.upper.add_gradients(weights, inferred.n_single, len(self.q_layers), of_p=False)

    @torch.no_grad()
    def add_q_layer_gradients(self, inferred: Inferred, level: int, weights: Tensor) -> None:
        """Add sum_bk weights[b, k] d log q(h_l | h_{l-1}) to the gradients of layer l = level + 1; weights [B * K]."""
        if level >= inferred.n_single:
            inferred.upper.add_gradients(weights, level, level + 1, of_p=False)
            return
        layer, scored = self.q_layers[level], inferred.q[level]
        if level == 0:
            layer.add_pooled_gradients(scored, weights, inferred.x)
        else:
            layer.add_gradients(scored, weights, inferred.h[level - 1])

    @torch.no_grad()
    def add_sleep_gradients(self, x: Tensor, h: list[Tensor], factor: float) -> None:
        """Add factor * sum_n d log q(h_n | x_n) for complete samples x [N, D], h_l [N, n_l]."""
        weights = torch.full((x.shape[0],), factor, dtype=self.prior.bias.dtype, device=x.device)
        for below, above, layer in zip([x, *h[:-1]], h, self.q_layers, strict=True):
            layer.add_gradients_of(above, below, weights)


def _use_loaded(stack: BeliefStack, _: Any) -> None:
    """Be a stack of as many layers as the state that was loaded has released."""
    stack.release.read()
    stack._use_released()


def _nothing(top: Tensor) -> Tensor:
    """What p(h_L) is given, [N, 0] for h_L [N, n_L]."""
    return top[:, :0]
