"""Exact sums over models small enough to enumerate: the yardstick for estimators, gradients and samplers.

Everything here is differentiable and works by brute force over all 2^D rows and 2^(sum of n_l) latent states.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.blocks.sigmoid_belief import BeliefStack


def all_binary(n: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """All 0/1 vectors of length n, [2^n, n], in counting order."""
    return ((torch.arange(2**n)[:, None] >> torch.arange(n - 1, -1, -1)) & 1).to(dtype)


def latent_states(model: BeliefStack) -> list[Tensor]:
    """All joint states of the latent layers: L tensors [2^(sum of n_l), n_l]."""
    sizes = [layer.bias.shape[0] for layer in model.q_layers]
    return list(all_binary(sum(sizes), model.prior.bias.dtype).split(sizes, dim=1))


def joint_tables(model: BeliefStack, x: Tensor) -> tuple[Tensor, Tensor]:
    """log p(x, h) and log q(h | x), each [N, H], for rows x [N, D] and all H latent states."""
    h = latent_states(model)
    n_rows, n_states = x.shape[0], h[0].shape[0]
    rows = x.repeat_interleave(n_states, dim=0)
    states = [layer.repeat(n_rows, 1) for layer in h]
    shape = (n_rows, n_states)
    return model.log_joint(rows, states).view(shape), model.log_recognition(rows, states).view(shape)


def log_p(model: BeliefStack, x: Tensor) -> Tensor:
    """log p(x) = log sum_h p(x, h), [N]."""
    return torch.logsumexp(joint_tables(model, x)[0], dim=1)


def log_p_star_unnormalised(model: BeliefStack, x: Tensor) -> Tensor:
    """log p~*(x) = 2 log sum_h sqrt(p(x, h) q(h | x)), [N] (thesis, equation 3.2)."""
    log_p_joint, log_q = joint_tables(model, x)
    return 2.0 * torch.logsumexp(0.5 * (log_p_joint + log_q), dim=1)


def log_z2(model: BeliefStack) -> Tensor:
    """2 log Z = log sum_x p~*(x), a scalar."""
    return torch.logsumexp(log_p_star_unnormalised(model, all_binary(model.n_visible, model.prior.bias.dtype)), dim=0)


def sleep_loss(model: BeliefStack) -> Tensor:
    """-E_p(x, h) log q(h | x), whose gradient is that of a sleep phase: p is held fixed."""
    log_p_joint, log_q = joint_tables(model, all_binary(model.n_visible, model.prior.bias.dtype))
    return -(log_p_joint.exp().detach() * log_q).sum()


def bound(model: BeliefStack, x: Tensor) -> Tensor:
    """E_q [log p(x, h) - log q(h | x)], [N]: the evidence lower bound."""
    log_p_joint, log_q = joint_tables(model, x)
    return (log_q.exp() * (log_p_joint - log_q)).sum(1)


@torch.no_grad()
def expected_weights(log_weights: Tensor, log_proposal: Tensor, n_samples: int | None) -> Tensor:
    """Weight of every latent state in a self-normalised estimate, on average over its draws, [N, H]; rows sum to 1.

    The estimate draws ``n_samples`` states a row from the proposal and weighs them by softmax(log_weights): the sum
    runs over all H^n_samples ways to draw. None: the limit of ever more samples. Both arguments are [N, H].
    """
    if n_samples is None:
        return torch.softmax(log_proposal + log_weights, dim=1)
    drawn = _all_draws(log_proposal.shape[1], n_samples)  # [C, K]
    probability = log_proposal[:, drawn].sum(2).exp()  # [N, C]
    weights = torch.softmax(log_weights[:, drawn], dim=2) * probability[:, :, None]  # [N, C, K]
    return torch.zeros_like(log_proposal).index_add_(1, drawn.flatten(), weights.flatten(1))


def sample_bound(log_p_joint: Tensor, log_q: Tensor, n_samples: int) -> Tensor:
    """E log (1/K) sum_k p(x, h_k) / q(h_k | x) over all ways to draw K = n_samples states from q, [N]."""
    drawn = _all_draws(log_q.shape[1], n_samples)  # [C, K]
    log_means = torch.logsumexp((log_p_joint - log_q)[:, drawn], dim=2) - math.log(n_samples)  # [N, C]
    return (log_q[:, drawn].sum(2).exp() * log_means).sum(1)


def _all_draws(n_states: int, n_samples: int) -> Tensor:
    """All ways to draw n_samples of so many states in order, [n_states^n_samples, n_samples]."""
    return torch.cartesian_prod(*[torch.arange(n_states)] * n_samples).view(-1, n_samples)
