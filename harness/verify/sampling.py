"""Checks of sampling: rows, layers, chains, missing pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.blocks.exact import all_binary
from harness.method import (
    ImportanceWeighted,
    Inpainter,
    JointSampler,
    LayerEncoder,
    LayerSampler,
    Method,
    Sampler,
    Tractable,
    Unnormalised,
)
from harness.verify.comparisons import (
    chi_square,
    compare,
    likelihood,
    likelihood_of_samples,
    t_scores,
    telling_likelihood,
)
from harness.verify.subject import N_VISIBLE, Subject, generator, require

N_PROPOSALS, N_SWEEPS = 100, 5  # of chains: what both leave of a bias is far below the noise of a few thousand
CALLS = ((5000, 1), (17, 300), (1, 600))  # samples per call, and calls
KNOWN = ((0, 1), (2, 4))  # columns that inpainting is given, in one half of the rows and in the other
LIKELIHOODS = (Tractable, ImportanceWeighted, Unnormalised)


def samples(subject: Subject) -> str:
    """Chi-square of samples over all 2^D rows against p(x), near the initial values and far from them."""
    subject.needs(Sampler)
    subject.compares_with(*LIKELIHOODS)
    model, found = subject.model(), []
    found.append(chi_square(_sample(model, 5000, 1), *likelihood(subject, model, subject.rows)))
    model, p = subject.telling_model(), telling_likelihood(subject)
    for n, calls in CALLS:
        found.append(f"further from initial values, {n} a call: " + chi_square(_sample(model, n, calls), *p))
    return "; ".join(found)


@torch.no_grad()
def _sample(model: Method, n: int, calls: int) -> Tensor:
    draws = generator(5)
    parts = [model.sample(n, draws) for _ in range(calls)]
    for part in parts:
        require(tuple(part.shape) == (n, N_VISIBLE), f"expected shape ({n}, {N_VISIBLE}), found {tuple(part.shape)}")
    return torch.cat(parts)


def layer_samples(subject: Subject) -> str:
    """Below any layer of a joint draw, a fresh draw is as good: x is of p, and goes with the layer as the first did."""
    subject.needs(LayerSampler)
    subject.compares_with(*LIKELIHOODS)
    model, n, draws, found = subject.telling_model(), 5000, generator(13), []
    p = telling_likelihood(subject)
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
    """Chi-square of 3,000 chains against p*(x)."""
    subject.needs(JointSampler)
    subject.compares_with(*LIKELIHOODS)
    model, draws = subject.far_model(), generator(14)
    state = model.sample_layers(3000, draws)
    for _ in range(N_SWEEPS):
        state = model.sweep(state, N_PROPOSALS, draws)
    return chi_square(state[0].detach(), *likelihood_of_samples(subject, model))


def inpainting(subject: Subject) -> str:
    """Chi-square of rows whose other columns are drawn given those of KNOWN, against p*(x) or p(x) given these."""
    subject.needs(Inpainter)
    subject.compares_with(*LIKELIHOODS)
    model, values = subject.far_model(), all_binary(2).repeat_interleave(500, dim=0)
    x = torch.full((len(KNOWN) * len(values), N_VISIBLE), 0.5, dtype=values.dtype)
    known = torch.zeros(x.shape, dtype=torch.bool)
    halves = torch.arange(len(x)).split(len(values))
    for half, columns in zip(halves, KNOWN, strict=True):
        x[half[:, None], torch.tensor(columns)] = values
        known[half[:, None], torch.tensor(columns)] = True
    drawn, expected = model.inpaint(x.clone(), known.clone(), N_SWEEPS, N_PROPOSALS, generator(15))
    for what, each in (("rows", drawn), ("expected rows", expected)):
        require(torch.equal(each[known], x[known]), f"{what}: expected known entries as they were, found others")
    p, error = likelihood_of_samples(subject, model)
    found = []
    for half, columns in zip(halves, KNOWN, strict=True):
        part = (subject.rows[:, columns].long() * torch.tensor([2, 1])).sum(1)  # which values of those columns, [2^D]
        given = 4.0 * torch.zeros(4, dtype=p.dtype).index_add_(0, part, p)[part]
        found.append(f"columns {columns} known: {chi_square(drawn[half], p / given, error / given, parts=4)}")
    return "; ".join(found)


@torch.no_grad()
def layer_features(subject: Subject) -> str:
    """``encode`` gives probabilities of every layer's size, the same on average for any number of samples."""
    subject.needs(LayerEncoder)
    model, draws, rows = subject.model(), generator(16), subject.rows
    single = [torch.cat(model.encode(rows, 1, draws), dim=1).double() for _ in range(200)]
    many = model.encode(rows, 100, draws)
    if isinstance(model, LayerSampler):
        sizes = [layer.shape[1] for layer in model.sample_layers(1, draws)[1:]]
        found = [tuple(layer.shape) for layer in many]
        expected = [(len(rows), size) for size in sizes]
        require(found == expected, f"encode: expected shapes {expected}, found {found}")
    ours = [torch.cat(model.encode(rows, 100, draws), dim=1).double() for _ in range(100)]
    z, limit = t_scores(torch.stack(single), torch.stack(ours), 0.01, 1)
    text = f"encode with 1 sample against 100: |t| = {z.abs().max().item():.2f} at most (limit {limit:.2f})"
    require(z.abs().max().item() < limit, text)
    return text
