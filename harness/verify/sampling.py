"""Checks of what a method draws: rows, layers, chains, missing pixels."""

from __future__ import annotations

import torch

from harness.exact import all_binary
from harness.method import ImportanceWeighted, Inpainter, JointSampler, LayerSampler, Sampler, Tractable, Unnormalised
from harness.verify.comparisons import chi_square, compare, likelihood, likelihood_of_samples
from harness.verify.subject import N_VISIBLE, Subject, generator, require

N_PROPOSALS, N_SWEEPS = 100, 5  # of chains: what both leave of a bias is far below the noise of a few thousand


def samples(subject: Subject) -> str:
    """Chi-square of 5,000 samples over all 2^D rows against p(x), whose own error counts where it is estimated."""
    subject.needs(Sampler)
    subject.needs(Tractable, ImportanceWeighted, Unnormalised)
    model, n = subject.model(), 5000
    drawn = model.sample(n, generator(5)).detach()
    return chi_square(drawn, *likelihood(subject, model, subject.rows))


def layer_samples(subject: Subject) -> str:
    """Below any layer of a joint draw, a fresh draw is as good: x is of p, and goes with the layer as the first did."""
    subject.needs(LayerSampler)
    subject.needs(Tractable, ImportanceWeighted, Unnormalised)
    model, n, draws, found = subject.telling_model(), 5000, generator(13), []
    p = likelihood(subject, model, subject.rows)
    with torch.no_grad():
        state = model.sample_layers(n, draws)
        found.append(f"x: {chi_square(state[0], *p)}")
        for level, layer in enumerate(state[1:], start=1):
            below = model.sample_below(level, layer, draws)
            require(len(below) == level, f"sample_below({level}, ...): expected {level} layers, found {len(below)}")
            found.append(f"x below layer {level}: {chi_square(below[0], *p)}")
            products = ((below[0] - state[0])[:, :, None] * layer[:, None, :]).flatten(1)
            compare(products, torch.zeros(products.shape[1]), f"x times layer {level}, less that of the joint draw")
        difference = model.expected_visible(state[1], draws) - state[0]
    found.append(compare(difference, torch.zeros(N_VISIBLE), "expected x less x"))
    return "; ".join(found)


def joint_samples(subject: Subject) -> str:
    """Chi-square of 5,000 chains against p*(x)."""
    subject.needs(JointSampler)
    subject.needs(Tractable, ImportanceWeighted, Unnormalised)
    model, draws = subject.far_model(), generator(14)
    state = model.sample_layers(5000, draws)
    for _ in range(N_SWEEPS):
        state = model.sweep(state, N_PROPOSALS, draws)
    return chi_square(state[0].detach(), *likelihood_of_samples(subject, model))


def inpainting(subject: Subject) -> str:
    """Chi-square of 8,000 rows whose right half is drawn given the left, against p*(x) or p(x) given that half."""
    subject.needs(Inpainter)
    subject.needs(Tractable, ImportanceWeighted, Unnormalised)
    model, half = subject.far_model(), N_VISIBLE // 2
    halves = all_binary(half).repeat_interleave(8000 // 2**half, dim=0)  # equally many of each left half
    x = torch.cat([halves, torch.full((len(halves), N_VISIBLE - half), 0.5, dtype=halves.dtype)], dim=1)
    known = (torch.arange(N_VISIBLE) < half).expand_as(x)
    drawn, expected = model.inpaint(x, known, N_SWEEPS, N_PROPOSALS, generator(15))
    for what, values in (("rows", drawn), ("expected rows", expected)):
        require(torch.equal(values[known], x[known]), f"{what}: expected known entries as they were, found others")
    p, error = (each.view(2**half, -1) for each in likelihood_of_samples(subject, model))
    given = p.sum(1, keepdim=True) * 2**half
    return chi_square(drawn, (p / given).flatten(), (error / given).flatten(), parts=2**half)
