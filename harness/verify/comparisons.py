"""The line that checks draw: random quantities by z-scores or chi-square, at one level for all; exact ones to
rounding."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from scipy import stats
from torch import Tensor

from harness.method import ImportanceWeighted, Method, Partitioned, Tractable, Unnormalised
from harness.verify.subject import N_VISIBLE, Subject, generator, require

# A right method fails one of its checks of random quantities with this probability, whatever their number of entries.
LEVEL = 1e-5
REPEATS = 200
ROUNDING = 1e-8  # of double-precision sums of a few hundred terms
SINGLE_ROUNDING = 1e-4  # of the same in single precision


def compare(repeats: Tensor, expected: Tensor, what: str) -> str:
    """z-scores of the mean of repeats [R, n] against expected [n], Bonferroni-corrected over the entries."""
    repeats, expected = repeats.flatten(1).double(), expected.flatten().double()
    require(bool(torch.isfinite(repeats).all()), f"{what}: expected finite numbers, found others")
    error = repeats.std(0) / math.sqrt(len(repeats))
    difference = repeats.mean(0) - expected
    constant = error <= ROUNDING
    require(
        bool((difference[constant].abs() <= 100 * ROUNDING).all()),
        f"{what}: expected {_text(expected[constant])}, found {_text(repeats.mean(0)[constant])} every time",
    )
    if constant.all():
        return f"{what}: equal to rounding"
    z = (difference / error)[~constant]
    worst = z.abs().max().item()
    limit = stats.t.isf(LEVEL / 2 / len(z), len(repeats) - 1)
    text = f"{what}: |z| = {worst:.2f} at most, of {len(z)} (limit {limit:.2f})"
    require(worst < limit, text)
    return text


def t_scores(a: Tensor, b: Tensor, draws_ratio: float, n_tests: int) -> tuple[Tensor, float]:
    """t of the difference of the means of calls a [R, W, F] and b [R', W, F], and what none may reach.

    draws_ratio: how many draws a call of a averages for one of b. What never varies must be the same to rounding. The
    variance of a's is not trusted to be less than half of what b's says: few values of a binary quantity may all agree.
    """
    variance = torch.maximum(a.var(0), 0.5 * b.var(0) / draws_ratio) / len(a) + b.var(0) / len(b)
    difference = a.mean(0) - b.mean(0)
    constant = variance <= ROUNDING**2
    z = torch.where(constant, difference / ROUNDING, difference / variance.sqrt().clamp(min=ROUNDING**2))
    z = torch.where(constant & (difference.abs() <= 100 * ROUNDING), torch.zeros_like(z), z)
    limit = stats.t.isf(LEVEL / 2 / z.numel() / n_tests, min(len(a), len(b)) - 1)
    return torch.nan_to_num(z, nan=math.inf), float(limit)


def _text(values: Tensor) -> str:
    return ", ".join(f"{value:.6g}" for value in values[:4].tolist())


def chi_square(drawn: Tensor, p: Tensor, error: Tensor, parts: int = 1) -> str:
    """Rows drawn [n, D] against p [2^D] with its standard error; with ``parts``, p is that of so many equal parts."""
    n = len(drawn)
    require(tuple(drawn.shape) == (n, N_VISIBLE), f"expected shape ({n}, {N_VISIBLE}), found {tuple(drawn.shape)}")
    require(bool(((drawn == 0) | (drawn == 1)).all()), "expected zeros and ones, found other values")
    counts = torch.bincount(_position(drawn), minlength=len(p)).double()
    statistic = ((counts - n * p) ** 2 / (n * p + (n * error) ** 2)).sum().item()
    degrees = len(counts) - parts
    p_value = stats.chi2.sf(statistic, degrees)
    text = f"chi-square {statistic:.1f}, {degrees} degrees of freedom, p = {p_value:.2g}"
    require(p_value > LEVEL, text)
    return text


def _position(rows: Tensor) -> Tensor:
    """Of rows of 0/1 [n, d] in counting order, [n]."""
    return (rows.long() * 2 ** torch.arange(rows.shape[1] - 1, -1, -1)).sum(1)


@contextmanager
def evaluating(model: Method) -> Iterator[None]:
    """Evaluation mode until the block is left."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def likelihood(subject: Subject, model: Method, x: Tensor) -> tuple[Tensor, Tensor]:
    """p(x) [B] as exactly as the method can tell it, in evaluation mode, and its standard error."""
    with torch.no_grad(), evaluating(model):
        if isinstance(model, Tractable):
            exact = model.log_prob(x).double().exp()
        elif isinstance(model, Unnormalised):
            total = torch.logsumexp(model.log_unnormalised(subject.rows.to(x)).double(), dim=0)
            exact = (model.log_unnormalised(x).double() - total).exp()
        else:
            weights = model.log_weights(x, 20_000, generator(9)).double().exp()
            return weights.mean(1), weights.std(1) / math.sqrt(weights.shape[1])
    return exact, torch.zeros_like(exact)


def telling_likelihood(subject: Subject) -> tuple[Tensor, Tensor]:
    """p(x) of ``telling_model`` [2^D] and its standard error, computed once."""
    if "telling likelihood" not in subject.kept:
        subject.kept["telling likelihood"] = likelihood(subject, subject.telling_model(), subject.rows)
    return subject.kept["telling likelihood"]


def negative_log_p(subject: Subject, model: Method, x: Tensor) -> tuple[float, float]:
    """Mean -log p(x) and its standard error."""
    p, error = likelihood(subject, model, x)
    return -p.log().mean().item(), (error / p).norm().item() / len(x)


def likelihood_of_samples(subject: Subject, model: Method) -> tuple[Tensor, Tensor]:
    """What chains and inpainting draw from, [2^D], and its standard error: p*(x) where there is one, else p(x)."""
    if not (isinstance(model, Partitioned) and isinstance(model, ImportanceWeighted)):
        return likelihood(subject, model, subject.rows)
    with torch.no_grad():
        roots = (0.5 * model.log_weights(subject.rows, 20_000, generator(9)).double()).exp()
    root, error = roots.mean(1), roots.std(1) / math.sqrt(roots.shape[1])
    p = root.square() / root.square().sum()
    return p, 2.0 * p * error / root
