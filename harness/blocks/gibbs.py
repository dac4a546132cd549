"""Gibbs sampling from p*(x, h) of a stack of belief layers, and inpainting (thesis, section 3.4 and Algorithm 2).

All odd layers are drawn anew, then all even ones, each given its neighbours, and last x given h_1. No conditional of p*
can be drawn from directly: each is resampled from K proposals by their importance weights, so a sweep leaves p* as it
is in the limit of many proposals; the error falls as 1 / K. Half of the proposals of a latent layer come from p, half
from q, and all are weighted by the density of the mixture.

The weight of a proposal for x holds sqrt(p~*(x)) = E_{q(h | x)} sqrt(p(x, h) / q(h | x)), whose estimate by any number
of inner draws is unbiased. Weights enter a resampling linearly, so the limit is exact with one inner draw.

Chains are rows: a state is [x, h_1 .. h_L], each [B, n_l].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from harness.blocks.sigmoid_belief import BeliefStack
from harness.compute import parallel

INNER = 1  # draws behind an estimate of sqrt(p~*(x))
ENTRIES = {"cpu": 2**20, "cuda": 2**27}  # of the largest tensor of proposals; on a CPU it stays near the cache


@torch.no_grad()
def sweep(
    stack: BeliefStack,
    state: Sequence[Tensor],
    n_proposals: int,
    generator: torch.Generator,
    known: Tensor | None = None,
) -> list[Tensor]:
    """The state after one iteration of Algorithm 2 with K = n_proposals; x keeps the entries that are ``known``.

    known: [B, D] booleans. Raises ValueError for fewer than two proposals.
    """
    if n_proposals < 2:
        raise ValueError(f"n_proposals: expected at least 2, one of p and one of q, found {n_proposals}")
    widest = max(layer.shape[1] for layer in state)
    n_chains = max(1, ENTRIES.get(state[0].device.type, ENTRIES["cpu"]) // (n_proposals * widest))
    blocks = list(zip(*(layer.split(n_chains) for layer in state), strict=True))
    masks = [None] * len(blocks) if known is None else known.split(n_chains)
    generators = parallel.spawn(generator, len(blocks))
    swept = parallel.run_all(
        [
            partial(_sweep_block, stack, block, n_proposals, own, mask)
            for block, own, mask in zip(blocks, generators, masks, strict=True)
        ]
    )
    return [torch.cat(layer) for layer in zip(*swept, strict=True)]


def inpaint(
    stack: BeliefStack, x: Tensor, known: Tensor, n_sweeps: int, n_proposals: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """x [B, D] whose unknown entries were drawn given the known ones, and with their expected values E[x | h_1].

    known: [B, D] booleans. The chains start from h ~ q(h | x), so what stands for the unknown entries decides where.
    """
    state = [x, *(layer.clone() for layer in stack.infer(x, 1, generator).h)]
    for _ in range(n_sweeps):
        state = sweep(stack, state, n_proposals, generator, known)
    return state[0], torch.where(known, x, stack.expected_visible(state[1], generator))


def _sweep_block(
    stack: BeliefStack, block: Sequence[Tensor], n_proposals: int, generator: torch.Generator, known: Tensor | None
) -> list[Tensor]:
    state = list(block)
    levels = range(1, len(state))
    for level in (*levels[::2], *levels[1::2]):
        state[level] = _draw_latent(stack, state, level, n_proposals, generator)
    state[0] = _draw_visible(stack, state, n_proposals, generator, known)
    return state


def _draw_latent(
    stack: BeliefStack, state: Sequence[Tensor], level: int, n_proposals: int, generator: torch.Generator
) -> Tensor:
    """h_l ~ p*(h_l | h_{l-1}, h_{l+1}), [B, n_l]."""
    below = state[level - 1]
    is_top = level == len(state) - 1
    above = below.new_empty(len(below), 0) if is_top else state[level + 1]
    n_p = n_proposals // 2
    drawn = stack.draw_p(level, above, n_p, generator), stack.draw_q(level, below, n_proposals - n_p, generator)
    proposals = torch.cat([part.view(len(below), -1, part.shape[1]) for part in drawn], dim=1)  # [B, K, n_l]
    flat = proposals.flatten(0, 1)
    log_p, log_q = stack.log_p_layer(level, flat, above), stack.log_q_layer(level, flat, below)
    shares = (math.log(n / n_proposals) for n in (n_p, n_proposals - n_p))
    log_mixture = torch.logaddexp(*(log + share for log, share in zip((log_p, log_q), shares, strict=True)))
    log_square = log_p + log_q + stack.log_p_layer(level - 1, below, flat)
    if not is_top:
        log_square = log_square + stack.log_q_layer(level + 1, above, flat)
    return _resample(proposals, log_square, log_mixture, generator)


def _draw_visible(
    stack: BeliefStack, state: Sequence[Tensor], n_proposals: int, generator: torch.Generator, known: Tensor | None
) -> Tensor:
    """x ~ p*(x | h_1), [B, D], given its known entries."""
    x, h1 = state[:2]
    if known is None:
        flat = stack.draw_p(0, h1, n_proposals, generator)
        log_p = log_density = stack.log_p_layer(0, flat, h1)
    else:
        flat, log_p, log_density = stack.draw_unknown(x, known, h1, n_proposals, generator)
    proposals = flat.view(len(h1), n_proposals, -1)  # [B, K, D]
    product = stack.q_layers[0].product(flat)
    log_q = stack.log_q_layer(1, h1, flat, product)
    inferred = stack.infer(flat, INNER, generator, first_product=product)
    log_root = torch.logsumexp(0.5 * (inferred.log_p - inferred.log_q), dim=1) - math.log(INNER)  # of p~*(x)
    return _resample(proposals, 2.0 * log_root + log_p + log_q, log_density, generator)


def _resample(proposals: Tensor, log_square: Tensor, log_density: Tensor, generator: torch.Generator) -> Tensor:
    """One proposal a row [B, n], drawn by the weights sqrt(square) / density; proposals [B, K, n].

    log_square: logarithm of the square of p* up to a constant of the row, log_density: that of the density which
    proposals were drawn from; both [B * K] double.
    """
    log_weights = (0.5 * log_square - log_density).view(proposals.shape[:2])
    chosen = torch.multinomial(torch.softmax(log_weights, dim=1), 1, generator=generator)
    return proposals[torch.arange(len(proposals), device=proposals.device), chosen.squeeze(1)]
