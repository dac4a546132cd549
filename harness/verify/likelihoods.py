"""Checks of what a method measures: likelihoods, importance weights, partition functions."""

from __future__ import annotations

import torch

from harness.method import ImportanceWeighted, Partitioned, Tractable, Unnormalised
from harness.verify.comparisons import REPEATS, ROUNDING, SINGLE_ROUNDING, compare
from harness.verify.questions import N_TEMPERATURES
from harness.verify.subject import N_SAMPLES, NotApplicableError, Subject, generator, has, require


def normalisation(subject: Subject) -> str:
    """sum_x p(x) = 1 for exact likelihoods."""
    subject.needs(Tractable)
    total = subject.model().log_prob(subject.rows).detach().double().exp().sum().item()
    text = f"sum over all x of p(x) - 1 = {total - 1:.1e}"
    require(abs(total - 1) < ROUNDING, text)
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
        repeats, expected = [], []
        for _ in range(REPEATS):
            repeats.append(model.log_z2_weights(200, 2, draws).double().exp().mean())
            # the product of two independent means of sqrt weights has no bias
            halves = (0.5 * model.log_weights(subject.rows, 200, draws).double()).exp().view(len(subject.rows), 2, -1)
            expected.append(halves.mean(2).prod(1).sum())
    return compare((torch.stack(repeats) - torch.stack(expected))[:, None], torch.zeros(1), "Z^2 less the sum")


def single_precision(subject: Subject) -> str:
    """In single precision, as models are used, the likelihood is still right."""
    subject.needs(Tractable, ImportanceWeighted, Unnormalised)
    model, rows = subject.model(dtype=torch.float32), subject.rows.float()
    if isinstance(model, ImportanceWeighted) and not isinstance(model, Tractable):
        with torch.no_grad():
            draws = generator(10)
            totals = [model.log_weights(rows, 50, draws).double().exp().mean(1).sum() for _ in range(REPEATS)]
        return compare(torch.stack(totals)[:, None], torch.ones(1), "sum over all x of the mean weight, against 1")
    name = "log_prob" if isinstance(model, Tractable) else "log_unnormalised"
    found = getattr(model, name)(rows).detach().double()
    expected = getattr(subject.model(), name)(subject.rows).detach().double()
    worst = (found - expected).abs().max().item()
    text = f"{name}: largest difference from double precision: {worst:.1e} nats"
    require(worst < SINGLE_ROUNDING, text)
    return text


def device_parity(subject: Subject) -> str:
    """Likelihoods on a GPU are those on the CPU."""
    if not torch.cuda.is_available():
        raise NotApplicableError("no CUDA device here")
    subject.needs(Tractable, Unnormalised)
    name = "log_prob" if has(subject.cls, Tractable) else "log_unnormalised"
    here = getattr(subject.model(), name)(subject.rows).detach()
    there = getattr(subject.model().cuda(), name)(subject.rows.cuda()).detach().cpu()
    worst = (here - there).abs().max().item()
    text = f"{name}: largest difference from the CPU: {worst:.1e} nats"
    require(worst < ROUNDING, text)
    return text
