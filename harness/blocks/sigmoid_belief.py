"""Stacks of sigmoid belief layers: a top-down model p and a bottom-up model q over the same binary latent layers.

BiHM, reweighted wake-sleep and their semi-supervised forms share this network and differ in how they weight samples;
so everything that touches a layer is here: sampling, log-probabilities, and gradients. Samples count as data, hence
no gradient crosses a layer and each one is a product of what the layer saw and what it missed (no graph is built).
What depends on x alone, q(h1 | x), is computed once per row, not once per sample. Between the matrix products a layer
costs one pass over its activations (``harness.blocks.bernoulli``), which reads x row by row: the bilinear term of
p(x | h1) is a by-product of that pass.

Training may multiply in bfloat16 (``product_dtype``): samples are 0/1, hence exact, weights are rounded, products are
summed in float32 and rounded, and everything else, biases, log-probabilities, gradients' sums and the parameters
themselves, stays as it was. Likelihoods are always estimated in the precision of the parameters.

Notation: h_0 = x, layers l = 1..L from the data upward, ``B`` rows, ``K`` samples per row, ``n_l`` units. Latent
samples are stored as [B * K, n_l] with the K samples of a row next to each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.blocks.bernoulli import draw, log_likelihood, pooled_residual, residual, sample_bernoulli, score
from harness.blocks.scratch import Scratch
from harness.blocks.single_layers import SingleLayers
from harness.method import Method
from harness.ranges import Sizes


def initial_weight(n_out: int, n_in: int) -> nn.Parameter:
    """[n_out, n_in], uniform in +-sqrt(6 / (n_in + n_out)) / n_in: the initialisation of the thesis' experiments."""
    bound = math.sqrt(6.0 / (n_in + n_out)) / n_in
    return nn.Parameter(torch.empty(n_out, n_in).uniform_(-bound, bound))


def initial_bias(n: int) -> nn.Parameter:
    """[n], -1 everywhere (thesis, section 3.6)."""
    return nn.Parameter(torch.full((n,), -1.0))


@dataclass
class Inferred:
    """K samples h ~ q(h | x) a row with what their gradients need.

    x: [B, D]. h: L tensors [B * K, n_l] in the dtype of the products. q_products: weight times input of q's layers, the
    first [B, n_1], the others [B * K, n_l]; p_products: of p's, for x [B * K, D], then h_1 .. h_{L-1}; neither contains
    the bias, and computing gradients overwrites both. log_p, log_q: [B, K] double, nats; log_p without the prior of the
    top layer where that is not factorised (see ``BeliefStack.log_prior``). All but x, log_p and log_q are memory that
    the model uses again: they are valid until it infers again in the same thread.
    """

    x: Tensor
    h: list[Tensor]
    q_products: list[Tensor]
    p_products: list[Tensor]
    log_p: Tensor
    log_q: Tensor


