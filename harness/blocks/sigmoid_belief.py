"""Stacks of sigmoid belief layers: a top-down model p and a bottom-up model q over the same binary latent layers.

BiHM, reweighted wake-sleep and their semi-supervised forms share this network and differ in how they weight samples;
so everything that touches a layer is here: sampling, log-probabilities, and gradients. Samples count as data, hence
no gradient crosses a layer and each one is a product of what the layer saw and what it missed (no graph is built).
What depends on x alone, q(h1 | x) and the bilinear term of p(x | h1), is computed once a row, not once a sample.

Notation: h_0 = x, layers l = 1..L from the data upward, ``B`` rows, ``K`` samples a row, ``n_l`` units. Latent samples
are stored as [B * K, n_l] with the K samples of a row next to each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.method import Method


def log_bernoulli(value: Tensor, logits: Tensor) -> Tensor:
    """Sum over the last axis of log Bernoulli(value | sigmoid(logits)), nats; value may be a probability."""
    return (value * logits - F.softplus(logits)).sum(-1)


def sample_bernoulli(probability: Tensor, generator: torch.Generator) -> Tensor:
    """0/1 floats, one independent draw an entry."""
    uniform = torch.rand(probability.shape, generator=generator, device=probability.device, dtype=probability.dtype)
    return (uniform < probability).to(probability.dtype)


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

    x: [B, D]. h: L tensors [B * K, n_l]. q_probabilities: sigmoid of q's logits, the first [B, n_1], the others
    [B * K, n_l]. p_logits: of x [B * K, D], then of h_1 .. h_{L-1}. log_q: [B, K]. log_p: [B, K], without the prior
    of the top layer where that is not factorised (see ``BeliefStack.log_prior``).
    """

    x: Tensor
    h: list[Tensor]
    q_probabilities: list[Tensor]
    p_logits: list[Tensor]
    log_p: Tensor
    log_q: Tensor


