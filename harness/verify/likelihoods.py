"""Checks of what a method measures: likelihoods, importance weights, partition functions."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from harness.method import ImportanceWeighted, Method, Orderings, Partitioned, Tractable, Unnormalised
from harness.verify.comparisons import REPEATS, ROUNDING, SINGLE_ROUNDING, compare, t_scores
from harness.verify.questions import N_TEMPERATURES, Score, scores
from harness.verify.subject import N_SAMPLES, NotApplicableError, Subject, generator, require

CALLS, CALL_SAMPLES = 60, 100  # of what is random, when two ways to compute it are compared


def normalisation(subject: Subject) -> str:
    """sum_x p(x) = 1 for exact likelihoods, near the initial values and far from them."""
    subject.needs(Tractable)
    texts = []
    for model in (subject.model(), subject.far_model()):
        total = model.log_prob(subject.rows).detach().double().exp().sum().item()
        texts.append(f"sum over all x of p(x) - 1 = {total - 1:.1e}")
        require(abs(total - 1) < ROUNDING, texts[-1])
    return "; ".join(texts)


@torch.no_grad()
def orderings(subject: Subject) -> str:
    """Every ordering is a distribution of its own, and ``log_prob`` the log of their mean p(x)."""
    subject.needs(Orderings)
    for model in (subject.model(), subject.far_model()):
        found = model.log_prob_orders(subject.rows).double()
        shape, n_rows = tuple(found.shape), len(subject.rows)
        require(len(shape) == 2 and shape[0] == n_rows, f"log_prob_orders: expected [{n_rows}, M], found {shape}")
        totals = found.exp().sum(0)
        worst = (totals - 1).abs().max().item()
        require(worst < ROUNDING, f"sum over all x of p(x) under one ordering: expected 1, off by {worst:.1e}")
        mean = torch.logsumexp(found, dim=1) - math.log(shape[1])
        difference = (model.log_prob(subject.rows).double() - mean).abs().max().item()
        text = f"log_prob less the log of the mean of {shape[1]} orderings' p(x): {difference:.1e} at most"
        require(difference < ROUNDING, text)
    return text


def importance_weights(subject: Subject) -> str:
    """The mean of exp(log_weights) over all x sums to 1: E_q[p(x, h) / q(h | x)] = p(x)."""
    subject.needs(ImportanceWeighted)
    model, draws = subject.model(), generator(1)
    with torch.no_grad():
        found = model.log_weights(subject.rows, N_SAMPLES, draws)
        shape = (len(subject.rows), N_SAMPLES)
        require(tuple(found.shape) == shape, f"log_weights: expected shape {shape}, found {tuple(found.shape)}")
        totals = [model.log_weights(subject.rows, 50, draws).double().exp().mean(1).sum() for _ in range(REPEATS)]
    return compare(torch.stack(totals)[:, None], torch.ones(1), "sum over all x of the mean weight, against 1")


def partition_function(subject: Subject) -> str:
    """The estimator of Z^2 against sum_x (E_q sqrt(p(x, h) / q(h | x)))^2; that of Z against the sum over all x."""
    subject.needs(Partitioned, Unnormalised)
    model, draws = subject.model(), generator(2)
    with torch.no_grad():
        if isinstance(model, Unnormalised):
            repeats = [model.log_partition_samples(50, N_TEMPERATURES, draws).exp().mean() for _ in range(REPEATS)]
            expected = model.log_unnormalised(subject.rows).exp().sum()
            return compare(torch.stack(repeats)[:, None], expected[None], "mean sample of Z, against the sum")
        subject.compares_with(ImportanceWeighted)
        repeats, expected = [], []
        for _ in range(REPEATS):
            repeats.append(model.log_z2_weights(200, 2, draws).double().exp().mean())
            # the product of two independent means of sqrt weights has no bias
            halves = (0.5 * model.log_weights(subject.rows, 200, draws).double()).exp().view(len(subject.rows), 2, -1)
            expected.append(halves.mean(2).prod(1).sum())
    return compare((torch.stack(repeats) - torch.stack(expected))[:, None], torch.zeros(1), "Z^2 less the sum")


def single_precision(subject: Subject) -> str:
    """In single precision, as models are used, every row has the score that it has in double precision."""
    subject.needs(Tractable, ImportanceWeighted, Unnormalised)
    single = subject.model(dtype=torch.float32)
    return _same_scores(subject, single, lambda rows: rows.float(), "double precision", SINGLE_ROUNDING)


def device_parity(subject: Subject) -> str:
    """On a GPU every row has the score that it has on the CPU."""
    if not torch.cuda.is_available():
        raise NotApplicableError("no CUDA device here")
    subject.needs(Tractable, ImportanceWeighted, Unnormalised)
    return _same_scores(subject, subject.model().cuda(), lambda rows: rows.cuda(), "the CPU", ROUNDING)


@torch.no_grad()
def _same_scores(
    subject: Subject, other: Method, convert: Callable[[Tensor], Tensor], what: str, tolerance: float
) -> str:
    """Row by row: exact scores to rounding, random ones by t-tests over calls."""
    model, rows, found = subject.model(), subject.rows, []
    asked = [score for score in scores(subject.cls) if score.name.startswith("log_")]
    for score in asked:
        if score.random:
            found.append(_same_on_average(score, model, other, rows, convert, what, len(asked)))
            continue
        here = score.ask(model, rows, 1, generator(10)).double()
        there = score.ask(other, convert(rows), 1, generator(10)).double().cpu()
        worst = (here - there).abs().max().item()
        found.append(f"{score.name}: largest difference from {what}: {worst:.1e} nats")
        require(worst < tolerance, found[-1])
    return "; ".join(found)


def _same_on_average(
    score: Score,
    model: Method,
    other: Method,
    rows: Tensor,
    convert: Callable[[Tensor], Tensor],
    what: str,
    n_tests: int,
) -> str:
    here, there = generator(10), torch.Generator(device=convert(rows).device).manual_seed(11)
    ours = [score.features(score.ask(model, rows, CALL_SAMPLES, here)) for _ in range(CALLS)]
    theirs = [score.features(score.ask(other, convert(rows), CALL_SAMPLES, there)).cpu() for _ in range(CALLS)]
    z, limit = t_scores(torch.stack(theirs), torch.stack(ours), 1.0, n_tests)
    worst = int(z.abs().flatten().argmax())
    row, feature = divmod(worst, z.shape[1])
    means = [torch.stack(values)[:, row, feature].mean().item() for values in (theirs, ours)]
    text = f"{score.name}: |t| = {z.abs().max().item():.2f} at most, of {z.numel()} (limit {limit:.2f})"
    require(z.abs().max().item() < limit, f"{text}: {means[0]:.6g} on average, in {what} {means[1]:.6g}")
    return text