class BeliefStack(SingleLayers, Method):
    """p(h_L) prod p(h_{l-1} | h_l) and q(h | x) = prod q(h_l | h_{l-1}), every factor a product of Bernoullis.

    p(h_{l-1} | h_l) has logits p_weight[l-1] h_l + p_bias[l-1]; q(h_l | h_{l-1}) has logits
    q_weight[l-1] h_{l-1} + q_bias[l-1]; p(h_L) has logits prior_bias (thesis, section 3.3).
    """

    product_dtype: torch.dtype | None = None  # of the matrix products that training makes; None: as the parameters

    def __init__(self, n_visible: int, layers: Sizes):
        super().__init__(n_visible)
        sizes = [n_visible, *layers]
        pairs = list(pairwise(sizes))
        self.p_weight = nn.ParameterList(initial_weight(below, above) for below, above in pairs)
        self.p_bias = nn.ParameterList(initial_bias(below) for below, _ in pairs)
        self.q_weight = nn.ParameterList(initial_weight(above, below) for below, above in pairs)
        self.q_bias = nn.ParameterList(initial_bias(above) for _, above in pairs)
        self.prior_bias = initial_bias(layers[-1])
        self._list_layers()
        self._scratch = Scratch()

    def _list_layers(self) -> None:
        # (weight, bias) of every layer, from the data upward; taking them out of a ParameterList costs microseconds
        self.p_layers = list(zip(self.p_weight, self.p_bias, strict=True))
        self.q_layers = list(zip(self.q_weight, self.q_bias, strict=True))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> BeliefStack:
        super()._apply(fn, recurse)
        self._list_layers()  # moving to some devices makes new parameters
        return self

    def log_prior(self, top: Tensor) -> Tensor:
        """log p(h_L) [N] double for h_L [N, n_L]."""
        return log_likelihood(torch.zeros_like(top), self.prior_bias, top)

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
        first_product: q_weight[0] x [B, n_1], where the caller has it already.
        """
        n_pairs = x.shape[0] * n_samples
        log_p, log_q = (torch.zeros(n_pairs, dtype=torch.float64, device=x.device) for _ in range(2))
        h, q_products, p_products = [], [], []
        below, repeats = x, n_samples
        for level, (weight, bias) in enumerate(self.q_layers):
            known = level == 0 and first_product is not None
            product = first_product if known else self._multiply(f"q {level}", below, weight, dtype)
            out = self._scratch.take(f"h {level}", n_pairs, len(bias), product.dtype, product.device)
            below = draw(product, bias, repeats, generator, log_q, out)
            q_products.append(product)
            h.append(below)
            repeats = 1
        for level, (below, above, (weight, bias)) in enumerate(zip([x, *h[:-1]], h, self.p_layers, strict=True)):
            p_products.append(self._multiply(f"p {level}", above, weight, dtype))
            score(p_products[-1], bias, below, log_p)
        if with_prior:
            score(self._no_input(h[-1]), self.prior_bias, h[-1], log_p)
        shape = (x.shape[0], n_samples)
        return Inferred(x, h, q_products, p_products, log_p.view(shape), log_q.view(shape))

    def log_weights(self, x: Tensor, n_samples: int, generator: torch.Generator) -> Tensor:
        """log p(x, h_k) - log q(h_k | x) for h_k ~ q(h | x), [B, K] double."""
        inferred = self.infer(x, n_samples, generator)
        return inferred.log_p - inferred.log_q

    @torch.no_grad()
    def encode(self, x: Tensor, n_samples: int, generator: torch.Generator) -> list[Tensor]:
        """E_q[h_l | x] of every layer, from x upward, [B, n_l]: exact for the first, else a mean over n_samples."""
        inferred = self.infer(x, n_samples, generator, with_prior=False)
        return [
            torch.sigmoid(product + bias).view(x.shape[0], -1, len(bias)).mean(1)
            for product, (_, bias) in zip(inferred.q_products, self.q_layers, strict=True)
        ]

    def log_joint(self, x: Tensor, h: list[Tensor]) -> Tensor:
        """log p(x, h) [N] double for x [N, D] and L tensors h_l [N, n_l]."""
        total = self.log_prior(h[-1])
        for below, above, (weight, bias) in zip([x, *h[:-1]], h, self.p_layers, strict=True):
            total = total + log_likelihood(F.linear(above, weight), bias, below)
        return total

    def log_recognition(self, x: Tensor, h: list[Tensor]) -> Tensor:
        """log q(h | x) [N] double for x [N, D] and L tensors h_l [N, n_l]."""
        total = torch.zeros(x.shape[0], dtype=torch.float64, device=x.device)
        for below, above, (weight, bias) in zip([x, *h[:-1]], h, self.q_layers, strict=True):
            total = total + log_likelihood(F.linear(below, weight), bias, above)
        return total

    @torch.no_grad()
    def add_log_recognition(self, x: Tensor, h: list[Tensor], first_product: Tensor, log_q: Tensor) -> None:
        """Add log q(h | x) to ``log_q`` [N] double, given first_product = q_weight[0] x [N, n_1]; no gradient."""
        product = first_product
        for level, (_, bias) in enumerate(self.q_layers):
            if level > 0:
                product = self._multiply("recognition", h[level - 1], self.q_layers[level][0], None)
            score(product, bias, h[level], log_q)

    @torch.no_grad()
    def sample_prior(self, n: int, generator: torch.Generator) -> Tensor:
        """n draws of h_L ~ p(h_L), [n, n_L]."""
        return sample_bernoulli(torch.sigmoid(self.prior_bias).expand(n, -1), generator)

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
        and of what is returned, by default that of the parameters.
        """
        layers = [top if dtype is None else top.to(dtype)]
        for weight, bias in reversed(self.p_layers):
            product = self._multiply("descent", layers[-1], weight, dtype)
            layers.append(draw(product, bias, 1, generator, log_prob))
        layers.reverse()
        return layers[0], layers[1:]

    @torch.no_grad()
    def add_p_gradients(self, inferred: Inferred, weights: Tensor) -> None:
        """Add sum_bk weights[b, k] d log p(x_b, h_bk | prior) to the gradients of p's layers; weights [B * K]."""
        h = inferred.h
        levels = zip([inferred.x, *h[:-1]], h, inferred.p_products, self.p_layers, strict=True)
        for below, above, product, (weight, bias) in levels:
            _add_product(weight, residual(product, bias, below, weights, bias.grad), above)

    @torch.no_grad()
    def add_prior_gradients(self, inferred: Inferred, weights: Tensor) -> None:
        """Add sum_bk weights[b, k] d log p(h_L) to the gradient of the factorised prior; weights [B * K]."""
        top = inferred.h[-1]
        residual(self._no_input(top), self.prior_bias, top, weights, self.prior_bias.grad)

    def add_q_gradients(self, inferred: Inferred, weights: Tensor) -> None:
        """Add sum_bk weights[b, k] d log q(h_bk | x_b) to the gradients of q's layers; weights [B * K]."""
        for level in range(len(self.q_layers)):
            self.add_q_layer_gradients(inferred, level, weights)

    @torch.no_grad()
    def add_q_layer_gradients(self, inferred: Inferred, level: int, weights: Tensor) -> None:
        """Add sum_bk weights[b, k] d log q(h_l | h_{l-1}) to the gradients of layer l = level + 1; weights [B * K]."""
        below = inferred.x if level == 0 else inferred.h[level - 1]
        weight, bias = self.q_layers[level]
        by_logits = pooled_residual if level == 0 else residual  # a row of logits serves all samples of the first layer
        missed = by_logits(inferred.q_products[level], bias, inferred.h[level], weights, bias.grad)
        _add_product(weight, missed, below)

    @torch.no_grad()
    def add_sleep_gradients(self, x: Tensor, h: list[Tensor], factor: float) -> None:
        """Add factor * sum_n d log q(h_n | x_n) for complete samples x [N, D], h_l [N, n_l]."""
        weights = torch.full((x.shape[0],), factor, dtype=self.prior_bias.dtype, device=x.device)
        for below, above, (weight, bias) in zip([x, *h[:-1]], h, self.q_layers, strict=True):
            product = self._multiply("sleep", below, weight, below.dtype)
            _add_product(weight, residual(product, bias, above, weights, bias.grad), below)

    def _no_input(self, top: Tensor) -> Tensor:
        """What the prior's bias is added to: zeros like h_L."""
        return self._scratch.take("prior", *top.shape, top.dtype, top.device).zero_()

    def _multiply(self, key: str, rows: Tensor, weight: Tensor, dtype: torch.dtype | None) -> Tensor:
        """rows [N, n_in] times the transpose of weight [n_out, n_in], in ``dtype``; [N, n_out] in memory of the key."""
        if dtype is not None and dtype != weight.dtype:
            rows, weight = rows.to(dtype), weight.rounded
        out = self._scratch.take(key, rows.shape[0], weight.shape[0], weight.dtype, weight.device)
        return torch.mm(rows, weight.t(), out=out)


def _add_product(weight: Tensor, missed: Tensor, seen: Tensor) -> None:
    """Add missed' seen to the gradient of weight [n_out, n_in], for missed [N, n_out] and seen [N, n_in]."""
    if missed.dtype == weight.dtype:
        weight.grad.addmm_(missed.t(), seen)
    elif weight.product_is_zero:  # nothing to add to: a tenth faster
        torch.mm(missed.t(), seen.to(missed.dtype), out=weight.product_grad)
        weight.product_is_zero = False
    else:
        weight.product_grad.addmm_(missed.t(), seen.to(missed.dtype))