class BeliefStack(Method):
    """p(h_L) prod p(h_{l-1} | h_l) and q(h | x) = prod q(h_l | h_{l-1}), every factor a product of Bernoullis.

    p(h_{l-1} | h_l) has logits p_weight[l-1] h_l + p_bias[l-1]; q(h_l | h_{l-1}) has logits
    q_weight[l-1] h_{l-1} + q_bias[l-1]; p(h_L) has logits prior_bias (thesis, section 3.3).
    """

    def __init__(self, n_visible: int, layers: list[int]):
        super().__init__(n_visible)
        sizes = [n_visible, *layers]
        pairs = list(pairwise(sizes))
        self.p_weight = nn.ParameterList(initial_weight(below, above) for below, above in pairs)
        self.p_bias = nn.ParameterList(initial_bias(below) for below, _ in pairs)
        self.q_weight = nn.ParameterList(initial_weight(above, below) for below, above in pairs)
        self.q_bias = nn.ParameterList(initial_bias(above) for _, above in pairs)
        self.prior_bias = initial_bias(layers[-1])

    def log_prior(self, top: Tensor) -> Tensor:
        """log p(h_L) [N] for h_L [N, n_L]."""
        return log_bernoulli(top, self.prior_bias)

    @torch.no_grad()
    def infer(self, x: Tensor, n_samples: int, generator: torch.Generator, with_prior: bool = True) -> Inferred:
        """Draw h ~ q(h | x) and evaluate log p(x, h) and log q(h | x); ``with_prior=False`` leaves log p(h_L) out."""
        n_rows = x.shape[0]
        shape = (n_rows, n_samples)
        logits = F.linear(x, self.q_weight[0], self.q_bias[0])  # [B, n_1]
        probability = torch.sigmoid(logits)
        h1 = sample_bernoulli(probability[:, None, :].expand(*shape, -1), generator)  # [B, K, n_1]
        log_q = torch.matmul(h1, logits[:, :, None]).squeeze(-1) - F.softplus(logits).sum(-1, keepdim=True)
        h, q_probabilities = [h1.view(n_rows * n_samples, -1)], [probability]
        for weight, bias in zip(self.q_weight[1:], self.q_bias[1:], strict=True):
            logits = F.linear(h[-1], weight, bias)
            probability = torch.sigmoid(logits)
            h.append(sample_bernoulli(probability, generator))
            log_q += log_bernoulli(h[-1], logits).view(shape)
            q_probabilities.append(probability)

        p_logits = [F.linear(h[0], self.p_weight[0], self.p_bias[0])]  # [B * K, D]
        # sum_i x_i a_i for a = W h + b is h.(W'x) + b.x: the part in brackets once a row
        log_p = torch.matmul(h1, F.linear(x, self.p_weight[0].t())[:, :, None]).squeeze(-1)
        log_p += (x @ self.p_bias[0])[:, None] - F.softplus(p_logits[0]).sum(-1).view(shape)
        for below, above, weight, bias in zip(h[:-1], h[1:], self.p_weight[1:], self.p_bias[1:], strict=True):
            p_logits.append(F.linear(above, weight, bias))
            log_p += log_bernoulli(below, p_logits[-1]).view(shape)
        if with_prior:
            log_p += self.log_prior(h[-1]).view(shape)
        return Inferred(x, h, q_probabilities, p_logits, log_p, log_q)

    def log_weights(self, x: Tensor, n_samples: int, generator: torch.Generator) -> Tensor:
        """log p(x, h_k) - log q(h_k | x) for h_k ~ q(h | x), [B, K]."""
        inferred = self.infer(x, n_samples, generator)
        return inferred.log_p - inferred.log_q

    def log_joint(self, x: Tensor, h: list[Tensor]) -> Tensor:
        """log p(x, h) [N] for x [N, D] and L tensors h_l [N, n_l]."""
        layers = [x, *h]
        total = self.log_prior(h[-1])
        for below, above, weight, bias in zip(layers[:-1], layers[1:], self.p_weight, self.p_bias, strict=True):
            total = total + log_bernoulli(below, F.linear(above, weight, bias))
        return total

    def log_recognition(self, x: Tensor, h: list[Tensor]) -> Tensor:
        """log q(h | x) [N] for x [N, D] and L tensors h_l [N, n_l]."""
        layers = [x, *h]
        total = x.new_zeros(x.shape[0])
        for below, above, weight, bias in zip(layers[:-1], layers[1:], self.q_weight, self.q_bias, strict=True):
            total = total + log_bernoulli(above, F.linear(below, weight, bias))
        return total

    @torch.no_grad()
    def sample_prior(self, n: int, generator: torch.Generator) -> Tensor:
        """n draws of h_L ~ p(h_L), [n, n_L]."""
        return sample_bernoulli(torch.sigmoid(self.prior_bias).expand(n, -1), generator)

    @torch.no_grad()
    def descend(self, top: Tensor, generator: torch.Generator) -> tuple[Tensor, list[Tensor]]:
        """(x, [h_1 .. h_L]) ~ p given h_L [n, n_L], from the top layer downward."""
        layers = [top]
        for weight, bias in zip(reversed(self.p_weight), reversed(self.p_bias), strict=True):
            layers.append(sample_bernoulli(torch.sigmoid(F.linear(layers[-1], weight, bias)), generator))
        layers.reverse()
        return layers[0], layers[1:]

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n rows x ~ p(x), [n, D]."""
        return self.descend(self.sample_prior(n, generator), generator)[0]

    @torch.no_grad()
    def add_p_gradients(self, inferred: Inferred, weights: Tensor) -> None:
        """Add sum_bk weights[b, k] d log p(x_b, h_bk | prior) to the gradients of p's layers; weights [B, K]."""
        n_rows, n_samples = weights.shape
        column = weights.reshape(-1, 1)  # [B * K, 1]
        h, x = inferred.h, inferred.x
        # bottom layer: sum_k w_k (x - s_k) h_k' = x (sum_k w_k h_k)' - sum_k w_k s_k h_k', the first part once a row
        weighted_h1 = torch.matmul(weights[:, None, :], h[0].view(n_rows, n_samples, -1)).squeeze(1)  # [B, n_1]
        predicted = torch.sigmoid(inferred.p_logits[0]).mul_(column)
        self.p_weight[0].grad.addmm_(x.t(), weighted_h1).addmm_(predicted.t(), h[0], alpha=-1.0)
        self.p_bias[0].grad.add_(weights.sum(1) @ x).sub_(predicted.sum(0))
        for level in range(1, len(h)):
            missed = (h[level - 1] - torch.sigmoid(inferred.p_logits[level])).mul_(column)
            self.p_weight[level].grad.addmm_(missed.t(), h[level])
            self.p_bias[level].grad.add_(missed.sum(0))

    @torch.no_grad()
    def add_prior_gradients(self, inferred: Inferred, weights: Tensor) -> None:
        """Add sum_bk weights[b, k] d log p(h_L) to the gradient of the factorised prior; weights [B, K]."""
        flat = weights.reshape(-1)
        self.prior_bias.grad.add_(flat @ inferred.h[-1]).sub_(torch.sigmoid(self.prior_bias) * flat.sum())

    @torch.no_grad()
    def add_q_gradients(self, inferred: Inferred, weights: Tensor) -> None:
        """Add sum_bk weights[b, k] d log q(h_bk | x_b) to the gradients of q's layers; weights [B, K]."""
        n_rows, n_samples = weights.shape
        column = weights.reshape(-1, 1)
        h = inferred.h
        weighted_h1 = torch.matmul(weights[:, None, :], h[0].view(n_rows, n_samples, -1)).squeeze(1)
        missed = weighted_h1 - weights.sum(1, keepdim=True) * inferred.q_probabilities[0]  # [B, n_1]
        self.q_weight[0].grad.addmm_(missed.t(), inferred.x)
        self.q_bias[0].grad.add_(missed.sum(0))
        for level in range(1, len(h)):
            missed = (h[level] - inferred.q_probabilities[level]).mul_(column)
            self.q_weight[level].grad.addmm_(missed.t(), h[level - 1])
            self.q_bias[level].grad.add_(missed.sum(0))

    @torch.no_grad()
    def add_sleep_gradients(self, x: Tensor, h: list[Tensor], weight: float) -> None:
        """Add weight * sum_n d log q(h_n | x_n) for complete samples x [N, D], h_l [N, n_l]."""
        layers = [x, *h]
        for level, (below, above) in enumerate(pairwise(layers)):
            predicted = torch.sigmoid(F.linear(below, self.q_weight[level], self.q_bias[level]))
            missed = (above - predicted).mul_(weight)
            self.q_weight[level].grad.addmm_(missed.t(), below)
            self.q_bias[level].grad.add_(missed.sum(0))
